"""`clawmw traces prune`: make the trace store smaller, by age or by size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from clawmw.cli.recorded import stop, store_option

if TYPE_CHECKING:
    from clawmw.observe.store.bounds import Pruned
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["prune"]

T = TypeVar("T")
_LEAST = 1_000_000


@click.command(short_help="Drop the oldest chains, by age or size.")
@click.option("--older-than", metavar="AGE", help="Chains not active for so long: 7d, 12h.")
@click.option("--size", metavar="SIZE", help="The oldest, until the store takes so much: 100MB.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def prune(
    group: tuple[Path | None, bool],
    /,
    older_than: str | None,
    size: str | None,
    store: Path | None,
    **flags: bool,
) -> None:
    """Drop the oldest chains from the trace store, whole, and give the disk its room back.

    By themselves traces go after `trace.keep` (30d), and the oldest beyond `trace.size` (1GB).
    """
    if older_than is None and size is None:
        raise click.UsageError("give --older-than AGE, --size SIZE or both")
    from clawmw.errors import ClawmwError
    from clawmw.stages.units import parse_duration, parse_size

    age = None if older_than is None else _read(parse_duration, older_than, "--older-than")
    most = None if size is None else _read(parse_size, size, "--size")
    if most is not None and most < _LEAST:
        raise click.BadParameter("a store takes at least 1MB", param_hint="--size")
    before = None if age is None else time.time_ns() - int(age * 1e9)
    as_json = flags["as_json"] or group[1]
    try:
        opened = _open(store or group[0], writable=not flags["dry_run"])
        if opened is None:
            click.echo("null" if as_json else "no traces yet: there is nothing to drop")
            return
        found = _prune(opened, before, most, dry_run=True)
        if not flags["dry_run"]:
            if found.chains and not flags["yes"]:
                click.confirm(f"Drop {_what(found)}?", abort=True, err=True)
            found = _prune(opened, before, most, dry_run=False)
    except ClawmwError as error:
        raise stop(str(error)) from None
    if as_json:
        click.echo(json.dumps(asdict(found) | {"dry_run": flags["dry_run"]}, indent=2))
    else:
        click.echo(_told(found, dry_run=flags["dry_run"]))


def _prune(store: SpanStore, before: int | None, size: int | None, *, dry_run: bool) -> Pruned:
    from clawmw.observe.store.bounds import prune as pruned

    return pruned(store, before_ns=before, size=size, dry_run=dry_run)


def _open(path: Path | None, *, writable: bool) -> SpanStore | None:
    from clawmw.observe.store.spanstore import SpanStore, default_store_path

    path = path or default_store_path()
    if not path.exists():
        return None
    opened = SpanStore.read(path)
    if writable:
        opened.close()
        opened = SpanStore.open(path, keep=None, size=None)  # what goes is said here, not there
    click.get_current_context().call_on_close(opened.close)
    return opened


def _read(parse: Callable[[str], T], text: str, option: str) -> T:
    from pydantic_core import PydanticCustomError

    try:
        return parse(text)
    except PydanticCustomError as error:
        raise click.BadParameter(error.message(), param_hint=option) from None


def _what(found: Pruned) -> str:
    chains = f"{found.chains:,} chain{'' if found.chains == 1 else 's'}"
    spans = f"{found.spans:,} span{'' if found.spans == 1 else 's'}"
    if found.first_ns is None or found.last_ns is None:
        return spans  # the beginning of the only chain
    first, last = (f"{_day(ns)}" for ns in (found.first_ns, found.last_ns))
    when = f"on {last}" if first == last else f"between {first} and {last}"
    return f"{chains} ({spans}), last active {when}"


def _day(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%Y-%m-%d")


def _told(found: Pruned, *, dry_run: bool) -> str:
    if not found.spans:
        return f"nothing to drop: the store takes {_bytes(found.bytes_before)}"
    about = "about " if dry_run else ""
    sizes = f"{_bytes(found.bytes_before)} -> {about}{_bytes(found.bytes_after)}"
    return f"{'would drop' if dry_run else 'dropped'} {_what(found)}: {sizes}"


def _bytes(size: int) -> str:
    """In the units that `--size` is given in."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"

"""`clawmw traces`: what chains of model calls cost and saved, and one of them as a tree."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from clawmw.observe.chains import Chain
    from clawmw.observe.spanstore import SpanStore

__all__ = ["traces"]

_SORTS = ("newest", "wall", "calls", "tokens", "cost", "saved", "stops")
_AGO = re.compile(r"(\d+)\s*([smhdw])")
_CUT = re.compile(r"(…|\.\.\.)$")  # an id copied from a table that was too narrow for it
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NEVER = 2**63 - 1
_PIPED_WIDTH = 160
_HOW = (
    "no traces yet: run an agent through clawmw (`clawmw serve --policy P`, a flow, or the "
    "HTTP transport) and its chains appear here"
)

_store = click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The trace store. Default: $CLAWMW_TRACES, else ~/.local/state/clawmw/traces.sqlite.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Ago(click.ParamType[int]):
    """A time as `30m`, `2h`, `7d` ago, or as an ISO date; in nanoseconds since the epoch."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        ago = _AGO.fullmatch(str(value).strip())
        if ago:
            moment = time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * 10**9
        else:
            try:
                given = datetime.fromisoformat(str(value))
            except ValueError:
                self.fail(f"{value!r} is neither like 30m, 2h, 7d nor an ISO date", param, ctx)
            try:
                moment = int(given.timestamp() * 10**9)
            except (ValueError, OverflowError):  # so near an end of the calendar, no zone fits
                moment = _NEVER if given.year > 1970 else 0
        return min(max(moment, 0), _NEVER)


@click.group(invoke_without_command=True)
@_store
@_as_json
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@click.option("--since", type=_Ago(), help="Only chains active since: 30m, 2h, 7d, or an ISO date.")
@click.option("--failed", is_flag=True, help="Only chains that did not end well.")
@click.option("--sort", type=click.Choice(_SORTS), default="newest", show_default=True)
@click.pass_context
def traces(ctx: click.Context, /, store: Path | None, as_json: bool, **filters: Any) -> None:
    """List chains of model calls, newest first: calls, tokens, cost, what was saved.

    With --json: times in ns since the epoch, money in nano-USD, null where unknown.
    "~" marks an estimate, "-" is unknown, "≥" a sum some parts of which are unknown.
    """
    ctx.obj = (store, as_json)
    if ctx.invoked_subcommand is not None:
        return
    from clawmw.errors import ClawmwError
    from clawmw.observe.chains import chains
    from clawmw.observe.render import render_chains

    opened = _open(store)
    if opened is None:
        _none_yet(as_json, "[]")
        return
    try:
        limit, since = filters["limit"], filters["since"]
        found = chains(
            opened, limit=limit, since_ns=since, failed=filters["failed"], sort=filters["sort"]
        )
    except ClawmwError as error:
        raise _stop(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(chain) for chain in found], indent=2))
    elif found:
        console = _console()
        render_chains(found, console)
        if len(found) == limit:
            console.print(f"the first {limit}; more with --limit", style="dim")
    else:
        click.echo("no chain matches" if since or filters["failed"] else _HOW)


@traces.command()
@click.argument("wanted", metavar="ID", required=False)
@click.option("--latest", is_flag=True, help="The chain that was active last.")
@_store
@_as_json
@click.pass_obj
def show(
    group: tuple[Path | None, bool],
    wanted: str | None,
    latest: bool,
    store: Path | None,
    as_json: bool,
) -> None:
    """Show one chain as a tree: agents, model calls, tools, and what each stage did.

    ID is a chain id or trace id, or the beginning of one.
    """
    if (wanted is None) == (not latest):
        raise click.UsageError("give either the ID of a chain or --latest")
    from clawmw.errors import ClawmwError
    from clawmw.observe.chains import spans
    from clawmw.observe.render import render_trace

    as_json = as_json or group[1]
    opened = _open(store or group[0])
    if opened is None and wanted is None:
        _none_yet(as_json, "null")
        return
    try:
        chain = _wanted(opened, wanted)
        if chain is None or opened is None:
            _none_yet(as_json, "null")
            return
        rows = spans(opened, chain.trace_id)
    except ClawmwError as error:
        raise _stop(str(error)) from None
    if as_json:
        whole = {"chain": asdict(chain), "spans": [asdict(row) for row in rows]}
        click.echo(json.dumps(whole, indent=2))
    else:
        render_trace(chain, rows, _console())


def _wanted(store: SpanStore | None, wanted: str | None) -> Chain | None:
    """The chain asked for; None when the latest is asked for and there is none at all."""
    from clawmw.observe.chains import chains, find

    if wanted is None:
        return next(iter(chains(store, limit=1)), None) if store is not None else None
    beginning = _CUT.sub("", wanted)
    found = find(store, beginning) if store is not None and beginning else []
    if not found:
        raise _stop(f"no chain or trace begins with {wanted!r}; `clawmw traces` lists them")
    if len(found) > 1:
        some = ", ".join(f"{chain.chain_id} ({chain.trace_id[:8]})" for chain in found)
        raise _stop(f"{wanted!r} could be one of: {some}")
    return found[0]


def _open(path: Path | None) -> SpanStore | None:
    """The store, or None when nothing was ever written there."""
    from clawmw.errors import ClawmwError
    from clawmw.observe.spanstore import SpanStore, default_store_path

    path = path or default_store_path()
    try:
        if not path.exists():
            return None
        store = SpanStore.read(path)
    except OSError as error:
        raise _stop(f"trace store {path} cannot be read: {error.strerror}") from None
    except ClawmwError as error:
        raise _stop(str(error)) from None
    click.get_current_context().call_on_close(store.close)
    return store


def _none_yet(as_json: bool, empty: str) -> None:
    click.echo(_HOW, err=as_json)
    if as_json:
        click.echo(empty)


def _stop(message: str) -> SystemExit:
    click.echo(f"clawmw traces: {message}", err=True)
    return SystemExit(1)


def _console() -> Console:
    """A console on stdout; a pipe has no width of its own, so nothing is cut short there."""
    from rich.console import Console

    width = None
    if not sys.stdout.isatty():
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() and int(columns) else _PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)

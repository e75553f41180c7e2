"""`clawmw store`: what is kept of conversations, and how to forget it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.source import json_flag, kept_by, read_policy

if TYPE_CHECKING:
    from clawmw.originals import Originals, Stock
    from clawmw.stores.base import Kept

__all__ = ["command"]

_HOMES = {
    "originals": "cut original{}",
    "slots": "record{} of what was sent",
    "evidence": "list{} of evidence (loops, kin)",
    "counters": "counter{} of money, calls and tokens",
}


@click.group()
def command() -> None:
    """Show or forget what a policy's store keeps on this machine."""


@command.command()
@kept_by
@click.option(
    "--sessions", is_flag=True, help="List the sessions, the one used last first (50 at most)."
)
@json_flag
def show(source: str, sessions: bool, as_json: bool) -> None:
    """Show what is kept for the policy's tenant: how much, and how old."""
    originals = _open(source)
    try:
        stock = originals.stock()
    finally:
        originals.close()
    homes = {name: _sum(getattr(stock, name)) for name in _HOMES}
    listed = _sessions(stock)
    if as_json:
        click.echo(json.dumps({**homes, "sessions": listed}, ensure_ascii=False, indent=2))
        return
    for name, said in _HOMES.items():
        home = homes[name]
        size = f", {_bytes(home['bytes'])}" if home["bytes"] else ""
        age = f", oldest {_ago(home['oldest'])}" if home["oldest"] is not None else ""
        click.echo(f"{home['items']:>8,}  {_plural(said, home['items'])}{size}{age}")
    click.echo(f"{len(listed):>8,}  sessions{'' if sessions else ' (--sessions lists them)'}")
    for row in listed[:50] if sessions else ():
        held = f"{row['originals']:,} {_plural('original{}', row['originals'])}"
        held += f", {_bytes(row['bytes'])}"
        click.echo(f"  {row['session']}  {held}, used {_ago(row['newest'])}")


@command.command()
@kept_by
@click.option("--session", metavar="S", help="All that is kept of one session.")
@click.option("--tenant", is_flag=True, help="All that is kept of the policy's tenant.")
@click.option("--older-than", metavar="AGE", help="What was not used for so long: 7d, 12h.")
@click.option("--yes", is_flag=True, help="Do not ask (for --tenant).")
@json_flag
def purge(
    source: str,
    session: str | None,
    tenant: bool,
    older_than: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget originals, records and the texts of traces, for good; give one of the three.

    What was spent is no content and stays, so that no limit is undone: counters go only
    with --older-than. A session that is forgotten while its agent runs goes on, at the
    price of sending its history anew; what was cut in it can no longer be asked for.
    """
    if sum([session is not None, tenant, older_than is not None]) != 1:
        raise click.UsageError("give exactly one of --session S, --tenant, --older-than AGE")
    age = _age(older_than) if older_than is not None else 0.0
    if tenant and not yes:
        click.confirm("Forget all conversations of this tenant?", abort=True, err=True)
    texts = 0 if older_than is not None else _forget_texts(source, session)
    originals = _open(source)
    try:
        if session is not None:
            gone = originals.purge_session(session)
        elif tenant:
            gone = originals.purge_tenant()
        else:
            gone = originals.purge_older(age)
    finally:
        originals.close()
    if as_json:
        click.echo(json.dumps({**asdict(gone), "texts": texts}))
    else:
        counts = asdict(gone).items()
        said = [f"{count:,} {_plural(_HOMES[name], count)}" for name, count in counts if count]
        said += [f"{texts:,} {_plural('text{} of traces', texts)}"] if texts else []
        click.echo(f"forgot {', '.join(said)}" if said else "there was nothing to forget")


def _forget_texts(source: str, session: str | None) -> int:
    """Forget what traces keep of what was said (`trace.content`), of a session or the tenant."""
    from clawmw.core.identity import Identity
    from clawmw.observe.store.outlinestore import forget_said
    from clawmw.observe.store.spanstore import SpanStore
    from clawmw.policy import build

    policy = read_policy(source)
    path = build.trace_store(policy)
    if path is None or not path.exists():
        return 0
    who = Identity(tenant=policy.tenant, session=session or "")
    store = SpanStore.open(path, keep=None, size=None)  # what goes is what was asked for
    try:
        return forget_said(
            store, scope=who.scope("session") if session is not None else "", tenant=policy.tenant
        )
    finally:
        store.close()


def _open(source: str) -> Originals:
    from clawmw.originals import Originals

    return Originals.of(read_policy(source))


def _age(text: str) -> float:
    from pydantic_core import PydanticCustomError

    from clawmw.stages.units import parse_duration

    try:
        return parse_duration(text)
    except PydanticCustomError as error:
        raise click.BadParameter(error.message(), param_hint="--older-than") from None


def _sum(kept: Sequence[Kept]) -> dict[str, Any]:
    return {
        "items": sum(k.items for k in kept),
        "bytes": sum(k.size for k in kept),
        "oldest": min((k.oldest for k in kept), default=None),
        "newest": max((k.newest for k in kept), default=None),
    }


def _sessions(stock: Stock) -> list[dict[str, Any]]:
    """Each session: its originals, all its bytes, when it was used last; newest first."""
    rows: dict[str, dict[str, Any]] = {}
    for kept in (*stock.originals, *stock.slots):
        if not kept.scope.startswith("session:"):
            continue
        name = kept.scope.rpartition("\x1f")[2]
        row = rows.setdefault(name, {"session": name, "originals": 0, "bytes": 0, "newest": 0.0})
        row["originals"] += kept.items if kept in stock.originals else 0
        row["bytes"] += kept.size
        row["newest"] = max(row["newest"], kept.newest)
    return sorted(rows.values(), key=lambda row: (-row["newest"], row["session"]))


def _plural(said: str, count: int) -> str:
    return said.format("" if count == 1 else "s")


def _bytes(size: float | None) -> str:
    value = float(size or 0)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _ago(at: float | None) -> str:
    """`3d ago`: whole units, the largest that fits."""
    seconds = max(time.time() - (at or 0), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return f"{int(seconds)}s ago"

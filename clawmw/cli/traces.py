"""`clawmw traces`: what chains of model calls cost and saved, and one of them as a tree."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.recorded import Ago, console, open_traces, stop, store_option, wanted_chain
from clawmw.cli.traces_diff import diff
from clawmw.cli.traces_export import export
from clawmw.cli.traces_prune import prune

if TYPE_CHECKING:
    from rich.console import Console

    from clawmw.observe.store.spanstore import SpanStore


__all__ = ["traces"]

_SORTS = ("newest", "wall", "calls", "tokens", "cost", "saved", "stops")
_LOST_DAYS = 7
_HOW = (
    "no traces yet: run an agent through clawmw (`clawmw run`, `clawmw serve`, or in Python) and "
    "its chains appear here; `clawmw demo` fills it without any key"
)

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@store_option
@_as_json
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
@click.option("--since", type=Ago(), help="Only chains active since: 30m, 2h, 7d, or an ISO date.")
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
    from clawmw.observe.reading.chains import chains
    from clawmw.observe.terminal.render import render_chains

    opened = open_traces(store)
    if opened is None:
        _none_yet(as_json, "[]")
        return
    try:
        limit, since = filters["limit"], filters["since"]
        found = chains(
            opened, limit=limit, since_ns=since, failed=filters["failed"], sort=filters["sort"]
        )
    except ClawmwError as error:
        raise stop(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(chain) for chain in found], indent=2))
    elif found:
        out = console()
        render_chains(found, out)
        if len(found) == limit:
            out.print(f"the first {limit}; more with --limit", style="dim")
        _say_lost(opened, out)
    else:
        click.echo("no chain matches" if since or filters["failed"] else _HOW)


@traces.command()
@click.argument("wanted", metavar="ID", required=False)
@click.option("--latest", is_flag=True, help="The chain that was active last.")
@store_option
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
    from clawmw.observe.reading.chains import spans
    from clawmw.observe.terminal.render import render_trace

    as_json = as_json or group[1]
    opened = open_traces(store or group[0])
    if opened is None and wanted is None:
        _none_yet(as_json, "null")
        return
    try:
        chain = wanted_chain(opened, wanted)
        if chain is None or opened is None:
            _none_yet(as_json, "null")
            return
        rows = spans(opened, chain.trace_id)
    except ClawmwError as error:
        raise stop(str(error)) from None
    if as_json:
        whole = {"chain": asdict(chain), "spans": [asdict(row) for row in rows]}
        click.echo(json.dumps(whole, indent=2))
    else:
        render_trace(chain, rows, console())


traces.add_command(diff)
traces.add_command(export)
traces.add_command(prune)


def _say_lost(store: SpanStore, out: Console) -> None:
    """That spans were lost in the last days, so that what is listed may not be all."""
    from clawmw.observe.store.losses import losses, told

    said = told(losses(store, time.time_ns() - _LOST_DAYS * 86_400 * 10**9))
    if said:
        out.print(f"in the last {_LOST_DAYS} days {said}", style="dim")


def _none_yet(as_json: bool, empty: str) -> None:
    click.echo(_HOW, err=as_json)
    if as_json:
        click.echo(empty)

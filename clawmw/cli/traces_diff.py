"""`clawmw traces diff`: two runs of one task side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.recorded import open_traces, stop, store_option, wanted_chain

if TYPE_CHECKING:
    from clawmw.observe.reading.chains import Chain
    from clawmw.observe.reading.compare import Comparison, Run
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["diff"]


@click.command(short_help="Compare two runs of one task.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", required=False)
@click.option("--latest", is_flag=True, help="Compare A with the chain that was active last.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def diff(
    group: tuple[Path | None, bool],
    /,
    a: str,
    b: str | None,
    latest: bool,
    store: Path | None,
    as_json: bool,
) -> None:
    """Compare two runs of one task: what B did differently from A, and what that came to.

    A and B are chain ids or trace ids, or the beginning of one: before and after a change of
    the policy, say. Shown are calls, tokens, cached share, cost, savings and time, by agent and
    model; what each mechanism and rule did; and the first calls that differ in model, tools
    asked for, or end.
    """
    if (b is None) == (not latest):
        raise click.UsageError("give either a second chain or --latest")
    from clawmw.errors import ClawmwError
    from clawmw.observe.reading.chains import spans
    from clawmw.observe.reading.compare import compare

    try:
        opened = open_traces(store or group[0])
        one, other = _wanted(opened, a), _wanted(opened, b)
        assert opened is not None  # where a chain was found
        rows = spans(opened, one.trace_id), spans(opened, other.trace_id)
    except ClawmwError as error:
        raise stop(str(error)) from None
    found = compare(one, rows[0], other, rows[1])
    if as_json or group[1]:
        click.echo(json.dumps(_shown(found), indent=2))
        return
    from clawmw.cli.recorded import console
    from clawmw.observe.terminal.render_diff import render_comparison

    render_comparison(found, console())


def _wanted(store: SpanStore | None, wanted: str | None) -> Chain:
    found = wanted_chain(store, wanted)
    if found is None:
        raise stop("no traces yet: there is no chain to compare with")
    return found


def _shown(found: Comparison) -> dict[str, Any]:
    return {
        "a": _run(found.a),
        "b": _run(found.b),
        "alike": found.alike,
        "switches": [asdict(switch) for switch in found.switches],
        "partings": [asdict(parting) for parting in found.partings],
    }


def _run(run: Run) -> dict[str, Any]:
    return asdict(run) | {"groups": [asdict(group) for group in run.groups.values()]}

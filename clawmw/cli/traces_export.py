"""`clawmw traces export`: send stored chains to a tracing backend."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.recorded import Ago, open_traces, stop, store_option, wanted_chain
from clawmw.errors import ClawmwError

if TYPE_CHECKING:
    from clawmw.adapters.otlp_sender import Sender
    from clawmw.observe.otlp.wire import WireSpan
    from clawmw.observe.reading.chains import Chain
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["export"]

_BATCH = 512
"""Spans a request, as OpenTelemetry's exporters send them."""
_ALL = 1_000_000


@click.command()
@click.argument("wanted", metavar="[ID]...", nargs=-1)
@click.option("--otlp", metavar="URL", help="The backend, such as http://127.0.0.1:6006.")
@click.option("--since", type=Ago(), help="Chains active since: 30m, 2h, 7d, or an ISO date.")
@click.option("--latest", is_flag=True, help="The chain that was active last.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
@click.pass_obj
def export(
    group: tuple[Path | None, bool] | None,
    /,
    wanted: tuple[str, ...],
    since: int | None,
    latest: bool,
    store: Path | None,
    **how: Any,
) -> None:
    """Send stored chains to Phoenix, MLflow, Jaeger or any other receiver of OTLP over HTTP.

    Each ID is a chain id or trace id, or the beginning of one. Where --otlp is not given,
    OTEL_EXPORTER_OTLP_ENDPOINT says where they go; OTEL_EXPORTER_OTLP_HEADERS and
    OTEL_RESOURCE_ATTRIBUTES are heeded, too. Spans that nobody wrote (a chain's root, an agent)
    are sent along as the reader infers them, so that no span is without its parent.
    """
    if bool(wanted) + (since is not None) + latest != 1:
        raise click.UsageError("give IDs of chains, --since, or --latest")
    given = group or (None, False)
    opened = open_traces(store or given[0])
    if opened is None:
        raise stop("no traces yet; run an agent through clawmw first")
    try:
        chains = _chosen(opened, wanted, since)
        as_json = how["as_json"] or given[1]
        _run(opened, chains, how["otlp"], dry_run=how["dry_run"], as_json=as_json)
    except ClawmwError as error:
        raise stop(str(error)) from None


def _chosen(store: SpanStore, wanted: tuple[str, ...], since: int | None) -> list[Chain]:
    """The chains meant, the oldest first."""
    from clawmw.observe.reading.chains import chains

    if since is not None:
        found = chains(store, limit=_ALL, since_ns=since)
    else:
        named = [wanted_chain(store, one) for one in wanted or (None,)]
        found = [chain for chain in named if chain is not None]
    return sorted({c.trace_id: c for c in found}.values(), key=lambda chain: chain.start_ns)


def _run(
    store: SpanStore, chains: list[Chain], otlp: str | None, *, dry_run: bool, as_json: bool
) -> None:
    from clawmw.adapters.otlp_sender import Sender, settings_of
    from clawmw.observe.otlp.replay import replayed

    count = rejected = 0
    why = ""
    with closing(Sender(settings_of(otlp))) as sender:
        waiting: list[WireSpan] = []
        for number, chain in enumerate(chains, 1):
            waiting += replayed(store, chain.trace_id)
            while len(waiting) >= _BATCH or (waiting and number == len(chains)):
                batch, waiting = waiting[:_BATCH], waiting[_BATCH:]
                if not dry_run:
                    refused, reason = _sent(sender, batch, count)
                    rejected, why = rejected + refused, why or reason
                count += len(batch)
    if as_json:
        told = {"endpoint": sender.url, "chains": len(chains), "spans": count, "rejected": rejected}
        click.echo(json.dumps({**told, "sent": not dry_run}))
        return
    chains_told = "1 chain" if len(chains) == 1 else f"{len(chains):,} chains"
    click.echo(
        f"{'would send' if dry_run else 'sent'} {count:,} spans of {chains_told} to {sender.url}"
    )
    if rejected:
        reason = f": {why[:200]}" if why else ""
        click.echo(f"the receiver rejected {rejected:,} of them{reason}", err=True)


def _sent(sender: Sender, batch: list[WireSpan], before: int) -> tuple[int, str]:
    """Send; an error says how many spans had gone out."""
    try:
        return sender.send(batch)
    except ClawmwError as error:
        already = f"; {before:,} spans had been sent" if before else ""
        raise ClawmwError(f"{error}{already}") from None

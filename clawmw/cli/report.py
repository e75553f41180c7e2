"""`clawmw report`: what chains of model calls cost and saved, as a page to look at or hand on."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path

import click

from clawmw.cli.recorded import Ago, open_traces, stop, store_option, wanted_chain

__all__ = ["command"]


@click.command()
@click.argument("wanted", metavar="[CHAIN]", required=False)
@click.option("--latest", is_flag=True, help="Only the chain that was active last.")
@click.option("--since", type=Ago(), help="Chains active since: 30m, 2h, 7d, or an ISO date.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("clawmw-report.html"),
    show_default=True,
    help="The file to write; `-` for standard output.",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@store_option
def command(
    wanted: str | None,
    latest: bool,
    since: int | None,
    output: Path,
    show: bool,
    store: Path | None,
) -> None:
    """Write a report of traces as one HTML file that needs nothing else.

    Of all chains that are kept, of those active --since, or of one CHAIN (its id, its trace id, or
    the beginning of one). It holds names, sizes, times and money; no prompts and no answers.
    """
    from clawmw.errors import ClawmwError
    from clawmw.observe.page.render import report
    from clawmw.observe.reading.listing import Filter

    if (wanted is not None) + latest + (since is not None) > 1:
        raise click.UsageError("give one of CHAIN, --latest and --since")
    try:
        kept = open_traces(store)
        if kept is None:
            raise stop("no traces yet; run an agent through clawmw first, or `clawmw demo`")
        chain = wanted_chain(kept, wanted) if latest or wanted is not None else None
        trace_id = chain.trace_id if chain is not None else None
        page = report(kept, time.time_ns(), Filter(since_ns=since), trace_id=trace_id)
    except ClawmwError as error:
        raise stop(str(error)) from None
    if str(output) == "-":
        click.echo(page)
        return
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise stop(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {output} ({len(page) // 1024 + 1} KB)", err=True)
    if show:
        webbrowser.open(output.absolute().as_uri())

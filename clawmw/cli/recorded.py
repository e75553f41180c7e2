"""The trace store of a command line: where it is, and which chain of it is meant."""

from __future__ import annotations

import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from clawmw.observe.reading.chains import Chain
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Ago", "console", "open_traces", "stop", "store_option", "wanted_chain"]

_AGO = re.compile(r"(\d+)\s*([smhdw])")
_CUT = re.compile(r"(…|\.\.\.)$")  # an id copied from a table that was too narrow for it
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NEVER = 2**63 - 1
_PIPED_WIDTH = 160

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The trace store. Default: $CLAWMW_TRACES, else ~/.local/state/clawmw/traces.sqlite.",
)


class Ago(click.ParamType[int]):
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


def wanted_chain(store: SpanStore | None, wanted: str | None) -> Chain | None:
    """The chain asked for; None when the latest is asked for and there is none at all."""
    from clawmw.observe.reading.chains import chains, find
    from clawmw.observe.reading.figures import clean

    if wanted is None:
        return next(iter(chains(store, limit=1)), None) if store is not None else None
    beginning = _CUT.sub("", wanted)
    found = find(store, beginning) if store is not None and beginning else []
    if not found:
        raise stop(f"no chain or trace begins with {wanted!r}; `clawmw traces` lists them")
    if len(found) > 1:
        some = ", ".join(f"{clean(chain.chain_id)} ({chain.trace_id[:8]})" for chain in found)
        raise stop(f"{wanted!r} could be one of: {some}")
    return found[0]


def open_traces(path: Path | None) -> SpanStore | None:
    """The store, or None when nothing was ever written there."""
    from clawmw.errors import ClawmwError
    from clawmw.observe.store.spanstore import SpanStore, default_store_path

    path = path or default_store_path()
    try:
        if not path.exists():
            return None
        store = SpanStore.read(path)
    except OSError as error:
        raise stop(f"trace store {path} cannot be read: {error.strerror}") from None
    except ClawmwError as error:
        raise stop(str(error)) from None
    click.get_current_context().call_on_close(store.close)
    return store


def stop(message: str) -> SystemExit:
    click.echo(f"{click.get_current_context().command_path}: {message}", err=True)
    return SystemExit(1)


def console() -> Console:
    """A console on stdout; a pipe has no width of its own, so nothing is cut short there."""
    from rich.console import Console

    class Written(Console):
        """A console whose reader may leave: that is for `main` to tell, as with any output."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None
    if sys.stdout is None or not sys.stdout.isatty():  # None: it is closed
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() and int(columns) else _PIPED_WIDTH
    return Written(width=width, highlight=False, markup=False, emoji=False)

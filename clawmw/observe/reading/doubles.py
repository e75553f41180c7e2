"""What the spans of a trace only say together: calls seen twice, and who made a call.

A gateway's span of a call lies beneath the caller's span of the same call: OpenClaw's
`openclaw.model.call`, the SDK's instrumentation. Both say the same tokens. So of model calls
that lie within one another only one counts: clawmw's own, else the innermost that says its
tokens, which is nearest to the wire. A foreign span that does not count is made an
`inference`: shown in the tree, in no sum.

A foreign model call rarely names its agent; it was made for the nearest one above it.

Both are settled whenever spans are written, since either may come first, and what lies
between them (an HTTP client's span) may come last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from clawmw.observe.store.spanstore import SpanRow

__all__ = ["INDEX", "admitted", "settle"]

INDEX = (
    "CREATE INDEX IF NOT EXISTS spans_foreign_calls ON spans (trace_id)"
    " WHERE source IS NOT NULL AND op = 'chat'"
)
"""Few traces hold any: for all others there is nothing to settle."""
_DEEPEST = 64
"""Spans that may lie between two of one call, counting both."""
_AGENT = "UPDATE spans SET agent = ? WHERE trace_id = ? AND span_id = ?"
_SHADOWED = (
    "UPDATE spans SET op = 'inference', cost_nano = NULL, cost_basis = NULL"
    " WHERE trace_id = ? AND span_id = ?"
)


def admitted(connection: sqlite3.Connection, batch: Sequence[SpanRow]) -> list[bool]:
    """Which spans are to be written: of two with one id, ours goes before a foreign one.

    In one process both write the span of a call under the id of the foreign one
    (`clawmw.observe.spans.foreign`): ours to the store, the other through its own exporter.
    """
    ours = [(row.trace_id, row.span_id) for row in batch if row.source is None]
    connection.executemany(
        "DELETE FROM spans WHERE trace_id = ? AND span_id = ? AND source IS NOT NULL", ours
    )
    known = "SELECT 1 FROM spans WHERE trace_id = ? AND span_id = ? AND source IS NULL"
    return [
        row.source is None
        or connection.execute(known, (row.trace_id, row.span_id)).fetchone() is None
        for row in batch
    ]


def settle(connection: sqlite3.Connection, traces: Iterable[str]) -> None:
    """Take out of the sums what would count twice, and give calls their agents, in these traces."""
    for trace_id in traces:
        foreign = connection.execute(
            "SELECT 1 FROM spans WHERE trace_id = ? AND source IS NOT NULL AND op = 'chat' LIMIT 1",
            (trace_id,),
        ).fetchone()
        if foreign is not None:
            rows = connection.execute(
                "SELECT span_id, parent_id, op = 'chat', source IS NULL, coalesce(input_tokens,"
                " output_tokens) IS NOT NULL, agent, op = 'invoke_agent' FROM spans"
                " WHERE trace_id = ?",
                (trace_id,),
            ).fetchall()
            seen = {row[0]: _Seen(*list(row)[1:]) for row in rows}
            agents = [(agent, trace_id, span) for span, agent in _agents(seen)]
            connection.executemany(_AGENT, agents)
            connection.executemany(_SHADOWED, [(trace_id, span) for span in _shadowed(seen)])


class _Seen(NamedTuple):
    parent: str | None
    call: int
    ours: int
    counted: int
    """It says its tokens."""
    agent: str | None
    agents: int
    """It is the span of an agent."""


def _above(rows: dict[str, _Seen], span: str) -> Iterator[tuple[str, _Seen]]:
    """What a span lies in, from the inside out."""
    at = rows[span].parent
    for _ in range(_DEEPEST):
        if at is None or at not in rows:
            return
        yield at, rows[at]
        at = rows[at].parent


def _agents(rows: dict[str, _Seen]) -> Iterator[tuple[str, str]]:
    """The foreign calls that belong to another agent than they say, and that one."""
    for span, call in rows.items():
        if call.call and not call.ours:
            names = (one.agent for _, one in _above(rows, span) if one.agents and one.agent)
            agent = next(names, None)
            if agent is not None and agent != call.agent:
                yield span, agent


def _shadowed(rows: dict[str, _Seen]) -> list[str]:
    """The foreign model calls that do not count."""
    found: set[str] = set()
    for span, call in rows.items():
        if not call.call:
            continue
        for at, above in _above(rows, span):
            if above.call and above.ours and not call.ours:
                found.add(span)
                break
            if above.call and not above.ours:
                stronger = call.ours or call.counted or not above.counted
                found.add(at if stronger else span)
    return sorted(found)

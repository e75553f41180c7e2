"""Finding one model call in the span store, however its reader names it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from clawmw.observe.store.spanstore import COLUMNS, SpanRow, SpanStore

__all__ = ["call", "find_calls", "latest_call"]

_SELECT = f"""
SELECT {", ".join(f"spans.{c}" for c in COLUMNS)}, attributes, events
FROM spans LEFT JOIN details USING (trace_id, span_id)
"""  # noqa: S608 the names of columns
_MANY = 5


def find_calls(store: SpanStore, wanted: str) -> list[SpanRow]:
    """The calls that may be meant, by span id or exchange id, else by the beginning of one.

    Empty: none. More than one: ambiguous (at most five are returned, the newest).
    """
    for match in ("{0} = ?", "substr({0}, 1, length(?)) = ?"):
        values = [wanted] * match.count("?") * 2
        either = " OR ".join(match.format(column) for column in ("spans.span_id", "exchange"))
        where = f"WHERE op = 'chat' AND ({either}) ORDER BY end_ns DESC LIMIT {_MANY}"
        found = _rows(store, where, values)
        if found:
            return found
    return []


def latest_call(store: SpanStore) -> SpanRow | None:
    """The call that ended last."""
    where = "WHERE op = 'chat' ORDER BY end_ns DESC LIMIT 1"
    return next(iter(_rows(store, where, ())), None)


def call(store: SpanStore, trace_id: str, span_id: str) -> SpanRow | None:
    """One span of a trace, if there is such a model call."""
    where = "WHERE op = 'chat' AND spans.trace_id = ? AND spans.span_id = ?"
    return next(iter(_rows(store, where, (trace_id, span_id))), None)


def _rows(store: SpanStore, where: str, values: Sequence[Any]) -> list[SpanRow]:
    return [_row(row) for row in store.query(f"{_SELECT} {where}", values)]


def _row(row: sqlite3.Row) -> SpanRow:
    return SpanRow(
        **{column: row[column] for column in COLUMNS},
        attributes=json.loads(row["attributes"] or "{}"),
        events=tuple(json.loads(row["events"] or "[]")),
    )

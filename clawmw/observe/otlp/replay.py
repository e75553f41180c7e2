"""Stored chains as they are sent: every span with its parent, nobody's span an orphan."""

from __future__ import annotations

from clawmw.observe.otlp.rows import sent
from clawmw.observe.otlp.wire import WireSpan
from clawmw.observe.reading.chains import spans
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["replayed"]


def replayed(store: SpanStore, trace_id: str) -> list[WireSpan]:
    """The spans of a trace, the inferred ones among them."""
    sql = "SELECT span_id, parent_id FROM spans WHERE trace_id = ?"
    stored = {row["span_id"]: row["parent_id"] for row in store.query(sql, (trace_id,))}
    return [sent(row, stored.get(row.span_id)) for row in spans(store, trace_id)]

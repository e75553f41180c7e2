"""OpenTelemetry spans -> rows of the local store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from clawmw.core.money import NANO
from clawmw.observe.spans.compat import ALIASES
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["COLUMN_NAMES", "SCOPE", "own_row", "rows", "written"]

SCOPE = "clawmw"
"""The instrumentation scope of our spans."""


def _nano(usd: float) -> int:
    """Whole nano-USD again: a double holds them exactly up to nine million USD."""
    return round(usd * NANO)


def _thousand(milliseconds: float) -> int:
    return round(milliseconds * 1000)


_COLUMNS: tuple[tuple[str, str, Callable[[Any], Any] | None], ...] = (
    ("tenant", "clawmw.tenant", None),
    ("chain_id", "clawmw.chain.id", None),
    ("session_id", "clawmw.session.id", None),
    ("agent", "clawmw.agent", None),
    ("hop", "clawmw.chain.hop", None),
    ("seq", "clawmw.call.seq", None),
    ("mode", "clawmw.mode", None),
    ("error_type", "error.type", None),
    ("requested_model", "clawmw.route.requested", None),
    ("model", "gen_ai.request.model", None),
    ("input_tokens", "gen_ai.usage.input_tokens", None),
    ("output_tokens", "gen_ai.usage.output_tokens", None),
    ("cache_read_tokens", "gen_ai.usage.cache_read.input_tokens", None),
    ("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens", None),
    ("usage_basis", "clawmw.usage.basis", None),
    ("cost_nano", "clawmw.cost.usd", _nano),
    ("cost_basis", "clawmw.cost.basis", None),
    ("baseline_nano", "clawmw.cost.baseline_usd", _nano),
    ("uncached_nano", "clawmw.cost.uncached_usd", _nano),
    ("raw_tokens", "clawmw.tokens.raw", None),
    ("sent_tokens", "clawmw.tokens.sent", None),
    ("would_tokens", "clawmw.tokens.would", None),
    ("predicted_tokens", "clawmw.cache.predicted_tokens", None),
    ("attempts", "clawmw.attempts", None),
    ("overhead_us", "clawmw.overhead_ms", _thousand),
    ("stopped", "clawmw.stopped", int),
    ("kind", "clawmw.kind", None),
    ("stopped_by", "clawmw.stopped.by", None),
    ("moved", "clawmw.cache.moved", None),
    ("assumed_nano", "clawmw.cost.assumed_usd", _nano),
    ("exchange", "clawmw.exchange", None),
)
COLUMN_NAMES = frozenset(name for _, name, _ in _COLUMNS)
"""The attributes that columns are read from."""
_BACK: Mapping[Callable[[Any], Any], Callable[[Any], Any]] = {
    _nano: lambda nano: nano / NANO,
    _thousand: lambda thousands: thousands / 1000,
    int: bool,
}
_DERIVED = ALIASES | {
    "clawmw.cost.source",
    "clawmw.saved.basis",
    "clawmw.saved.tokens",
    "clawmw.saved.usd",
    "clawmw.status",
    "gen_ai.operation.name",
}
_MIRRORS = ("clawmw.rule.", "clawmw.would.")
"""Attributes not kept as they are: a column or a span event says the same."""


def rows(spans: Iterable[ReadableSpan]) -> list[SpanRow]:
    """The rows of clawmw's spans; other libraries' spans are left out."""
    return [_row(span) for span in spans if _ours(span)]


def _ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == SCOPE


def _row(span: ReadableSpan) -> SpanRow:
    start = span.start_time or 0
    assert span.context is not None  # of a started span
    place = {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "start_ns": start,
        "end_ns": max(span.end_time or start, start),
    }
    events = tuple(_mark(event) for event in span.events)
    attributes: dict[str, Any] = dict(span.attributes or {})
    if span.links:
        attributes["clawmw.links"] = [_link(link) for link in span.links]
    return own_row(place, attributes, events, failed=not span.status.is_ok)


def own_row(
    place: Mapping[str, Any],
    attributes: dict[str, Any],
    events: tuple[Mapping[str, Any], ...],
    *,
    failed: bool,
) -> SpanRow:
    """The row of a span of ours; `place` holds its ids, name and times. Uses up `attributes`."""
    values: dict[str, Any] = {}
    for column, name, convert in _COLUMNS:
        value = attributes.pop(name, None)
        values[column] = convert(value) if convert and value is not None else value
    operation = str(attributes.get("gen_ai.operation.name", ""))
    status = attributes.get("clawmw.status") or ("failed" if failed else "ok")
    attributes = {
        name: value
        for name, value in attributes.items()
        if name not in _DERIVED and not name.startswith(_MIRRORS)
    }
    return SpanRow(
        op=operation, status=str(status), attributes=attributes, events=events, **place, **values
    )


def written(row: SpanRow) -> dict[str, Any]:
    """The attributes that a row's columns were read from."""
    found = {}
    for column, name, convert in _COLUMNS:
        value = getattr(row, column)
        if value is not None:
            found[name] = _BACK[convert](value) if convert else value
    return found


def _link(link: Any) -> str:
    """What a link is for, and the span it leads to."""
    kind = (link.attributes or {}).get("clawmw.link", "link")
    return f"{kind} {link.context.trace_id:032x}-{link.context.span_id:016x}"


def _mark(event: Any) -> Mapping[str, Any]:
    return {"name": event.name, "time_ns": event.timestamp, **(event.attributes or {})}

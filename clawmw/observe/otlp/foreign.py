"""A span of another library -> a row: its figures in typed columns, its content left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from clawmw.core.money import NANO, Profile, cost
from clawmw.core.types import Usage
from clawmw.observe.otlp.content import LONGEST, kept, marked, named
from clawmw.observe.otlp.conventions import (
    COUNTS,
    KINDS,
    NAMED,
    OPENCLAW,
    OPERATIONS,
    TEXTS,
    USD,
)
from clawmw.observe.otlp.sound import sound
from clawmw.observe.otlp.wire import Value, WireSpan
from clawmw.observe.spans.attributes import label
from clawmw.observe.spans.compat import ALIASES
from clawmw.observe.store.exporter import COLUMN_NAMES
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["OTHER", "Profiles", "foreign_row"]

Profiles: TypeAlias = Callable[[str], Profile]
OTHER = "span"
"""The operation of a span that is about no model, agent or tool."""
_MOST_USD = 1_000_000
_UNKNOWN = ("unknown_service", "")


def foreign_row(span: WireSpan, profiles: Profiles | None = None) -> SpanRow:
    """The row of a span; priced, as an estimate, where `profiles` knows the model's price."""
    said = span.attributes
    op = _operation(span)
    values: dict[str, Any] = {c: _first(said, names, named) for c, names in TEXTS.items()}
    values |= {column: _first(said, names, _count) for column, names in COUNTS.items()}
    attributes = {n: v for n, v in kept(said).items() if n not in _READ and sound(n, v)}
    values["agent"] = values["agent"] or _agent(span, op)
    row = SpanRow(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        op=op,
        name=_name(span),
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        status="failed" if span.failed else "ok",
        source=named(span.scope) or "unknown",
        attributes=attributes,
        events=marked(span.events, ours=False),
        **values,
    )
    if op in ("chat", "inference"):
        row = _whole_input(row)
        return _priced(row, said, profiles) if op == "chat" else row
    return row


_READ = frozenset(
    {n for names in (*TEXTS.values(), *COUNTS.values()) for n in names}
    | ALIASES
    | COLUMN_NAMES
    | {"gen_ai.operation.name"}
) - {"gen_ai.response.model"}
"""Not kept as they are: a column says the same."""


def _first(said: Mapping[str, Value], names: tuple[str, ...], read: Callable[[Any], Any]) -> Any:
    for name in names:
        value = read(said.get(name))
        if value is not None:
            return value
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def _operation(span: WireSpan) -> str:
    said = span.attributes
    if span.name in OPENCLAW:
        return OPENCLAW[span.name]
    for name, known in (
        ("gen_ai.operation.name", OPERATIONS),
        ("ai.operationId", NAMED),
        ("openinference.span.kind", KINDS),
        ("traceloop.span.kind", KINDS),
        ("llm.request.type", OPERATIONS),
    ):
        value = str(said.get(name, ""))
        op = known.get(value) or known.get(value.lower())
        if op is not None:
            # Only the one a trace begins with speaks for the whole of it.
            return "workflow" if op == "invoke_workflow" and span.parent_id else op
    return OTHER


def _name(span: WireSpan) -> str:
    """The span's name on one line, without what a URL may carry."""
    line = span.name.partition("\n")[0].partition("?")[0]
    return label("".join(c for c in line if c.isprintable()), LONGEST) or OTHER


def _agent(span: WireSpan, op: str) -> str | None:
    """The agent of a span that names none: what an agent's span is called, else the program."""
    if op == "invoke_agent" and span.name not in OPENCLAW:
        return named(_name(span).removeprefix("invoke_agent "))
    name = named(span.service) or ""
    return None if name.partition(":")[0] in _UNKNOWN else name


def _whole_input(row: SpanRow) -> SpanRow:
    """The row with cached tokens as part of its input.

    The conventions say they are; some instrumentations pass on what Anthropic reports, where
    they are apart. Parts larger than the whole show that.
    """
    parts = (row.cache_read_tokens or 0) + (row.cache_write_tokens or 0)
    basis = None if row.input_tokens is None else "measured"
    if row.input_tokens is not None and parts > row.input_tokens:
        return replace(row, input_tokens=row.input_tokens + parts, usage_basis=basis)
    return replace(row, usage_basis=basis)


def _priced(row: SpanRow, said: Mapping[str, Value], profiles: Profiles | None) -> SpanRow:
    """The row with its cost: as the span says, else by our prices. An estimate in both cases."""
    for name in USD:
        usd = said.get(name)
        if isinstance(usd, int | float) and not isinstance(usd, bool) and 0 <= usd < _MOST_USD:
            return replace(row, cost_nano=round(usd * NANO), cost_basis="estimated")
    if profiles is None or row.model is None or row.model == "unknown":
        return row
    usage = Usage(
        row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens
    )
    spent = cost(usage, profiles(row.model))
    if spent is None:
        return row
    return replace(row, cost_nano=spent.total, cost_basis="estimated")

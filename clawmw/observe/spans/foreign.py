"""Model calls that the application's own instrumentation has a span for.

Its span and ours are of one call, whose tokens count once. While its span is open, what we know
goes onto it, and no second span is exported; when it has ended already, ours goes below it as a
note that carries no usage under the names that viewers add up. The local store keeps ours in
either case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from clawmw.observe.spans.attributes import Attributes, Mark
from clawmw.observe.spans.places import below
from clawmw.observe.spans.tracing import Plan

__all__ = ["at_foreign", "inference", "note", "tell"]

_OPERATIONS = ("chat", "text_completion", "generate_content")
_KIND = "openinference.span.kind"
_COUNTS = {
    "gen_ai.usage.input_tokens": "llm.token_count.prompt",
    "gen_ai.usage.output_tokens": "llm.token_count.completion",
    "gen_ai.usage.cache_read.input_tokens": "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.cache_write.input_tokens": "llm.token_count.prompt_details.cache_write",
}
"""OpenInference's own names; what its instrumentation counts later takes the place of ours."""


def inference(span: trace.Span) -> trace.Span | None:
    """The span, where another library made it for this very model call."""
    if not span.is_recording():
        return None
    said = _attributes(span)
    names = (
        said.get("gen_ai.operation.name") in _OPERATIONS,  # OpenTelemetry's own
        said.get(_KIND) == "LLM",
        "llm.request.type" in said,  # Traceloop's
    )
    return span if any(names) else None


def tell(span: trace.Span, values: Attributes, marks: Sequence[Mark]) -> bool:
    """Put what we know onto a foreign span; False where that has ended.

    What it says itself stays as it is: it has seen what its application sees.
    """
    if not span.is_recording():
        return False
    said = _attributes(span)
    for name, value in _named(values, said).items():
        if name.startswith("clawmw.") or name not in said:
            span.set_attribute(name, value)
    for name, when, attributes in marks:
        span.add_event(name, attributes, when)
    return True


def _named(values: Attributes, said: Mapping[str, Any]) -> Attributes:
    """What we know, under the names of the span's own convention where tokens are counted."""
    if _KIND not in said:
        return values
    rest = {n: v for n, v in values.items() if not n.startswith("gen_ai.usage.")}
    return rest | {_COUNTS[n]: v for n, v in values.items() if n in _COUNTS}


def at_foreign(plan: Plan, span: trace.Span, number: int) -> Plan | None:
    """Our span of the call as the foreign one, for the local store, which lacks that one; None
    where it is in another trace than `number`."""
    at = span.get_span_context()
    if at.trace_id != number:
        return None
    above = getattr(span, "parent", None)
    parent = below(above) if isinstance(above, SpanContext) else Context()
    return replace(plan, parent=parent, span_id=at.span_id, trace_id=number)


def note(plan: Plan, span: trace.Span) -> Plan:
    """Our span of a call whose foreign span has ended: below that, without what would count."""
    kept = {n: v for n, v in plan.attributes.items() if not n.startswith("gen_ai.")}
    kept["clawmw.duplicate"] = True
    session = plan.attributes.get("gen_ai.conversation.id")
    if session is not None:
        kept["session.id"] = session
    name, at = f"clawmw {plan.name.partition(' ')[2]}", below(span.get_span_context())
    return replace(plan, name=name, attributes=kept, parent=at, span_id=None, trace_id=None)


def _attributes(span: trace.Span) -> Mapping[str, Any]:
    found = getattr(span, "attributes", None)
    return found if isinstance(found, Mapping) else {}

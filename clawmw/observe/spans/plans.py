"""The four kinds of span, each planned from who is calling and what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind

from clawmw.core.events import CallFinished, ToolReturned
from clawmw.core.identity import Identity
from clawmw.core.money import NANO
from clawmw.observe.spans import attributes as attrs
from clawmw.observe.spans.attributes import Attributes, Call, label
from clawmw.observe.spans.ids import root_span_id, trace_id
from clawmw.observe.spans.places import fan_in
from clawmw.observe.spans.tracing import Plan

__all__ = ["Plans", "extent"]


@dataclass(slots=True)
class Plans:
    """Plans spans; knows what must not leave the process as it is."""

    hash_ids: bool = False
    _last: tuple[Identity, Attributes] | None = None
    """Who called last, and what is said of them: the spans of a call are planned together."""

    def root(self, identity: Identity, name: str | None, flow: str | None, start: int) -> Plan:
        """`invoke_workflow`. It has no parent; a child chain's links to its parent chain's."""
        shown = self.shown(identity)
        links: tuple[Link, ...] = ()
        if identity.parent:
            parent = trace_id(replace(identity, chain=identity.parent))
            there = SpanContext(parent, root_span_id(parent), is_remote=True)
            links = (Link(there, {"clawmw.link": "parent_chain"}),)
        trace = trace_id(identity)
        return Plan(
            f"invoke_workflow {label(name or shown.chain)}",
            SpanKind.INTERNAL,
            attrs.workflow(shown, name, flow),
            Context(),
            start,
            span_id=root_span_id(trace),
            trace_id=trace,
            links=links,
        )

    def agent(self, identity: Identity, name: str, parent: Context, start: int) -> Plan:
        """`invoke_agent`, with a random id."""
        links, joined = fan_in(identity)
        values = attrs.agent(self.shown(identity), name) | joined
        named = f"invoke_agent {label(name)}"
        return Plan(named, SpanKind.INTERNAL, values, parent, start, links=links)

    def tool(
        self, identity: Identity, name: str, call_id: str, parent: Context, start: int
    ) -> Plan:
        """`execute_tool`, as a flow times it."""
        values = attrs.tool(self.who(identity), name, call_id)
        return Plan(f"execute_tool {label(name)}", SpanKind.INTERNAL, values, parent, start)

    def returned(self, identity: Identity, event: ToolReturned, parent: Context) -> Plan:
        """`execute_tool`, as the next model call tells of it: since the answer that asked."""
        start, _ = extent(event.since, event.time)
        plan = self.tool(identity, event.name, event.call_id, parent, start)
        plan.attributes["clawmw.tool.result_tokens"] = event.tokens
        if event.since is None:
            plan.attributes["clawmw.duration.unknown"] = True
        return plan

    def chat(self, call: Call, event: CallFinished, parent: Context, sequence: int) -> Plan:
        """`chat`: one model call, its retries included."""
        start, _ = extent(call.started.time if call.started else None, event.time)
        values = attrs.chat(call, event, self.who(event.identity), sequence)
        return Plan(f"chat {label(event.model)}", SpanKind.CLIENT, values, parent, start)

    def who(self, identity: Identity) -> Attributes:
        """`identity_of` the caller, not to be changed."""
        last = self._last
        if last is None or last[0] is not identity:
            last = self._last = (identity, attrs.identity_of(self.shown(identity)))
        return last[1]

    def shown(self, identity: Identity) -> Identity:
        """The identity as others may see it."""
        return attrs.hashed(identity) if self.hash_ids else identity


def extent(since: float | None, until: float) -> tuple[int, int]:
    """Start and end in nanoseconds; the start is never after the end."""
    end = int(until * NANO)
    return (end if since is None else min(int(since * NANO), end)), end

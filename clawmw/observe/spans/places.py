"""Where a span goes: under the application's span, under its caller's, or in a tree of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

from clawmw.core.context import TraceContext
from clawmw.core.identity import Identity
from clawmw.observe.spans.attributes import Attributes, label
from clawmw.observe.spans.ids import agent_span_id, trace_id
from clawmw.observe.spans.tracing import Plan, Started

__all__ = ["ChainState", "adopted", "below", "caller_links", "fan_in", "under_current"]

_JOINED, _JOINS = 32, 256
"""Branches named on one span, and joins remembered, at most."""


@dataclass(slots=True)
class ChainState:
    """What is known of a chain in this process."""

    trace: int
    root: int
    flags: TraceFlags
    calls: int = 0
    rooted: bool = False
    """The root's span, or a stand-in for it, is made here, or its caller's process has it."""
    above: Context | None = None
    """What the chain hangs from in its caller's trace."""
    agents: dict[tuple[str, str], Context] = field(default_factory=dict)
    """Agents whose span, or a stand-in for it, is made here."""
    tools: dict[str, int] = field(default_factory=dict)
    """How often a flow itself timed a tool call of that id."""
    joined: set[tuple[str, ...]] = field(default_factory=set)
    """Joins that were told."""
    running: list[Started] = field(default_factory=list)
    """Root and agent spans that are open here."""

    def adopt(self, parent: Context) -> None:
        """A call has its place in a trace that somebody else began: it needs no root of ours."""
        if not self.rooted:
            self.rooted, self.above = True, parent

    def joins(self, identity: Identity) -> tuple[tuple[Link, ...], Attributes]:
        """`fan_in`, told on the first call of a conversation that goes on from those branches."""
        links, values = fan_in(identity)
        key = (identity.agent, identity.session, *(f"{at.context.span_id:x}" for at in links))
        if not links or key in self.joined:
            return (), {}
        if len(self.joined) >= _JOINS:
            self.joined.clear()
        self.joined.add(key)
        return links, values


def below(context: SpanContext) -> Context:
    """A context whose current span is that one."""
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def adopted(chain: ChainState, identity: Identity, under: SpanContext | None) -> Context | None:
    """The span that a call of this chain was made in; None where nobody else writes one.

    That is the application's current span `under`; else the one its caller says it samples.
    A caller may name a span whose id it derived as we do, the chain's root or its own agent's:
    whether that is ever written, nobody knows, so it is none.
    """
    if under is not None and under.trace_id == chain.trace and under.span_id != chain.root:
        return below(under)
    said = identity.context
    if said is None or not said.sampled:
        return None
    remote = _span(said)
    derived = {chain.root, agent_span_id(chain.trace, identity.agent, identity.session)}
    if identity.parent_agent:
        above = identity.parent_agent, identity.parent_session or ""
        derived.add(agent_span_id(chain.trace, *above))
    known = remote.trace_id == chain.trace and remote.span_id not in derived
    return below(remote) if known else None


def caller_links(
    chain: ChainState, identity: Identity, under: SpanContext | None
) -> tuple[Link, ...]:
    """A link to the span a call was made in, where that is in another trace."""
    said = identity.context
    at = under or (_span(said) if said is not None and said.sampled else None)
    if at is None or at.trace_id == chain.trace:
        return ()
    return (Link(at, {"clawmw.link": "caller"}),)


def fan_in(identity: Identity) -> tuple[tuple[Link, ...], Attributes]:
    """Links to the branches whose results come together, and the attribute that says the same.

    Not every viewer reads links.
    """
    joined = tuple(_branches(identity))
    if not joined:
        return (), {}
    links = tuple([Link(at, {"clawmw.link": "fan_in"}) for at in joined])
    said: Attributes = {"clawmw.joined_from": tuple([f"{at.span_id:016x}" for at in joined])}
    agents = [one.agent for one in identity.joined[:_JOINED] if isinstance(one, Identity)]
    named = [label(agent) for agent in agents if agent != "default"]
    if named:
        said["clawmw.joined_agents"] = tuple(dict.fromkeys(named))
    return links, said


def under_current(chain: ChainState, op: str, identity: Identity, plan: Plan) -> Plan:
    """The plan, beneath the current span where that is one of this chain's trace; else a root
    goes where its caller says, or tells of the span in another trace that it began in.

    A tool never goes right under the root: some agent ran it.
    """
    current = trace.get_current_span()
    context = current.get_span_context()
    if context.trace_id == chain.trace:
        if op == "execute_tool" and context.span_id == chain.root:
            return plan
        return replace(plan, parent=trace.set_span_in_context(current, Context()))
    if op == "invoke_agent":
        return plan
    above = adopted(chain, identity, None)
    if above is not None:
        return replace(plan, parent=above)
    if op == "execute_tool":
        return plan
    links = caller_links(chain, identity, context if context.is_valid else None)
    return replace(plan, links=(*plan.links, *links))


def _branches(identity: Identity) -> Iterator[SpanContext]:
    seen: set[int] = set()
    branches: Iterable[Identity | TraceContext] = identity.joined[:_JOINED]
    for branch in branches:
        if isinstance(branch, TraceContext):
            at = _span(branch)
        elif branch.agent == "default" and branch.context is not None:  # as it came from there
            at = _span(branch.context)
        else:
            number = trace_id(branch)
            at = SpanContext(number, agent_span_id(number, branch.agent, branch.session), True)
        if at.span_id not in seen:
            seen.add(at.span_id)
            yield at


def _span(said: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if said.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([said.state]) if said.state else None
    return SpanContext(int(said.trace, 16), int(said.span, 16), True, flags, state)

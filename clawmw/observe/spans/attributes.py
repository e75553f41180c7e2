"""Events -> span names, attributes and span events. Pure; no tracer here.

`gen_ai.*` names follow the OpenTelemetry GenAI conventions, v0.1.0 of
`semantic-conventions-genai`; what they have no word for is under `clawmw.*`. Content is
never emitted, nor the text of an exception: only names, digests, counts and sums. What
comes off the wire as a name (a model, a tool) is cut to a bounded, encodable length.

None is left out; 0 is emitted. A cache read of 0 tokens and an unreported one differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from opentelemetry.util.types import AttributeValue

from clawmw.core.events import (
    Acted,
    Assumed,
    Attempted,
    BodyUnread,
    BreakerTurned,
    BudgetNeared,
    CacheMissed,
    CallFinished,
    CallStarted,
    Degraded,
    EpochBegan,
    EpochEnded,
    Event,
    IdentityDerived,
    Overdrawn,
    StageFailed,
    ToolReturned,
    Waited,
)
from clawmw.core.identity import Identity
from clawmw.core.money import NANO
from clawmw.observe.spans.compat import provider_name
from clawmw.observe.spans.ids import hashed_name
from clawmw.observe.spans.rungs import budget_left, loop, models

__all__ = [
    "Attributes",
    "Call",
    "Mark",
    "agent",
    "chat",
    "error_type",
    "hashed",
    "identity_of",
    "label",
    "stops",
    "tool",
    "workflow",
]

_TYPE = re.compile(r"[A-Za-z_][\w.]{0,63}|\d{3}")
_MANY = 16
"""The most rules, mechanisms, details or tools named on one span."""

Attributes = dict[str, AttributeValue]
Mark = tuple[str, int, Attributes]
"""A span event: name, nanoseconds since the epoch, attributes."""


@dataclass(slots=True)
class Call:
    """The events of one exchange so far."""

    started: CallStarted | None = None
    acted: list[Acted] = field(default_factory=list)
    attempts: list[Attempted] = field(default_factory=list)
    trouble: list[StageFailed | Degraded] = field(default_factory=list)
    tools: list[ToolReturned] = field(default_factory=list)
    missed: CacheMissed | None = None
    derived: IdentityDerived | None = None
    unread: BodyUnread | None = None
    epochs: list[EpochBegan | EpochEnded] = field(default_factory=list)
    queueing: list[Waited | BreakerTurned] = field(default_factory=list)
    budget: list[BudgetNeared | Overdrawn | Assumed] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take in any event but the last."""
        kind = type(event)
        if kind in _SEVERAL:
            getattr(self, _SEVERAL[kind]).append(event)
        elif kind in _ONE:
            setattr(self, _ONE[kind], event)


_SEVERAL: Mapping[type, str] = {
    Acted: "acted",
    Attempted: "attempts",
    ToolReturned: "tools",
    StageFailed: "trouble",
    Degraded: "trouble",
    EpochBegan: "epochs",
    EpochEnded: "epochs",
    Waited: "queueing",
    BreakerTurned: "queueing",
    BudgetNeared: "budget",
    Overdrawn: "budget",
    Assumed: "budget",
}
_ONE: Mapping[type, str] = {
    CallStarted: "started",
    CacheMissed: "missed",
    IdentityDerived: "derived",
    BodyUnread: "unread",
}


def label(text: str, limit: int = 128) -> str:
    """A name from outside, cut to `limit` characters; lone surrogates become `?`."""
    if len(text) > limit:
        text = text[:limit]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def error_type(text: str | None) -> str:
    """A failure's class: a type name, a rule, a kind or a status; `_OTHER` for anything else.

    Anything with a space in it could be a message, and a message could carry content.
    """
    return text if text and _TYPE.fullmatch(text) else "_OTHER"


def hashed(identity: Identity) -> Identity:
    """The same identity with its chain, parent, sessions and conversation as digests."""
    above = identity.parent_session
    return replace(
        identity,
        chain=hashed_name(identity.chain),
        parent=hashed_name(identity.parent) if identity.parent else None,
        session=hashed_name(identity.session),
        parent_session=hashed_name(above) if above else None,
        conversation=hashed_name(identity.conversation) if identity.conversation else "",
    )


def identity_of(identity: Identity) -> Attributes:
    """Who is calling; on every span, since readers do not look at the parent's.

    `gen_ai.conversation.id` only when the session was given: the conventions forbid a
    digest of content as a stand-in.
    """
    result: Attributes = {
        "clawmw.tenant": label(identity.tenant),
        "clawmw.chain.id": label(identity.chain),
        "clawmw.chain.hop": identity.hop,
        "clawmw.agent": label(identity.agent),
        "clawmw.session.id": label(identity.session),
    }
    if identity.parent:
        result["clawmw.chain.parent"] = label(identity.parent)
    if identity.parent_agent:
        result["clawmw.parent.agent"] = label(identity.parent_agent)
    if identity.parent_session:
        result["clawmw.parent.session"] = label(identity.parent_session)
    own = identity.session if "session" not in identity.derived else ""
    if identity.conversation or own:
        result["gen_ai.conversation.id"] = label(identity.conversation or own)
    return result


def workflow(identity: Identity, name: str | None, flow: str | None = None) -> Attributes:
    """The root span; `name` None when nobody named the chain."""
    result = {"gen_ai.operation.name": "invoke_workflow"} | identity_of(identity)
    if name is not None:
        result["gen_ai.agent.name"] = label(name)
    if flow is not None:
        result["clawmw.flow"] = label(flow)
    return result


def agent(identity: Identity, name: str) -> Attributes:
    """An agent's span."""
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": label(name),
    } | identity_of(identity)


def tool(base: Attributes, name: str, call_id: str) -> Attributes:
    """A tool's span; `base` is `identity_of` the caller."""
    result: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": label(name),
        "gen_ai.tool.type": "function",
    } | base
    if call_id:
        result["gen_ai.tool.call.id"] = label(call_id)
    return result


def chat(call: Call, finished: CallFinished, base: Attributes, sequence: int) -> Attributes:
    """A model call's span: one for the logical call, all its attempts included.

    `base` is `identity_of` the caller; `sequence` counts the chain's calls in this process.
    """
    result: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": label(finished.model),
        "gen_ai.agent.name": base["clawmw.agent"],
        "clawmw.call.seq": sequence,
        "clawmw.exchange": label(finished.exchange),
        "clawmw.status": finished.status,
        "clawmw.attempts": max(finished.attempts, len(call.attempts)),
        "clawmw.overhead_ms": round(finished.overhead * 1000, 3),
    }
    result.update(base)
    started = call.started
    result["gen_ai.provider.name"] = provider_name(
        finished.model, started.dialect if started else ""
    )
    if started is not None:
        _request(result, started, finished)
    if finished.response_model:
        result["gen_ai.response.model"] = label(finished.response_model)
    if finished.finish_reason:
        result["gen_ai.response.finish_reasons"] = (label(finished.finish_reason, 64),)
    if finished.tools:
        result["clawmw.tools"] = tuple(label(name) for _, name in finished.tools[:_MANY])
    if finished.identity.kind:
        result["clawmw.kind"] = label(finished.identity.kind)
    _usage(result, finished)
    _tokens(result, finished)
    if call.missed is not None:
        result["clawmw.cache.missed"] = True
        result["clawmw.cache.moved"] = call.missed.part
    waits = [event.seconds for event in call.queueing if isinstance(event, Waited)]
    if waits:
        result["clawmw.admission.wait_ms"] = round(sum(waits) * 1000, 3)
    _money(result, call, finished)
    _attempts(result, call)
    _decisions(result, call)
    result |= models(call.acted, finished) | loop(call.acted) | budget_left(finished.limits)
    if finished.status in ("failed", "halted"):
        result["error.type"] = _failure(call, finished)
    return result


def _request(result: Attributes, started: CallStarted, finished: CallFinished) -> None:
    result["clawmw.mode"] = started.mode
    result["clawmw.policy"] = label(started.policy)
    result["clawmw.messages"] = started.messages
    result["clawmw.dialect"] = label(started.dialect, 64)
    if started.stream:
        result["gen_ai.request.stream"] = True
    if started.held:
        result["clawmw.held"] = True
    if started.mode == "holdout":
        result["clawmw.holdout"] = True
    if started.model != finished.model:
        result["clawmw.routed"] = True
        result["clawmw.route.requested"] = label(started.model)
        result["clawmw.route.chosen"] = label(finished.model)


def _usage(result: Attributes, finished: CallFinished) -> None:
    """The provider's count. A call clawmw answered itself used no tokens: nothing is said."""
    usage = finished.usage
    if usage is None or finished.status == "answered":
        return
    for name, value in (
        ("gen_ai.usage.input_tokens", usage.input_tokens),
        ("gen_ai.usage.output_tokens", usage.output_tokens),
        ("gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens),
        ("gen_ai.usage.cache_write.input_tokens", usage.cache_write_tokens),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
    ):
        if value is not None:
            result[name] = value
    result["clawmw.usage.basis"] = usage.basis


def _tokens(result: Attributes, finished: CallFinished) -> None:
    totals = finished.totals
    result["clawmw.tokens.raw"] = totals.raw
    result["clawmw.tokens.sent"] = totals.sent
    result["clawmw.tokens.would"] = totals.would
    result["clawmw.cache.predicted_tokens"] = totals.sent_cached
    result["clawmw.cache.predicted_raw_tokens"] = totals.raw_cached
    result["clawmw.saved.tokens"] = totals.raw - totals.sent
    result["clawmw.saved.basis"] = "estimated"
    compacted = False
    for mechanism, tokens in list(totals.by_mechanism.items())[:_MANY]:
        result[f"clawmw.saved.by.{label(mechanism, 64)}"] = tokens
        compacted = compacted or mechanism.split(".")[0] in ("compress", "window")
    if compacted and totals.sent < totals.raw:
        result["gen_ai.conversation.compacted"] = True  # the conventions know no False


def _money(result: Attributes, call: Call, finished: CallFinished) -> None:
    """Cost by our price table; the conventions have no cost."""
    spent = finished.cost
    result["clawmw.cost.source"] = "unknown" if spent is None else "local"
    if spent is not None:
        result["clawmw.cost.usd"] = spent.total / NANO
        result["clawmw.cost.basis"] = finished.usage.basis if finished.usage else "measured"
    assumed = [told.usd for told in call.budget if isinstance(told, Assumed)]
    if assumed:
        result["clawmw.cost.assumed_usd"] = sum(assumed) / NANO
    if finished.uncached is not None:
        result["clawmw.cost.uncached_usd"] = finished.uncached / NANO
    if finished.baseline is not None:
        result["clawmw.cost.baseline_usd"] = finished.baseline.total / NANO
        if spent is not None:
            result["clawmw.saved.usd"] = (finished.baseline.total - spent.total) / NANO


def _attempts(result: Attributes, call: Call) -> None:
    if not call.attempts:
        return
    result["clawmw.upstream_ms"] = round(sum(a.seconds for a in call.attempts) * 1000, 3)
    first = call.attempts[-1].first
    if call.started is not None and call.started.stream and first is not None:
        result["gen_ai.response.time_to_first_chunk"] = round(first, 6)
    if len(call.attempts) > 1:
        result["clawmw.retried"] = True
        if call.attempts[0].model != call.attempts[-1].model:
            result["clawmw.fallback.from"] = label(call.attempts[0].model)


def _decisions(result: Attributes, call: Call) -> None:
    """A boolean for each rule that acted: most viewers cannot filter by span event."""
    for acted in call.acted[:_MANY]:
        prefix = "would" if acted.would else "rule"
        result[f"clawmw.{prefix}.{label(acted.rule, 64)}"] = True
    for acted in call.acted:
        if stops(acted):
            result["clawmw.stopped"] = True
            result["clawmw.stopped.by"] = label(acted.rule, 64)
            if acted.stage == "loop_guard":
                result["clawmw.loop.capped"] = True
    for epoch in call.epochs:
        if isinstance(epoch, EpochBegan) and not epoch.would:
            result["clawmw.epoch"] = label(epoch.reason, 64)
    for told in call.budget:
        if not isinstance(told, Assumed):
            near = isinstance(told, BudgetNeared)
            result[f"clawmw.budget.{'near' if near else 'overdrawn'}"] = told.meter
    for event in call.trouble:
        name = "stage.failed" if isinstance(event, StageFailed) else "degraded"
        result[f"clawmw.{name}"] = True


def stops(acted: Acted) -> bool:
    """Whether a guard kept the call from the model."""
    guarded = acted.action == "halt" or (acted.stage == "loop_guard" and acted.action == "answer")
    return guarded and not acted.would


def _failure(call: Call, finished: CallFinished) -> str:
    if finished.status == "failed" and call.attempts and call.attempts[-1].status is not None:
        return str(call.attempts[-1].status)
    return error_type(finished.error)

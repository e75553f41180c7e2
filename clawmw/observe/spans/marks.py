"""The span events of a model call: decisions, troubles, waits, attempts."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from clawmw.core.events import (
    Acted,
    Assumed,
    Attempted,
    BreakerTurned,
    BudgetNeared,
    CacheMissed,
    Degraded,
    Overdrawn,
    StageFailed,
    Waited,
)
from clawmw.core.money import NANO
from clawmw.observe.spans.attributes import Attributes, Call, Mark, error_type, label, stops
from clawmw.observe.spans.epochs import epoch_mark

__all__ = ["marks"]

_MANY = 16


def marks(call: Call) -> Iterator[Mark]:
    """The span events of a model call: decisions, troubles, attempts when one failed; and why
    the provider's cache was missed."""
    if call.derived is not None:
        names: Attributes = {"names": ", ".join(call.derived.names)}
        yield "clawmw.identity.derived", int(call.derived.time * NANO), names
    if call.unread is not None:
        why: Attributes = {"dialect": call.unread.dialect, "reason": label(call.unread.reason)}
        yield "clawmw.body.unread", int(call.unread.time * NANO), why
    for acted in call.acted:
        loop = stops(acted) and acted.stage == "loop_guard"
        name = "clawmw.loop.capped" if loop else "clawmw.acted"
        yield name, int(acted.time * NANO), _acted(acted)
    for epoch in call.epochs:
        yield epoch_mark(epoch)
    yield from map(_queueing, call.queueing)
    yield from map(_budget, call.budget)
    yield from map(_trouble, call.trouble)
    if call.missed is not None:
        yield _missed(call.missed)
    if len(call.attempts) > 1 or any(a.failure for a in call.attempts):
        for attempt in call.attempts:
            yield _attempt(attempt)


def _acted(acted: Acted) -> Attributes:
    result: Attributes = {
        "stage": acted.stage,
        "action": acted.action,
        "rule": label(acted.rule, 64),
        "would": acted.would,
    }
    for key, value in list(acted.detail.items())[:_MANY]:
        if isinstance(value, float) and not isfinite(value):
            continue  # JSON has no infinity
        result[f"detail.{label(key, 32)}"] = label(value) if isinstance(value, str) else value
    return result


def _trouble(event: StageFailed | Degraded) -> Mark:
    error = error_type(event.error)
    when = int(event.time * NANO)
    if isinstance(event, StageFailed):
        return (
            "clawmw.stage.failed",
            when,
            {"stage": event.stage, "phase": event.phase, "error": error, "closed": event.closed},
        )
    return "clawmw.degraded", when, {"store": label(event.store), "error": error}


def _missed(event: CacheMissed) -> Mark:
    result: Attributes = {
        "model": label(event.model),
        "predicted": event.predicted,
        "read": event.read,
        "moved": event.part,
    }
    if event.index is not None:
        result["index"] = event.index
    if event.byte is not None:
        result["byte"] = event.byte
    if event.tool:
        result["tool"] = label(event.tool)
    if event.lost is not None:
        result["lost_usd"] = event.lost / NANO
    return "clawmw.cache.missed", int(event.time * NANO), result


def _attempt(attempt: Attempted) -> Mark:
    result: Attributes = {
        "number": attempt.number,
        "model": label(attempt.model),
        "seconds": round(attempt.seconds, 6),
    }
    if attempt.status is not None:
        result["status"] = attempt.status
    if attempt.failure:
        result["failure"] = error_type(attempt.failure)
    return "clawmw.attempt", int(attempt.time * NANO), result


def _budget(event: BudgetNeared | Overdrawn | Assumed) -> Mark:
    when = int(event.time * NANO)
    if isinstance(event, Assumed):
        return "clawmw.cost.assumed", when, {"usd": event.usd / NANO}
    if isinstance(event, Overdrawn):
        told: Attributes = {"meter": event.meter, "reserved": event.reserved, "used": event.used}
        return "clawmw.budget.overdrawn", when, told
    near: Attributes = {
        "scope": event.scope,
        "day": event.day,
        "meter": event.meter,
        "limit": event.limit,
        "used": event.used,
    }
    return "clawmw.budget.near", when, near


def _queueing(event: Waited | BreakerTurned) -> Mark:
    when, upstream = int(event.time * NANO), label(event.upstream)
    if isinstance(event, BreakerTurned):
        return "clawmw.breaker", when, {"upstream": upstream, "state": event.state}
    told: Attributes = {
        "upstream": upstream,
        "class": event.rank,
        "seconds": round(event.seconds, 6),
    }
    if event.refused:
        told["refused"] = event.refused
    return "clawmw.admission.waited", when, told

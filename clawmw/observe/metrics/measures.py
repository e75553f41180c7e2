"""Events of model calls -> measurements, the same for every backend. No clock, no library.

Unknown is left out, never counted as 0. Of `gen_ai.*` only what the provider itself counted is
told: the conventions want nothing estimated there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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
    Event,
    Overdrawn,
    StageFailed,
    Waited,
)
from clawmw.core.money import NANO
from clawmw.core.types import Usage
from clawmw.observe.metrics.bounded import Bind, Bounded
from clawmw.observe.sending.counts import REASONS, Count
from clawmw.observe.spans.attributes import error_type, stops
from clawmw.observe.spans.compat import provider_name

__all__ = ["Counting", "Losses", "Measures", "losses_of"]

_CALLS = 4096
"""Calls that may be open at once; the oldest are forgotten (they never finished)."""
_LOST_EVERY = 16
"""Calls after which it is asked again what was lost; that takes as long as a third of a call."""

Losses = Callable[[], Mapping[tuple[str, str], int]]
"""Gives how many spans were lost so far, by destination and reason."""

_USAGE = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_read", "cache_read.input_tokens"),
    ("cache_write", "cache_write.input_tokens"),
    ("reasoning", "reasoning.output_tokens"),
)
_COUNTERS = {kind: f"gen_ai.client.inference.usage.{name}" for kind, name in _USAGE}


class Counting(Protocol):
    """Somebody who knows what became of spans: the observer that writes them."""

    def counts(self) -> tuple[Count, ...]:
        """By destination."""
        ...


def losses_of(counting: Counting) -> Losses:
    """The spans that somebody lost; a reason that did not occur yet has 0."""

    def lost() -> Mapping[tuple[str, str], int]:
        return {
            (count.destination, reason): count.lost.get(reason, 0)
            for count in counting.counts()
            for reason in REASONS
        }

    return lost


@dataclass(slots=True)
class _Open:
    """What is remembered of a call until it ends."""

    started: CallStarted | None = None
    waited: float = 0.0
    last: Attempted | None = None
    fell_back: bool = False


class Measures:
    """Turns events into measurements for a backend; see the module. Thread-safe."""

    def __init__(self, bind: Bind) -> None:
        self._bounded = Bounded(bind)
        self._put = self._bounded.put
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._losses: list[tuple[Losses, dict[tuple[str, str], int]]] = []
        self._ended_so_far = 0
        self._lock = threading.Lock()
        self._takes: Mapping[type, Callable[[Any], None]] = {
            CallStarted: self._began,
            Attempted: self._attempted,
            Acted: self._acted,
            Waited: self._waited,
            CallFinished: self._ended,
        }

    def take(self, event: Event) -> None:
        """Measure an event."""
        take = self._takes.get(type(event), self._other)
        take(event)

    def watch(self, losses: Losses) -> None:
        """Have what somebody else counts as lost told, too, now and then."""
        with self._lock:
            self._losses.append((losses, {}))

    def lost(self) -> None:
        """Tell what was lost since it was told last.

        A reason is told once with 0: a series must be there before it can be seen to rise.
        """
        for losses, told in self._losses:
            now = losses()
            with self._lock:
                new = {key: n - told.get(key, 0) for key, n in now.items() if n > told.get(key, -1)}
                told.update(now)
            for key, number in new.items():
                self._put("clawmw.spans.lost", number, *key)

    def forked(self) -> None:
        """Begin anew in a forked child: what the parent counts is the parent's."""
        self._lock = threading.Lock()
        self._open.clear()
        self._bounded.forget()

    # --- a call ----------------------------------------------------------------------------

    def _began(self, event: CallStarted) -> None:
        with self._lock:
            self._open[event.exchange] = _Open(event)
            full = len(self._open) > _CALLS
            if full:
                self._open.popitem(last=False)
        self._put("clawmw.in_flight", 0 if full else 1)

    def _attempted(self, event: Attempted) -> None:
        entry = self._open.get(event.exchange)
        if entry is not None:
            entry.last = event
        result = "ok"
        if event.failure:
            result = str(event.status) if event.status else error_type(event.failure)
        self._put("clawmw.attempts", 1, event.model, result)
        if event.number > 1:
            self._put("clawmw.retries", 1, event.model)

    def _acted(self, event: Acted) -> None:
        would = "true" if event.would else "false"
        self._put("clawmw.decisions", 1, event.rule, event.action, would)
        if event.would:
            return
        entry = self._open.get(event.exchange)
        if entry is not None and event.stage in ("fallback", "degrade"):
            entry.fell_back = True
        if event.action == "halt":
            self._put("clawmw.refusals", 1, event.rule)
        if event.stage == "loop_guard" and stops(event):
            detector = str(event.detail.get("detector", ""))
            self._put("clawmw.loop.stops", 1, event.rule, detector)

    def _waited(self, event: Waited) -> None:
        entry = self._open.get(event.exchange)
        if entry is not None:
            entry.waited += event.seconds
        self._put("clawmw.queue.wait", event.seconds)

    def _ended(self, event: CallFinished) -> None:
        with self._lock:
            entry = self._open.pop(event.exchange, None) or _Open()
        put, started, model = self._put, entry.started, event.model
        agent = event.identity.agent
        if started is not None:
            put("clawmw.in_flight", -1)
        dialect = started.dialect if started is not None else ""
        put("clawmw.calls", 1, dialect, model, event.status)
        put("clawmw.agent.calls", 1, agent, event.status)
        put("clawmw.added", max(event.overhead - entry.waited, 0.0))
        better = "prompt_cache"
        if started is not None and started.model != model:
            better = "fallback" if entry.fell_back else "route"
            name = "clawmw.fallbacks" if entry.fell_back else "clawmw.routed"
            put(name, 1, started.model, model)
        self._tokens(event)
        self._money(event, better)
        if started is not None and entry.last is not None:
            self._inference(event, started, entry.last)
        self._ended_so_far += 1
        if self._losses and self._ended_so_far % _LOST_EVERY == 1:
            self.lost()

    def _tokens(self, event: CallFinished) -> None:
        totals, usage = event.totals, event.usage
        self._put("clawmw.saved.tokens", max(totals.raw - totals.sent, 0))
        for mechanism, tokens in totals.by_mechanism.items():
            if tokens > 0:
                self._put("clawmw.saved.by_mechanism.tokens", tokens, mechanism)
        if usage is not None:
            for kind, count in _counts(usage):
                if count:
                    self._put("clawmw.tokens", count, event.model, kind)

    def _money(self, event: CallFinished, better: str) -> None:
        put, model, agent = self._put, event.model, event.identity.agent
        cost, baseline = event.cost, event.baseline
        if event.uncached is not None:
            put("clawmw.cost.uncached.usd", event.uncached / NANO, model)
        if cost is None:
            return
        spent = cost.total
        put("clawmw.cost.usd", spent / NANO, model)
        put("clawmw.agent.cost.usd", spent / NANO, agent)
        if baseline is None:
            return
        put("clawmw.cost.baseline.usd", baseline.total / NANO, model)
        saved = baseline.total - spent
        put("clawmw.saved.usd", max(saved, 0) / NANO, model)
        if saved < 0:
            put("clawmw.overspent.usd", -saved / NANO, model)
        elif saved > 0:
            put("clawmw.agent.saved.usd", saved / NANO, agent)
            for mechanism, nano in _shares(event, saved, better):
                put("clawmw.saved.by_mechanism.usd", nano / NANO, mechanism)

    # --- the conventions' own ---------------------------------------------------------------

    def _inference(self, event: CallFinished, started: CallStarted, last: Attempted) -> None:
        """A call that reached a model: one that was refused or answered here is no inference."""
        put = self._put
        provider = provider_name(event.model, started.dialect)
        about = ("chat", provider, event.model, event.response_model or "")
        failed = event.status in ("failed", "halted")
        error = _error(event, last) if failed else ""
        seconds = max(event.time - started.time, 0.0)
        put("gen_ai.client.inference.duration", seconds, *about, error)
        put("gen_ai.client.operation.duration", seconds, *about, error)
        if started.stream and last.first is not None and not last.failure:
            first = max(last.first, 0.0)
            put("gen_ai.client.inference.time_to_first_chunk", first, *about)
            put("gen_ai.client.operation.time_to_first_chunk", first, *about)
        usage = event.usage
        if usage is None or usage.basis != "measured":
            return
        for kind, count in _counts(usage):
            if count is not None:
                put(_COUNTERS[kind], count, *about, "unknown")
                if kind in ("input", "output"):
                    put("gen_ai.client.token.usage", count, *about, kind)

    # --- the rest ---------------------------------------------------------------------------

    def _other(self, event: Event) -> None:
        put = self._put
        match event:
            case BreakerTurned(upstream=upstream, state=state):
                put("clawmw.breaker.open", float(state != "closed"), upstream)
                put("clawmw.breaker.turns", 1, upstream, state)
            case CacheMissed(part=part, lost=lost):
                put("clawmw.cache.misses", 1, part)
                if lost is not None:
                    put("clawmw.cache.lost.usd", max(lost, 0) / NANO, part)
            case EpochBegan(would=False, reason=reason):
                put("clawmw.epochs", 1, reason)
            case BudgetNeared(scope=scope, meter=meter):
                put("clawmw.budget.near", 1, scope, meter)
            case Overdrawn(meter=meter):
                put("clawmw.budget.overdrawn", 1, meter)
            case Assumed(usd=usd):
                put("clawmw.cost.assumed.usd", usd / NANO)
            case BodyUnread(dialect=dialect):
                put("clawmw.unread_bodies", 1, dialect)
            case Degraded(store=store):
                put("clawmw.store.degraded", 1, store)
            case StageFailed(stage=stage, closed=closed):
                put("clawmw.stage.failures", 1, stage, str(closed).lower())
            case _:
                pass


def _counts(usage: Usage) -> tuple[tuple[str, int | None], ...]:
    return (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("reasoning", usage.reasoning_tokens),
    )


def _shares(event: CallFinished, saved: int, better: str) -> Iterator[tuple[str, float]]:
    """What saved how much of `saved` nano-USD: an estimate, whose parts add up to it.

    Tokens left out count at the average price of the input without clawmw, cached ones included.
    What is left came from what is `better`: the model, where another one was asked, else the use
    of the provider's cache.
    """
    totals, base = event.totals, event.baseline
    left_out = {name: n for name, n in totals.by_mechanism.items() if n > 0}
    tokens, rest = sum(left_out.values()), float(saved)
    if tokens and totals.raw > 0 and base is not None:
        price = (base.input + base.cache_read + base.cache_write) / totals.raw
        price = min(price, saved / tokens)
        for mechanism, number in left_out.items():
            if price > 0:
                yield mechanism, number * price
        rest -= tokens * price
    if rest >= 1:  # less than a nano-USD is a rounding error
        yield better, rest


def _error(event: CallFinished, last: Attempted) -> str:
    """The class of a failure, as the call's span has it."""
    if event.status == "failed" and last.status is not None:
        return str(last.status)
    return error_type(event.error)

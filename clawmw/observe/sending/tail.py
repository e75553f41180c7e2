"""Tail sampling: which chains are exported is decided when it is known how they went.

A chain's spans are held until one of them qualifies it: then what is held goes out, and what
follows goes straight through. A chain qualifies when it costs or takes a lot, fails, is stopped by
a guard, or misses the provider's cache unexpectedly; besides, a share of all chains is exported,
the same ones in every process (by trace id, as OpenTelemetry's `TraceIdRatioBased` picks them, so
that services sampled at the same ratio keep the same traces). The others are let go when their root
ends, or, where nobody says that it does, when nothing was heard of them for a while.

Each process decides by what it sees itself. The local store keeps every chain.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

from clawmw.core.money import NANO
from clawmw.observe.sending.counts import Counts
from clawmw.observe.sending.forks import after_fork

__all__ = ["Sample", "Tail"]

_LOW = (1 << 64) - 1
_IDLE = 600.0
_MOST_SPANS = 16_384
"""Spans held at once, and so chains."""
_MOST_KEPT = 65_536
_SIGNS = frozenset({"clawmw.stopped", "clawmw.loop.capped", "clawmw.cache.missed"})
"""Any of them keeps a chain."""


_NOTHING: Mapping[str, AttributeValue] = {}


@dataclass(frozen=True, slots=True)
class Sample:
    """Which chains are exported: a share of all, and those that cost or took so much."""

    share: float
    nano: int
    wall: float
    """Seconds."""


@dataclass(slots=True)
class _Held:
    """What is known of a chain that is not decided yet."""

    heard: float
    start: int
    end: int
    cost: int = 0
    spans: list[ReadableSpan] = field(default_factory=list)


class Tail:
    """Holds spans until their chain is decided; `forward` gets those of the chains to keep."""

    def __init__(
        self,
        rule: Sample,
        forward: Callable[[ReadableSpan], None],
        counts: Counts,
        *,
        most: int = _MOST_SPANS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rule, self._forward, self._counts = rule, forward, counts
        self._share = int(rule.share * (_LOW + 1))
        self._wall = int(rule.wall * 1e9)
        self._idle = max(_IDLE, 2 * rule.wall)
        self._most, self._clock = most, clock
        self._fresh()
        after_fork(self._fresh)

    def _fresh(self) -> None:
        """Nothing is held: at first, and in a forked child, whose parent decides the rest."""
        self._lock = threading.Lock()
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._number = 0

    def put(self, span: ReadableSpan) -> None:
        """Take in a span; what it decides is done before this returns."""
        assert span.context is not None  # of an ended span
        trace = span.context.trace_id
        if trace & _LOW < self._share:
            self._forward(span)
            return
        now = self._clock()
        with self._lock:
            if trace in self._kept:
                self._kept.move_to_end(trace)
                self._forward(span)
                return
            held = self._hold(trace, span, now)
            if self._qualifies(held, span):
                self._keep(trace)
            elif _ends(span):
                self._counts.unsampled(self._drop(trace))
            self._tidy(now)

    def close(self) -> None:
        """Let go of what did not qualify until now."""
        with self._lock:
            while self._held:
                self._counts.unsampled(self._drop(next(iter(self._held))))

    # --- with the lock held ----------------------------------------------------------

    def _hold(self, trace: int, span: ReadableSpan, now: float) -> _Held:
        start, end = span.start_time or 0, span.end_time or 0
        held = self._held.get(trace)
        if held is None:
            held = self._held[trace] = _Held(now, start, end)
        else:
            self._held.move_to_end(trace)
            held.heard = now
            if start < held.start:
                held.start = start
            if end > held.end:
                held.end = end
        held.spans.append(span)
        self._number += 1
        return held

    def _qualifies(self, held: _Held, span: ReadableSpan) -> bool:
        values = span.attributes or _NOTHING
        usd = values.get("clawmw.cost.usd")
        if usd is not None:
            held.cost += round(usd * NANO)  # type: ignore[operator]  # an attribute of ours
        if held.cost >= self._rule.nano or held.end - held.start >= self._wall:
            return True
        if span.status.status_code is StatusCode.ERROR:
            return True
        return not _SIGNS.isdisjoint(values) and any(values.get(sign) for sign in _SIGNS)

    def _keep(self, trace: int) -> None:
        held = self._held.pop(trace)
        self._number -= len(held.spans)
        for span in held.spans:
            self._forward(span)
        self._kept[trace] = None
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def _drop(self, trace: int) -> int:
        held = self._held.pop(trace)
        self._number -= len(held.spans)
        return len(held.spans)

    def _tidy(self, now: float) -> None:
        """Let go of chains that are idle, and of the one heard of least when there are too many."""
        while self._held:
            trace, held = next(iter(self._held.items()))
            if self._number > self._most:
                self._counts.lost("held", self._drop(trace))
            elif now - held.heard > self._idle:
                self._counts.unsampled(self._drop(trace))
            else:
                break


def _ends(span: ReadableSpan) -> bool:
    """Whether it is a chain's root, written by whoever knows that the chain is over."""
    values = span.attributes or _NOTHING
    root = values.get("gen_ai.operation.name") == "invoke_workflow"
    return root and not values.get("clawmw.synthetic")

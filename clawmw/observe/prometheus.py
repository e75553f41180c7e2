"""What a gateway did, as Prometheus metrics: an observer, and the text a scraper reads.

Labels come from outside (a caller names any model), so each takes a bounded number of values;
what comes after that is `other`. Several processes count together where `PROMETHEUS_MULTIPROC_DIR`
names a folder before this is imported.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from clawmw.core.events import (
    Acted,
    BodyUnread,
    BreakerTurned,
    CallFinished,
    CallStarted,
    Event,
    Waited,
)
from clawmw.core.money import NANO

__all__ = ["FOLDER", "Metrics"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which several processes count together."""
MOST = 64
"""Values of one label."""
_ADDED = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 1.0)
_QUEUED = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


class _Names:
    """The values of a label that were seen first; `other` for all later ones."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= MOST:
                return "other"
            self._known.add(name)
        return name[:128] or "none"


class Metrics:
    """See the module. Give it to a runtime as an observer; never raises into a call."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        told: dict[str, Any] = {"namespace": "clawmw", "registry": registry}
        self._calls = Counter(
            "calls", "Model calls that ended.", ("dialect", "model", "status"), **told
        )
        self._tokens = Counter(
            "tokens", "Tokens by the provider's count, else estimated.", ("model", "kind"), **told
        )
        self._cost = Counter("cost_usd", "What calls cost, by the price table.", ("model",), **told)
        self._saved = Counter(
            "saved_usd",
            "What calls would have cost more without clawmw, native caching included (estimated).",
            ("model",),
            **told,
        )
        self._left_out = Counter("saved_tokens", "Tokens not sent (estimated).", **told)
        self._refused = Counter("refusals", "Calls that a rule stopped.", ("rule",), **told)
        self._unread = Counter(
            "unread_bodies", "Bodies that passed unread, but guarded.", ("dialect",), **told
        )
        self._queued = Histogram(
            "queue_wait_seconds",
            "Waits for a slot, of calls that waited noticeably (50 ms).",
            buckets=_QUEUED,
            **told,
        )
        self._added = Histogram(
            "added_seconds", "Time spent in clawmw itself, waits left out.", buckets=_ADDED, **told
        )
        self._flying = Gauge(
            "in_flight", "Model calls under way.", multiprocess_mode="livesum", **told
        )
        self._open = Gauge(
            "breaker_open",
            "1 where an upstream's circuit breaker is open (in any process).",
            ("upstream",),
            multiprocess_mode="livemax",
            **told,
        )
        self._model, self._upstream, self._rule = _Names(), _Names(), _Names()
        self._under_way: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Dialect and seconds waited of each call that has begun; bounded."""
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case CallStarted():
                self._began(event.exchange, event.dialect)
            case Waited():
                self._queued.observe(event.seconds)
                with self._lock:
                    dialect, waited = self._under_way.get(event.exchange, ("", 0.0))
                    self._under_way[event.exchange] = dialect, waited + event.seconds
            case Acted(action="halt", would=False):
                self._refused.labels(self._rule(event.rule)).inc()
            case BodyUnread():
                self._unread.labels(event.dialect).inc()
            case BreakerTurned():
                self._open.labels(self._upstream(event.upstream)).set(event.state != "closed")
            case CallFinished():
                self._ended(event)
            case _:
                pass

    def text(self) -> bytes:
        """All of it, as a scraper reads it."""
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        whole = CollectorRegistry()
        whole.register(_WithShare(registry))
        return generate_latest(whole)

    def _began(self, exchange: str, dialect: str) -> None:
        with self._lock:
            self._under_way.setdefault(exchange, (dialect, 0.0))
            if len(self._under_way) > 4096:  # never finished
                self._under_way.popitem(last=False)
                self._flying.dec()
        self._flying.inc()

    def _ended(self, event: CallFinished) -> None:
        with self._lock:
            dialect, waited = self._under_way.pop(event.exchange, ("", -1.0))
        if waited >= 0:
            self._flying.dec()
        model, usage, totals = self._model(event.model), event.usage, event.totals
        self._calls.labels(dialect, model, event.status).inc()
        self._added.observe(max(event.overhead - max(waited, 0.0), 0.0))
        self._left_out.inc(max(totals.raw - totals.sent, 0))
        for kind in _KINDS if usage is not None else ():
            if tokens := getattr(usage, f"{kind}_tokens"):
                self._tokens.labels(model, kind).inc(tokens)
        if event.cost is not None:
            self._cost.labels(model).inc(event.cost.total / NANO)
        if event.cost is not None and event.baseline is not None:
            saved = event.baseline.total - event.cost.total
            self._saved.labels(model).inc(max(saved, 0) / NANO)


class _WithShare(Collector):
    """Everything, and the share of the input tokens that the providers' caches held."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        found = list(self._registry.collect())
        yield from found
        samples = [s for metric in found for s in metric.samples if s.name == "clawmw_tokens_total"]

        def of(kind: str) -> float:
            return sum(s.value for s in samples if s.labels["kind"] == kind)

        share = GaugeMetricFamily(
            "clawmw_cache_hit_ratio",
            "Share of the input tokens so far that were read from a provider's cache.",
            value=of("cache_read") / of("input") if of("input") else 0.0,
        )
        yield share

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before."""
        return iter(())

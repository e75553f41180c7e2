"""What a gateway did, as Prometheus metrics: an observer, and the text a scraper reads.

What is measured stands in `clawmw.observe.metrics.instruments`. Several processes count together
where `PROMETHEUS_MULTIPROC_DIR` names a folder before this is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from clawmw.core.events import Event
from clawmw.observe.metrics.bounded import Put, nowhere
from clawmw.observe.metrics.instruments import INSTRUMENTS, Instrument
from clawmw.observe.metrics.measures import Losses, Measures

__all__ = ["FOLDER", "Metrics"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which several processes count together."""


class Metrics:
    """See the module. Give it to a runtime as an observer; never raises into a call."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made = {row.name: _made(row, self._registry) for row in INSTRUMENTS if row.scraped}
        self._measures = Measures(self._put)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._measures.take(event)

    def watch(self, losses: Losses) -> None:
        """Have spans that somebody else counts as lost told, too."""
        self._measures.watch(losses)

    def text(self) -> bytes:
        """All of it, as a scraper reads it."""
        self._measures.lost()
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        whole = CollectorRegistry()
        whole.register(_WithShare(registry))
        return generate_latest(whole)

    def _put(self, row: Instrument, labels: tuple[str, ...]) -> Put:
        if not row.scraped:
            return nowhere
        made = self._made[row.name]
        put: Put = getattr(made.labels(*labels) if labels else made, _VERBS[row.kind])
        return put


_VERBS = {"counter": "inc", "updown": "inc", "gauge": "set", "histogram": "observe"}


def _made(row: Instrument, registry: CollectorRegistry) -> Any:
    told = (row.stem, row.about, row.scraped_labels)
    match row.kind:
        case "counter":
            return Counter(*told, registry=registry)
        case "histogram":
            return Histogram(*told, buckets=row.buckets, registry=registry)
        case "updown":
            return Gauge(*told, multiprocess_mode="livesum", registry=registry)
        case "gauge":
            return Gauge(*told, multiprocess_mode="livemax", registry=registry)


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

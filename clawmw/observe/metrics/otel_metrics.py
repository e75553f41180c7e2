"""Events of model calls -> OpenTelemetry metrics.

They go to the application's meter provider where it has set one, else to a collector, where one is
named. What is counted is added up here and read when it is exported: the SDK takes 9 us for each
value it is given, and a call has dozens. To an application's provider only what needs buckets is
handed one by one.

All observers of a process that write to one provider share what they count: two instruments of one
name would be two answers to one question.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation

from clawmw.core.events import Event
from clawmw.observe.metrics.bounded import Put, nowhere
from clawmw.observe.metrics.cells import Cells, Labels, Spread
from clawmw.observe.metrics.instruments import INSTRUMENTS, Instrument
from clawmw.observe.metrics.measures import Losses, Measures
from clawmw.observe.sending.forks import after_fork
from clawmw.observe.store.exporter import SCOPE

__all__ = ["OtelMetrics", "Sink", "old_names"]

_log = logging.getLogger(__name__)
_LARGEST = 2**63 - 1
"""The largest whole number on the wire."""


class Sink(Protocol):
    """What counts events for one reader."""

    measures: Measures

    def take(self, event: Event) -> None:
        """Count an event."""
        ...

    def flush(self, seconds: float) -> bool:
        """Send what was counted, if anybody waits for it; False when that was not done in time."""
        ...

    def close(self) -> None:
        """One observer less writes to it."""
        ...


class OtelMetrics:
    """An observer; give it to the runtime.

    `own` is told while the application has no provider. Thread-safe; never raises.
    """

    def __init__(
        self, meter_provider: MeterProvider | None = None, *, own: Sink | None = None
    ) -> None:
        self._given, self._own = meter_provider, own
        self._provider: MeterProvider | None = None
        self._sink: Sink | None = None
        self._losses: list[Losses] = []
        self._failed = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count an event, where anybody reads it."""
        try:
            sink = self._bound()
            if sink is not None:
                sink.take(event)
        except Exception as error:  # noqa: BLE001 an observer never stops a call
            if not self._failed:
                _log.warning("clawmw could not count a call: %s", type(error).__name__)
            self._failed = True

    def watch(self, losses: Losses) -> None:
        """Have spans that somebody else counts as lost told, too."""
        with self._lock:
            self._losses.append(losses)
            if self._sink is not None:
                self._sink.measures.watch(losses)

    def flush(self, seconds: float = 2.0) -> bool:
        """Send what was counted; an application's own provider does so when it likes."""
        return self._sink is None or self._sink.flush(seconds)

    def close(self) -> None:
        """Send what was counted last, in two seconds at most."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def _bound(self) -> Sink | None:
        """Where to count now: an application may set its provider at any time."""
        provider = self._given or metrics.get_meter_provider()
        if provider is not self._provider:
            with self._lock:
                if provider is not self._provider:
                    sink = _applied(provider) if _real(provider) else self._own
                    if sink is not None:
                        for losses in self._losses:
                            sink.measures.watch(losses)
                    self._sink, self._provider = sink, provider
        return self._sink


class _Applied:
    """What is counted for an application's provider: sums here, histograms there."""

    def __init__(self, provider: MeterProvider) -> None:
        self.cells = Cells()
        self.measures = Measures(self._bind)
        self._histograms: dict[str, Histogram] = {}
        self._register(provider)
        after_fork(self._forked)

    def take(self, event: Event) -> None:
        """Count an event."""
        self.measures.take(event)

    def _forked(self) -> None:
        self.cells.forked()
        self.measures.forked()

    def flush(self, seconds: float) -> bool:
        """The provider is the application's to flush."""
        return True

    def close(self) -> None:
        """Nothing: others may write to it, and later ones."""

    def _bind(self, row: Instrument, labels: Labels) -> Put:
        if row.old and not old_names():
            return nowhere
        if row.kind != "histogram":
            return self.cells.bind(row, labels)
        record, attributes = self._histograms[row.name].record, row.attributes(labels)
        return lambda value: record(value, attributes)

    def _register(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(SCOPE)
        makers = {
            "counter": meter.create_observable_counter,
            "updown": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for row in INSTRUMENTS:
            if row.kind == "histogram":
                self._histograms[row.name] = meter.create_histogram(
                    row.name, row.unit, row.about, explicit_bucket_boundaries_advisory=row.buckets
                )
            else:
                makers[row.kind](row.name, [_reader(self, row)], row.unit, row.about)


def _reader(sink: _Applied, row: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """What the SDK asks for the sums of an instrument."""

    def read(_: CallbackOptions) -> Iterable[Observation]:
        if row.name == "clawmw.spans.lost":
            sink.measures.lost()
        found = []
        for labels, value in sink.cells.of(row.name).items():
            if not isinstance(value, Spread):
                number = value if row.money else min(int(value), _LARGEST)
                found.append(Observation(number, row.attributes(labels)))
        return found

    return read


_sinks: weakref.WeakKeyDictionary[MeterProvider, _Applied] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _applied(provider: MeterProvider) -> _Applied:
    with _making:
        found = _sinks.get(provider)
        if found is None:
            found = _sinks[provider] = _Applied(provider)
        return found


def old_names() -> bool:
    """Whether the conventions' names up to v1.41 are told, too: as long as nobody says, by
    OpenTelemetry's own variable for this, that the present ones are enough."""
    said = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return "gen_ai_latest_experimental" not in [word.strip() for word in said]


def _real(provider: MeterProvider) -> bool:
    """Whether somebody set it: the API's own ones do nothing, or wait for one."""
    return not type(provider).__module__.startswith("opentelemetry.metrics")

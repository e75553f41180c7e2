"""The ways out of this process that are clawmw's own: to the local store, and to a collector."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from clawmw.errors import StoreError
from clawmw.observe.otlp.collector import otlp_outbox
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.sending.counts import Count, Counts, Reason
from clawmw.observe.sending.outbox import Outbox, Outcome
from clawmw.observe.sending.tail import Sample, Tail
from clawmw.observe.store.exporter import rows
from clawmw.observe.store.losses import note_losses
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Export", "Local", "Remote", "counted"]


@dataclass(frozen=True, slots=True)
class Export:
    """Where spans are sent while the application has no tracer provider of its own."""

    settings: Settings
    sample: Sample | None = None
    """None: every chain."""


class Remote:
    """A collector, by way of a sampler and a bounded queue."""

    def __init__(self, export: Export, compat: Sequence[str]) -> None:
        self.counts = Counts("otlp")
        self._outbox = otlp_outbox(export.settings, compat, self.counts)
        self._put: Callable[[ReadableSpan], None] = self._outbox.put
        self._tail: Tail | None = None
        if export.sample is not None and export.sample.share < 1:
            most = self._outbox.room // 2  # all of it may be let go at once
            self._tail = Tail(export.sample, self._outbox.put, self.counts, most=most)
            self._put = self._tail.put
        # What OTEL_TRACES_SAMPLER says; the SDK has no other public way to read it.
        provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        self.sampler = provider.sampler

    def put(self, span: ReadableSpan, *, sampled: bool) -> None:
        """Hand over a span of a chain that OTEL_TRACES_SAMPLER has chosen, or has not."""
        self.counts.handed()
        if sampled:
            self._put(span)
        else:
            self.counts.unsampled(1)

    def flush(self, seconds: float) -> bool:
        """Send what is decided; chains that are not stay."""
        return self._outbox.flush(seconds)

    def close(self, seconds: float) -> None:
        """Send what can be sent in that time."""
        if self._tail is not None:
            self._tail.close()
        self._outbox.close(seconds)


class Local:
    """The local store, by way of a bounded queue. It also keeps what was lost, by whom."""

    def __init__(self, store: SpanStore) -> None:
        self.counts = Counts("store")
        self.others: tuple[Counts, ...] = ()
        """Whose losses are kept, too."""
        self._store = store
        self._noted: dict[tuple[str, Reason], int] = {}
        name = f"the trace store {store.path}"
        self._outbox: Outbox[ReadableSpan] = Outbox(name, self._write, self.counts)

    def put(self, span: ReadableSpan) -> None:
        """Hand over a span."""
        self.counts.handed()
        self._outbox.put(span)

    def flush(self, seconds: float) -> bool:
        """Write what waits."""
        return self._outbox.flush(seconds)

    def close(self, seconds: float) -> None:
        """Write what waits and let go of the store."""
        self._outbox.close(seconds)
        self._note()
        self._store.close()

    def _write(self, spans: Sequence[ReadableSpan]) -> Outcome[ReadableSpan]:
        try:
            self._store.write(rows(spans))
        except StoreError as error:
            # Locked, full, read-only: that passes. Anything else will not.
            if isinstance(error.__context__, sqlite3.OperationalError):
                return Outcome(again=spans, why=str(error))
            return Outcome(refused=len(spans), why=str(error))
        self._note()
        return Outcome()

    def _note(self) -> None:
        """Keep what was lost since the last time."""
        new: dict[tuple[str, Reason], int] = {}
        now: dict[tuple[str, Reason], int] = {}
        for count in (counts.now() for counts in (self.counts, *self.others)):
            for reason, number in count.lost.items():
                key = (count.destination, reason)
                now[key] = number
                before = self._noted.get(key, 0)
                more = number - before if number >= before else number  # a forked child's is anew
                if more:
                    new[key] = more
        if not new:
            return
        try:
            note_losses(self._store, new)
        except StoreError:
            return  # the next time, then
        self._noted = now


def counted(*ways: Local | Remote | None) -> tuple[Count, ...]:
    """The counts of those there are."""
    return tuple(way.counts.now() for way in ways if way is not None)

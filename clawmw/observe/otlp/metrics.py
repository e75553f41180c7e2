"""Metrics -> a collector, by OTLP over HTTP, while the application has no meter provider.

A thread sends what was counted every 15 seconds (`OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds,
says otherwise), and once more when the process ends, in two seconds at most. Counts only rise, so
what could not be sent is in what is sent next. Without the SDK: its metrics take ten times as
long a call, and a while to import.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time

from opentelemetry import context
from opentelemetry.sdk.resources import Resource

from clawmw.core.events import Event
from clawmw.observe.metrics.bounded import Put, nowhere
from clawmw.observe.metrics.cells import Cells, Labels, Snapshot
from clawmw.observe.metrics.instruments import Instrument
from clawmw.observe.metrics.measures import Measures
from clawmw.observe.metrics.otel_metrics import old_names
from clawmw.observe.otlp.collector import resource
from clawmw.observe.otlp.post import Post
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.sending.forks import after_fork

__all__ = ["Metered", "metered"]

_log = logging.getLogger(__name__)
_EVERY_MS = 15_000.0
_AT_EXIT = 2.0
_SAY_EVERY = 600.0
"""Seconds between two lines in the log about a collector that does not take them."""
_SUPPRESS = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")


class Metered:
    """What is counted for one collector. Thread-safe; nothing runs before the first event."""

    def __init__(self, settings: Settings) -> None:
        self.users = 0
        """Observers that write to it."""
        self._shown, self._post = settings.shown, Post(settings)
        self.cells = Cells()
        self.measures = Measures(self._bind)
        self._old = old_names()
        self._delta = _prefers_delta()
        self._said_at = -_SAY_EVERY
        # Now, not with the first message: the SDK's detectors run on threads of their own, which
        # nobody can start while the process ends.
        self._origin: Resource | None = resource()
        self._fresh()
        after_fork(self._forked)
        atexit.register(self.flush, _AT_EXIT)

    def _fresh(self) -> None:
        """Nothing was counted and no thread runs: at first, and in a forked child."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asked = self._done = 0
        self._ends = False
        self._since = time.time_ns()
        self._before: Snapshot = {}

    def _forked(self) -> None:
        self.cells.forked()
        self.measures.forked()
        self._origin = None  # another instance of the service
        self._fresh()

    def take(self, event: Event) -> None:
        """Count an event."""
        if self._thread is None:
            self._start()
        self.measures.take(event)

    def flush(self, seconds: float = _AT_EXIT) -> bool:
        """Send what was counted so far; False when that was not done in time."""
        end = time.monotonic() + seconds
        with self._changed:
            if self._thread is None:
                return True
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            while self._done < mine:
                left = end - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
            return True

    def close(self) -> None:
        """One observer less; with the last one, send what is left and end."""
        with _making:
            self.users -= 1
            last = self.users <= 0
            for key in [key for key, one in _all.items() if last and one is self]:
                del _all[key]
        self.flush()
        if last:
            atexit.unregister(self.flush)
            with self._changed:
                self._ends = True
                self._changed.notify_all()

    def _bind(self, row: Instrument, labels: Labels) -> Put:
        return nowhere if row.old and not self._old else self.cells.bind(row, labels)

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None:
                return
            self._origin = self._origin or resource()
            self._thread = threading.Thread(target=self._work, name="clawmw-metrics", daemon=True)
            self._thread.start()

    # --- on the thread ---------------------------------------------------------------

    def _work(self) -> None:
        context.attach(context.set_value(_SUPPRESS, True))  # our own requests make no spans
        every = _seconds()
        while True:
            due = time.monotonic() + every
            with self._changed:
                while not self._woken() and (left := due - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._ends:
                    self._post.close()
                    return
                asked = self._asked
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 a bug of ours; the next time may do
                self._say(type(error).__name__)
            with self._changed:
                self._done = asked
                self._changed.notify_all()

    def _woken(self) -> bool:
        return self._ends or self._asked != self._done

    def _send(self) -> None:
        from clawmw.observe.otlp.encoding import Frame, encoded

        self.measures.lost()
        end, now = time.time_ns(), self.cells.now()
        if not now:
            return
        frame = Frame(now, self._since, end, self._before if self._delta else None)
        answer = self._post.send(encoded(self._origin or Resource.get_empty(), frame))
        if not 200 <= answer.status < 300:
            self._say(answer.said)
        elif self._delta:
            self._before, self._since = now, end

    def _say(self, why: str) -> None:
        now = time.monotonic()
        if now - self._said_at > _SAY_EVERY:
            self._said_at = now
            _log.warning("metrics do not reach %s (%s); clawmw tries on", self._shown, why)


_all: dict[tuple[str, frozenset[tuple[str, str]]], Metered] = {}
_making = threading.Lock()


def metered(settings: Settings) -> Metered:
    """This process's one for a collector: several policies that name it count together."""
    key = (settings.url, frozenset(settings.headers.items()))
    with _making:
        found = _all.get(key)
        if found is None:
            found = _all[key] = Metered(settings)
        found.users += 1
        return found


def _seconds() -> float:
    """How often metrics are sent."""
    try:
        every = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", ""))
    except ValueError:
        every = _EVERY_MS
    return (every if 0 < every < float("inf") else _EVERY_MS) / 1000


def _prefers_delta() -> bool:
    """Whether counts are to be told as differences, by OpenTelemetry's own variable for it."""
    said = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "")
    return said.strip().lower() in ("delta", "lowmemory")

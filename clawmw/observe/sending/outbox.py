"""A bounded queue of spans and the thread that empties it: handing over never waits.

The SDK's own batch processor does not serve here: it keeps no readable count of what it
lost, logs each lost span on the caller's thread, ignores the time a flush may take, and gives a
batch up after ten seconds. Here a batch that could not be delivered is tried again until it is,
and only the bounded queue behind it decides what is lost: the oldest first, each one counted.

There is no thread before the first span, and it sleeps while nothing waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry import context

from clawmw.observe.sending.counts import REASONS, Count, Counts
from clawmw.observe.sending.forks import after_fork, at_end_of_child

__all__ = ["Outbox", "Outcome", "Shape"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LONGEST_PAUSE = 30.0
_AT_EXIT = 2.0
_TROUBLE = 3
"""How often in a row a batch was not delivered before that is said."""
_LAST_TRIES = 2
"""How often a batch is tried, once nobody hands over any more."""
_SAY_EVERY = 600.0
"""Seconds between two lines in the log about what was lost."""
_SUPPRESS = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of a batch. What is neither refused nor to be tried again was delivered."""

    refused: int = 0
    again: Sequence[T] = ()
    after: float | None = None
    """Seconds the destination asked to wait."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much waits for how long."""

    room: int = 8192
    batch: int = 512
    delay: float = 0.5
    """Seconds a span waits for others: what a killed process can lose."""


class Outbox(Generic[T]):
    """Hands what it is given to `deliver`, in batches, on a thread of its own.

    Every span handed over is counted in `counts` once more: as delivered, or as lost. `at_end` is
    called on the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[T]], Outcome[T]],
        counts: Counts,
        shape: Shape | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self.counts = counts
        self._at_end = at_end
        self._name, self._deliver, self._shape = name, deliver, shape or Shape()
        self._said_at, self._said = -_SAY_EVERY, 0
        self._why = ""
        self._closed = False
        self._fresh()
        after_fork(self._forked)

    def _fresh(self) -> None:
        """Nothing waits, and no thread runs: at first, and in a forked child."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[T] = deque()
        self._under_way: Sequence[T] = ()
        self._thread: threading.Thread | None = None
        self._first_at = self._retry_at = 0.0
        self._tries = self._flushing = self._accepted = self._settled = 0
        self._gone = False

    def _forked(self) -> None:
        """A child has no thread, perhaps a lock nobody will release, and its parent's spans."""
        self.counts.forked()
        self._said = 0
        self._fresh()

    @property
    def room(self) -> int:
        """How many may wait."""
        return self._shape.room

    def put(self, item: T) -> None:
        """Hand over; takes a microsecond or two, whatever the destination does."""
        with self._lock:
            if self._closed:
                self.counts.lost("exit", 1)
                return
            if len(self._queue) >= self._shape.room:
                self._queue.popleft()
                self._settled += 1
                self.counts.lost("queue", 1)
            self._queue.append(item)
            self._accepted += 1
            waiting = len(self._queue)
            if waiting == 1:
                self._first_at = time.monotonic()
                if self._thread is None:
                    self._start()
            if waiting in (1, self._shape.batch):
                self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Deliver what was handed over before; False when that was not done in time."""
        end = time.monotonic() + seconds
        with self._changed:
            before = self._accepted
            self._flushing += 1
            self._retry_at = 0.0
            self._changed.notify_all()
            try:
                while self._settled < before:
                    left = end - time.monotonic()
                    if left <= 0 or self._gone:
                        return False
                    self._changed.wait(left)
                return True
            finally:
                self._flushing -= 1

    def close(self, seconds: float) -> None:
        """Deliver what still can be in that time; what then waits is lost."""
        with self._changed:
            self._closed = True
        self.flush(seconds)
        with self._changed:
            idle = not self._under_way
            self._give_up()
        if idle and self._thread is not None:
            self._thread.join(1.0)
        self._say(last=True)

    # --- on the thread ---------------------------------------------------------------

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"clawmw-{self._name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter ends; what waits is counted as lost
            self._gone = True
        at_end_of_child(self.flush, _AT_EXIT)

    def _work(self) -> None:
        context.attach(context.set_value(_SUPPRESS, True))  # our own requests make no spans
        self._deliver_all()
        if self._at_end is not None:
            self._at_end()

    def _deliver_all(self) -> None:
        while True:
            with self._changed:
                batch = self._next()
            if not batch:
                return
            try:
                outcome = self._deliver(batch)
            except Exception as error:  # noqa: BLE001 a bug of ours; the next batch may do
                outcome = Outcome(refused=len(batch), why=type(error).__name__)
            with self._changed:
                if self._gone:
                    return  # it is counted as lost
                self._settle(batch, outcome)
                self._changed.notify_all()
            self._say()

    def _next(self) -> Sequence[T]:
        """The batch to deliver, once it is time for it; empty: never again."""
        while not self._gone:
            pause = self._pause()
            if pause is not None and pause <= 0:
                if not self._under_way:
                    size = min(len(self._queue), self._shape.batch)
                    self._under_way = [self._queue.popleft() for _ in range(size)]
                return self._under_way
            self._changed.wait(pause)
        return ()

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until something is handed over."""
        if self._under_way:
            return self._retry_at - time.monotonic()
        waiting = len(self._queue)
        if not waiting:
            return None
        if self._flushing or self._closed or waiting >= self._shape.batch:
            return 0.0
        return self._first_at + self._shape.delay - time.monotonic()

    def _settle(self, batch: Sequence[T], outcome: Outcome[T]) -> None:
        delivered = len(batch) - outcome.refused - len(outcome.again)
        self._settled += delivered + outcome.refused
        self.counts.delivered(delivered)
        self.counts.lost("refused", outcome.refused)
        self._under_way, self._why = outcome.again, outcome.why or self._why
        now = self._first_at = time.monotonic()
        self._tries = self._tries + 1 if outcome.again else 0
        if not outcome.again:
            return
        if self._closed and self._tries >= _LAST_TRIES:
            self._give_up()
        first = 0.2 if self._flushing else 0.5
        pause = first * 2.0 ** min(self._tries - 1, 8)
        self._retry_at = now + min(max(pause, outcome.after or 0.0), _LONGEST_PAUSE)

    def _give_up(self) -> None:
        """Count what waits as lost; called with the lock held."""
        left = len(self._queue) + len(self._under_way)
        self.counts.lost("exit", left)
        self._settled += left
        self._queue.clear()
        self._under_way, self._gone = (), True
        self._changed.notify_all()

    def _say(self, last: bool = False) -> None:
        """Log that the destination fails; what was lost, seldom, and when it is over."""
        if self._tries == _TROUBLE and not last:
            _log.warning(
                "clawmw: spans do not reach %s (%s); they are kept for now, and tried again",
                self._name,
                self._why,
            )
        count = self.counts.now()
        lost, now = sum(count.lost.values()), time.monotonic()
        if lost > self._said and (last or now - self._said_at > _SAY_EVERY):
            self._said, self._said_at = lost, now
            _log.warning("%s", _told(self._name, count, self._why))


def _told(name: str, count: Count, why: str) -> str:
    reasons = ", ".join(f"{REASONS[reason]} {number:,}" for reason, number in count.lost.items())
    said = f"; it said: {why}" if why else ""
    lost = sum(count.lost.values())
    return f"clawmw: {lost:,} of {count.handed:,} spans did not reach {name} ({reasons}{said})"

"""Calls under way that others want the same answer of.

The first asks, the others wait. When the first is gone without an answer, the next in line asks.
A failure is told to all once the first tries no more, and whoever comes later asks anew.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from clawmw.core.effects import Publish, Share, Shared
from clawmw.core.types import Failure, Outcome

__all__ = ["Flights", "Led"]

_LOOK = 1.0
"""Seconds after which a waiter looks whether its leader was dropped without a word."""

Led = dict[str, str]
"""What an exchange leads: the key by the id of its `Share`."""


@dataclass(slots=True)
class _Flight:
    leader: str
    landed: Future[Outcome | None] = field(default_factory=Future)
    """None: its leader is gone."""
    failure: Failure | None = None
    """How the leader's latest attempt failed; it may try again."""


class Flights:
    """See the module. Safe to share between threads and event loops."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._gone: deque[Led] = deque()

    def share(self, led: Led, share: Share) -> Shared:
        """Wait in this thread."""
        until = self._clock() + share.patience
        while isinstance(step := self._enter(led, share), _Flight):
            try:
                outcome = step.landed.result(self._pause(until))
            except TimeoutError:
                if self._clock() >= until:
                    return Shared(leads=False)
                continue
            if outcome is not None:
                return Shared(leads=False, outcome=outcome)
        return step

    async def ashare(self, led: Led, share: Share) -> Shared:
        """Wait without holding up the event loop."""
        until = self._clock() + share.patience
        while isinstance(step := self._enter(led, share), _Flight):
            landed = asyncio.shield(asyncio.wrap_future(step.landed))
            try:
                outcome = await asyncio.wait_for(landed, self._pause(until))
            except TimeoutError:
                if self._clock() >= until:
                    return Shared(leads=False)
                continue
            if outcome is not None:
                return Shared(leads=False, outcome=outcome)
        return step

    def publish(self, led: Led, publish: Publish) -> None:
        """Give the answer to those who wait; a failure is kept until the leader gives up.

        Whichever attempt it is of: an exchange leads by its first.
        """
        if isinstance(publish.outcome, Failure):
            for name, key in list(led.items()):
                self._note(key, name, publish.outcome)
            return
        while led:
            with suppress(KeyError):
                name, key = led.popitem()
                self._land(key, name, publish.outcome)

    def over(self, led: Led, *, failed: bool = False) -> None:
        """A leader is gone: the next in line asks, or, where it `failed`, all are told how."""
        while led:
            with suppress(KeyError):
                name, key = led.popitem()
                self._land(key, name, None, failed=failed)

    def gone(self, led: Led) -> None:
        """The same for an exchange that was dropped: takes no lock, so a finalizer may say it."""
        if led:
            self._gone.append(led)

    def count(self) -> int:
        """Flights under way."""
        with self._lock:
            return len(self._flights)

    def _pause(self, until: float) -> float:
        return min(max(until - self._clock(), 0.0), _LOOK)

    def _enter(self, led: Led, share: Share) -> Shared | _Flight:
        while self._gone:
            with suppress(IndexError):
                self.over(self._gone.popleft())
        with self._lock:
            flight = self._flights.get(share.key)
            if flight is not None and flight.leader != share.id:
                return flight
            self._flights[share.key] = flight or _Flight(share.id)
        led[share.id] = share.key
        return Shared(leads=True)

    def _note(self, key: str, leader: str, failure: Failure) -> None:
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and flight.leader == leader:
                flight.failure = failure

    def _land(
        self, key: str, leader: str, outcome: Outcome | None, *, failed: bool = False
    ) -> None:
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or flight.leader != leader:
                return  # another one's by now
            del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(flight.failure if failed else outcome)

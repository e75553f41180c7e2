"""Who sends first when several calls share a prefix that no cache holds yet.

In this process alone: a follower that waits is woken when its leader's answer begins, when the
leader fails, or when its patience ends, and then goes on whatever happened (it fails open). A
caller that is alone costs a look into a dictionary.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from clawmw.core.effects import Join, Joined

__all__ = ["Lead", "Leaders"]

_MOST = 1024
"""Prefixes remembered, newest longest."""


@dataclass(slots=True)
class _Prefix:
    """One prefix: who leads it, or since when its cache is warm."""

    lead: Lead
    until: float
    """When followers stop waiting for this leader."""
    begun: Future[None] = field(default_factory=Future)
    warm: float | None = None


@dataclass(slots=True)
class Lead:
    """What one exchange leads."""

    _leaders: Leaders
    _keys: list[str] = field(default_factory=list)

    def begun(self) -> None:
        """The answer has begun: the provider holds the prefix now."""
        if self._keys:
            self._leaders.done(self, self._keys, warm=True)
            self._keys = []

    def over(self, *, ok: bool) -> None:
        """The exchange is over."""
        if self._keys:
            self._leaders.done(self, self._keys, warm=ok)
            self._keys = []


class Leaders:
    """The prefixes of a process. Safe to share between threads and event loops."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._prefixes: OrderedDict[str, _Prefix] = OrderedDict()

    def waiting(self) -> int:
        """Prefixes whose leader has not been answered yet."""
        with self._lock:
            return sum(prefix.warm is None for prefix in self._prefixes.values())

    def lead(self) -> Lead:
        """For an exchange that begins."""
        return Lead(self)

    def join(self, lead: Lead, join: Join) -> Joined:
        """Wait in this thread."""
        waiting = self._enter(lead, join)
        if not isinstance(waiting, _Prefix):
            return waiting
        try:
            waiting.begun.result(join.seconds)
        except TimeoutError:
            return "late"
        return "followed"

    async def ajoin(self, lead: Lead, join: Join) -> Joined:
        """Wait without holding up the event loop."""
        waiting = self._enter(lead, join)
        if not isinstance(waiting, _Prefix):
            return waiting
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(woken.set)

        waiting.begun.add_done_callback(wake)
        try:
            await asyncio.wait_for(woken.wait(), join.seconds)
        except TimeoutError:
            return "late"
        return "followed"

    def _enter(self, lead: Lead, join: Join) -> Joined | _Prefix:
        """Lead, or the prefix whose leader is to be waited for."""
        now = self._clock()
        with self._lock:
            known = self._prefixes.get(join.key)
            if known is not None:
                if known.warm is not None and (join.warm is None or now - known.warm < join.warm):
                    return "warm"
                if known.warm is None and known.lead is lead:
                    return "led"  # asked again: the descent was tried again
                if known.warm is None and now < known.until:
                    return known
            self._prefixes[join.key] = _Prefix(lead, now + join.seconds)
            self._prefixes.move_to_end(join.key)
            lead._keys.append(join.key)
            while len(self._prefixes) > _MOST:
                _wake(self._prefixes.popitem(last=False)[1].begun)
        return "led"

    def done(self, lead: Lead, keys: list[str], *, warm: bool) -> None:
        """Wake those who wait for `lead`; `warm`: the cache holds the prefixes now."""
        woken = []
        with self._lock:
            for key in keys:
                prefix = self._prefixes.get(key)
                if prefix is None or prefix.lead is not lead or prefix.warm is not None:
                    continue
                prefix.warm = self._clock() if warm else None
                if not warm:
                    del self._prefixes[key]
                woken.append(prefix.begun)
        for future in woken:
            _wake(future)


def _wake(begun: Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)

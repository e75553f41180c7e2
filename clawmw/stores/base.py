"""The four homes of state. Small protocols; one backend a file.

Every method may raise `StoreError`. `now` is seconds since the epoch, given by the caller.
All are safe to use from several threads; a disk or network backend from several processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from clawmw.core.effects import Above, Charge, Key, Note, Reserved, Slot, Write

__all__ = [
    "Blobs",
    "Evidence",
    "Kept",
    "Ledger",
    "Of",
    "Pace",
    "Slots",
    "Stores",
    "everyone",
    "summed",
]

Of: TypeAlias = Callable[[str], bool]
"""Which scopes are meant."""


def everyone(scope: str) -> bool:
    """Every scope there is."""
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for one scope: how much, and when the oldest and newest of it was written."""

    scope: str
    items: int
    size: int
    """Bytes of content."""
    oldest: float
    newest: float


def summed(rows: Iterable[tuple[str, int, float]]) -> list[Kept]:
    """Rows of (scope, bytes, when) by scope, in the order of their names."""
    sums: dict[str, Kept] = {}
    for scope, size, at in rows:
        one = sums.get(scope) or Kept(scope, 0, 0, at, at)
        oldest, newest = min(one.oldest, at), max(one.newest, at)
        sums[scope] = Kept(scope, one.items + 1, one.size + size, oldest, newest)
    return sorted(sums.values(), key=lambda kept: kept.scope)


class Slots(Protocol):
    """Small JSON values by compare-and-set. Never evicted, purged by age on request."""

    def load(self, keys: Sequence[Key]) -> list[Slot]:
        """The slots of `keys`, in order; version 0 and value None where absent."""
        ...

    def commit(self, writes: Sequence[Write], now: float) -> bool:
        """Write all or none; False when any version is no longer what the writer saw."""
        ...

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        ...

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget slots of such scopes last written before `before`; returns how many."""
        ...


class Ledger(Protocol):
    """What many callers share: money, calls, tokens, time, calls under way (see `Meter`)."""

    def reserve(
        self,
        id: str,
        charges: Sequence[Charge],
        expires: float,
        now: float,
        above: Above | None = None,
    ) -> Reserved:
        """Draw all charges or none, in one atomic step.

        For each charge with a limit: used + reserved + amount <= limit + what it was raised
        by. A reservation that is not settled by `expires` counts as used, at its amount; what
        it only holds is given back. The same `id` again draws nothing and answers as before.
        """
        ...

    def settle(
        self, id: str, charges: Sequence[Charge], now: float, above: Above | None = None
    ) -> None:
        """Replace the reservation by what was used, even beyond the limit.

        Scopes and meters not named are released. A second settle of one `id` changes
        nothing; an unknown `id` is charged as given.
        """
        ...

    def used(self, scope: str, now: float = 0.0) -> Mapping[str, int]:
        """Used plus reserved by meter; what time changes, as of `now`."""
        ...

    def reserved(self, scope: str, now: float) -> Mapping[str, int]:
        """Of what is used, what calls under way have reserved, by meter; without those at 0.

        A reservation that has expired counts as used.
        """
        ...

    def raised(self, scope: str) -> Mapping[str, int]:
        """What a scope's limits are raised by, by meter."""
        ...

    def parents(self, scope: str) -> Sequence[str]:
        """The scopes that a scope draws on besides its own, nearest first."""
        ...

    def raise_limit(self, scope: str, meter: str, by: int, now: float) -> int:
        """Raise a limit from now on; returns what it is raised by in all, never below 0."""
        ...

    def reset(self, scope: str, meter: str | None, now: float) -> int:
        """Count a scope's meter (None: all) from zero again, its limit as the policy has it.

        Calls under way count when they settle. Returns how many counters there were.
        """
        ...

    def kept(self) -> list[Kept]:
        """What there is, by scope; counters have no content."""
        ...

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget counters untouched since `before`, limits and all; returns how many."""
        ...


class Evidence(Protocol):
    """What many callers add to: a bounded, ordered list a scope."""

    def append(
        self, id: str, scope: str, notes: Sequence[Note], window: int, now: float
    ) -> tuple[Note, ...]:
        """Add notes atomically; returns the newest `window`, oldest first, ours included.

        The same `id` again adds nothing. Notes beyond the largest window ever asked for
        may be forgotten.
        """
        ...

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        ...

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget such scopes that nobody added to since `before`; returns how many."""
        ...


class Blobs(Protocol):
    """Content under a reference, bounded by age (from the last put) and by size.

    When room is short, what was neither put nor asked for the longest goes first.
    """

    def put(self, scope: str, ref: str, data: bytes, now: float) -> None:
        """Keep `data`; the same reference again only refreshes its age."""
        ...

    def get(self, scope: str, ref: str, now: float) -> bytes | None:
        """The bytes, or None when never kept, expired or purged."""
        ...

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        ...

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget what such scopes put before `before`; returns how many."""
        ...


class Pace:
    """Whether a store answers so fast that an event loop may ask it by itself.

    A thread costs more than a local disk's answer (measured: 2.2 ms of CPU a call of the gateway,
    of 5.5); a slow disk or a network must not hold the loop up. One slow answer, and threads ask
    for a while.
    """

    SLOW = 0.01
    """Seconds of an answer that is too slow."""
    WHILE = 5.0
    """Seconds until the loop asks by itself again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._again = 0.0

    def quick(self) -> bool:
        """Whether the loop may ask now."""
        return self._clock() >= self._again

    def took(self, seconds: float) -> None:
        """An answer took so long."""
        if seconds > self.SLOW:
            self._again = self._clock() + self.WHILE


@dataclass(frozen=True, slots=True)
class Stores:
    """The four together, as a backend gives them."""

    slots: Slots
    ledger: Ledger
    evidence: Evidence
    blobs: Blobs
    blocking: bool
    """True: may wait for a disk or a network; async callers use a thread."""
    close: Callable[[], None] = lambda: None
    at_once: Callable[[], AbstractContextManager[None]] | None = None
    """While in it, slots, ledger and evidence raise `StoreBusy` instead of waiting for a lock."""
    pace: Pace = field(default_factory=Pace)

"""How many spans were handed over, delivered and lost on their way to a destination."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["REASONS", "Count", "Counts", "Reason"]

Reason: TypeAlias = Literal["queue", "refused", "exit", "held"]
REASONS: Mapping[Reason, str] = {
    "queue": "queue full",
    "refused": "refused",
    "exit": "not confirmed when the process ended",
    "held": "too many chains undecided",
}
"""Why spans are lost, and the words for it."""


@dataclass(frozen=True, slots=True)
class Count:
    """Spans of one destination, at one moment: `handed` is the sum of all the others."""

    destination: str
    """`store` or `otlp`."""
    handed: int
    delivered: int
    unsampled: int
    """Left out on purpose, by `trace.otlp.sample`."""
    lost: Mapping[Reason, int]
    waiting: int
    """Neither of these yet."""


@dataclass(slots=True)
class Counts:
    """The running counts of one destination; thread-safe."""

    destination: str
    _handed: int = 0
    _delivered: int = 0
    _unsampled: int = 0
    _lost: dict[Reason, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handed(self) -> None:
        """One more was handed over."""
        with self._lock:
            self._handed += 1

    def delivered(self, number: int) -> None:
        """So many arrived."""
        with self._lock:
            self._delivered += number

    def unsampled(self, number: int) -> None:
        """So many are not to be sent."""
        with self._lock:
            self._unsampled += number

    def lost(self, reason: Reason, number: int) -> None:
        """So many will never arrive."""
        if number:
            with self._lock:
                self._lost[reason] = self._lost.get(reason, 0) + number

    def now(self) -> Count:
        """The counts as they are now."""
        with self._lock:
            lost = dict(self._lost)
            settled = self._delivered + self._unsampled + sum(lost.values())
            return Count(
                self.destination,
                self._handed,
                self._delivered,
                self._unsampled,
                lost,
                self._handed - settled,
            )

    def forked(self) -> None:
        """Begin anew in a forked child: what the parent counts is the parent's."""
        self._lock = threading.Lock()
        self._handed = self._delivered = self._unsampled = 0
        self._lost = {}

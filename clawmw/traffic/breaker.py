"""A circuit breaker an upstream, and its retry budget. Pure: the time and the dice are given.

Closed, it counts the last 20 answers and opens when at least five came and half of them failed.
Open, it refuses; while calls ask, a single one is let through as a probe after one, two and then
every four seconds (less up to a quarter, so that many processes do not probe together), and
nobody else until that one is back. With no caller there is no probe.

The retry budget is a token bucket as in AWS's SDKs: a retry costs 14 tokens, 5 after throttling;
what succeeds at first try puts one in, a retry that succeeds puts its cost back. When it is
empty, nobody retries.

Our own code: the breakers kept as libraries (purgatory, pybreaker, hyx) let every waiter probe
at once or none decide how long it stays open while traffic waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from clawmw.core.effects import Permitted

__all__ = ["Breaker", "Verdict"]

Verdict = Literal["ok", "failed", "neutral"]

WINDOW, ENOUGH, SHARE = 20, 5, 0.5
PAUSES = (1.0, 2.0, 4.0)
"""Seconds between probes, while it stays open."""
_LOST = 120.0
"""Seconds after which a probe that never came back no longer keeps others from probing."""
BUDGET = 100.0
"""Tokens of the retry budget; AWS has 500 for a whole service, this is one desktop's."""


@dataclass(slots=True)
class Breaker:
    """See the module. Not locked: its owner is."""

    results: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """The last answers, True for a failure."""
    opened: float | None = None
    """Since when nothing is let through; None: closed."""
    tries: int = 0
    """Probes that failed since it opened."""
    probe: str = ""
    """The call that is out to find out."""
    probed: float = 0.0
    budget: float = BUDGET
    until: float = 0.0
    """When the next probe may go."""

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """As the field calls it."""
        if self.opened is None:
            return "closed"
        return "half_open" if self.probe else "open"

    def permit(self, id: str, now: float) -> Permitted:
        """Whether a call may go."""
        if self.opened is None:
            return Permitted(True)
        if self.probe == id:
            return Permitted(True, probe=True)
        if self.probe and now - self.probed < _LOST:
            return Permitted(False, retry_after=PAUSES[0])
        if now < self.until:
            return Permitted(False, retry_after=self.until - now)
        self.probe, self.probed = id, now
        return Permitted(True, probe=True)

    def report(self, id: str, verdict: Verdict, now: float, dice: float) -> bool:
        """How a permitted call ended; True when that changed the state. `dice`: 0 to 1."""
        if self.opened is not None:
            if self.probe != id:
                return False  # it began before: what the probe finds out is newer
            self.probe = ""
            if verdict == "ok":
                self.opened, self.tries = None, 0
                self.results.clear()
                return True
            if verdict == "failed":
                self.tries += 1
                self._wait(now, dice)
            return False
        if verdict != "neutral":
            self.results.append(verdict == "failed")
            failed = sum(self.results)
            if len(self.results) >= ENOUGH and failed >= SHARE * len(self.results):
                self.opened = now
                self._wait(now, dice)
                return True
        return False

    def _wait(self, now: float, dice: float) -> None:
        pause = PAUSES[min(self.tries, len(PAUSES) - 1)]
        self.until = now + pause * (1 - dice / 4)

    def withdraw(self, amount: float) -> bool:
        """Take from the retry budget, or (negative) put back; False when it is empty."""
        if amount > self.budget:
            return False
        self.budget = min(self.budget - amount, BUDGET)
        return True

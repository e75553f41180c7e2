"""A circuit breaker an upstream, and its retry budget. Pure: the time and the dice are given.

Closed, it counts the last 20 answers and opens when at least five came and half of them failed.
Open, it refuses; while calls ask, a single one is let through as a probe after one and then every
two seconds (less up to a quarter, so that many processes do not probe together). With no caller
there is no probe. A probe that takes long keeps others back for four seconds, not for as long as
a model may think.

The retry budget is a token bucket as in AWS's SDKs: a retry costs 14 tokens, 5 after throttling;
what succeeds at first try puts one in, a retry that succeeds puts its cost back. When it is
empty, nobody retries.

Our own code: the breakers kept as libraries (purgatory, pybreaker, hyx) let every waiter probe
at once, tell a failure by its exception and hold one state for one event loop or none; and none
knows which answers are older than its own last turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from clawmw.core.effects import Permitted, Verdict

__all__ = ["Breaker", "Verdict"]

WINDOW, ENOUGH, SHARE = 20, 5, 0.5
PAUSES, LONGEST = (1.0, 2.0), 4.0
"""Seconds after a probe that failed, and after one that is still out, until the next. With four
after a failure a busy process needs eight, not five, until all is normal (benchmarks.outage)."""
CROWD = 32
"""Calls that may wait out one pause: what waits comes at once when the upstream is back, and a
service that has just come back is not to meet a whole backlog."""
BUDGET = 100.0
"""Tokens of the retry budget; AWS has 500 for a whole service, this is one desktop's."""


@dataclass(slots=True)
class Breaker:
    """See the module. Not locked: its owner is."""

    results: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """The last answers, True for a failure."""
    opened: float | None = None
    """Since when nothing is let through; None: closed."""
    turned: float = float("-inf")
    """When it closed last."""
    tries: int = 0
    """Probes that failed since it opened."""
    probes: set[str] = field(default_factory=set)
    """The calls that are out to find out."""
    budget: float = BUDGET
    until: float = 0.0
    """When the next probe may go."""
    refused: int = 0
    """Calls refused during this pause."""

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """As the field calls it."""
        if self.opened is None:
            return "closed"
        return "half_open" if self.probes else "open"

    def permit(self, id: str, now: float, dice: float) -> Permitted:
        """Whether a call may go. `dice`: 0 to 1."""
        if self.opened is None:
            return Permitted(True)
        if id in self.probes:
            return Permitted(True, probe=True)
        if now < self.until:
            self.refused += 1
            left = self.until - now  # a probe that is out may come back before
            after = min(left, PAUSES[0]) if self.probes else left
            return Permitted(False, retry_after=after, crowded=self.refused > CROWD)
        self.probes.add(id)
        self._wait(now, LONGEST, dice)
        return Permitted(True, probe=True)

    def report(self, id: str, verdict: Verdict, now: float, began: float, dice: float) -> bool:
        """How a call that was permitted at `began` ended; True when that changed the state."""
        if self.opened is not None:
            return self._probed(id, verdict, now, dice)
        if verdict in ("neutral", "alive") or began < self.turned:
            return False  # it began before: what a probe found out since is newer
        self.results.append(verdict == "failed")
        failed = sum(self.results)
        if len(self.results) < ENOUGH or failed < SHARE * len(self.results):
            return False
        self.opened = now
        self._wait(now, PAUSES[0], dice)
        return True

    def _probed(self, id: str, verdict: Verdict, now: float, dice: float) -> bool:
        if id not in self.probes:
            return False
        self.probes.discard(id)
        if verdict in ("ok", "alive"):
            self.opened, self.tries, self.turned = None, 0, now
            self.results.clear()
            self.probes.clear()
            return True
        self.tries += verdict == "failed"
        if not self.probes:  # else a newer one is out, and its pause holds
            self._wait(now, PAUSES[min(self.tries, len(PAUSES) - 1)], dice)
        return False

    def _wait(self, now: float, pause: float, dice: float) -> None:
        self.until, self.refused = now + pause * (1 - dice / 4), 0

    def withdraw(self, amount: float) -> bool:
        """Take from the retry budget, or (negative) put back; False when it is empty."""
        if amount > self.budget:
            return False
        self.budget = min(self.budget - amount, BUDGET)
        return True

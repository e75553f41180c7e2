"""Limits by the minute. Pure: the time is given.

Our own code: a queue must know how long until an amount fits without taking it, put back what was
estimated too much, and go by a clock that is passed in.
"""

from __future__ import annotations

__all__ = ["Bucket"]


class Bucket:
    """A token bucket that may go into debt: what was taken too little is made up for later."""

    def __init__(self, a_second: float, now: float) -> None:
        self.a_second, self.room = a_second, a_second * 60
        self.level, self.at = self.room, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` fits; more than fits at all needs a full bucket."""
        self.level = min(self.room, self.level + (now - self.at) * self.a_second)
        self.at = now
        return max(min(amount, self.room) - self.level, 0.0) / self.a_second

    def take(self, amount: float) -> None:
        """Take it, or (negative) put it back."""
        self.level = min(self.room, self.level - amount)

"""What a detector says, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["DETECTORS", "STEPS", "Detector", "Found", "Step"]

Detector: TypeAlias = Literal[
    "repeat", "cycle", "stuck", "tool", "monologue", "echo", "speed", "ring", "hops", "chant"
]
DETECTORS: tuple[Detector, ...] = (
    "repeat", "cycle", "stuck", "tool", "monologue", "echo", "speed", "ring", "hops", "chant",
)  # fmt: skip
Step: TypeAlias = Literal["off", "observe", "nudge", "slow", "refuse", "stop"]
STEPS: tuple[Step, ...] = ("off", "observe", "nudge", "slow", "refuse", "stop")


@dataclass(frozen=True, slots=True)
class Found:
    """A loop as one detector sees it."""

    detector: Detector
    count: int
    """How often, as people would count it."""
    weight: int
    """The same in identical calls with identical results, which the steps are counted in."""
    said: str
    """In a few words, with a place for the count."""

    @property
    def text(self) -> str:
        """What was found."""
        return self.said.format(self.count)

"""The section of the policy."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from clawmw.stages.base import StageConfig
from clawmw.stages.guard.loop.found import STEPS, Detector, Found, Step
from clawmw.stages.guard.loop.talk import GATE
from clawmw.stages.units import Count, Duration

__all__ = ["LoopGuardConfig"]


class LoopGuardConfig(StageConfig):
    """Stop an agent, or a ring of agents, that goes round and round."""

    nudge: Count = 4
    """Tell the model at this many identical calls with identical results, or what is as bad."""
    slow: Count = 6
    """Wait before the model call from this many on."""
    delay: Duration = 2.0
    """How long to wait at first; as long again for each further one, 30 s at most."""
    refuse: Count = 8
    """Make no further model call from this many on."""
    stop: Count = 16
    """Stop the whole chain at this many."""
    hops: Count = 16
    """The most agents that a task may be handed down through, where callers say so
    (`x-clawmw-hop`)."""
    monologue: Count = 100
    """Say so at this many rounds of tool calls without an answer; in the trace alone, unless
    `at_most` lets it tell the model, since long work is no loop. 0: never."""
    turns: Count = 30
    """The most turns of one conversation, without a human and without a new result ..."""
    within: Duration = 60.0
    """... within so many seconds. More is a machine talking to a machine: the chain is stopped."""
    at_most: dict[Detector, Step] = Field(default={"monologue": "observe"}, validate_default=True)
    """How far a detector may go: off, observe, nudge, slow, refuse or stop. Detectors: repeat,
    cycle, stuck, tool, monologue, echo, speed, ring, hops, chant."""
    window: Count = 128
    """How many of a conversation's newest results and turns are looked at."""

    @model_validator(mode="after")
    def _sane(self) -> LoopGuardConfig:
        if not self.nudge <= self.refuse <= self.stop:
            raise PydanticCustomError(
                "loop_guard",
                "the steps come one after the other, so nudge <= refuse <= stop must hold; here "
                "they are {nudge}, {refuse} and {stop}",
                {"nudge": self.nudge, "refuse": self.refuse, "stop": self.stop},
            )
        least = max(self.stop, self.monologue + self.monologue // GATE)
        if self.window < least:
            raise PydanticCustomError(
                "loop_guard",
                "window must be at least {least} to see as much as stop and monologue ask for; "
                "here it is {window}",
                {"least": least, "window": self.window},
            )
        return self

    def step(self, weight: int) -> Step:
        """What is to be done at so many."""
        if weight >= self.stop:
            return "stop"
        if weight >= self.refuse:
            return "refuse"
        if weight >= max(self.slow, self.nudge):
            return "slow"
        return "nudge" if weight >= self.nudge else "off"

    def reach(self, found: Found) -> tuple[int, int]:
        """How far a finding may go, and how bad it is: the larger, the worse."""
        step = min(self.step(found.weight), self.limit(found.detector), key=STEPS.index)
        return STEPS.index(step), found.weight

    def limit(self, detector: Detector) -> Step:
        """How far a detector may go."""
        return self.at_most.get(detector, "observe" if detector == "monologue" else "stop")

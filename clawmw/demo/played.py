"""A run of the demo as a value: how much of the policy was at work, what came out, the bill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from clawmw.core.events import CallFinished
from clawmw.core.money import Profile, cost
from clawmw.core.types import Usage
from clawmw.emulator.app import Received
from clawmw.flow.langgraph import Outcome

__all__ = ["RUNGS", "Bill", "Played", "Rung", "spent"]


@dataclass(frozen=True, slots=True)
class Rung:
    """How much of the policy is at work in a run."""

    name: str
    label: str
    """As people are told of it."""
    without: tuple[str, ...] = ()
    """Sections of the policy that are switched off."""
    off: bool = False
    """clawmw is not there at all."""


RUNGS = (
    Rung("off", "without clawmw", off=True),
    Rung("prompt_cache", "prompt_cache", without=("compress", "expand", "dedupe")),
    Rung("dedupe", "prompt_cache, dedupe", without=("compress", "expand")),
    Rung("all", "all of clawmw"),
)
"""From nothing to the whole policy, a mechanism at a time; compress goes with expand."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Sums over what a provider measured. Money in nano-USD."""

    calls: int
    input_tokens: int
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    nano: int
    uncached_nano: int
    """What the same calls would cost if nothing were ever read from a cache or written to one."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a run went, and what the provider saw of it."""

    profile: Profile
    rung: Rung
    outcome: Outcome
    problems: tuple[str, ...]
    """What is wrong with the plan the agents made; empty when it keeps every constraint."""
    received: tuple[Received, ...]
    finished: tuple[CallFinished, ...]
    """clawmw's own account of each call; empty without clawmw."""
    seconds: float

    @property
    def usages(self) -> list[Usage]:
        """What the provider measured, call by call."""
        return [r.usage for r in self.received if r.usage is not None]

    @property
    def bill(self) -> Bill:
        """What the provider bills."""
        return spent(self.usages, self.profile)

    @property
    def report(self) -> str:
        """The agents' last word."""
        return str(self.outcome.output or "")

    @property
    def trouble(self) -> str:
        """What went wrong, in one line; empty when the plan is right."""
        if self.outcome.status == "stopped":
            return f"stopped by {self.outcome.rule}: {self.outcome.reason}"
        if not self.problems:
            return ""
        first, *others = self.problems
        return f"the plan is wrong: {first}" + (f" (and {len(others)} more)" if others else "")


def spent(usages: Sequence[Usage], profile: Profile) -> Bill:
    """The bill for what a provider measured. What has no known price counts as 0."""

    def total(some: Iterable[Usage]) -> int:
        return sum(bill.total for usage in some if (bill := cost(usage, profile)) is not None)

    plain = [replace(u, cache_read_tokens=0, cache_write_tokens=0) for u in usages]
    return Bill(
        calls=len(usages),
        input_tokens=sum(u.input_tokens or 0 for u in usages),
        cached_tokens=sum(u.cache_read_tokens or 0 for u in usages),
        written_tokens=sum(u.cache_write_tokens or 0 for u in usages),
        output_tokens=sum(u.output_tokens or 0 for u in usages),
        nano=total(usages),
        uncached_nano=total(plain),
    )

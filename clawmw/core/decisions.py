"""What a stage may decide. A closed union: match it to `assert_never`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clawmw.core.epoch import Epoch
from clawmw.core.events import Event
from clawmw.core.types import Message, Outcome, Request

__all__ = ["Answer", "Because", "Decision", "Halt", "Pass", "Retry", "Rewrite"]


@dataclass(frozen=True, slots=True)
class Because:
    """The policy rule that decided: `section` of the policy and the rule in it."""

    section: str
    rule: str
    detail: Mapping[str, str | int] = field(default_factory=dict, hash=False, compare=False)
    """More for the trace: names and counts, never content."""

    def __str__(self) -> str:
        return f"{self.section}.{self.rule}" if self.rule else self.section


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing to change. `slot` is the new value of the stage's slot, None to keep it."""

    because: Because | None = None
    events: tuple[Event, ...] = ()
    slot: object | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Send `request` instead (from `before`), or give the caller `response` (from `after`)."""

    because: Because
    request: Request | None = None
    response: Outcome | None = None
    journal: tuple[Message, ...] = ()
    """Messages to add after the history, now and in every later call of the session."""
    events: tuple[Event, ...] = ()
    slot: object | None = None
    adds: int = 0
    """Estimated tokens by which `request` is longer than the history as recorded."""
    epoch: Epoch | None = None
    """From `before`: earlier messages in another form, now and in every later call."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headers that tell the caller what was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Skip the call: this is the reply (reused or made by clawmw)."""

    because: Because
    response: Outcome
    """As a rule a `Response`; a failure that another call ran into for this one, too."""
    events: tuple[Event, ...] = ()
    slot: object | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headers that tell the caller what was done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again after `delay` seconds, from the first stage that runs every attempt.

    `journal` is added after the history, now and in every later call of the session.
    `silent`: the caller must not see this attempt's answer (it asked only for clawmw).
    `passing`: the journal holds for this exchange alone, and no later call has it.
    """

    because: Because
    delay: float = 0.0
    journal: tuple[Message, ...] = ()
    silent: bool = False
    events: tuple[Event, ...] = ()
    slot: object | None = None
    passing: bool = False
    target: str = ""
    """What to ask from now on: a model by the policy's name, or what the stage that says so knows
    by this name; "": as before."""
    at_once: bool = False
    """Instead of what a stage below wants, too: there is no sense in waiting."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Refuse the call. `resume` says in one sentence how to go on.

    From `before` of a stage that runs every attempt it ends this attempt: a stage above may
    still answer it with a `Retry`, to another model for one. From any other it is final.
    """

    because: Because
    scope: str
    limit: str
    used: str
    resume: str
    events: tuple[Event, ...] = ()
    slot: object | None = None
    kind: Literal["limit", "busy"] = "limit"
    """`limit`: a cap, a budget, a loop. `busy`: no room or no upstream now; later there may be."""
    retry_after: float | None = None
    """Seconds after which it may be worth asking again, where it is `busy`."""

    def detail(self) -> dict[str, str]:
        """What binds, for the trace."""
        return {"scope": self.scope, "limit": self.limit, "used": self.used}

    def __str__(self) -> str:
        per = f" per {self.scope}" if self.scope else ""
        rule = f"the policy allows {self.limit}{per} ({self.because})"
        return f"clawmw stopped this call: {self.used}; {rule}. {self.resume}"


Decision: TypeAlias = Pass | Rewrite | Answer | Retry | Halt

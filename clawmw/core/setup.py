"""What an exchange is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from clawmw.core.charges import Near
from clawmw.core.codec import Codec
from clawmw.core.decisions import Halt
from clawmw.core.effects import Effect
from clawmw.core.events import CallFinished, Event
from clawmw.core.fold import History
from clawmw.core.identity import Identity
from clawmw.core.journal import Journal
from clawmw.core.money import Profile
from clawmw.core.types import Outcome, Request

__all__ = ["Result", "Run", "Setup"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The values of one exchange that come from outside."""

    exchange: str
    now: float
    identity: Identity
    codec: Codec
    profile: Callable[[str], Profile]
    history: History | None = None
    """The session's history as remembered by this process, if it is."""
    seed: int = 0
    place: str = ""
    """Where the caller's own model answers, and under which key: told apart, never shown."""
    begun: Callable[[], None] | None = None
    """Told when the first bytes of a streamed answer come."""
    fresh: bool = False
    """This process meets the session for the first time."""
    told: tuple[Event, ...] = ()
    """What happened to the call before."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an exchange ended. Exactly one of `outcome` and `halt` is set."""

    outcome: Outcome | None
    halt: Halt | None
    changed: bool
    """The response is not the wire's own: encode it."""
    request: Request
    history: History
    """To be remembered for the session's next call."""
    finished: CallFinished
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headers that tell the caller what was done."""
    shown: str | None = None
    """The id of the answer that its reader was given, where it is not the provider's own."""
    journal: Journal = field(default_factory=Journal)
    """What of the request's messages is ours."""
    limits: tuple[Near, ...] = ()
    """The limits it drew from, and what is used of each, this call included."""


Run: TypeAlias = Generator[Effect, Any, Result]

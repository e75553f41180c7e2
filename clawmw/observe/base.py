"""What an observer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from clawmw.core.events import Event
from clawmw.core.redact import Redactor
from clawmw.core.setup import Result
from clawmw.core.types import Request

__all__ = ["ContentObserver", "Ended", "Observer"]


class Observer(Protocol):
    """Sees the events of every call; called from any thread."""

    def __call__(self, event: Event) -> None:
        """Take one event in. Never raises, never waits for a disk or a network."""
        ...


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that is over, with all that was said in it: what no event carries."""

    exchange: str
    asked: Request = field(repr=False)
    """As the agent asked it."""
    result: Result = field(repr=False)
    """`request` is what was sent last, `history` what became of each message."""
    redactor: Redactor = field(repr=False)
    """Answers are not free of secrets yet: whoever keeps one passes it through this."""


class ContentObserver(Observer, Protocol):
    """An observer that is also handed each call with its content.

    Any observer that has the method is; where none has, nothing is kept for it.
    """

    def ended(self, call: Ended) -> None:
        """Take a call, before its `CallFinished` is shown. Never raises, never waits."""
        ...

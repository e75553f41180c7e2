"""What an observer is."""

from __future__ import annotations

from typing import Protocol

from clawmw.core.events import Event

__all__ = ["Observer"]


class Observer(Protocol):
    """Sees the events of every call; called from any thread."""

    def __call__(self, event: Event) -> None:
        """Take one event in. Never raises, never waits for a disk or a network."""
        ...

"""What the engine must know of a stage without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Mode", "StageTraits"]

Mode: TypeAlias = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class StageTraits:
    """What the engine must know of a stage without running it."""

    name: str
    """The policy section it belongs to."""
    slot: Literal["session", "chain", "agent"] | None = None
    """The scope of its slot; None: it keeps no state."""
    prefix: Literal["keeps", "moves"] = "keeps"
    """Whether what was sent before stays the prefix of what is sent next."""
    on_error: Literal["open", "closed"] = "open"
    """`open`: skipped when it fails. `closed`: the call is refused (caps and budgets)."""
    runs: Literal["call", "attempt"] = "attempt"
    """Once a call, or again for every attempt."""
    below: tuple[str, ...] = ()
    """Stages that must run before this one on the way down."""
    above: tuple[str, ...] = ()
    """Stages that must run after this one on the way down."""
    needs: Literal["weight", "messages", "history"] = "messages"
    """What of a call it works on. `weight`: no more than its size, so that it guards bodies that
    are not read, too. `history`: all that is said, or where it goes; it does not run for a call of
    which the provider holds some (`Request.held`). Who folds or offers never does."""
    shortens: Literal["results", "texts"] = "results"
    """What it may fold: tool results alone, or also what users wrote (never hiding any of it)."""

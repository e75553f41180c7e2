"""What an exchange has gathered: its state on the way down, and what a provider holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from clawmw.core.account import Account, CachePlan
from clawmw.core.effects import Slot
from clawmw.core.epoch import Epoch, Running
from clawmw.core.fold import History
from clawmw.core.journal import Journal
from clawmw.core.prefix import Warm
from clawmw.core.types import Json

__all__ = ["Begun", "Cached", "State"]


@dataclass(frozen=True, slots=True)
class Begun:
    """An epoch of this call."""

    id: str
    stage: str
    epoch: Epoch
    forms: Json
    """Every form that holds under it, by step digest."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What a model's provider holds of a history."""

    model: str
    now: float
    at: tuple[int, int]
    held: tuple[History, Account]
    last: Warm | None
    count: int
    """Leading messages."""
    plan: CachePlan


@dataclass(slots=True)
class State:
    """What one try of the descent has gathered, to be committed in one step."""

    account: Account
    account_version: int
    journal: Journal
    journal_version: int
    slots: dict[str, Slot]
    history: History
    added: int = 0
    """Estimated tokens of the journal entries woven in."""
    pending: dict[str, object] = field(default_factory=dict)
    """New slot values, by stage."""
    journal_changed: bool = False
    begun: list[Begun] = field(default_factory=list)
    """Epochs of this call."""
    ended: Running | None = None
    """An earlier one whose chain is over."""

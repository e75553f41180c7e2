"""What is drawn from whom: the ledger's part of the effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Above", "Charge", "Meter", "Near", "Reserve", "Reserved", "Settle"]

Meter: TypeAlias = Literal[
    "calls", "input_tokens", "output_tokens", "usd", "wall", "hops", "concurrent"
]
"""What the ledger counts. `usd` in nano-USD; `wall` in milliseconds since the scope was first
charged with it, whatever the amount; `hops` the deepest ever charged; `concurrent` is held, not
spent: given back when settled or when the lease expires. The others add up."""


class Charge(NamedTuple):
    """An amount of one meter drawn from one scope; `limit` None only counts.

    What asks for nothing (amount 0) is never refused. `soft`: from so much on, the scope is
    near its limit. (A tuple, because dozens are made for each call.)
    """

    scope: str
    meter: Meter
    amount: int
    limit: int | None = None
    soft: int | None = None


class Near(NamedTuple):
    """A scope that came near a limit."""

    scope: str
    meter: str
    limit: int
    """With what it was raised by."""
    used: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The ledger's answer. When refused, `scope`, `meter`, `limit`, `used` say what binds.

    `usage` holds used plus reserved per (scope, meter) after the step.
    """

    granted: bool
    usage: Mapping[tuple[str, str], int]
    scope: str = ""
    meter: str = ""
    limit: int = 0
    """With what it was raised by."""
    used: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    """When refused: the least that is left of each limited meter, over all scopes."""
    near: tuple[Near, ...] = ()
    """When granted: scopes found near a limit; each is told once, until it is raised or reset."""


@dataclass(frozen=True, slots=True)
class Above:
    """What is drawn from `scope` is also drawn from every scope above it.

    `parent` is the scope that started it ("": not said); the first one said is remembered.
    """

    scope: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Draw all charges or none, in one atomic step. Returns `Reserved`.

    The reservation is a lease of `lease` seconds; unless settled before, it counts as
    spent (a crash is paid for, never forgotten).
    """

    charges: tuple[Charge, ...]
    lease: float
    id: str = ""
    above: Above | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Replace the reservation `id` by what was used. Returns None."""

    charges: tuple[Charge, ...]
    id: str = ""
    above: Above | None = None
    """As for `Reserve`; the scopes are those that were drawn from then."""

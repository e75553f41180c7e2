"""The ledger's arithmetic, the same for every backend that keeps its own counters.

A counter is one number: used plus reserved. A reservation adds its amount when granted;
settling takes that back and adds what was used. So a lease that expires needs no work: what
was never settled is in the number already. Three meters are other: see `Meter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from clawmw.core.effects import Charge, Near, Reserved
from clawmw.errors import StoreError

__all__ = [
    "CLOCK",
    "HOLD",
    "PEAK",
    "Counter",
    "Scope",
    "added",
    "amounts",
    "ancestors",
    "decide",
    "drawn",
    "upwards",
]

Counter: TypeAlias = tuple[str, str]
"""(scope, meter)."""

CLOCK, PEAK, HOLD = "wall", "hops", "concurrent"
"""The meters that do not add up: time that passes, a maximum, what is given back."""

_DEPTH = 32
"""Scopes above one that are charged: the nearest, and the topmost."""
_FAR = 4096
"""Links followed at most."""


@dataclass(slots=True)
class Scope:
    """What the ledger knows of a scope besides its counters."""

    parent: str = ""
    raised: dict[str, int] = field(default_factory=dict)
    """By meter, what its limits were raised by."""
    noted: bool = False
    """It was told that it is near a limit."""


def amounts(charges: Sequence[Charge]) -> dict[Counter, int]:
    """Amounts by counter, added up where one is named twice.

    A negative amount would hand money back: `StoreError`.
    """
    sums: dict[Counter, int] = {}
    for charge in charges:
        if charge.amount < 0:
            raise StoreError(
                f"charge of {charge.amount} {charge.meter} on {charge.scope!r} is negative; "
                "settle with what was used instead"
            )
        key = (charge.scope, charge.meter)
        before = sums.get(key, 0)
        sums[key] = max(before, charge.amount) if key[1] == PEAK else before + charge.amount
    return sums


def added(meter: str, used: int, amount: int) -> int:
    """What a counter stands at after `amount`; time passes by itself."""
    if meter == PEAK:
        return max(used, amount)
    return used if meter == CLOCK else used + amount


def drawn(asked: Mapping[Counter, int]) -> dict[Counter, int]:
    """Of what was asked for, what settling takes back."""
    return {key: n for key, n in asked.items() if key[1] not in (CLOCK, PEAK)}


def decide(
    charges: Sequence[Charge],
    asked: Mapping[Counter, int],
    totals: Mapping[Counter, int],
    scopes: Mapping[str, Scope],
) -> Reserved:
    """Whether `asked` (the sums of `charges`) fits beside `totals`; counts nothing itself.

    Refused by the first charge, in order, with used + amount > limit.
    """
    near: dict[str, Near] = {}
    for charge in charges:
        limit = charge.limit
        if limit is None:
            continue
        key = (charge.scope, charge.meter)
        used, scope = totals.get(key, 0), scopes.get(charge.scope)
        more = scope.raised.get(charge.meter, 0) if scope is not None else 0
        if asked[key] and _after(charge.meter, used, asked[key]) > limit + more:
            usage = {k: totals.get(k, 0) for k in asked}
            left = _left(charges, totals, scopes)
            return Reserved(False, usage, *key, limit + more, used, left)
        if charge.soft is not None and used and charge.scope not in near:
            soft = charge.soft + (more * charge.soft // limit if more and limit else 0)
            if used >= soft and not (scope is not None and scope.noted):
                near[charge.scope] = Near(*key, limit + more, used)
    usage = {key: added(key[1], totals.get(key, 0), amount) for key, amount in asked.items()}
    return Reserved(True, usage, near=tuple(near.values()))


def _after(meter: str, used: int, amount: int) -> int:
    return amount if meter == PEAK else used + amount


def _left(
    charges: Sequence[Charge], totals: Mapping[Counter, int], scopes: Mapping[str, Scope]
) -> dict[str, int]:
    left: dict[str, int] = {}
    for charge in charges:
        if charge.limit is not None:
            scope = scopes.get(charge.scope)
            more = scope.raised.get(charge.meter, 0) if scope is not None else 0
            used = 0 if charge.meter == PEAK else totals.get((charge.scope, charge.meter), 0)
            one = charge.limit + more - used
            left[charge.meter] = min(left.get(charge.meter, one), one)
    return left


def ancestors(scope: str, parent: Callable[[str], str]) -> list[str]:
    """The scopes above one, nearest first; bounded, whatever the links say."""
    found: list[str] = []
    seen = {scope}
    up = parent(scope)
    while up and up not in seen and len(found) < _FAR:
        found.append(up)
        seen.add(up)
        up = parent(up)
    return found if len(found) <= _DEPTH else [*found[: _DEPTH - 1], found[-1]]


def upwards(charges: Sequence[Charge], scope: str, above: Sequence[str]) -> Sequence[Charge]:
    """`charges`; and those on `scope` once more on each of those above it."""
    if not above:
        return charges
    up = [charge for charge in charges if charge.scope == scope]
    return [*charges, *(charge._replace(scope=one) for one in above for charge in up)]

"""The ledger's arithmetic, the same for every backend that keeps its own counters.

A counter is one number: used plus reserved. A reservation adds its amount when granted;
settling takes that back and adds what was used. So a lease that expires needs no work: what
was never settled is in the number already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from clawmw.core.effects import Charge, Reserved
from clawmw.errors import StoreError

__all__ = ["Counter", "amounts", "decide"]

Counter: TypeAlias = tuple[str, str]
"""(scope, meter)."""


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
        sums[key] = sums.get(key, 0) + charge.amount
    return sums


def decide(
    charges: Sequence[Charge], asked: Mapping[Counter, int], totals: Mapping[Counter, int]
) -> Reserved:
    """Whether `asked` (the sums of `charges`) fits beside `totals`; counts nothing itself.

    Refused by the first charge, in order, with used + amount > limit.
    """
    for charge in charges:
        if charge.limit is None:
            continue
        key: Counter = (charge.scope, charge.meter)
        used = totals.get(key, 0)
        if used + asked[key] > charge.limit:
            usage = {k: totals.get(k, 0) for k in asked}
            return Reserved(False, usage, *key, charge.limit, used)
    return Reserved(True, {key: totals.get(key, 0) + amount for key, amount in asked.items()})

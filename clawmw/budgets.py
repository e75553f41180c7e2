"""What is used of a policy's limits, for those who reach it outside a model call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from clawmw.errors import PolicyError, StoreError
from clawmw.policy import build
from clawmw.policy.models import Policy, for_stages
from clawmw.stages.guard.budget.limits import BudgetConfig
from clawmw.stages.guard.budget.scopes import METERS, Books, Named, day_of, key_of, named, shown
from clawmw.stages.guard.budget.stage import books
from clawmw.stores.base import Stores

__all__ = ["Budgets", "Row", "plain", "said"]

_RECENT = 2 * 86_400.0
"""Seconds for which scopes are shown that nobody named."""


@dataclass(frozen=True, slots=True)
class Row:
    """One meter of one scope. Money in nano-USD, `wall` in milliseconds."""

    scope: Named
    meter: str
    used: int
    """Used plus reserved."""
    reserved: int
    """Of it, what calls under way have reserved."""
    limit: int | None
    """With what it was raised by; None: the policy has none."""
    raised: int
    parents: tuple[str, ...]
    """The scopes that it draws on, too."""


def said(meter: str, amount: int) -> str:
    """An amount with its unit, for people."""
    return f"${shown(meter, amount)}" if meter == "usd" else shown(meter, amount)


def plain(row: Row) -> Mapping[str, Any]:
    """A row for programs: USD and seconds, not nano-USD and milliseconds."""
    scale = {"usd": 1e9, "wall": 1e3}.get(row.meter)

    def scaled(amount: int | None) -> float | int | None:
        return amount if amount is None or scale is None else amount / scale

    return {
        "scope": str(row.scope),
        "day": row.scope.day or None,
        "meter": row.meter,
        "used": scaled(row.used),
        "reserved": scaled(row.reserved),
        "limit": scaled(row.limit),
        "raised": scaled(row.raised),
        "parents": list(row.parents),
    }


class Budgets:
    """The ledger of a policy's disk store. Every method may raise `StoreError`."""

    def __init__(
        self, stores: Stores, tenant: str, limits: Books, clock: Callable[[], float]
    ) -> None:
        self._stores, self._tenant, self._limits, self._clock = stores, tenant, limits, clock

    @classmethod
    def of(cls, policy: Policy, clock: Callable[[], float]) -> Budgets:
        """That of a policy. `StoreError` when no other process can see it, `PolicyError` when
        the policy has no budget."""
        config = policy.stages.get("budget")
        if not isinstance(config, BudgetConfig) or not config.enabled:
            raise PolicyError("budget is off in this policy: there is nothing to show or raise")
        folder = build.store_folder(policy)
        if folder is None:
            raise StoreError(
                "the policy keeps its ledger in memory, where no other process sees it; write "
                "`store: {disk: FOLDER}`, or raise the limit in the policy and restart"
            )
        if not folder.exists():
            raise StoreError(f"store {folder} does not exist: no agent ran under this policy yet")
        limits = books(config, for_stages(policy).agents)
        return cls(build.stores(policy), policy.tenant, limits, clock)

    def today(self) -> str:
        """The day it is, UTC."""
        return day_of(self._clock())

    def rows(self, scope: Named | None = None) -> list[Row]:
        """How a scope stands, for good and today; or all that were used of late, the one used
        last first."""
        if scope is not None:
            asked = [scope] if scope.day else [scope, scope._replace(day=self.today())]
            return [row for one in asked for row in self._of(one)]
        since, found = self._clock() - _RECENT, []
        for kept in sorted(self._stores.ledger.kept(), key=lambda kept: -kept.newest):
            one = named(kept.scope)
            mine = one is not None and kept.scope == key_of(self._tenant, one)
            if one is not None and mine and kept.newest >= since:
                found += self._of(one)
        return found

    def lift(self, scope: Named, meter: str, by: int) -> int:
        """Raise a limit; returns what it is raised by in all."""
        key = key_of(self._tenant, scope)
        return self._stores.ledger.raise_limit(key, meter, by, self._clock())

    def reset(self, scope: Named, meter: str | None) -> int:
        """Count from zero again; returns how many counters there were."""
        return self._stores.ledger.reset(key_of(self._tenant, scope), meter, self._clock())

    def _of(self, scope: Named) -> list[Row]:
        ledger, key = self._stores.ledger, key_of(self._tenant, scope)
        used, raised = ledger.used(key, self._clock()), ledger.raised(key)
        waiting = ledger.reserved(key, self._clock())
        limits = self._limits.limits(scope)
        above = [one for one in map(named, ledger.parents(key)) if one is not None]
        parents = tuple(map(str, above))
        return [
            Row(
                scope,
                meter,
                used.get(meter, 0),
                waiting.get(meter, 0),
                limits[meter] + raised.get(meter, 0) if meter in limits else None,
                raised.get(meter, 0),
                parents,
            )
            for meter in METERS
            if meter in used or meter in raised
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stores.close()

"""How much of the tightest limit is used, by what one exchange reserves and settles."""

from __future__ import annotations

from clawmw.core.charges import Near
from clawmw.core.effects import Effect, Reserve, Reserved, Settle

__all__ = ["Spending"]


class Spending:
    """Of one exchange. `share`: 0 to 1 and beyond; None: nothing was limited so far."""

    def __init__(self) -> None:
        self.share: float | None = None
        self._own: dict[tuple[str, str], int] = {}
        self._limited: dict[tuple[str, str], tuple[int, int]] = {}

    @property
    def limits(self) -> tuple[Near, ...]:
        """Each limit that this exchange drew from, and what is used of it, this call included."""
        return tuple(
            Near(scope, meter, limit, used + self._own.get((scope, meter), 0))
            for (scope, meter), (used, limit) in self._limited.items()
        )

    def seen(self, effect: Effect, answer: object) -> None:
        """Take in what a stage asked for, and got."""
        if isinstance(effect, Reserve) and isinstance(answer, Reserved):
            self._limited = {}
            for charge in effect.charges:
                if charge.limit:
                    name, own = (charge.scope, charge.meter), charge.amount
                    used = answer.usage.get(name, 0) - (own if answer.granted else 0)
                    self._limited[name] = (used, charge.limit)
            self._tell({})
        elif isinstance(effect, Settle):  # this call's own, too
            self._tell({(charge.scope, charge.meter): charge.amount for charge in effect.charges})

    def _tell(self, own: dict[tuple[str, str], int]) -> None:
        self._own = own
        shares = [(used + own.get(n, 0)) / limit for n, (used, limit) in self._limited.items()]
        self.share = max(shares) if shares else self.share

"""The ledger in this process. One lock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from clawmw.core.effects import Above, Charge, Reserved
from clawmw.stores.base import Kept, Of, everyone, summed
from clawmw.stores.counters import (
    CLOCK,
    HOLD,
    Counter,
    Scope,
    added,
    amounts,
    ancestors,
    decide,
    drawn,
    upwards,
)

__all__ = ["REMEMBER", "MemoryLedger"]

REMEMBER = 3600.0
"""Seconds an id is remembered after its last use: far longer than a phase takes to run again."""

MOST = 65_536
"""Counters kept, some 20 MB; of more, those that were not touched for the longest go, a quarter
at once. What many calls share is touched all the time."""

_NOTHING: dict[Counter, int] = {}


@dataclass(slots=True)
class _Lease:
    """What the ledger remembers of one id. `drawn` is what settling takes back."""

    answer: Reserved
    drawn: dict[Counter, int]
    settled: bool
    until: float
    up: Sequence[str] = ()
    """The scopes above, that were charged too."""


class MemoryLedger:
    """Counters by (scope, meter), and the leases that may still correct them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._totals: dict[Counter, int] = {}
        self._touched: dict[Counter, float] = {}
        self._scopes: dict[str, Scope] = {}
        self._holds: dict[str, dict[str, tuple[int, float]]] = {}
        """Of each scope, what the ids hold, and until when."""
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    def reserve(
        self,
        id: str,
        charges: Sequence[Charge],
        expires: float,
        now: float,
        above: Above | None = None,
    ) -> Reserved:
        """Draw all charges or none, in one atomic step; the same `id` answers as before.

        A refusal is remembered like a grant.
        """
        with self._lock:
            if (known := self._leases.get(id)) is not None:
                return known.answer
            scopes = () if above is None else self._lineage(above.scope, above.parent)
            if above is not None:
                charges = upwards(charges, above.scope, scopes)
            asked = amounts(charges)
            answer = decide(charges, asked, self._at(asked, now), self._scopes)
            if answer.granted:
                self._draw(id, asked, answer, expires, now)
            # A refused id has nothing to take back: settling it charges as given.
            taken = drawn(asked) if answer.granted else {}
            until = max(now, expires) + REMEMBER
            self._leases[id] = _Lease(answer, taken, False, until, scopes)
            self._forget(now)
            if len(self._touched) > MOST:
                self._drop(sorted(self._touched, key=self._touched.__getitem__)[: MOST // 4])
            return answer

    def settle(
        self,
        id: str,
        charges: Sequence[Charge],
        now: float,
        above: Above | None = None,
    ) -> None:
        """Replace the reservation by what was used; only the first settle of an `id` counts.

        It may come after the lease expired: the measured figure is the better one.
        """
        with self._lock:
            lease = self._leases.get(id)
            if lease is not None and lease.settled:
                return
            scopes: Sequence[str] = ()
            if above is not None:
                scopes = lease.up if lease else self._lineage(above.scope, above.parent)
                charges = upwards(charges, above.scope, scopes)
            spent = amounts(charges)  # before anything changes: it may raise
            totals, touched = self._totals, self._touched
            for key, amount in (_NOTHING if lease is None else lease.drawn).items():
                if key[1] == HOLD:
                    self._release(id, key[0])
                else:
                    totals[key] -= amount
            for key, amount in spent.items():
                if key[1] not in (HOLD, CLOCK):
                    totals[key] = added(key[1], totals.get(key, 0), amount)
                    touched[key] = now
            answer = Reserved(True, {}) if lease is None else lease.answer
            self._leases[id] = _Lease(answer, {}, True, now + REMEMBER, scopes)
            self._forget(now)

    def used(self, scope: str, now: float = 0.0) -> Mapping[str, int]:
        """Used plus reserved by meter; what time changes, as of `now`."""
        with self._lock:
            keys = [key for key in self._touched if key[0] == scope]
            return {key[1]: n for key, n in self._at(keys, now).items()}

    def reserved(self, scope: str, now: float) -> Mapping[str, int]:
        """Of what is used, what calls under way have reserved, by meter."""
        found: dict[str, int] = {}
        with self._lock:
            for lease in self._leases.values():
                if lease.settled or lease.until - REMEMBER <= now:
                    continue
                for (one, meter), amount in lease.drawn.items():
                    if one == scope and amount:
                        found[meter] = found.get(meter, 0) + amount
        return found

    def raised(self, scope: str) -> Mapping[str, int]:
        """What a scope's limits are raised by, by meter."""
        with self._lock:
            kept = self._scopes.get(scope)
            return dict(kept.raised) if kept is not None else {}

    def parents(self, scope: str) -> Sequence[str]:
        """The scopes that a scope draws on besides its own, nearest first."""
        with self._lock:
            return self._above(scope)

    def raise_limit(self, scope: str, meter: str, by: int, now: float) -> int:
        """Raise a limit from now on; returns what it is raised by in all, never below 0."""
        with self._lock:
            kept = self._scope(scope)
            total = kept.raised[meter] = max(kept.raised.get(meter, 0) + by, 0)
            kept.noted = False
            return total

    def reset(self, scope: str, meter: str | None, now: float) -> int:
        """Count a scope's meter (None: all) from zero again, its limit as the policy has it.

        Calls under way count when they settle. Returns how many counters there were.
        """
        with self._lock:
            keys = {k for k in self._touched if k[0] == scope and meter in (None, k[1])}
            for key in keys:
                self._totals.pop(key, None)
                del self._touched[key]
                if key[1] == HOLD:
                    self._holds.pop(scope, None)
            for lease in self._leases.values():
                for key in keys & lease.drawn.keys():
                    del lease.drawn[key]
            kept = self._scopes.get(scope)
            if kept is not None:
                kept.noted = False
                kept.raised = {m: n for m, n in kept.raised.items() if meter not in (None, m)}
            return len(keys)

    def kept(self) -> list[Kept]:
        """What there is, by scope; counters have no content."""
        with self._lock:
            return summed([(key[0], 0, at) for key, at in self._touched.items()])

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget counters untouched since `before`, limits and all; returns how many."""
        with self._lock:
            old = [key for key, at in self._touched.items() if at < before and of(key[0])]
            return self._drop(old)

    def _drop(self, counters: Sequence[Counter]) -> int:
        """Forget counters, but for those that an unsettled lease may still correct."""
        held = {key for lease in self._leases.values() for key in lease.drawn}
        old = [key for key in counters if key not in held]
        for key in old:
            self._totals.pop(key, None)
            del self._touched[key]
        left = {key[0] for key in self._touched}
        for scope in {key[0] for key in old} - left:
            self._scopes.pop(scope, None)
            self._holds.pop(scope, None)
        return len(old)

    def _at(self, keys: Iterable[Counter], now: float) -> dict[Counter, int]:
        """Where the counters stand at `now`; those never charged are left out."""
        totals, found = self._totals, {}
        for key in keys:
            meter = key[1]
            if meter == HOLD:
                if (holds := self._holds.get(key[0])) is not None:
                    found[key] = sum([n for n, until in holds.values() if until > now])
                elif key in self._touched:
                    found[key] = 0
            elif (total := totals.get(key)) is not None:
                found[key] = max(int(now * 1000) - total, 0) if meter == CLOCK else total
        return found

    def _draw(
        self, id: str, asked: Mapping[Counter, int], answer: Reserved, expires: float, now: float
    ) -> None:
        totals, touched, usage = self._totals, self._touched, answer.usage
        for key, amount in asked.items():
            meter = key[1]
            if meter == HOLD:
                holds = self._holds.setdefault(key[0], {})
                holds[id] = (amount, expires)
                if len(holds) % 64 == 0:
                    gone = [one for one, (_, until) in holds.items() if until <= now]
                    for one in gone:
                        del holds[one]
            elif meter == CLOCK:
                totals.setdefault(key, int(now * 1000))
            else:
                totals[key] = usage[key]
            touched[key] = now
        for near in answer.near:
            self._scope(near.scope).noted = True

    def _release(self, id: str, scope: str) -> None:
        holds = self._holds.get(scope)
        if holds is not None:
            holds.pop(id, None)
            if not holds:
                del self._holds[scope]

    def _lineage(self, scope: str, parent: str) -> Sequence[str]:
        """Remember who started a scope, the first time it is said; the scopes above it."""
        kept = self._scopes.get(scope)
        if parent and (kept is None or not kept.parent) and scope not in (
            parent, *self._above(parent)
        ):  # fmt: skip
            kept = self._scope(scope)
            kept.parent = parent
        return self._above(scope) if kept is not None and kept.parent else ()

    def _above(self, scope: str) -> list[str]:
        return ancestors(scope, self._parent)

    def _scope(self, scope: str) -> Scope:
        kept = self._scopes.get(scope)
        if kept is None:
            kept = self._scopes[scope] = Scope()
        return kept

    def _parent(self, scope: str) -> str:
        kept = self._scopes.get(scope)
        return kept.parent if kept is not None else ""

    def _forget(self, now: float) -> None:
        """Drop old ids, two looks a call: as fast as they come, never a sweep."""
        leases = self._leases
        for _ in range(2):
            first = next(iter(leases))
            if leases[first].until > now:
                leases.move_to_end(first)
            else:
                del leases[first]
                if not leases:
                    return

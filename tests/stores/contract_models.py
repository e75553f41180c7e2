"""Hypothesis state machines that compare a backend with a model, whatever the order of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clawmw.core.effects import Above, Charge, Meter, Note, Write
from clawmw.stores.base import Stores
from tests.stores.contract import notes

__all__ = ["evidence_machine", "ledger_machine", "slots_machine"]

_IDS = st.integers(0, 12).map(str)
_METERS: tuple[Meter, ...] = get_args(Meter)
_SCOPES = ("chain:a", "chain:b", "chain:c", "tenant:t")
_CHARGES = st.lists(
    st.builds(
        Charge,
        scope=st.sampled_from([_SCOPES[0], _SCOPES[1], _SCOPES[3]]),
        meter=st.sampled_from([*_METERS, "calls", "usd", "concurrent"]),
        amount=st.integers(0, 6),
        limit=st.none() | st.just(20) | st.just(4000),
        soft=st.none() | st.just(12),
    ),
    max_size=4,
)
_ABOVE = st.none() | st.builds(
    Above,
    scope=st.sampled_from(_SCOPES[:3]),
    parent=st.sampled_from(["", *_SCOPES[:3]]),
)
Counter = tuple[str, str]


@dataclass
class _Lease:
    charges: list[Charge]
    granted: bool
    at: float
    until: float
    up: list[str]
    answer: Any = None
    settled: list[Charge] | None = None
    forgiven: set[Counter] = field(default_factory=set)
    """Counters that were reset since it reserved."""
    forgotten: set[Counter] = field(default_factory=set)
    """Counters that were reset since it settled."""


@dataclass
class _LedgerModel:
    """Counts from the whole history anew: nothing is ever carried over."""

    leases: dict[str, _Lease] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    raised: dict[Counter, int] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    def used(self, scope: str, meter: str, now: float) -> int:
        key, sums, deepest, began = (scope, meter), 0, 0, None
        for lease in self.leases.values():
            mine = [c.amount for c in lease.charges if (c.scope, c.meter) == key]
            drawn = mine if lease.granted and key not in lease.forgiven else []
            said = [c.amount for c in lease.settled or [] if (c.scope, c.meter) == key]
            said = [] if key in lease.forgotten else said
            deepest = max([deepest, *drawn, *said])
            if drawn and (began is None or lease.at < began):
                began = lease.at
            if meter == "concurrent":
                sums += sum(drawn) if lease.settled is None and lease.until > now else 0
            else:
                sums += sum(said if lease.settled is not None else drawn)
        if meter == "wall":
            return 0 if began is None else int(now * 1000) - int(began * 1000)
        return deepest if meter == "hops" else sums

    def fits(self, charges: list[Charge], now: float) -> bool:
        for charge in charges:
            same = [c.amount for c in charges if (c.scope, c.meter) == (charge.scope, charge.meter)]
            asked = max(same) if charge.meter == "hops" else sum(same)
            used = 0 if charge.meter == "hops" else self.used(charge.scope, charge.meter, now)
            more = self.raised.get((charge.scope, charge.meter), 0)
            if charge.limit is not None and asked and used + asked > charge.limit + more:
                return False
        return True

    def near(self, charges: list[Charge], now: float) -> set[str]:
        """Scopes that are near a limit and were not told so."""
        found = set()
        for charge in charges:
            if charge.limit is None or charge.soft is None or charge.scope in self.noted:
                continue
            more = self.raised.get((charge.scope, charge.meter), 0) * charge.soft // charge.limit
            used = self.used(charge.scope, charge.meter, now)
            if used and used >= charge.soft + more:
                found.add(charge.scope)
        return found

    def above(self, scope: str) -> list[str]:
        found = []
        while scope in self.parents:
            scope = self.parents[scope]
            found.append(scope)
        return found

    def link(self, above: Above | None) -> list[str]:
        if above is None:
            return []
        cycle = above.scope in (above.parent, *self.above(above.parent))
        if above.parent and above.scope not in self.parents and not cycle:
            self.parents[above.scope] = above.parent
        return self.above(above.scope)


def _all(charges: list[Charge], above: Above | None, up: list[str]) -> list[Charge]:
    mine = [c for c in charges if above is not None and c.scope == above.scope]
    return [*charges, *(c._replace(scope=scope) for scope in up for c in mine)]


class _LedgerMachine(RuleBasedStateMachine):
    make: ClassVar[Callable[[], Stores]]

    def __init__(self) -> None:
        super().__init__()
        self.stores = self.make()
        self.model = _LedgerModel()
        self.now = 100.0

    @rule(id=_IDS, charges=_CHARGES, lease=st.sampled_from([1.0, 60.0]), above=_ABOVE)
    def reserve(self, id: str, charges: list[Charge], lease: float, above: Above | None) -> None:
        model, now = self.model, self.now
        known = model.leases.get(id)
        answer = self.stores.ledger.reserve(id, charges, now + lease, now, above)
        if known is not None:
            assert answer == known.answer or known.answer is None
            return
        up = model.link(above)
        charges = _all(charges, above, up)
        fits = model.fits(charges, now)
        assert answer.granted == fits
        near = model.near(charges, now) if fits else set()
        assert {one.scope for one in answer.near} == near
        model.noted |= near
        model.leases[id] = _Lease(charges, fits, now, now + lease, up, answer)
        if fits:
            assert answer.usage == {
                (c.scope, c.meter): model.used(c.scope, c.meter, now) for c in charges
            }

    @rule(id=_IDS, charges=_CHARGES, above=_ABOVE)
    def settle(self, id: str, charges: list[Charge], above: Above | None) -> None:
        self.stores.ledger.settle(id, charges, self.now, above)
        lease = self.model.leases.get(id)
        if lease is None:
            up = self.model.link(above)
            lease = self.model.leases[id] = _Lease([], True, self.now, self.now, up)
        if lease.settled is None:
            lease.settled = _all(charges, above, lease.up)

    @rule(scope=st.sampled_from(_SCOPES), meter=st.sampled_from(_METERS), by=st.integers(-9, 9))
    def raise_limit(self, scope: str, meter: str, by: int) -> None:
        total = max(self.model.raised.get((scope, meter), 0) + by, 0)
        assert self.stores.ledger.raise_limit(scope, meter, by, self.now) == total
        self.model.raised[scope, meter] = total
        self.model.noted.discard(scope)

    @rule(scope=st.sampled_from(_SCOPES), meter=st.none() | st.sampled_from(_METERS))
    def reset(self, scope: str, meter: str | None) -> None:
        self.stores.ledger.reset(scope, meter, self.now)
        self.model.noted.discard(scope)
        for key in [(scope, m) for m in _METERS if meter in (None, m)]:
            self.model.raised.pop(key, None)
            for lease in self.model.leases.values():
                lease.forgiven.add(key)
                if lease.settled is not None:
                    lease.forgotten.add(key)

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0, 120.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counters_agree(self) -> None:
        for scope in _SCOPES:
            used = self.stores.ledger.used(scope, self.now)
            raised = self.stores.ledger.raised(scope)
            for meter in _METERS:
                assert used.get(meter, 0) == self.model.used(scope, meter, self.now)
                assert raised.get(meter, 0) == self.model.raised.get((scope, meter), 0)

    @invariant()
    def lineage_agrees(self) -> None:
        for scope in _SCOPES[:3]:
            assert list(self.stores.ledger.parents(scope)) == self.model.above(scope)

    def teardown(self) -> None:
        self.stores.close()


def ledger_machine(make: Callable[[], Stores]) -> type[RuleBasedStateMachine]:
    """Reserve, settle, wait, raise and reset in any order: the counters are the model's."""
    return type("LedgerMachine", (_LedgerMachine,), {"make": staticmethod(make)})


_KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip


def slots_machine(make: Callable[[], Stores]) -> type[RuleBasedStateMachine]:
    """Commits with right and stale versions: a plain dictionary sees the same."""

    class SlotsMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stores = make()
            self.model: dict[tuple[str, str], Any] = {}

        @rule(values=st.dictionaries(_KEYS, st.tuples(_VALUES, st.sampled_from([0, 0, 0, 1, -1]))))
        def commit(self, values: dict[tuple[str, str], tuple[Any, int]]) -> None:
            seen = dict(zip(values, self.stores.slots.load(list(values)), strict=True))
            writes = [Write(k, v, seen[k].version + off) for k, (v, off) in values.items()]
            right = all(off == 0 for _, off in values.values())
            assert self.stores.slots.commit(writes, 1.0) == right
            if right:
                self.model |= {key: value for key, (value, _) in values.items()}

        @invariant()
        def values_agree(self) -> None:
            keys = [(a, b) for a in "ab" for b in "xy"]
            for key, slot in zip(keys, self.stores.slots.load(keys), strict=True):
                assert (slot.version == 0) == (key not in self.model)
                assert slot.value == self.model.get(key)

        def teardown(self) -> None:
            self.stores.close()

    return SlotsMachine


def evidence_machine(make: Callable[[], Stores]) -> type[RuleBasedStateMachine]:
    """Appends with any windows and repeated ids: within the widest window, a plain list."""

    class EvidenceMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stores = make()
            self.held: list[Note] = []
            self.ids: set[str] = set()
            self.widest = 0
            self.sure = 0

        @rule(
            id=st.integers(0, 200).map(str),
            values=st.lists(st.text(max_size=4), max_size=5),
            window=st.integers(0, 12),
        )
        def append(self, id: str, values: list[str], window: int) -> None:
            self.widest = max(self.widest, window)
            if id not in self.ids:
                self.ids.add(id)
                self.held += notes(*values)
                self.sure += len(values)
            newest = self.stores.evidence.append(id, "c", notes(*values), window, 0.0)
            # What was once beyond the widest window may be gone, for good.
            self.sure = min(self.sure, self.widest)
            assert min(window, self.sure) <= len(newest) <= window
            assert list(newest) == self.held[len(self.held) - len(newest) :]

        def teardown(self) -> None:
            self.stores.close()

    return EvidenceMachine

"""Hypothesis state machines that compare a backend with a model, whatever the order of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clawmw.core.effects import Charge, Meter, Note, Write
from clawmw.stores.base import Stores
from tests.stores.contract import notes

__all__ = ["evidence_machine", "ledger_machine", "slots_machine"]

_IDS = st.integers(0, 12).map(str)
_METERS: tuple[Meter, ...] = get_args(Meter)
_CHARGES = st.lists(
    st.builds(
        Charge,
        scope=st.sampled_from(["chain:a", "tenant:t"]),
        meter=st.sampled_from(_METERS[:2]),
        amount=st.integers(0, 6),
        limit=st.none() | st.just(20),
    ),
    max_size=4,
)


@dataclass
class _Lease:
    charges: list[Charge]
    granted: bool
    settled: list[Charge] | None = None


@dataclass
class _LedgerModel:
    """Counts from the whole history anew: nothing is ever carried over."""

    leases: dict[str, _Lease] = field(default_factory=dict)

    def used(self, scope: str, meter: str) -> int:
        total = 0
        for lease in self.leases.values():
            if lease.settled is not None:
                counted = lease.settled
            else:
                counted = lease.charges if lease.granted else []
            total += sum(c.amount for c in counted if (c.scope, c.meter) == (scope, meter))
        return total

    def fits(self, charges: list[Charge]) -> bool:
        for charge in charges:
            same = [c for c in charges if (c.scope, c.meter) == (charge.scope, charge.meter)]
            total = self.used(charge.scope, charge.meter) + sum(c.amount for c in same)
            if charge.limit is not None and total > charge.limit:
                return False
        return True


def ledger_machine(make: Callable[[], Stores]) -> type[RuleBasedStateMachine]:
    """Reserve, settle and wait in any order: the counters are the model's."""

    class LedgerMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stores = make()
            self.model = _LedgerModel()
            self.now = 0.0

        @rule(id=_IDS, charges=_CHARGES, lease=st.sampled_from([1.0, 60.0]))
        def reserve(self, id: str, charges: list[Charge], lease: float) -> None:
            known = self.model.leases.get(id)
            fits = self.model.fits(charges)
            answer = self.stores.ledger.reserve(id, charges, self.now + lease, self.now)
            if known is None:
                assert answer.granted == fits
                self.model.leases[id] = _Lease(charges, fits)
            else:
                assert answer.granted == known.granted

        @rule(id=_IDS, charges=_CHARGES)
        def settle(self, id: str, charges: list[Charge]) -> None:
            self.stores.ledger.settle(id, charges, self.now)
            lease = self.model.leases.setdefault(id, _Lease([], True))
            if lease.settled is None:
                lease.settled = charges

        @rule(seconds=st.sampled_from([0.5, 30.0, 120.0]))
        def wait(self, seconds: float) -> None:
            self.now += seconds

        @invariant()
        def counters_agree(self) -> None:
            for scope in ("chain:a", "tenant:t"):
                used = self.stores.ledger.used(scope)
                for meter in _METERS:
                    assert used.get(meter, 0) == self.model.used(scope, meter)

        def teardown(self) -> None:
            self.stores.close()

    return LedgerMachine


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

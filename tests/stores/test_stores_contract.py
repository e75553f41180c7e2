"""The promises of every store, held by each backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from clawmw.core.effects import Charge, Note, Write
from clawmw.stores.base import Stores
from clawmw.stores.disk import disk_stores
from clawmw.stores.memory import memory_stores
from tests.stores.contract import LAWS
from tests.stores.contract_models import evidence_machine, ledger_machine, slots_machine


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Stores]:
    if request.param == "memory":
        return memory_stores
    fresh = itertools.count()
    return lambda: disk_stores(tmp_path / str(next(fresh)))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Stores], None], make: Callable[[], Stores]) -> None:
    stores = make()
    try:
        law(stores)
    finally:
        stores.close()


@pytest.mark.parametrize("machine", [ledger_machine, slots_machine, evidence_machine])
def test_model(
    machine: Callable[[Callable[[], Stores]], type[RuleBasedStateMachine]],
    make: Callable[[], Stores],
) -> None:
    many = 40 if make is memory_stores else 20
    run_state_machine_as_test(
        machine(make),
        settings=settings(
            max_examples=many,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_purging_forgets_by_age(make: Callable[[], Stores]) -> None:
    stores: Any = make()
    for now in (1.0, 9.0):
        assert stores.slots.commit([Write(("s", str(now)), 1, 0)], now)
        stores.ledger.reserve(f"open{now}", [Charge(f"open{now}", "usd", 2)], 60.0, now)
        stores.ledger.settle(f"done{now}", [Charge(f"done{now}", "usd", 3)], now)
        stores.evidence.append("1", f"c{now}", [Note("call", "x")], 5, now)
    assert [stores.slots.purge(5.0), stores.ledger.purge(5.0), stores.evidence.purge(5.0)] == [
        1
    ] * 3
    assert [slot.value for slot in stores.slots.load([("s", "1.0"), ("s", "9.0")])] == [None, 1]
    assert stores.ledger.used("done1.0") == {}
    assert stores.ledger.used("done9.0") == {"usd": 3}
    assert stores.ledger.used("open1.0") == {"usd": 2}, "its lease may still be settled"
    assert stores.evidence.append("2", "c1.0", [], 5, 9.0) == ()
    assert stores.evidence.append("2", "c9.0", [], 5, 9.0) == (Note("call", "x"),)
    stores.close()


def test_only_what_waits_says_so(tmp_path: Path) -> None:
    disk = disk_stores(tmp_path / "store")
    assert (memory_stores().blocking, disk.blocking) == (False, True)
    disk.close()

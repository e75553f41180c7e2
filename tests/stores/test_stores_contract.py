"""The promises of every store, held by each backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from contract import LAWS, evidence_machine, ledger_machine, slots_machine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from clawmw.stores.base import Stores
from clawmw.stores.disk import disk_stores
from clawmw.stores.memory import memory_stores


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
    many = 50 if make is memory_stores else 20
    run_state_machine_as_test(
        machine(make),
        settings=settings(
            max_examples=many,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_only_what_waits_says_so(tmp_path: Path) -> None:
    disk = disk_stores(tmp_path / "store")
    assert (memory_stores().blocking, disk.blocking) == (False, True)
    disk.close()

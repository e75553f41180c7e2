"""The made-up loops are found and the rest is left alone, from any seed."""

from __future__ import annotations

import pytest

from benchmarks.loops.__main__ import played
from benchmarks.loops.scenarios import SCENARIOS, scenarios


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_come_out_as_they_must(name: str) -> None:
    for one in scenarios(7, 1):
        if one.name == name:
            fire = played(one.asked)
            if one.fires is None:
                assert fire is None
            else:
                assert fire is not None
                assert fire.call <= one.fires

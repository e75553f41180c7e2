"""The public recorded runs, where they are at hand: what must hold on data nobody made up.

They are not part of the project. `CLAWMW_TRACES_DATA` names their folder; by default it is
looked for beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clawmw.policy.load import load_policy
from clawmw.providers.load import profile_for
from clawmw.replay.records import Problem, Run
from clawmw.replay.report import Group, Report
from clawmw.replay.simulate import Replayer
from clawmw.replay.sources import Sources
from clawmw.replay.tokens import Counter

BESIDE = Path(__file__).parents[3] / "shared" / "traces"
FOLDER = Path(os.environ.get("CLAWMW_TRACES_DATA") or BESIDE)
FILES = sorted(FOLDER.glob("*.jsonl")) if FOLDER.is_dir() else []
PROFILE = "anthropic/claude-sonnet-5-5"

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not FILES, reason=f"no recorded runs in {FOLDER} (CLAWMW_TRACES_DATA)"),
]


@pytest.fixture(scope="module")
def report() -> Report:
    counter = Counter()
    policy = load_policy({"version": 1})
    about = {"name": "default", "digest": "", "mode": policy.mode}
    report = Report([profile_for(PROFILE)], counter, profile_for, about)
    replayer = Replayer(policy, counter)
    for found in Sources(FILES, model="openai/gpt-5.6"):
        assert not isinstance(found, Problem), found
        if isinstance(found, Run):
            report.add(replayer.run(found))
    return report


def test_no_prefix_moves_and_no_literal_is_lost(report: Report) -> None:
    for source, group in report.sources.items():
        assert group.rewrites == 0, source
        assert group.literals["lost"] == 0, source
        assert not group.failures, source


def test_few_needed_literals_are_hidden(report: Report) -> None:
    total = report.total
    assert total.needed > 100
    assert total.literals["reachable"] <= 0.05 * total.needed


def heavy(group: Group) -> bool:
    """Whether tool results are most of what its calls send."""
    money = group.money[PROFILE]
    assert money.native is not None
    assert money.bound is not None
    return group.needed > 0 and money.bound < 0.8 * money.native and group.before > 1_000_000


def test_tool_heavy_sources_cost_less_even_after_asking_back(report: Report) -> None:
    found = {source: group for source, group in report.sources.items() if heavy(group)}
    assert found
    for source, group in found.items():
        money = group.money[PROFILE]
        assert group.after < group.before, source
        assert money.net is not None
        assert money.native is not None
        assert money.net < money.native, source

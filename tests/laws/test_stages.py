"""The laws that every registered stage keeps, alone and with all the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from clawmw.stages.base import registered
from clawmw.testing import check_session
from tests.conftest import histories, tool
from tests.laws.strategies import conversations

TOOLS = [tool("search"), tool("read"), tool("tool_call")]
ON: dict[str, Any] = {
    "compress": {"level": "aggressive", "floor": 30},
    "dedupe": {"floor": 20},
    "budget": {"chain": {"calls": 1000, "input_tokens": "100M"}},
    "loop_guard": {"nudge": 2, "refuse": 50, "stop": 60},
    "route": [{"when": "kind == 'title'", "to": "light"}],
}
"""Settings that make each stage act on small conversations."""

laws = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


def only(name: str) -> dict[str, Any]:
    """A policy with one stage, and what it cannot do without."""
    policy: dict[str, Any] = {"version": 1, "models": {"light": "fake-light"}}
    for section in registered():
        needed = section == name or (section == "expand" and name in ("compress", "dedupe"))
        policy[section] = ON.get(section, True) if needed else False
    return policy


@pytest.mark.parametrize("name", sorted(registered()))
@given(messages=conversations())
@laws
def test_a_stage_alone(name: str, messages: list[dict[str, Any]]) -> None:
    check_session(only(name), histories(messages), TOOLS)


@given(messages=conversations())
@laws
def test_all_stages_together(messages: list[dict[str, Any]]) -> None:
    policy = {"version": 1, "models": {"light": "fake-light"}, **ON}
    check_session(policy, histories(messages), TOOLS)


@given(messages=conversations())
@laws
def test_without_tools_nothing_is_cut_that_cannot_be_asked_back(
    messages: list[dict[str, Any]],
) -> None:
    check_session({"version": 1, **{k: ON[k] for k in ("compress", "dedupe")}}, histories(messages))

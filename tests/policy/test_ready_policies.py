"""The policies that ship: each loads, explains itself, and warns of nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clawmw.errors import PolicyError
from clawmw.policy.build import pipeline
from clawmw.policy.explain import explain
from clawmw.policy.explain_text import render
from clawmw.policy.load import load_policy
from clawmw.policy.presets import PRESETS, preset

FOLDER = Path(__file__).parents[2] / "policies"


def test_each_ready_policy_is_a_preset() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_loads_builds_and_explains_without_a_warning(name: str) -> None:
    policy = load_policy(FOLDER / f"{name}.yaml")
    assert pipeline(policy).stages
    explanation = explain(policy)
    assert explanation.warnings == ()
    assert "Every call passes" in render(explanation, name)


def test_the_smallest_is_three_lines() -> None:
    assert len(preset("minimal").splitlines()) == 3


def test_the_commented_examples_work() -> None:
    text = preset("balanced")
    assert "# models:" in text
    policy = load_policy(re.sub(r"(?m)^# ((?:models|agents|route|holdout):|  )", r"\1", text))
    assert policy.models["light"].model
    assert policy.agents["heartbeat"].model == "light"
    assert policy.holdout == 0.05
    assert "route" in policy.written


def test_a_preset_that_does_not_exist() -> None:
    with pytest.raises(PolicyError, match="no preset 'lax'; there are: minimal, balanced, strict"):
        preset("lax")

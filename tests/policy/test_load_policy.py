"""From file, text or mapping to the same frozen policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clawmw.errors import PolicyError
from clawmw.policy.load import digest, load_policy, parse_policy
from clawmw.policy.models import Policy
from tests.policy.sections import STAGES, Limit, Rare, Squeeze

TEXT = """
version: 1
models: {light: a/b, own: {model: m, base_url: http://127.0.0.1:8000/v1/, api_key_env: OWN_KEY}}
agents: {beat: {match: {kind: [heartbeat, poll]}, model: light}, bob: {model: own}}
squeeze: hard
limit: {chain: {usd: 0.20, wall: 30m}}
steer:
  - {when: a, to: light}
holdout: 5%
trace: {keep: 7d, store: off}
store: {disk: ~/state}
"""


def load(source: Any) -> Policy:
    return load_policy(source, stages=STAGES)


def test_everything_is_resolved() -> None:
    policy = load(TEXT)
    assert policy.stages["squeeze"] == Squeeze(level="hard")
    limit = policy.stages["limit"]
    assert isinstance(limit, Limit)
    assert (limit.chain.usd, limit.chain.wall, limit.window) == (200_000_000, 1800.0, "auto")
    assert policy.models["light"].model == "a/b"
    assert policy.models["own"].base_url == "http://127.0.0.1:8000/v1"
    assert (policy.holdout, policy.trace.keep, policy.trace.store) == (0.05, 604_800.0, None)
    assert policy.store.disk == "~/state"
    assert policy.written == {"squeeze", "limit", "steer"}


def test_version_alone_is_a_policy_with_every_default() -> None:
    policy = load("version: 1")
    assert policy.mode == "enforce"
    assert policy.stages == {
        "squeeze": Squeeze(),
        "steer": STAGES["steer"].config(),
        "limit": Limit(),
        "rare": Rare(enabled=False),
    }


@pytest.mark.parametrize(
    ("written", "on"), [("on", True), ("", True), ("off", False), ("{}", True)]
)
def test_a_bare_word_switches_a_stage(written: str, on: bool) -> None:
    policy = load(f"version: 1\nrare: {written}\nsqueeze: {written}\n")
    assert policy.stages["rare"].enabled is on
    assert policy.stages["squeeze"].enabled is on


def test_nothing_below_a_key_is_as_if_it_were_not_there() -> None:
    assert digest(load("version: 1\nmodels:\nagents:\ntrace:\nstore:\n")) == digest(
        load("version: 1")
    )


def test_file_text_mapping_and_policy_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT, "utf-8")
    by_file, by_text = load(path), load(TEXT)
    assert load(str(path)) == by_file
    assert load(by_file) is by_file
    mapping = {"version": 1, "squeeze": "hard", "trace": {"store": "off"}}
    by_hand = load("version: 1\nsqueeze: hard\ntrace: {store: off}")
    assert load(mapping) == by_hand
    assert by_file.folder == str(tmp_path)
    assert by_text.folder is None
    assert digest(by_file) == digest(by_text)


def test_nothing_in_it_can_be_changed() -> None:
    policy = load(TEXT)
    with pytest.raises(ValidationError):
        policy.mode = "observe"  # type: ignore[misc]  # frozen: that is the test
    with pytest.raises(TypeError):
        policy.stages["squeeze"] = Squeeze()  # type: ignore[index]  # frozen: that is the test
    with pytest.raises(TypeError):
        policy.models["x"] = policy.models["light"]  # type: ignore[index]  # frozen: that is the test


@pytest.mark.parametrize(
    "same",
    [
        "version: 1\n# a comment\nlimit: {chain: {wall: 30m, calls: 60}}\n",
        "limit: {chain: {calls: 60, wall: 1800}}\nversion: 1\n",
        "version: 1\nlimit: {chain: {calls: 60, wall: 0.5h}}\nmode: enforce\nsqueeze: on\n",
    ],
)
def test_the_digest_is_of_what_it_means(same: str) -> None:
    assert digest(load(same)) == digest(load("version: 1\nlimit: {chain: {calls: 60, wall: 30m}}"))


def test_the_digest_tells_policies_apart() -> None:
    rules = ["a: {model: light}", "b: {model: light}"]
    texts = [
        f"version: 1\nmodels: {{light: x}}\nagents: {{{', '.join(r)}}}"
        for r in (rules, rules[::-1])
    ]
    texts += ["version: 1\nsqueeze: off", "version: 1\nmode: observe", "version: 1\nholdout: 1%"]
    assert len({digest(load(text)) for text in texts}) == len(texts)


def test_the_digest_is_the_same_in_any_process() -> None:
    code = (
        "from tests.policy.sections import STAGES\n"
        "from clawmw.policy.load import digest, load_policy\n"
        f"print(digest(load_policy({TEXT!r}, stages=STAGES)))"
    )
    found = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        found.add(run.stdout.strip())
    assert found == {digest(load(TEXT))}


@given(st.permutations(TEXT.strip().split("\nsteer:")[0].splitlines()))
def test_sections_have_no_order(lines: list[str]) -> None:
    assert digest(load("\n".join(lines))) == digest(load("\n".join(sorted(lines))))


@pytest.mark.parametrize(
    ("rule", "agents", "kinds"),
    [
        ("{model: light}", ("beat",), ()),
        ("{match: {agent: x}}", ("x",), ()),
        ("{match: {kind: [a, b]}}", (), ("a", "b")),
        ("{match: {kind: a, agent: [x, y]}}", ("x", "y"), ("a",)),
    ],
)
def test_who_an_agent_rule_is_about(rule: str, agents: Any, kinds: Any) -> None:
    policy = parse_policy(
        f"version: 1\nmodels: {{light: x}}\nagents: {{beat: {rule}}}", stages=STAGES
    )
    found = policy.agents["beat"]
    assert (found.about("beat"), found.match.kinds) == (agents, kinds)


@pytest.mark.parametrize("written", ["off", "'off'", "false", "no", ""])
def test_content_is_off_however_it_is_written(written: str) -> None:
    assert load_policy(f"version: 1\ntrace: {{content: {written}}}\n").trace.content is None
    assert load_policy({"version": 1, "trace": {"content": "off"}}).trace.content is None


@pytest.mark.parametrize("written", ["on", "true", "full", "1", "[]"])
def test_content_is_kept_only_when_it_is_said_where(written: str) -> None:
    with pytest.raises(PolicyError, match=r"trace\.content: expected off, local or a mapping"):
        load_policy(f"version: 1\ntrace: {{content: {written}}}\n")


@pytest.mark.parametrize("written", ["local", "{}", "{keep: 1d}"])
def test_content_is_kept_for_a_day(written: str) -> None:
    content = load_policy(f"version: 1\ntrace: {{content: {written}}}\n").trace.content
    assert content is not None
    assert content.keep == 86_400


def test_where_spans_go() -> None:
    def said(written: str) -> object:
        otlp = load_policy(f"version: 1\ntrace: {{otlp: {written}}}\n").trace.otlp
        return otlp and (otlp.endpoint, otlp.sample.share)

    assert said("off") is None
    assert said("http://127.0.0.1:4318/") == ("http://127.0.0.1:4318", 1.0)
    assert said("{sample: 10%}") == (None, 0.1)
    assert said("{sample: {share: 0.2, usd: 1.50, wall: 1m}}") == (None, 0.2)


def test_an_exponent_without_a_point_is_still_a_number_where_one_is_wanted() -> None:
    policy = load_policy("version: 1\nbudget: {chain: {input_tokens: 1e6, usd: 5e-1}}\n")
    assert policy.stages["budget"].chain.input_tokens == 10**6  # type: ignore[attr-defined]  # a StageConfig
    assert policy.stages["budget"].chain.usd == 5 * 10**8  # type: ignore[attr-defined]  # a StageConfig

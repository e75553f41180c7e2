"""What `explain` says of a policy."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from clawmw.policy.explain import Explanation, explain
from clawmw.policy.explain_text import render
from clawmw.policy.load import load_policy
from tests.policy.sections import STAGES


def explained(text: str, **options: Any) -> Explanation:
    policy = load_policy("version: 1\n" + text, stages=STAGES)
    return explain(policy, stages=STAGES, **options)


def test_stages_come_in_the_order_they_run_and_those_off_last() -> None:
    found = explained("limit: {chain: {calls: 1}}\nsqueeze: hard\nrare: on\nsteer: off")
    assert [s.section for s in found.stages] == ["rare", "limit", "squeeze", "steer"]
    assert [s.mode for s in found.stages] == ["enforce", "enforce", "enforce", "off"]
    assert [s.runs for s in found.stages] == ["call", "attempt", "attempt", None]


def test_what_was_written_is_told_from_defaults() -> None:
    found = explained("squeeze: hard")
    squeeze = next(s for s in found.stages if s.section == "squeeze")
    assert squeeze.written
    assert squeeze.does == "Make things smaller."
    assert {s.name: (s.value, s.default) for s in squeeze.settings} == {
        "level": ("hard", False),
        "least": ("10%", True),
        "largest": ("1KiB", True),
    }
    limit = next(s for s in found.stages if s.section == "limit")
    assert not limit.written
    assert all(s.default for s in limit.settings)


def test_units_are_the_writers() -> None:
    found = explained("limit: {chain: {usd: 0.20, wall: 90m}}\nholdout: 5%\ntrace: {keep: 7d}")
    settings = {s.name: s.value for stage in found.stages for s in stage.settings}
    settings |= {s.name: s.value for s in found.general}
    assert (settings["chain.usd"], settings["chain.wall"]) == (0.2, "90m")
    assert (settings["holdout"], settings["trace.keep"]) == ("5%", "7d")


AGENTS = """
models: {light: deepseek/deepseek-v4-flash}
agents:
  heartbeat: {match: {kind: heartbeat}, model: light}
  bob: {model: light}
  team: {match: {agent: [ann, bob], kind: title}}
"""


@pytest.mark.parametrize(
    ("agent", "rules"),
    [
        (None, ["heartbeat", "bob", "team"]),
        ("bob", ["heartbeat", "bob", "team"]),
        ("ann", ["heartbeat", "team"]),
        ("eve", ["heartbeat"]),
    ],
)
def test_only_rules_that_can_hold_for_an_agent(agent: str | None, rules: list[str]) -> None:
    assert [a.rule for a in explained(AGENTS, agent=agent).agents] == rules


def test_models_show_dated_prices_or_that_nobody_knows_them() -> None:
    found = explained("models: {light: deepseek/deepseek-v4-flash, odd: zork-9}")
    light, odd = found.models
    assert light.input_usd
    assert light.cached_usd is not None
    assert light.cached_usd < light.input_usd
    assert light.as_of
    assert (odd.input_usd, odd.as_of) == (None, None)
    assert "odd: zork-9; price unknown" in render(found, "p")


def test_models_show_how_their_servers_are_spoken_to() -> None:
    text = (
        "models: {far: deepseek/x, own: acme-1, home: {model: openai/gpt-6, api_key_env: KEY}, "
        "kimi: {model: kimi-k3, base_url: 'https://api.moonshot.ai/anthropic'}}"
    )
    found = explained(text)
    assert [m.reached for m in found.models] == [
        "by litellm, unless its caller calls a gateway",
        None,
        "in openai.chat or openai.responses",
        "in anthropic.messages",
    ]
    shown = render(found, "p")
    assert "kimi-k3 at https://api.moonshot.ai/anthropic, in anthropic.messages;" in shown


def test_the_text_fits_a_terminal_and_marks_defaults() -> None:
    text = render(explained(AGENTS + "squeeze: hard\nlimit: {mode: observe}"), "p.yaml")
    assert max(map(len, text.splitlines())) <= 100
    assert "level hard, least 10%*" in text
    assert "(observe: only says what it would do)" in text
    assert "bob: agent bob: model light" in text
    assert "heartbeat: any agent, calls of kind heartbeat: model light" in text


def test_json_holds_the_same() -> None:
    found = json.loads(json.dumps(asdict(explained(AGENTS))))
    assert [s["section"] for s in found["stages"]][-1] == "rare"
    assert found["digest"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("mode: observe", "mode is observe: nothing is changed"),
        ("holdout: 5%", "holdout: 5% of chains go raw"),
        ("budget: off", "budget is off"),
        ("budget: {chain: {calls: 9}}", "budget has no limit in USD"),
        (
            "models: {m: zork-9}\nbudget: {chain: {usd: 1}}",
            "no price is known for models.m (zork-9)",
        ),
        ("models: {m: zork-9}", "models.m (zork-9): no price is known for it"),
        ("budget: {tenant: {day: {usd: 9}}}", "store is memory: what was used is forgotten"),
        ("compress: aggressive", "compress is aggressive"),
        ("expand: off", "expand is off: what compress cuts cannot be asked back"),
        ("loop_guard: off", "loop_guard is off"),
        (
            "models: {m: {model: x, base_url: http://example.com/v1, api_key_env: KEY}}",
            "the key in KEY is sent over plain http",
        ),
        (
            "models: {m: {model: deepseek/x, dialect: anthropic.messages}}",
            "models.m: dialect is of a server at a base_url, and there is none",
        ),
    ],
)
def test_what_is_likely_not_meant_is_said(text: str, warning: str) -> None:
    policy = load_policy("version: 1\n" + text)
    assert any(warning in w for w in explain(policy).warnings), explain(policy).warnings
    calm = load_policy(
        "version: 1\nbudget: {chain: {usd: 1.00}}\nmodels: {m: {model: q, profile: deepseek, "
        "base_url: http://127.0.0.1:1/v1, api_key_env: KEY}}"
    )
    assert explain(calm).warnings == ()


def test_without_blobs_compress_is_said_to_be_lossless() -> None:
    text = "version: 1\nbudget: {chain: {usd: 1.00}}\nexpand: {blobs: off}\n"
    said = "expand keeps no blobs: nothing can be hidden, so compress is lossless, not balanced"
    assert explain(load_policy(text)).warnings == (said,)
    assert explain(load_policy(text + "compress: lossless\n")).warnings == ()


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("{content: local}", "trace keeps prompts and answers on this machine, for 1d"),
        ("{content: local, store: off}", "trace.content keeps nothing: trace.store is off"),
    ],
)
def test_that_content_is_kept_is_said(trace: str, said: str) -> None:
    assert any(said in warning for warning in explained(f"trace: {trace}").warnings)
    assert not any("trace" in warning for warning in explained("trace: {keep: 7d}").warnings)

"""Routing by rule, and prompt-cache hints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawmw.core.identity import Identity
from clawmw.errors import PolicyError
from clawmw.testing import Bench
from tests.conftest import tool, turn

ASK = {"role": "user", "content": "hello"}
MODELS = {"light": "small-1", "far": {"model": "far-1", "base_url": "http://127.0.0.1:9/v1"}}


def bench(**policy: Any) -> Bench:
    return Bench({"version": 1, "models": MODELS, **policy})


def model_of(case: Bench, *messages: Any, **params: Any) -> str:
    return str(case.send(list(messages) or [ASK], tools=[tool("read")], **params).body["model"])


def test_rules_choose_by_kind_agent_and_size() -> None:
    case = bench(
        route=[
            {"when": "kind in ['title', 'summary']", "to": "light"},
            {"when": "agent == 'cheap' && tokens < 1000", "to": "light"},
        ]
    )
    assert model_of(case) == "fake"
    case.identity = Identity(session="s2", chain="c", kind="title")
    assert model_of(case) == "small-1"
    case.identity = Identity(session="s3", chain="c", agent="cheap")
    assert model_of(case) == "small-1"


def test_never_between_a_tool_call_and_its_result() -> None:
    case = bench(route=[{"when": "messages == 1", "to": "light"}], compress=False)
    history = [ASK, *turn("c", "read", {}, "x")]
    assert model_of(case, ASK) == "small-1"
    assert model_of(case, *history) == "small-1"  # the model that asked reads the answer
    assert model_of(case, *history, {"role": "assistant", "content": "."}, ASK) == "fake"
    other = bench(route=[{"when": "messages > 1", "to": "light"}])
    assert model_of(other, ASK) == "fake"
    assert model_of(other, *history) == "fake"


def test_agents_get_their_model() -> None:
    case = bench(agents={"pulse": {"match": {"kind": "heartbeat"}, "model": "light"}})
    assert model_of(case) == "fake"
    case.identity = Identity(session="s2", chain="c", kind="heartbeat")
    assert model_of(case) == "small-1"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"when": "kind ==", "to": "light"}, "when"),
        ({"when": "true", "to": "lihgt"}, "light"),
    ],
)
def test_a_wrong_rule_is_a_policy_error(rule: dict[str, str], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        bench(route=[rule])


def test_a_rule_that_cannot_be_evaluated_costs_nothing() -> None:
    assert model_of(bench(route=[{"when": "nothing.there == 1", "to": "light"}])) == "fake"


def as_model(profile: str) -> dict[str, Any]:
    return {"models": {"main": {"model": "fake", "profile": profile}}}


def test_marks_where_the_provider_takes_them() -> None:
    case = bench(**as_model("claude-sonnet-4-5"), compress=False)
    messages = [{"role": "system", "content": "s"}, ASK, *turn("c", "read", {}, "x" * 200)]
    first = case.send(messages[:2], tools=[tool("read")]).body["messages"]
    assert [_marked(m) for m in first] == [True, True]
    later = case.send(messages, tools=[tool("read")]).body["messages"]
    assert [_marked(m) for m in later] == [True, True, False, True]
    own = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
        }
    ]
    assert case.send([*own, ASK]).body["messages"] == [*own, ASK]


def test_a_call_made_again_has_the_marks_it_had() -> None:
    case = bench(**as_model("claude-sonnet-4-5"), compress=False)
    messages = [{"role": "system", "content": "s"}, ASK]
    for index in range(4):
        first = case.send(messages, tools=[tool("read")]).bodies
        assert case.restart().send(messages, tools=[tool("read")]).bodies == first
        messages = [*messages, *turn(f"c{index}", "read", {"i": index}, f"result {index} " * 40)]


def _marked(message: dict[str, Any]) -> bool:
    return "cache_control" in json.dumps(message)


def test_a_cache_key_where_the_provider_takes_it() -> None:
    case = bench(**as_model("gpt-5.4"))
    one = case.send([ASK], tools=[tool("read")]).body
    two = case.send([ASK, {"role": "assistant", "content": "a"}, ASK], tools=[tool("read")]).body
    assert one["prompt_cache_key"] == two["prompt_cache_key"]
    other = case.send([ASK], tools=[tool("other")]).body
    assert other["prompt_cache_key"] != one["prompt_cache_key"]
    own = case.send([ASK], prompt_cache_key="mine").body
    assert own["prompt_cache_key"] == "mine"


def test_no_hint_where_the_provider_takes_none() -> None:
    sent = bench(**as_model("deepseek/deepseek-v4-flash")).send([ASK])
    assert sent.body == {"model": "fake", "messages": [ASK]}

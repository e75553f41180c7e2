"""Anthropic's API as the emulator answers it: what is refused, what is said, what is billed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from clawmw.emulator import Emulator, Fault, Reply, ToolUse, turns

HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}
TOOL = {"name": "read", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "a", "name": "read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "x"}
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(bill="anthropic") as running:
        yield running


def post(emulator: Emulator, body: Any, path: str = "", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{emulator.base_url}/messages{path}"
    return httpx.post(url, content=content, headers={**HEADERS, **headers})


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def answered(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


HI = said(text("hi"))
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no max_tokens": ({"max_tokens": None}, "max_tokens: Field required"),
    "max_tokens of nothing": ({"max_tokens": 0}, "max_tokens: Input should be"),
    "no messages": ({"messages": []}, "at least one message"),
    "an unknown field": ({"stream_options": {}}, "stream_options: Extra inputs"),
    "a tool's role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    "an answer first": ({"messages": [answered(text("x"))]}, "first message must"),
    "an empty text": ({"messages": [said(text(""))]}, "must be non-empty"),
    "empty content": ({"messages": [{"role": "user", "content": []}]}, "non-empty content"),
    "a call without a result": (
        {"messages": [HI, answered(CALL), HI]},
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a",
    ),
    "a call at the end": ({"messages": [HI, answered(CALL)]}, "immediately after: a"),
    "a result of no call": ({"messages": [HI, said(RESULT)]}, "unexpected `tool_use_id`"),
    "a result behind a text": (
        {"messages": [HI, answered(CALL), said(text("x"), RESULT)]},
        "immediately after: a",
    ),
    "one result of two": (
        {"messages": [HI, answered(CALL, {**CALL, "id": "b"}), said(RESULT)]},
        "immediately after: b",
    ),
    "results in two messages": (
        {
            "messages": [
                HI,
                answered(CALL, {**CALL, "id": "b"}),
                said(RESULT),
                said({**RESULT, "tool_use_id": "b"}),
            ]
        },
        "immediately after: b",
    ),
    "a doubled id": (
        {"messages": [HI, answered(CALL), said(RESULT), answered(CALL), said(RESULT)]},
        "ids must be unique",
    ),
    "arguments in a text": (
        {"messages": [HI, answered({**CALL, "input": "{}"}), said(RESULT)]},
        "valid dictionary",
    ),
    "five marks": (
        {"messages": [said(*[text(f"{n}", **MARK) for n in range(5)])]},
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "marks everywhere": (
        {
            "tools": [{**TOOL, **MARK}],
            "system": [text("x", **MARK)],
            "messages": [HI, answered(CALL), said({**RESULT, **MARK}, text("x", **MARK))],
            **MARK,
        },
        "Found 5",
    ),
    "an hour after minutes": (
        {"system": [text("x", **MARK)], "messages": [said(text("x", **HOUR))]},
        "ttl='1h' cache_control block must not come after",
    ),
    "a mark on thinking": (
        {"messages": [HI, answered({"type": "thinking", "thinking": "x", **MARK}), HI]},
        "cache_control",
    ),
    "altered thinking": (
        {
            "messages": [
                HI,
                answered({"type": "thinking", "thinking": "x", "signature": "emu-0"}, text("y")),
                HI,
            ]
        },
        "Invalid `signature`",
    ),
    "no thought before a call": (
        {
            "max_tokens": 2000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [HI, answered(CALL), said(RESULT)],
        },
        "must start with a thinking block",
    ),
    "thinking of more than there is": (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "greater than `thinking.budget_tokens`",
    ),
    "a tool without a schema": ({"tools": [{"name": "x"}]}, "input_schema: Field required"),
    "chat's tools": ({"tools": [{"type": "function", "function": {}}] * 2}, "must be unique"),
    "a choice of chat's": ({"tools": [TOOL], "tool_choice": "auto"}, "valid dictionary"),
    "a choice of nothing": ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    "a thread with marks": (
        {"thread": {"type": "create"}, "system": [text("x", **MARK)]},
        "cache_control is not supported with threads",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_provider_refuses(emulator: Emulator, case: str) -> None:
    more, says = REFUSED[case]
    response = post(emulator, {**ASK, **more})
    assert response.status_code == 400, response.text
    told = response.json()
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert says in told["error"]["message"]
    assert response.headers["request-id"]


TAKEN: dict[str, dict[str, Any]] = {
    "several in a row": {"messages": [HI, HI, answered(text("x")), answered(text("y")), HI]},
    "a prefilled answer": {"messages": [HI, answered(text("So"))]},
    "a note behind results": {"messages": [HI, answered(CALL), said(RESULT, text("x")), HI]},
    "a system message": {"messages": [HI, {"role": "system", "content": "x"}, HI]},
    "four marks, hours first": {
        "system": [text("x", **HOUR)],
        "messages": [said(text("a", **MARK), text("b", **MARK)), said(text("c", **MARK))],
    },
    "images and documents": {
        "messages": [
            said({"type": "image", "source": {}}, {"type": "document", "source": {}}, text("x"))
        ]
    },
    "server tools": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_the_provider_takes(emulator: Emulator, case: str) -> None:
    response = post(emulator, {**ASK, **TAKEN[case]})
    assert response.status_code == 200, response.text
    assert response.json()["type"] == "message"


def test_the_headers_that_it_wants(emulator: Emulator) -> None:
    url = f"{emulator.base_url}/messages"
    nobody = httpx.post(url, json=ASK, headers={"anthropic-version": "2023-06-01"})
    assert nobody.status_code == 401
    assert nobody.json()["error"]["type"] == "authentication_error"
    ageless = httpx.post(url, json=ASK, headers={"x-api-key": "k"})
    assert ageless.status_code == 400
    assert "anthropic-version" in ageless.json()["error"]["message"]
    assert httpx.post(url, json=ASK, headers={**HEADERS, "authorization": "Bearer t"}).is_success
    assert post(emulator, b"{").status_code == 400


def test_tokens_are_counted(emulator: Emulator) -> None:
    before = len(emulator.requests)
    ask = {"model": "m", "messages": ASK["messages"], "system": "word " * 500, "tools": [TOOL]}
    response = post(emulator, ask, "/count_tokens")
    assert response.json()["input_tokens"] > 500
    assert post(emulator, {"model": "m"}, "/count_tokens").status_code == 400
    assert len(emulator.requests) == before, "it is no model call"


def test_the_bill_is_that_of_the_cache() -> None:
    system = [text("Rule. " * 2000, **MARK)]
    with Emulator(bill="anthropic") as emulator:
        one = post(emulator, {**ASK, "system": system}).json()["usage"]
        assert one["cache_creation_input_tokens"] > 1000
        assert one["cache_read_input_tokens"] == 0
        grown = [*ASK["messages"], answered(text("hello")), HI]
        two = post(emulator, {**ASK, "system": system, "messages": grown}).json()["usage"]
        assert two["cache_read_input_tokens"] == one["cache_creation_input_tokens"]
        assert two["input_tokens"] > one["input_tokens"]
        billed = emulator.usages[-1]
        whole = two["input_tokens"] + two["cache_read_input_tokens"]
        assert (billed.input_tokens, billed.output_tokens) == (whole, two["output_tokens"])
        # What comes first is lost with what is before it; what is in one turn is one turn.
        other = post(emulator, {**ASK, "system": system, "tools": [TOOL]}).json()["usage"]
        assert other["cache_read_input_tokens"] == 0


def test_turns_of_one_side_are_one_to_the_cache() -> None:
    long = "word " * 1500
    apart = [said(text(long)), said(text("tail", **MARK))]
    joined = [said(text(long), text("tail", **MARK))]
    with Emulator(bill="anthropic") as emulator:
        one = post(emulator, {**ASK, "messages": apart}).json()["usage"]
        two = post(emulator, {**ASK, "messages": joined}).json()["usage"]
        assert two["cache_read_input_tokens"] == one["cache_creation_input_tokens"] > 1000


def test_a_change_of_thinking_loses_what_is_cached_of_messages() -> None:
    ask = {**ASK, "max_tokens": 3000, "messages": [said(text("word " * 3000, **MARK))]}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    with Emulator(bill="anthropic") as emulator:
        post(emulator, ask)
        assert post(emulator, ask).json()["usage"]["cache_read_input_tokens"]
        assert not post(emulator, {**ask, **thinking}).json()["usage"]["cache_read_input_tokens"]


def test_a_stream_says_what_a_whole_answer_says() -> None:
    reply = Reply(
        "Caf\u00e9 \u4e0a\u6d77 " * 9, (ToolUse("read", {"p": "\u00e9" * 40}),), reasoning="Hm."
    )
    ask = {**ASK, "max_tokens": 3000, "thinking": {"type": "adaptive"}, "tools": [TOOL]}
    with Emulator(bill="anthropic", brain=lambda body: reply) as emulator:
        whole = post(emulator, ask).json()
        assert [b["type"] for b in whole["content"]] == ["thinking", "text", "tool_use"]
        assert whole["stop_reason"] == "tool_use"
        raw = post(emulator, {**ask, "stream": True}).text
    frames = [frame.split("\n") for frame in raw.strip().split("\n\n")]
    events = [json.loads(lines[1][6:]) for lines in frames]
    assert [lines[0] for lines in frames] == [f"event: {e['type']}" for e in events]
    content: list[Any] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                content.append(copy.deepcopy(event["content_block"]))
            case "content_block_delta":
                delta = {k: v for k, v in event["delta"].items() if k != "type"}
                for key, value in delta.items():
                    content[-1][key] = content[-1].get(key, "") + value
    for block in content:
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json"))
    ids = [block.pop("id", None) for block in (*content, *whole["content"])]
    assert content == whole["content"]
    assert any(ids)
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert {"type": "ping"} in events


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_an_error_on_request_has_the_apis_shape(emulator: Emulator, status: int) -> None:
    emulator.fail_next(Fault(status=status, retry_after=2))
    response = post(emulator, ASK)
    assert response.status_code == status
    assert response.headers["retry-after"] == "2"
    kinds = {429: "rate_limit_error", 529: "overloaded_error"}
    assert response.json()["error"]["type"] == kinds.get(status, "api_error")


def test_an_error_in_a_stream(emulator: Emulator) -> None:
    emulator.fail_next(Fault(error=True))
    response = post(emulator, {**ASK, "stream": True})
    assert response.status_code == 200
    assert response.text.startswith("event: error\ndata: ")
    emulator.fail_next(Fault(error=True))
    told = post(emulator, ASK)
    assert told.status_code == 200
    assert told.json()["type"] == "error"


def test_the_answer_is_cut_where_it_is_limited() -> None:
    with Emulator(brain=lambda body: Reply("word " * 400)) as emulator:
        told = post(emulator, {**ASK, "max_tokens": 20}).json()
        assert told["stop_reason"] == "max_tokens"
        assert told["usage"]["output_tokens"] <= 20


def test_brains_see_the_conversation_as_chat() -> None:
    seen: list[Any] = []

    def brain(body: dict[str, Any]) -> Reply:
        seen.append(body)
        return Reply("ok")

    messages = [HI, answered(text("x"), CALL), said({**RESULT, "is_error": True}, text("go on"))]
    with Emulator(brain=brain) as emulator:
        post(emulator, {**ASK, "system": "Be brief.", "messages": messages, "tools": [TOOL]})
    [body] = seen
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][2]["tool_calls"][0]["function"] == {"name": "read", "arguments": "{}"}
    assert body["tools"][0]["function"]["name"] == "read"


def test_a_thread_is_held() -> None:
    replies = [Reply("", (ToolUse("read", {}),)), "done"]
    with Emulator(brain=turns(replies)) as emulator:
        one = post(emulator, {**ASK, "tools": [TOOL], "thread": {"type": "create"}}).json()
        result = {**RESULT, "tool_use_id": one["content"][0]["id"]}
        go_on = {"type": "continue", "previous_message_id": one["id"]}
        ask = {**ASK, "tools": [TOOL], "messages": [said(result)]}
        two = post(emulator, {**ask, "thread": go_on}).json()
        assert two["content"] == [text("done")]
        lost = post(emulator, {**ask, "thread": {**go_on, "previous_message_id": "msg_x"}})
        assert lost.status_code == 404
        assert lost.json()["error"]["type"] == "not_found_error"

"""The emulator's Responses API: what it refuses, remembers, streams and bills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from clawmw.emulator import Emulator, Reply, ToolUse, echo, script, turns
from tests.codecs.responses import REASONING, tool, turn
from tests.codecs.test_openai_responses_stream import read, sound

USER = {"role": "user", "content": "go"}
CALL, RESULT = turn("c1", "search", {"q": "x"}, "found")


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def post(provider: Emulator, given: Any, **more: Any) -> httpx.Response:
    body = {"model": "gpt-5", "input": given, **more}
    headers = {"authorization": "Bearer k"}
    return httpx.post(f"{provider.base_url}/responses", json=body, headers=headers)


@pytest.mark.parametrize(
    ("given", "more", "says"),
    [
        (None, {}, "Missing required parameter: 'input'"),
        ("go", {"messages": []}, "Unknown parameter: 'messages'"),
        ("go", {"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ("go", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ("go", {"max_output_tokens": "9"}, "Invalid type for 'max_output_tokens'"),
        ("go", {"previous_response_id": "resp_none"}, "'resp_none' not found"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], {}, "Invalid value"),
        ([{"role": "tool", "content": "x"}], {}, "input[0].role"),
        ([USER, RESULT], {}, "No tool call found for function call output with call_id c1"),
        ([USER, CALL], {}, "No tool output found for function call c1"),
        ([USER, CALL, USER], {}, "No tool output found for function call c1"),
        ([USER, CALL, RESULT, CALL, RESULT], {}, "Duplicate item found with id fc_c1"),
        ([USER, REASONING], {}, "without its required following item"),
        ([USER, {"type": "reasoning", "id": "rs_9", "summary": []}], {}, "'rs_9' not found"),
        ([{"type": "item_reference", "id": "msg_9"}], {}, "'msg_9' not found"),
    ],
)
def test_what_the_provider_would_refuse(
    provider: Emulator, given: Any, more: dict[str, Any], says: str
) -> None:
    answer = post(provider, given, **more)
    assert answer.status_code in (400, 404)
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_it_goes_on_from_what_it_stored(provider: Emulator) -> None:
    seen: list[dict[str, Any]] = []

    def brain(body: dict[str, Any]) -> Reply:
        seen.append(body)
        asked = sum(m["role"] == "user" for m in body["messages"])
        return Reply(tools=(ToolUse("search", {"q": "x"}),)) if asked == 1 else Reply("done")

    provider._world.brain = brain
    first = post(provider, "go", tools=[tool("search")]).json()
    [call] = first["output"]
    lost = post(provider, "and?", previous_response_id=first["id"])
    assert "No tool output found" in lost.json()["error"]["message"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
    given = [output, {"role": "user", "content": "and?"}]
    second = post(provider, given, previous_response_id=first["id"])
    assert second.json()["output"][0]["content"][0]["text"] == "done"
    assert [m["role"] for m in seen[-1]["messages"]] == ["user", "assistant", "tool", "user"]
    assert second.json()["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    referred = [USER, {"type": "item_reference", "id": call["id"]}, output]
    assert post(provider, referred).status_code == 200
    assert seen[-1]["messages"][1]["tool_calls"][0]["function"]["name"] == "search"
    forgotten = post(provider, "go", store=False, tools=[tool("search")]).json()
    gone = post(provider, "x", previous_response_id=forgotten["id"])
    assert gone.json()["error"]["code"] == "previous_response_not_found"


def test_a_conversation_is_remembered(provider: Emulator) -> None:
    provider._world.brain = turns(["one", "two"])
    told = [post(provider, "go", conversation="conv_1").json() for _ in range(2)]
    assert [a["output"][0]["content"][0]["text"] for a in told] == ["one", "two"]
    assert told[0]["conversation"] == {"id": "conv_1"}


def test_reasoning_comes_when_it_is_asked_for_and_stays_with_its_call(provider: Emulator) -> None:
    provider._world.brain = script([Reply(tools=(ToolUse("search", {"q": "x"}),)), "done", "done"])
    more: dict[str, Any] = {"reasoning": {"summary": "auto"}, "tools": [tool("search")]}
    include = ["reasoning.encrypted_content"]
    answer = post(provider, "go", include=include, **more).json()
    thought, call = answer["output"]
    assert thought["summary"][0]["text"]
    assert thought["encrypted_content"]
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
    alone = post(provider, [USER, call, output])
    assert "without its required 'reasoning' item" in alone.json()["error"]["message"]
    assert post(provider, [USER, thought, call, output]).status_code == 200
    nameless = {k: v for k, v in call.items() if k != "id"}
    assert post(provider, [USER, nameless, output]).status_code == 200


def test_a_stream_says_what_the_whole_answer_says(provider: Emulator) -> None:
    both = Reply("hello there", (ToolUse("search", {"q": "x"}), ToolUse("sh", {"input": "ls"})))
    provider._world.brain = script([both, both])
    tools = [tool("search"), {"type": "custom", "name": "sh"}]
    more: dict[str, Any] = {"tools": tools, "reasoning": {"summary": "auto"}}
    streamed = post(provider, "go", stream=True, **more)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    last = sound(read(streamed.content))
    kinds = [item["type"] for item in last["output"]]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call"]
    whole = post(provider, "go", **more).json()
    assert openai.types.responses.Response.model_validate(whole).output_text == "hello there"
    assert [i.get("input") for i in whole["output"]] == [None, None, None, "ls"]


def test_the_limit_on_an_answer_cuts_it(provider: Emulator) -> None:
    provider._world.brain = script(["word " * 100])
    answer = post(provider, "go", max_output_tokens=16).json()
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


def test_both_dialects_share_one_cache_and_one_bill() -> None:
    rules = " ".join(f"Rule {n}: sell {n * 7}." for n in range(400))
    with Emulator(bill="gpt-4o", brain=echo()) as provider:
        first = post(provider, "go", instructions=rules).json()["usage"]
        second = post(provider, "on", instructions=rules).json()["usage"]
        messages = [{"role": "system", "content": rules}, {"role": "user", "content": "and"}]
        url = f"{provider.base_url}/chat/completions"
        headers = {"authorization": "Bearer k"}
        body = {"model": "gpt-5", "messages": messages}
        third = httpx.post(url, json=body, headers=headers).json()["usage"]
    assert first["input_tokens_details"]["cached_tokens"] == 0
    assert second["input_tokens_details"]["cached_tokens"] > 1024
    assert third["prompt_tokens_details"]["cached_tokens"] > 1024
    assert abs(third["prompt_tokens"] - second["input_tokens"]) < 3


def test_what_is_made_in_the_background_is_fetched(provider: Emulator) -> None:
    queued = post(provider, "go", background=True).json()
    assert (queued["status"], queued["output"], queued["usage"]) == ("queued", [], None)
    url = f"{provider.base_url}/responses/{queued['id']}"
    whole = httpx.get(url).json()
    assert whole["output"][0]["content"][0]["text"] == "go"
    again = read(httpx.get(url, params={"stream": "true", "starting_after": 2}).content)
    assert again[0]["sequence_number"] == 3
    assert httpx.get(url + "x").status_code == 404

"""What a provider says beside text and calls comes back to it, streamed or whole."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.core.stream import Extra, Extras, StreamFold, ToolDelta
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

TOOLS = [tool("search"), tool("read")]
TASK = [{"role": "user", "content": "go"}, *turn("c1", "search", {"q": "x"}, rows(300))]
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}
DETAILS = [
    {"type": "reasoning.text", "text": "first think", "signature": "sig-1", "index": 0},
    {"type": "reasoning.encrypted", "data": "AAAA", "index": 1},
]


def ours(**extra: Any) -> dict[str, Any]:
    arguments = json.dumps({"ref": "rnone"})
    function = {"name": "clawmw_expand", "arguments": arguments}
    return {"id": "x1", "type": "function", "function": function, **extra}


def theirs(**extra: Any) -> dict[str, Any]:
    function = {"name": "read", "arguments": '{"q": "y"}'}
    return {"id": "y1", "type": "function", "function": function, **extra}


def whole(*calls: dict[str, Any]) -> bytes:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "let me look",
        "reasoning_details": DETAILS,
        "tool_calls": list(calls),
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return json.dumps({"id": "a", "model": "m", "choices": [choice]}).encode()


def streamed(*calls: dict[str, Any]) -> bytes:
    """The same, piece by piece, as OpenRouter, DeepSeek and Gemini send it."""
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "refusal": None},
        {"reasoning_content": "let me "},
        {"reasoning_content": "look"},
        {"reasoning_details": [{**DETAILS[0], "text": "first ", "signature": None}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "think", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "sig-1", "index": 0}]},
        {"reasoning_details": [DETAILS[1]]},
    ]
    for index, call in enumerate(calls):
        function = call["function"]
        head = {**call, "index": index, "function": {**function, "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        pieces = (function["arguments"][:5], function["arguments"][5:])
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": p}}]} for p in pieces]
    chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    data = "".join(f"data: {json.dumps({'id': 'a', 'model': 'm', **c})}\n\n" for c in chunks)
    return (data + "data: [DONE]\n\n").encode()


class Provider:
    """Answers with what it was given, in order; keeps what it was sent."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        data = self.answers.pop(0)
        kind = "text/event-stream" if data.startswith(b"data") else "application/json"
        return httpx.Response(200, content=data, headers={"content-type": kind})

    def post(self, *, stream: bool) -> httpx.Response:
        inner = httpx.MockTransport(self)
        runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}))
        with clawmw.http_client(runtime, transport=inner) as client:
            body = {"model": "m", "messages": TASK, "tools": TOOLS, "stream": stream}
            response: httpx.Response = client.post("http://x/v1/chat/completions", json=body)
            return response


@pytest.mark.parametrize("stream", [False, True])
def test_an_expansions_reasoning_and_signatures_go_back(stream: bool) -> None:
    form = streamed if stream else whole
    provider = Provider(form(ours(extra_content=SIGNED)), form(theirs()))
    provider.post(stream=stream)
    [kept] = [m for m in provider.bodies[1]["messages"] if "reasoning_content" in m]
    assert kept["reasoning_content"] == "let me look"
    assert kept["reasoning_details"] == DETAILS
    [call] = kept["tool_calls"]
    assert call["extra_content"] == SIGNED
    assert json.loads(call["function"]["arguments"]) == {"ref": "rnone"}


@pytest.mark.parametrize("stream", [False, True])
def test_the_agents_own_call_keeps_its_signature_beside_an_expansion(stream: bool) -> None:
    form = streamed if stream else whole
    provider = Provider(form(ours(), theirs(extra_content=SIGNED)))
    response = provider.post(stream=stream)
    if not stream:
        [call] = response.json()["choices"][0]["message"]["tool_calls"]
        assert call == theirs(extra_content=SIGNED)
        return
    assert "clawmw_expand" not in response.text
    chunks = [json.loads(s[6:]) for s in response.text.splitlines() if s.startswith("data: {")]
    pieces = [
        call
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    assert {piece["index"] for piece in pieces} == {0}
    assert [p["extra_content"] for p in pieces if "extra_content" in p] == [SIGNED]
    assert "".join(p["function"].get("arguments", "") for p in pieces) == '{"q": "y"}'


def test_an_agents_call_alone_passes_byte_for_byte() -> None:
    data = streamed(theirs(extra_content=SIGNED))
    assert Provider(data).post(stream=True).content == data


def test_a_long_reasoning_is_joined_in_linear_time() -> None:
    start = time.process_time()
    fold = StreamFold()
    for _ in range(30_000):
        fold.feed(Extra({"reasoning_content": "ten chars."}))
    fold.feed(ToolDelta(3, "c", "read", "{}", {"extra_content": SIGNED}))
    assert fold.beside() == (
        {"reasoning_content": "ten chars." * 30_000},
        [{"extra_content": SIGNED}],
    )
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "odd",
    [
        [{"a": "x"}, {"a": {"b": 1}}],
        [{"a": {"b": 1}}, {"a": "x"}],
        [{"a": [1, 2]}, {"a": [{"index": -7, "t": "x"}]}],
        [{"a": 1}, {"a": "x"}],
        [{"a": [[[["deep"]]]]}, {"a": None}],
    ],
)
def test_deltas_that_contradict_each_other_break_nothing(odd: list[Any]) -> None:
    extras = Extras()
    for delta in odd:
        extras.feed(delta)
    assert json.dumps(extras.value())

"""Responses: nothing lost on the way in, nothing changed that nobody changed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.codecs.openai_responses import OpenAIResponses
from clawmw.core.canon import Ids, message_digest
from clawmw.core.types import (
    Mark,
    Message,
    Opaque,
    Response,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from clawmw.errors import CodecError
from tests.codecs.responses import REASONING, inputs, items, tool, turn
from tests.codecs.test_openai_chat import extras, layouts, wire

CODEC = OpenAIResponses()
PLAIN = {k: v for k, v in REASONING.items() if k != "id"}


def make(given: Any, extra: dict[str, Any], *, first: bool) -> dict[str, Any]:
    head = {"model": "m", "input": given}
    extra = {k: v for k, v in extra.items() if k not in ("model", "input", "tools")}
    return {**head, **extra} if first else {**extra, **head}


instructions = st.one_of(st.just({}), st.builds(lambda t: {"instructions": t}, st.text(max_size=9)))


@given(inputs, extras, instructions, layouts, st.booleans(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_an_unchanged_body_comes_back_byte_for_byte(
    given: Any,
    extra: dict[str, Any],
    system: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    ascii: bool,
) -> None:
    body = wire(make(given, {**extra, **system}, first=first), layout, ascii=ascii)
    try:
        body.decode()
    except UnicodeDecodeError:
        with pytest.raises(CodecError):
            CODEC.decode(body)
        return
    assert CODEC.encode(CODEC.decode(body)) == body


@given(st.lists(items, min_size=1, max_size=10), instructions, layouts, st.integers(0, 9))
@settings(max_examples=120, deadline=None)
def test_reading_on_from_an_earlier_body_is_the_same_as_reading(
    given: list[dict[str, Any]], system: dict[str, Any], layout: tuple[str, str], cut: int
) -> None:
    shorter = given[: max(1, len(given) - cut)]
    transient = [*shorter, {"role": "user", "content": "transient"}]
    for first in (True, False):
        earlier = [
            CODEC.decode(wire(make(part, system, first=first), layout))
            for part in (transient, shorter)
        ]
        body = wire(make(given, system, first=first), layout)
        read, on = CODEC.decode(body), CODEC.decode(body, earlier)
        assert on == read
        assert [m.wire for m in on.messages] == [m.wire for m in read.messages]
        assert CODEC.encode(on) == body
        changed = replace(on, messages=(*on.messages, Message(Role.USER, (Text("more"),))))
        assert json.loads(CODEC.encode(changed))["input"][:-1] == given


def test_what_stayed_is_the_same_object() -> None:
    start = [{"role": "user", "content": "go"}, REASONING, *turn("a", "f", {}, "one")]
    for first in (True, False):
        body = make(start, {"instructions": "Be brief.", "tools": [tool("f")]}, first=first)
        before = CODEC.decode(wire(body))
        body["input"] = [*start, REASONING, *turn("b", "f", {}, "two")]
        after = CODEC.decode(wire(body), [before])
        shared = len(before.messages)
        pairs = zip(before.messages, after.messages[:shared], strict=True)
        assert all(one is other for one, other in pairs)
        assert len(after.messages) == shared + 2
        assert after.tools is before.tools


def texts(message: Message) -> list[int]:
    return [
        i for i, p in enumerate(message.parts) if isinstance(p, Text | ToolResult) and p.text != ""
    ]


@given(inputs, instructions, st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_text_changes_only_that_text(
    given: Any, system: dict[str, Any], data: st.DataObject
) -> None:
    body = make(given, system, first=True)
    request = CODEC.decode(wire(body))
    places = [(n, i) for n, m in enumerate(request.messages) for i in texts(m)]
    if not places:
        return
    number, index = data.draw(st.sampled_from(places))
    messages = list(request.messages)
    messages[number] = messages[number].with_texts({index: "CHANGED"})
    sent = CODEC.encode(replace(request, messages=tuple(messages)))
    old = _leaves(json.loads(wire(body)))
    new = _leaves(json.loads(sent))
    apart = [place for place in old.keys() | new.keys() if old.get(place) != new.get(place)]
    assert len(apart) == 1
    assert new[apart[0]] == "CHANGED"
    assert list(old) == list(new)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[tuple[Any, ...], Any] = {}
    for key, inner in pairs:
        if isinstance(inner, dict | list) and inner:
            found |= _leaves(inner, (*path, key))
        else:
            found[*path, key] = inner
    return found


def test_how_items_become_messages() -> None:
    given = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
        REASONING,
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hm"}],
        },
        turn("a", "f", {"q": 1}, "")[0],
        {"type": "custom_tool_call", "call_id": "b", "name": "sh", "input": "ls"},
        turn("a", "f", {}, "A")[1],
        {"type": "custom_tool_call_output", "call_id": "b", "output": "B"},
        {"type": "web_search_call", "id": "w"},
        {"type": "computer_call_output", "call_id": "c", "output": {}},
        {"role": "user", "content": "thanks"},
    ]
    request = CODEC.decode(wire(make(given, {"instructions": "Be brief."}, first=True)))
    system, rules, go, answer, one, two, search, computer, thanks = request.messages
    assert (system.role, system.parts) == (Role.SYSTEM, (Text("Be brief."),))
    assert (rules.role, go.role, thanks.role) == (Role.SYSTEM, Role.USER, Role.USER)
    calls = (ToolCall("a", "f", '{"q": 1}'), ToolCall("b", "sh", "ls"))
    assert answer.role is Role.ASSISTANT
    assert answer.parts == (Thinking(PLAIN), Text("hm"), *calls)
    assert one.parts == (ToolResult("a", "A"),)
    assert two.parts == (ToolResult("b", "B"),)
    assert (search.role, computer.role) == (Role.ASSISTANT, Role.TOOL)
    assert isinstance(search.parts[0], Opaque)


def test_ids_and_statuses_of_items_are_no_part_of_the_prompt() -> None:
    call, result = turn("a", "f", {}, "A")
    one = [REASONING, call, result, {"role": "user", "content": "go"}]
    bare = {k: v for k, v in call.items() if k not in ("id", "status")}
    block = [{"type": "input_text", "text": "go"}]
    two = [PLAIN, bare, result, {"type": "message", "role": "user", "content": block}]

    def digest(given: list[Any]) -> bytes:
        at, ids = b"", Ids()
        for message in CODEC.decode(wire(make(given, {}, first=True))).messages:
            at = message_digest(at, message, ids)
        return at

    assert digest(one) == digest(two)
    nameless = {"type": "reasoning", "summary": []}
    assert digest([{**nameless, "id": "rs_1"}]) != digest([{**nameless, "id": "rs_2"}])


def test_a_result_of_an_image_is_a_result() -> None:
    blocks = [{"type": "input_image", "image_url": "x"}, {"type": "input_text", "text": "seen"}]
    for output, text in ((blocks, "seen"), (blocks[:1], ""), ([], "")):
        request = CODEC.decode(wire(make([turn("a", "f", {}, output)[1]], {}, first=True)))
        assert [r.text for r in request.messages[0].tool_results] == [text]


@pytest.mark.parametrize(
    ("extra", "held"),
    [
        ({}, False),
        ({"previous_response_id": "resp_1"}, True),
        ({"previous_response_id": None, "conversation": None, "background": False}, False),
        ({"conversation": {"id": "conv_1"}}, True),
        ({"conversation": "conv_1"}, True),
        ({"background": True}, True),
        ({"store": True}, False),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, True),
        ({"input": [], "prompt": {"id": "pmpt_1"}}, True),
    ],
)
def test_what_the_provider_holds(extra: dict[str, Any], held: bool) -> None:
    assert CODEC.decode(wire({"model": "m", "input": "hi", **extra})).held is held


def test_strings_become_items_only_where_something_is_added() -> None:
    body = wire({"input": "hé", "instructions": "Be brief.", "model": "m"})
    request = CODEC.decode(body)
    more = replace(request, messages=(*request.messages, Message(Role.USER, (Text("note"),))))
    assert json.loads(CODEC.encode(more)) == {
        "input": [{"role": "user", "content": "hé"}, {"role": "user", "content": "note"}],
        "instructions": "Be brief.",
        "model": "m",
    }
    marked = replace(
        request,
        messages=tuple(
            replace(m, wire=None, origin=m.wire, mark=Mark("prompt_cache_breakpoint", {"x": 1}))
            for m in request.messages
        ),
    )
    block = {"type": "input_text", "text": "hé", "prompt_cache_breakpoint": {"x": 1}}
    assert json.loads(CODEC.encode(marked)) == {
        "input": [{"role": "user", "content": [block]}],
        "instructions": "Be brief.",
        "model": "m",
    }


def test_marks_come_and_go_and_nothing_else_does() -> None:
    mark = {"mode": "explicit"}
    block = {"type": "input_text", "text": "go", "prompt_cache_breakpoint": mark, "zz": 1}
    given = [{"role": "user", "content": [block]}, *turn("a", "f", {}, "A")]
    request = CODEC.decode(wire(make(given, {}, first=True)))
    user, answer, result = request.messages
    assert (user.marks, answer.bare, result.bare) == ((None,), True, False)
    off = Mark("prompt_cache_breakpoint", None, None, alone=True)
    on = Mark("prompt_cache_breakpoint", mark)
    changed = [
        replace(user, wire=None, origin=user.wire, mark=off),
        answer,
        replace(result, wire=None, origin=result.wire, mark=on),
    ]
    sent = json.loads(CODEC.encode(replace(request, messages=tuple(changed))))["input"]
    assert sent[0] == {"role": "user", "content": [{"type": "input_text", "text": "go", "zz": 1}]}
    marked = {"type": "input_text", "text": "A", "prompt_cache_breakpoint": mark}
    assert sent[1:] == [given[1], {**given[2], "output": [marked]}]


def test_model_tools_and_params_are_spliced_in() -> None:
    body = b'{"model":"big","input":"x","store":false,"tools":[{"type":"web_search"}]}'
    request = CODEC.decode(body)
    assert [spec.name for spec in request.tools] == ["web_search"]
    added = CODEC.tool("t", "d", {"type": "object"})
    params = {**request.params, "seed": 7}
    changed = replace(request, model="small", tools=(*request.tools, added), params=params)
    sent = CODEC.encode(changed)
    assert sent.startswith(b'{"model":"small","input":"x","store":false,"tools":[')
    assert json.loads(sent)["tools"][1] == {
        "type": "function",
        "name": "t",
        "description": "d",
        "parameters": {"type": "object"},
        "strict": False,
    }
    assert json.loads(sent)["seed"] == 7


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "expected '{' at byte 0"),
        (b'{"model":"m"}', "no input"),
        (b'{"model":"m","input":[]}', "no input"),
        (b'{"model":"m","input":7}', "no input"),
        (b'{"input":"x"}', "names no model"),
        (b'{"model":7,"input":"x"}', "names no model"),
        (b'{"model":"m","input":["x"]}', "input[0] is not an object"),
        (b'{"model":"m","input":[{"role":"pope"}]}', "input[0] has no known role"),
        (b'{"model":"m","input":[{"role":"user","content":"x"},{"role":[]}]}', "input[1] is not"),
        (b'{"model":"m","input":[{"role":"user"}', "expected ',' or ']'"),
        (b'{"model":"m","input":"x"} y', "more text after the body"),
    ],
)
def test_a_malformed_body_is_refused_with_the_place(body: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says.replace("[", r"\[").replace("{", r"\{")):
        CODEC.decode(body)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_body_raises_anything_else(body: bytes) -> None:
    for prefix in (b"", b'{"model":"m","input":[{"role":"user","content":"x"},'):
        with contextlib.suppress(CodecError):
            CODEC.decode(prefix + body)


# --- the official SDK's own bytes --------------------------------------------------------------

CALLS: dict[str, dict[str, Any]] = {
    "text": {"input": "hé \U0001f600"},
    "instructions": {"input": "go", "instructions": "Be brief.", "max_output_tokens": 50},
    "items": {
        "input": [
            {"role": "user", "content": "go"},
            REASONING,
            *turn("call_1", "search", {"q": "x"}, "a result"),
            *turn("call_2", "search", {"q": "y"}, [{"type": "input_text", "text": "blocks"}]),
        ],
        "tools": [tool("search"), {"type": "web_search"}],
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low", "summary": "auto"},
        "prompt_cache_key": "k",
    },
    "image": {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "what is it?"},
                    {"type": "input_image", "image_url": "data:,", "detail": "low"},
                    {"type": "input_file", "file_id": "f"},
                ],
            }
        ]
    },
    "structured": {
        "input": "go",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    },
    "held": {"input": "and then?", "previous_response_id": "resp_1", "stream": True},
    "background": {"input": "go", "background": True, "extra_body": {"unknown": [1.50, None]}},
}


def sdk_bytes(params: dict[str, Any]) -> bytes:
    """What the official SDK puts on the wire."""
    seen: list[bytes] = []
    module = httpx
    if int(openai.__version__.partition(".")[0]) >= 3:
        module = pytest.importorskip("httpx2")

    def take(request: Any) -> Any:
        seen.append(request.read())
        return module.Response(400, json={"error": {"message": "no"}})

    inner = module.Client(transport=module.MockTransport(take))
    client = openai.OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=inner)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="gpt-5", **params)
    return seen[0]


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_sdk_s_own_bytes(name: str) -> None:
    body = sdk_bytes(CALLS[name])
    request = CODEC.decode(body)
    assert CODEC.encode(request) == body
    assert request.held is (name in ("held", "background"))
    assert request.structured is (name == "structured")
    changed = replace(request, model="other")
    assert CODEC.encode(changed) == body.replace(b'"gpt-5"', b'"other"')


GOLDEN = Path(__file__).parent / "golden" / "openai_responses.jsonl"


@pytest.mark.parametrize("line", GOLDEN.read_text().splitlines(), ids=lambda line: line[:40])
def test_bodies_recorded_from_the_sdk(line: str) -> None:
    """As openai 3.57 wrote them: what is read of them must not change."""
    row = json.loads(line)
    body = row["body"].encode()
    request = CODEC.decode(body)
    assert CODEC.encode(request) == body
    told = [[str(m.role), *[type(p).__name__ for p in m.parts]] for m in request.messages]
    assert told == row["messages"]


# --- answers -----------------------------------------------------------------------------------

CALL = turn("c1", "read", {"q": "y"}, "")[0]
OURS = turn("x1", "clawmw_expand", {"ref": "r1"}, "")[0]
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hi", "annotations": [{"x": 1}], "logprobs": []}],
}
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "created_at": 17,
    "status": "completed",
    "error": None,
    "model": "gpt-5",
    "output": [REASONING, MESSAGE, CALL, OURS],
    "unknown": {"kept": True},
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 15,
    },
}


def test_an_answer_is_read_whole() -> None:
    body = json.dumps(ANSWER).encode()
    response = CODEC.response(body)
    assert response.usage == Usage(10, 5, 0, None, 3)
    assert (response.finish_reason, response.model, response.id) == (
        "tool_calls",
        "gpt-5",
        "resp_1",
    )
    assert response.message.text == "hi"
    assert [call.name for call in response.message.tool_calls] == ["read", "clawmw_expand"]
    assert response.body == body


def test_what_is_given_back_has_no_ids_and_no_reasoning_without_content() -> None:
    nameless = {"type": "reasoning", "id": "rs_2", "summary": []}
    answer = {**ANSWER, "output": [nameless, REASONING, OURS]}
    message = CODEC.response(json.dumps(answer).encode()).message
    said = json.loads(b"[" + (message.wire or b"") + b"]")
    assert said == [PLAIN, {k: v for k, v in OURS.items() if k not in ("id", "status")}]


def test_a_changed_answer_keeps_the_items_that_stay() -> None:
    response = CODEC.response(json.dumps(ANSWER).encode())
    kept = tuple(p for p in response.message.parts if getattr(p, "name", "") != "clawmw_expand")
    less = replace(response, message=Message(Role.ASSISTANT, kept), usage=Usage(20, 6, 0, None, 3))
    assert json.loads(CODEC.encode_response(less)) == {
        **ANSWER,
        "output": [REASONING, MESSAGE, CALL],
        "usage": {
            **ANSWER["usage"],  # type: ignore[dict-item]
            "input_tokens": 20,
            "output_tokens": 6,
            "total_tokens": 26,
        },
        "incomplete_details": None,
        "instructions": None,
        "temperature": None,
        "top_p": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }
    other = replace(response, message=Message(Role.ASSISTANT, (Text("other"),)))
    output = json.loads(CODEC.encode_response(other))["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[1]["content"][0]["text"] == "other"


def test_an_answer_of_our_own_is_one_that_the_sdk_takes() -> None:
    said = Message(Role.ASSISTANT, (Text("no"), ToolCall("c", "f", "{}")))
    response = Response(said, Usage(0, 0, 0), "length", "m", "resp_x")
    read = openai.types.responses.Response.model_validate_json(CODEC.encode_response(response))
    assert (read.output_text, read.status) == ("no", "incomplete")
    assert read.incomplete_details is not None
    assert read.incomplete_details.reason == "max_output_tokens"
    again = CODEC.response(CODEC.encode_response(response))
    assert (again.message.text, again.finish_reason) == ("no", "length")
    assert again.usage == Usage(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({**ANSWER, "status": "failed", "error": {"code": "server_error", "message": "x"}}, 500),
        ({**ANSWER, "status": "failed", "error": {"code": "rate_limit_exceeded"}}, 429),
        ({**ANSWER, "status": "failed", "error": {"code": "invalid_image"}}, 400),
        ({"error": {"message": "x", "type": "server_error", "code": None}}, 500),
        ({"error": {"message": "x", "code": 503}}, 503),
        ({"object": "chat.completion"}, None),
    ],
)
def test_a_failed_answer_is_none(answer: Any, status: int | None) -> None:
    body = json.dumps(answer).encode()
    with pytest.raises(CodecError):
        CODEC.response(body)
    assert CODEC.fault(body) == status

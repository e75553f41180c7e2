"""Chat completions: nothing lost on the way in, nothing changed that nobody changed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.codecs.openai_chat_stream import SseDecoder
from clawmw.core.stream import Done, Extra, Finish, StreamFold, TextDelta, ToolDelta, UsageEvent
from clawmw.core.types import Message, Role, Text, ToolCall, ToolResult
from clawmw.errors import CodecError
from tests.laws.strategies import conversations

CODEC = OpenAIChat()

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
extras = st.dictionaries(st.text(min_size=1, max_size=10), values, max_size=4)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def wire(body: Any, separators: tuple[str, str] = (",", ":"), *, ascii: bool = True) -> bytes:
    text = json.dumps(body, separators=separators, ensure_ascii=ascii)
    return text.encode("utf-8", "surrogatepass")


def make(messages: list[dict[str, Any]], extra: dict[str, Any], *, first: bool) -> dict[str, Any]:
    head = {"model": "m", "messages": messages}
    extra = {k: v for k, v in extra.items() if k not in ("model", "messages", "tools")}
    return {**head, **extra} if first else {**extra, **head}


@given(conversations(), extras, layouts, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_unchanged_body_comes_back_byte_for_byte(
    messages: list[dict[str, Any]],
    extra: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    ascii: bool,
) -> None:
    body = wire(make(messages, extra, first=first), layout, ascii=ascii)
    try:
        body.decode()
    except UnicodeDecodeError:
        with pytest.raises(CodecError):
            CODEC.decode(body)
        return
    assert CODEC.encode(CODEC.decode(body)) == body


@given(conversations(), extras, layouts, st.booleans(), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_reading_on_from_an_earlier_body_is_the_same_as_reading(
    messages: list[dict[str, Any]],
    extra: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    cut: int,
) -> None:
    shorter = messages[: max(1, len(messages) - cut)]
    transient = [*shorter, {"role": "user", "content": "transient"}]
    earlier = [
        CODEC.decode(wire(make(part, extra, first=first), layout)) for part in (transient, shorter)
    ]
    body = wire(make(messages, extra, first=first), layout)
    read, on = CODEC.decode(body), CODEC.decode(body, earlier)
    assert on == read
    assert [m.wire for m in on.messages] == [m.wire for m in read.messages]
    assert CODEC.encode(on) == body
    changed = replace(on, messages=(*on.messages, Message(Role.USER, (Text("more"),))))
    assert json.loads(CODEC.encode(changed))["messages"][:-1] == json.loads(body)["messages"]


@given(extras)
@settings(max_examples=50, deadline=None)
def test_a_changed_message_keeps_unknown_fields_and_their_order(extra: dict[str, Any]) -> None:
    extra = {k: v for k, v in extra.items() if k not in ("role", "content", "tool_call_id")}
    message = {
        "zz": 1,
        "role": "tool",
        **extra,
        "content": "old",
        "tool_call_id": "c",
        "aa": [1.50],
    }
    request = CODEC.decode(wire({"model": "m", "messages": [message]}))
    changed = request.messages[0].with_texts({0: "new"})
    sent = json.loads(CODEC.encode(replace(request, messages=(changed,))))["messages"][0]
    assert sent == {**message, "content": "new"}
    assert list(sent) == list(message)


def test_blocks_keep_their_shape_and_their_marks() -> None:
    block = {"type": "text", "text": "old", "cache_control": {"type": "ephemeral"}}
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    message = {"role": "user", "content": [block, image]}
    request = CODEC.decode(wire({"model": "m", "messages": [message]}))
    changed = CODEC.seal(request.messages[0].with_texts({0: "new"}))
    assert json.loads(changed.wire or b"") == {
        "role": "user",
        "content": [{**block, "text": "new"}, image],
    }


def test_model_tools_and_params_are_spliced_in() -> None:
    body = b'{"model":"big","messages":[{"role":"user","content":"x"}],"n":1,"tools":[]}'
    request = CODEC.decode(body)
    tool = CODEC.tool("t", "d", {"type": "object"})
    params = {**request.params, "seed": 7}
    sent = CODEC.encode(replace(request, model="small", tools=(tool,), params=params))
    assert json.loads(sent) == {
        "model": "small",
        "messages": [{"role": "user", "content": "x"}],
        "n": 1,
        "tools": [tool.raw],
        "seed": 7,
    }
    assert sent.startswith(b'{"model":"small","messages":[{"role":"user","content":"x"}],"n":1,')


def test_parts_of_each_kind() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "sys"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "r"}]},
            {"role": "tool", "tool_call_id": "b", "content": None},
        ],
    }
    system, call, result, empty = CODEC.decode(wire(body)).messages
    assert system.role is Role.SYSTEM
    assert call.tool_calls == (ToolCall("a", "f", "{}"),)
    assert result.parts == (ToolResult("a", "r"),)
    assert empty.parts == (ToolResult("b", ""),)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "expected '{' at byte 0"),
        (b"[1]", "expected '{' at byte 0"),
        (b'{"model":"m"}', "no messages"),
        (b"{}", "no messages"),
        (b'{"model":"m","messages":[]}', "`messages` is empty"),
        (b'{"model":"m","messages":7}', "no messages"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "names no model"),
        (b'{"model":"m","messages":["x"]}', "messages[0] is not an object"),
        (b'{"model":"m","messages":[{"role":"pope"}]}', "messages[0] has no known role"),
        (b'{"model":"m","messages":[{"role":[]}]}', "messages[0] is not a chat message"),
        (b'{"model":"m","messages":[{"role":"user","tool_calls":5}]}', "messages[0] is not a chat"),
        (b'{"model":"m","model":"n","messages":[{"role":"user"}]}', "doubled key"),
        (b'{"model":"m","messages":[{"role":"user"}]} x', "more text after the body"),
        (b'{"model":"m","messages":[{"role":"user"}', "expected ',' or ']'"),
        (b'{"model":"\xff"}', "not UTF-8 at byte 10"),
        (b'{"model":"m","x":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_malformed_body_is_refused_with_the_place(body: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says.replace("[", r"\[").replace("{", r"\{")):
        CODEC.decode(body)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_body_raises_anything_else(body: bytes) -> None:
    for prefix in (b"", b'{"model":"m","messages":[{"role":"user","content":"x"},'):
        with contextlib.suppress(CodecError):
            CODEC.decode(prefix + body)


# --- streams -------------------------------------------------------------------------------

CHUNKS = [
    {
        "id": "x",
        "model": "m",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    },
    {"id": "x", "choices": [{"index": 0, "delta": {"content": "h\u00e9"}}]},
    {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
                    ]
                },
            }
        ],
    },
    {
        "id": "x",
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}
        ],
    },
    {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}},
]


def sse(end: str = "\n\n") -> bytes:
    frames = [f"data: {json.dumps(c, ensure_ascii=False)}{end}" for c in CHUNKS]
    return "".join([f": keep-alive{end}", *frames, f"data: [DONE]{end}"]).encode()


@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from(["\n\n", "\r\n\r\n"]))
@settings(deadline=None)
def test_frames_are_the_same_however_the_bytes_arrive(cuts: list[int], end: str) -> None:
    data, decoder, frames = sse(end), SseDecoder(), []
    places = sorted({min(c, len(data)) for c in cuts})
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        frames += decoder.feed(data[start:stop])
    assert decoder.flush() == b""
    assert b"".join(f.wire for f in frames) == data
    fold = StreamFold()
    for frame in frames:
        for event in frame.events:
            fold.feed(event)
    response = fold.response(complete=True)
    assert response.message.text == "h\u00e9"
    assert response.message.tool_calls == (ToolCall("c", "f", "{}"),)
    assert response.finish_reason == "tool_calls"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 0)
    assert response.usage.cache_read_tokens is None


def test_a_frame_says_what_it_is_told_to() -> None:
    [frame] = SseDecoder().feed(
        b'data: {"id":"x","z":1,"choices":[{"index":0,"delta":{"content":"a","y":2}}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    )
    assert [type(e) for e in frame.events] == [TextDelta, Extra, UsageEvent]
    again = json.loads(CODEC.reframe(frame, frame.events[:1])[6:])
    assert again["choices"][0]["delta"] == {"y": 2, "content": "a"}
    assert "usage" not in again
    assert again["z"] == 1
    assert CODEC.reframe(frame, ()) == b""
    told = json.loads(CODEC.reframe(frame, [ToolDelta(0, "i", "n", "{"), Finish("stop")])[6:])
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "n"


def test_nonsense_frames_pass_undecoded() -> None:
    data = b"data: {broken\n\ndata: 7\n\nevent: x\n\n"
    frames = SseDecoder().feed(data)
    assert [f.events for f in frames] == [(), (), ()]
    assert b"".join(f.wire for f in frames) == data


def test_the_end_mark_is_an_event() -> None:
    assert SseDecoder().feed(b"data: [DONE]\n\n")[0].events == (Done(),)


def test_a_value_that_begins_like_the_earlier_one_is_read_anew() -> None:
    def body(value: str) -> bytes:
        text = '{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":%s,"n":1}'
        return (text % value).encode()

    for before, after in (("0", "0.7"), ("10", "100"), ("1", "12"), ("0.5", "0.55")):
        earlier = CODEC.decode(body(before))
        assert CODEC.decode(body(after), [earlier]).params["temperature"] == float(after)


def test_a_long_stream_is_read_in_linear_time() -> None:
    import time

    frame = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
    start = time.process_time()
    assert len(SseDecoder().feed(frame * 40_000)) == 40_000
    decoder = SseDecoder()
    for _ in range(500):
        decoder.feed(b"x" * 16_000)
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [None]},
        {"tool_calls": [{"function": "x"}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": {}}}]},
        {"tool_calls": 5},
        7,
    ],
)
def test_an_odd_chunk_passes_as_it_came(delta: Any) -> None:
    wire_bytes = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()
    [frame] = SseDecoder().feed(wire_bytes)
    assert frame.wire == wire_bytes

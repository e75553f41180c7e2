"""Translation between dialects: cases, the SDKs' own types, and laws over drawn conversations."""

from __future__ import annotations

import json
import random
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Messages
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming as Chat
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming as Responses,
)
from pydantic import TypeAdapter

from clawmw.codecs.translate import refusal, translator
from clawmw.codecs.translate.base import CHAT, DONE, MESSAGES, RESPONSES
from clawmw.codecs.translate.stream import written
from clawmw.errors import CodecError, TranslationError

FOLDER = Path(__file__).parents[1] / "cases" / "translate"
CASES = [pytest.param(yaml.safe_load(p.read_text()), id=p.stem) for p in sorted(FOLDER.iterdir())]
DIALECTS = (CHAT, MESSAGES, RESPONSES)
PAIRS = [(one, other) for one in DIALECTS for other in DIALECTS if one != other]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    REQUESTS = {CHAT: TypeAdapter(Chat), MESSAGES: TypeAdapter(Messages)}
    REQUESTS[RESPONSES] = TypeAdapter(Responses)
    ANSWERS: dict[str, TypeAdapter[Any]] = {
        CHAT: TypeAdapter(ChatCompletion),
        MESSAGES: TypeAdapter(Message),
        RESPONSES: TypeAdapter(Response),
    }
    EVENTS: dict[str, TypeAdapter[Any]] = {
        CHAT: TypeAdapter(ChatCompletionChunk),
        MESSAGES: TypeAdapter(RawMessageStreamEvent),
        RESPONSES: TypeAdapter(ResponseStreamEvent),
    }


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def raw(dialect: str, events: list[Any]) -> bytes:
    return b"".join(written(dialect, DONE if e == "[DONE]" else e) for e in events)


def events(stream: bytes) -> list[Any]:
    """The events of a stream; the name of each is its type."""
    found = []
    for block in stream.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if lines:
            said = lines["data"]
            found.append(said if said == "[DONE]" else json.loads(said))
            assert "event" not in lines or lines["event"] == found[-1]["type"]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_request_is_said_in_the_other_dialect(case: Any) -> None:
    through = translator(case["caller"], case["wire"])
    assert through is not None
    sent = json.loads(through.request(dumped(case["request"])))
    assert sent == case["sent"]
    assert list(through.dropped) == case["dropped"]
    REQUESTS[case["wire"]].validate_python({**sent, "stream": False})


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_said_in_the_callers(case: Any) -> None:
    through = translator(case["caller"], case["wire"])
    assert through is not None
    through.request(dumped(case["request"]))
    told = json.loads(through.answer(dumped(case["answer"])))
    assert told == case["told"]
    ANSWERS[case["caller"]].validate_python(told)


STREAMED = [case for case in CASES if "stream" in case.values[0]]


@pytest.mark.parametrize("case", STREAMED)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_is_said_in_the_callers_however_it_is_cut(case: Any, size: int) -> None:
    through = translator(case["caller"], case["wire"])
    assert through is not None
    through.request(dumped(case["request"]))
    given, stream = raw(case["wire"], case["stream"]), through.stream()
    told = b"".join(stream.feed(given[at : at + size]) for at in range(0, len(given), size))
    told += stream.end()
    assert events(told) == case["streamed"]
    for event in case["streamed"]:
        if event != "[DONE]" and event.get("type") not in ("ping", "keepalive"):
            EVENTS[case["caller"]].validate_python(event)


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_that_broke_off_has_no_end(case: Any) -> None:
    through = translator(case["caller"], case["wire"])
    assert through is not None
    through.request(dumped(case["request"]))
    half = case["stream"][: len(case["stream"]) // 2]
    stream = through.stream()
    told = events(stream.feed(raw(case["wire"], half)) + stream.end())
    assert told
    assert "[DONE]" not in told
    kinds = {event.get("type") for event in told}
    assert not kinds & {"message_stop", "response.completed", "response.incomplete"}


# --- what cannot be said --------------------------------------------------------------------

HELLO: dict[str, Any] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    MESSAGES: {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    RESPONSES: {"model": "m", "input": "hi"},
}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    (CHAT, MESSAGES, {"n": 2}, "n"),
    (CHAT, MESSAGES, {"logprobs": True}, "logprobs"),
    (CHAT, MESSAGES, {"modalities": ["text", "audio"]}, "modalities"),
    (CHAT, MESSAGES, {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    (CHAT, MESSAGES, {"functions": [{"name": "x"}]}, "functions"),
    (
        CHAT,
        MESSAGES,
        {"messages": [{"role": "user", "content": [AUDIO]}]},
        "messages[0].content[0]",
    ),
    (
        CHAT,
        MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        "messages[0].content[0].file",
    ),
    (CHAT, RESPONSES, {"stop": ["x"]}, "stop"),
    (CHAT, RESPONSES, {"n": 3}, "n"),
    (
        MESSAGES,
        CHAT,
        {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
        "tools[0].type",
    ),
    (MESSAGES, CHAT, {"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    (MESSAGES, CHAT, {"inference_geo": "us"}, "inference_geo"),
    (MESSAGES, RESPONSES, {"stop_sequences": ["x"]}, "stop"),
    (RESPONSES, CHAT, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, MESSAGES, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, CHAT, {"conversation": "c"}, "conversation"),
    (RESPONSES, CHAT, {"background": True}, "background"),
    (RESPONSES, CHAT, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (RESPONSES, CHAT, {"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
]


@pytest.mark.parametrize(("caller", "wire", "more", "field"), REFUSED)
def test_what_cannot_be_said_is_named(
    caller: str, wire: str, more: dict[str, Any], field: str
) -> None:
    through = translator(caller, wire)
    assert through is not None
    with pytest.raises(TranslationError) as raised:
        through.request(dumped({**HELLO[caller], **more}))
    assert raised.value.field == field
    assert str(raised.value).startswith(f"{field}: ")
    assert "\n" not in str(raised.value)
    body = json.loads(refusal(caller, raised.value))
    assert body["error"]["message"] == str(raised.value)
    assert body["error"]["type"] == "invalid_request_error"
    assert ("type" in body) == (caller == MESSAGES)


@pytest.mark.parametrize(("caller", "wire"), PAIRS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"model": 1, "messages": 3}'])
def test_a_body_that_is_none_is_an_error_not_a_traceback(
    caller: str, wire: str, body: bytes
) -> None:
    through = translator(caller, wire)
    assert through is not None
    with pytest.raises(TranslationError, match="not what"):
        through.request(body)
    through.request(dumped(HELLO[caller]))
    with pytest.raises(CodecError):
        through.answer(body)
    told = json.loads(through.error(503, body))
    assert told["error"]["message"]


def test_hints_of_chat_completions_are_dropped_by_name() -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    hints = {"seed": 1, "store": True, "prompt_cache_key": "k", "logit_bias": {}, "new_field": 2}
    through.request(dumped({**HELLO[CHAT], **hints}))
    assert set(through.dropped) == {"seed", "store", "prompt_cache_key", "new_field"}


ERRORS = [
    (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
    (401, {"error": {"message": "no key", "type": "invalid_request_error", "code": None}}),
    (400, {"error": {"message": "maximum context length is 9", "code": "context_length_exceeded"}}),
    (400, {"type": "error", "error": {"type": "x", "message": "prompt is too long: 9 > 8"}}),
    (500, {"detail": "oops"}),
    (422, {"error": "just a text"}),
]


@pytest.mark.parametrize(("caller", "wire"), PAIRS)
@pytest.mark.parametrize(("status", "body"), ERRORS)
def test_errors_keep_their_message_and_say_their_kind(
    caller: str, wire: str, status: int, body: Any
) -> None:
    through = translator(caller, wire)
    assert through is not None
    told = json.loads(through.error(status, dumped(body)))
    error = told["error"]
    long = "context length" in str(body) or "too long" in str(body)
    if caller == MESSAGES:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        assert told["type"] == "error"
        fallback = "api_error" if status >= 500 else "invalid_request_error"
        assert error["type"] == kinds.get(status, fallback)
        assert not long or error["message"].startswith("prompt is too long")
    else:
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["code"] == "context_length_exceeded") == long
        assert status != 429 or error["code"] == "rate_limit_exceeded"


# --- laws -----------------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)
NAMES = st.sampled_from(["search", "read.file", "mcp__" + "x" * 90, "é", "a b"])
ARGUMENTS = st.dictionaries(st.sampled_from("abc"), TEXTS | st.integers() | st.none(), max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A chat: a system prompt, then turns in which tools may be called."""
    said: list[dict[str, Any]] = []
    if draw(st.booleans()):
        said.append({"role": "system", "content": draw(TEXTS)})
    for turn in range(draw(st.integers(1, 3))):
        said.append({"role": "user", "content": draw(TEXTS)})
        count = draw(st.integers(0, 2))
        calls = [
            {
                "id": f"call_{turn}_{n}",
                "type": "function",
                "function": {
                    "name": draw(NAMES),
                    "arguments": json.dumps(draw(ARGUMENTS), separators=(",", ":")),
                },
            }
            for n in range(count)
        ]
        text = draw(TEXTS) if not calls or draw(st.booleans()) else None
        said.append(
            {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
        )
        for call in calls:
            failed = "[tool error] " if draw(st.booleans()) else ""
            content = failed + draw(TEXTS)
            said.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return said


def plain(messages: list[dict[str, Any]]) -> list[Any]:
    """What must survive: roles and texts, calls with their arguments, whose result is whose."""
    found: list[Any] = []
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content)
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        ]
        found.append((message["role"], content, message.get("tool_call_id"), calls))
    return found


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from([MESSAGES, RESPONSES]))
def test_there_and_back_a_conversation_is_the_same(said: list[dict[str, Any]], wire: str) -> None:
    there, back = translator(CHAT, wire), translator(wire, CHAT)
    assert there is not None
    assert back is not None
    names = {c["function"]["name"] for m in said for c in m.get("tool_calls") or ()}
    sent = there.request(dumped({"model": "m", "messages": said}))
    again = json.loads(back.request(sent))["messages"]
    short = translator(CHAT, MESSAGES)
    assert short is not None
    got, want = plain(again), plain(said)
    if wire == MESSAGES:  # names go out in the letters that are allowed, the same each time
        made = {call[1] for *_, calls in got for call in calls}
        assert len(made) == len(names)
        got = [(*m[:3], [(i, "", a) for i, _, a in m[3]]) for m in got]
        want = [(*m[:3], [(i, "", a) for i, _, a in m[3]]) for m in want]
    assert got == want
    other = translator(CHAT, wire)
    assert other is not None
    assert other.request(dumped({"model": "m", "messages": said})) == sent


@settings(max_examples=40, deadline=None)
@given(conversations(), st.data())
def test_what_is_sent_earlier_stays_when_the_conversation_goes_on(
    said: list[dict[str, Any]], data: st.DataObject
) -> None:
    """The prompt's prefix, in messages: the last of the shorter request may grow, no more."""
    cut = data.draw(st.integers(1, len(said)))
    bodies = []
    for part in (said[:cut], said):
        through = translator(CHAT, MESSAGES)
        assert through is not None
        bodies.append(json.loads(through.request(dumped({"model": "m", "messages": part}))))
    one, other = bodies
    if any(m["role"] != "system" for m in said[:cut]):
        assert one.get("system") == other.get("system")
        kept = len(one["messages"]) - 1
        assert one["messages"][:kept] == other["messages"][:kept]


COUNTS = st.integers(0, 10**6)


@settings(max_examples=50, deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_adds_up_in_every_dialect(fresh: int, read: int, wrote: int, out: int) -> None:
    answer = {
        "id": "msg_1",
        "model": "m",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": wrote,
            "output_tokens": out,
        },
    }
    through, back = translator(CHAT, MESSAGES), translator(MESSAGES, CHAT)
    assert through is not None
    assert back is not None
    chat = json.loads(through.answer(dumped(answer)))
    assert chat["usage"]["prompt_tokens"] == fresh + read + wrote
    assert chat["usage"]["total_tokens"] == fresh + read + wrote + out
    again = json.loads(back.answer(dumped(chat)))
    assert again["usage"] == answer["usage"]
    other = translator(RESPONSES, CHAT)
    assert other is not None
    told = json.loads(other.answer(dumped(chat)))["usage"]
    assert told["input_tokens"] == fresh + read + wrote
    assert told["input_tokens_details"] == {"cached_tokens": read, "cache_write_tokens": wrote}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(c.values[0]["caller"], c.values[0]) for c in STREAMED]),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_any_cut_of_a_stream_says_the_same(case: tuple[str, Any], cuts: list[int]) -> None:
    _, data = case
    given, outs = raw(data["wire"], data["stream"]).replace(b"\n", b"\r\n"), []
    for sizes in ([len(given)], cuts):
        through = translator(data["caller"], data["wire"])
        assert through is not None
        through.request(dumped(data["request"]))
        stream, at, told = through.stream(), 0, b""
        for size in [*sizes, len(given)]:
            told += stream.feed(given[at : at + size])
            at += size
        outs.append(told + stream.end())
    assert outs[0] == outs[1]


# --- turns of thought -----------------------------------------------------------------------


def thinking(model: str, by: str, *, called: bool = False) -> Any:
    """The body for `model` of a chat whose assistant thought, as `by` signed it."""
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": by}] if by else []
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said: dict[str, Any] = {"role": "assistant", "content": "x", "thinking_blocks": blocks}
    history: list[Any] = [{"role": "user", "content": "hi"}, said]
    if called:
        said["tool_calls"] = [call]
        history.append({"role": "tool", "tool_call_id": "c", "content": "r"})
    else:
        history.append({"role": "user", "content": "go on"})
    through = translator(CHAT, MESSAGES)
    assert through is not None
    body = {"model": model, "messages": history, "reasoning_effort": "high", "max_tokens": 9000}
    return json.loads(through.request(dumped(body)))


def test_signed_thinking_goes_back_to_claude_alone() -> None:
    kinds = [b["type"] for b in thinking("claude-sonnet-4-5", "c2ln")["messages"][1]["content"]]
    assert kinds == ["thinking", "text"]
    assert thinking("kimi-k3", "c2ln")["messages"][1]["content"] == "x"
    assert thinking("claude-sonnet-4-5", "")["messages"][1]["content"] == "x"


def test_thinking_does_not_begin_amid_a_turn_of_tools() -> None:
    assert thinking("claude-sonnet-4-5", "c2ln", called=True)["thinking"]["type"] == "enabled"
    assert "thinking" not in thinking("claude-sonnet-4-5", "", called=True)
    assert thinking("claude-opus-5-5", "", called=True)["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "temperature", "top_p", "most"),
    [
        ("claude-3-haiku-20240307", 1, None, 4096),
        ("claude-3-5-sonnet-20241022", 1, None, 8192),
        ("claude-sonnet-4-20250514", 1, None, 32_000),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", 1, None, 32_000),
        ("claude-opus-4-7", None, None, 32_000),
        ("claude-sonnet-5-5", None, None, 32_000),
        ("claude-something-new", None, None, 32_000),
        ("kimi-k3", 1, None, 8192),
    ],
)
def test_what_a_model_takes_decides(
    model: str, temperature: float | None, top_p: float | None, most: int
) -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    body = {**HELLO[CHAT], "model": model, "temperature": 1.5, "top_p": 0.5}
    sent = json.loads(through.request(dumped(body)))
    assert (sent.get("temperature"), sent.get("top_p")) == (temperature, top_p)
    assert sent["max_tokens"] == most


def test_an_error_within_a_stream_is_told_in_the_callers_shape() -> None:
    for caller, wire in PAIRS:
        through = translator(caller, wire)
        assert through is not None
        through.request(dumped(HELLO[caller]))
        error: Any = {"error": {"message": "busy", "type": "overloaded_error", "code": None}}
        if wire == MESSAGES:
            error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
        if wire == RESPONSES:
            error = {"type": "error", "code": "server_error", "message": "busy", "param": None}
        [told] = events(through.stream().feed(raw(wire, [error])))
        assert "busy" in json.dumps(told)
        assert (told.get("type") == "error") == (caller != CHAT)
        assert ("error" in told) == (caller != RESPONSES)


def test_comments_pass_and_junk_is_an_error() -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    stream = through.stream()
    assert stream.feed(b": still there\n\n") == b": still there\n\n"
    with pytest.raises(CodecError):
        stream.feed(b"data: {nonsense\n\n")


JUNK = [None, 0, -1, "", "x", [], {}, [None], [{}], {"type": "x"}, True]


def spoiled(dice: random.Random, value: Any) -> Any:
    """A body with something in it that does not belong there."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(sorted(value))
        return {**value, key: spoiled(dice, value[key])}
    if isinstance(value, list) and value and dice.random() < 0.8:
        place = dice.randrange(len(value))
        return [*value[:place], spoiled(dice, value[place]), *value[place + 1 :]]
    return dice.choice(JUNK)


@pytest.mark.parametrize("case", CASES)
def test_no_body_is_a_bug(case: Any) -> None:
    dice = random.Random(7)
    for _ in range(200):
        through = translator(case["caller"], case["wire"])
        assert through is not None
        with suppress(TranslationError):
            json.loads(through.request(dumped(spoiled(dice, case["request"]))))
        through = translator(case["caller"], case["wire"])
        assert through is not None
        through.request(dumped(case["request"]))
        with suppress(CodecError, TranslationError):
            json.loads(through.answer(dumped(spoiled(dice, case["answer"]))))
        stream = through.stream()
        for event in case.get("stream", ()):
            odd = spoiled(dice, event) if isinstance(event, dict) else event
            with suppress(CodecError, TranslationError):
                events(stream.feed(b"data: " + dumped(odd) + b"\n\n"))
        with suppress(CodecError, TranslationError):
            events(stream.end())


def test_half_an_event_at_the_end_is_a_stream_that_broke_off() -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    stream = through.stream()
    start = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {}}}
    assert stream.feed(raw(MESSAGES, [start]) + b'event: content_block_start\ndata: {"type"')
    assert stream.end() == b""


def test_results_stand_before_what_is_said_between_them() -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    calls = [
        {"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in "ab"
    ]
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "system", "content": "Be brief."},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "user", "content": "go on"},
    ]
    sent = json.loads(through.request(dumped({"model": "m", "messages": said})))["messages"]
    last = sent[-1]["content"]
    assert [b.get("tool_use_id") or b["text"] for b in last] == [
        "a",
        "b",
        "<system>\nBe brief.\n</system>",
        "go on",
    ]


def test_what_anthropic_would_refuse_is_left_out() -> None:
    through = translator(CHAT, MESSAGES)
    assert through is not None
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{oops"}}
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "\n\n", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "assistant", "content": "The answer is "},
    ]
    sent = json.loads(through.request(dumped({"model": "m", "messages": said})))["messages"]
    assert [b["type"] for b in sent[1]["content"]] == ["tool_use"]
    assert sent[1]["content"][0]["input"] == {"arguments": "{oops"}
    assert sent[3]["content"] == "The answer is"

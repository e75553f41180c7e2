"""Anthropic's streams: byte-faithful when nothing changed, one message whatever it took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.codecs.anthropic import AnthropicMessages
from clawmw.codecs.anthropic_stream import Decoder
from clawmw.codecs.anthropic_write import Writer
from clawmw.core.stream import (
    Cut,
    Done,
    Extra,
    Fault,
    Finish,
    StreamEvent,
    StreamWriter,
    TextDelta,
    ToolDelta,
    UsageEvent,
)
from clawmw.core.tap import Tap, add_usage
from clawmw.core.types import Message, Response, Role, Text, ToolCall, Usage
from clawmw.stages.context.expand import Expand, ExpandConfig

anthropic = pytest.importorskip("anthropic")
httpx2 = pytest.importorskip("httpx2")
CODEC = AnthropicMessages()


def sse(events: Sequence[dict[str, Any]], end: str = "\n") -> bytes:
    told = [f"event: {e['type']}{end}data: {json.dumps(e, ensure_ascii=False)}" for e in events]
    return (f"{end}{end}".join(told) + f"{end}{end}").encode()


def start(usage: Any = None, **more: Any) -> dict[str, Any]:
    used = usage or {"input_tokens": 7, "cache_read_input_tokens": 90, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    more = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": used, **more}
    return {"type": "message_start", "message": {**message, **more}}


def block(index: int, opening: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": opening},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def said(index: int, *texts: str) -> list[dict[str, Any]]:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(index, {"type": "text", "text": ""}, *deltas)


def thought(index: int, text: str = "Hm.") -> list[dict[str, Any]]:
    opening = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": text[at : at + 2]} for at in (0, 2)]
    return block(index, opening, *deltas, {"type": "signature_delta", "signature": f"sig-{text}"})


def called(index: int, name: str, arguments: Any, call: str = "") -> list[dict[str, Any]]:
    opening = {"type": "tool_use", "id": call or f"toolu_{index}", "name": name, "input": {}}
    text = json.dumps(arguments)
    pieces = ["", text[:4], text[4:]]
    return block(index, opening, *({"type": "input_json_delta", "partial_json": p} for p in pieces))


def end(reason: str = "end_turn", out: int = 20) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": out}},
        {"type": "message_stop"},
    ]


CITED = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": "d"}
FOUND = [{"type": "web_search_result", "url": "u", "title": "E", "encrypted_content": "Eo8"}]
WHOLE = [
    start(),
    *thought(0),
    {"type": "ping"},
    *block(1, {"type": "redacted_thinking", "data": "EmwK"}),
    *block(
        2,
        {"type": "text", "text": "", "citations": []},
        {"type": "text_delta", "text": "Caf\u00e9 "},
        {"type": "citations_delta", "citation": {**CITED, "start_char_index": 0}},
        {"type": "citations_delta", "citation": {**CITED, "start_char_index": 5}},
        {"type": "text_delta", "text": "\u4e0a\u6d77"},
    ),
    *block(
        3,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query"'},
        {"type": "input_json_delta", "partial_json": ': "x"}'},
    ),
    *block(4, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": FOUND}),
    *block(5, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_2", "content": []}),
    *said(6, "So: "),
    *called(7, "read", {"path": "a"}),
    *called(8, "read", {}),
    *end("tool_use"),
]


def sdk_reads(data: bytes) -> Any:
    """The message as the SDK puts it together, and the events that it saw."""

    def inner(request: Any) -> Any:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    http = anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(inner))
    with anthropic.Anthropic(api_key="k", max_retries=0, http_client=http) as client:
        asked = [{"role": "user", "content": "x"}]
        with client.messages.stream(model="m", max_tokens=9, messages=asked) as stream:
            return stream.get_final_message()


class Watching:
    """A stage that sees every event and changes none."""

    def watches(self, request: Any, codec: Any) -> bool:
        return True

    def chunk(self, event: StreamEvent, state: Any) -> Sequence[StreamEvent] | Cut:
        return (event,)


def tap(*watchers: Any, writer: StreamWriter | None = None, **more: Any) -> Tap:
    def failed(name: str, error: Exception) -> None:
        raise AssertionError(name) from error

    named = [(type(watcher).__name__, watcher) for watcher in watchers]
    return Tap(CODEC, named, failed, writer or Writer(), **more)


# --- what is read ------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5000), max_size=12), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None)
def test_a_stream_is_the_same_however_its_bytes_arrive(cuts: list[int], line: str) -> None:
    data = sse(WHOLE, line)
    stream = tap(Watching())
    places = sorted({min(c, len(data)) for c in cuts})
    pieces = zip([0, *places], [*places, len(data)], strict=True)
    given = b"".join(stream.feed(data[begin:stop]) for begin, stop in pieces)
    rest, response = stream.end(complete=True)
    assert given + rest == data
    assert response.complete
    assert response.message.text == "Caf\u00e9 \u4e0a\u6d77\nSo: "
    assert response.message.tool_calls == (
        ToolCall("toolu_7", "read", '{"path":"a"}'),
        ToolCall("toolu_8", "read", "{}"),
    )
    assert response.finish_reason == "tool_use"
    assert (response.model, response.id) == ("claude-x", "msg_1")
    assert response.usage == Usage(97, 20, 90, None)


def test_a_streamed_answer_is_what_it_would_have_been_whole() -> None:
    data = sse(WHOLE)
    stream = tap()
    stream.feed(data)
    _, response = stream.end(complete=True)
    mine = json.loads(response.message.wire or b"")
    theirs = sdk_reads(data).to_dict()["content"]
    for one in theirs:
        one.pop("parsed_output", None)
    assert mine == {"role": "assistant", "content": theirs}


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (({"input_tokens": 5, "output_tokens": 1}, {"output_tokens": 0}), Usage(5, 0)),
        (
            (
                {"input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 1},
                {"output_tokens": 3, "cache_read_input_tokens": None},
            ),
            Usage(5, 3, None, 0),
        ),
        (
            (
                {"input_tokens": 0, "output_tokens": 0},
                {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 8},
            ),
            Usage(10, 8, 6),
        ),
    ],
)
def test_usage_is_of_the_beginning_and_the_end(told: Any, usage: Usage) -> None:
    stream = tap()
    last = end()
    last[0]["usage"] = told[1]
    stream.feed(sse([start(told[0]), *said(0, "x"), *last]))
    assert stream.end(complete=True)[1].usage == usage


def test_what_a_broken_stream_used_is_not_known() -> None:
    stream = tap()
    stream.feed(sse([start(), *said(0, "x")]))
    _, response = stream.end(complete=False)
    assert not response.complete
    assert response.usage == Usage(97, None, 90)


def test_an_error_instead_of_an_answer_and_within_one() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    stream = tap(Watching())
    ping = sse([{"type": "ping"}])
    assert stream.feed(ping) == ping
    assert not stream.forwarded, "a ping is no answer: another attempt may follow"
    assert stream.feed(sse([error])) == b""
    assert stream.fault is not None
    assert stream.fault.status == 529
    stream = tap(Watching())
    data = sse([start(), *said(0, "x"), error])
    assert stream.feed(data) == data
    assert not stream.end(complete=True)[1].complete


def test_pings_do_not_bring_an_answer_forward() -> None:
    stream = tap()
    stream.feed(sse([{"type": "ping"}]))
    assert not stream.moved
    stream.feed(sse([start()]))
    assert stream.moved


ODD: list[Any] = [
    {"type": "content_block_start", "index": "x", "content_block": {"type": "text"}},
    {"type": "content_block_start", "index": 0, "content_block": None},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta"}},
    {"type": "content_block_stop"},
    {"type": "message_delta"},
    {"type": "message_start", "message": 7},
    {"type": "news", "x": 1},
    {"x": 1},
    [1],
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_event_passes_as_it_came(odd: Any) -> None:
    wire = f"event: x\ndata: {json.dumps(odd)}\n\n".encode()
    stream = tap(Watching())
    data = sse([start()]) + wire + sse([*said(0, "x"), *end()])
    assert stream.feed(data) == data
    assert stream.end(complete=True)[1].message.text == "x"


def test_nonsense_passes_undecoded() -> None:
    data = b"data: {broken\n\nevent: x\n\n: still here\n\n"
    assert [f.events for f in Decoder().feed(data)] == [(), (), ()]
    assert b"".join(f.wire for f in Decoder().feed(data)) == data


def test_what_the_model_thinks_is_told_apart() -> None:
    events = [e for f in Decoder().feed(sse([start(), *thought(0, "abcd")])) for e in f.events]
    assert "".join(e.thought for e in events if isinstance(e, Extra)) == "abcd"
    assert not any(isinstance(e, TextDelta) for e in events)


# --- what is written ---------------------------------------------------------------------------


def attempts(*streams: Sequence[dict[str, Any]], holding: bool = True) -> bytes:
    """What a reader gets of attempts of which all but the last are silent, with our tool there."""
    writer, given, used = Writer(), b"", None
    for number, events in enumerate(streams):
        stage = Expand(ExpandConfig())
        stream = tap(stage, writer=writer, continuing=number > 0, earlier=used, holding=holding)
        given += stream.feed(sse(events))
        rest, response = stream.end(complete=True)
        given, used = given + rest, add_usage(used, response.usage)
        silent = number < len(streams) - 1
        assert stream.finished is not silent
    return given


def kinds(data: bytes) -> list[tuple[str, int | None]]:
    told = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    return [(one["type"], one.get("index")) for one in told]


ASK = ("clawmw_expand", {"ref": "r1"})


def test_an_expansion_is_seen_by_nobody() -> None:
    first = [start(), *said(0, "Let me look."), *called(1, *ASK), *end("tool_use", 9)]
    second = [
        start({"input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 1}, id="msg_2"),
        *thought(0),
        *said(1, "Found."),
        *called(2, "read", {"path": "a"}),
        *end("tool_use", 30),
    ]
    data = attempts(first, second)
    assert b"clawmw_expand" not in data
    message = sdk_reads(data)
    assert [b.type for b in message.content] == ["text", "thinking", "text", "tool_use"]
    assert [b.text for b in message.content if b.type == "text"] == ["Let me look.", "Found."]
    assert message.content[1].signature == "sig-Hm."
    assert message.content[3].input == {"path": "a"}
    assert message.stop_reason == "tool_use"
    assert message.id == "msg_1"
    assert message.usage.output_tokens == 39
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (10, 190)
    told = kinds(data)
    assert [name for name, _ in told].count("message_start") == 1
    assert [name for name, _ in told].count("message_stop") == 1
    starts = [index for name, index in told if name == "content_block_start"]
    assert starts == [index for name, index in told if name == "content_block_stop"] == [0, 1, 2, 3]


def test_an_answer_that_only_asked_us_begins_once() -> None:
    first = [start(), *thought(0, "I must ask."), *called(1, *ASK), *end("tool_use")]
    data = attempts(first, first, [start(), *thought(0), *said(1, "Found."), *end()])
    assert b"I must ask" not in data, "its thinking went with the call"
    message = sdk_reads(data)
    assert [b.type for b in message.content] == ["thinking", "text"]
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 60


def test_the_agents_own_calls_are_numbered_without_ours() -> None:
    mixed = [
        start(),
        *thought(0),
        *called(1, *ASK),
        *called(2, "read", {"path": "a"}),
        *called(3, *ASK),
        *called(4, "read", {}),
        *end("tool_use"),
    ]
    message = sdk_reads(data := attempts(mixed))
    assert [b.type for b in message.content] == ["thinking", "tool_use", "tool_use"]
    assert [b.id for b in message.content[1:]] == ["toolu_2", "toolu_4"]
    assert [b.input for b in message.content[1:]] == [{"path": "a"}, {}]
    assert message.stop_reason == "tool_use"
    assert [i for name, i in kinds(data) if name == "content_block_stop"] == [0, 1, 2]


@pytest.mark.parametrize("arguments", [{"q": "x"}, None])
def test_a_call_whose_name_begins_like_ours_is_the_agents(arguments: Any) -> None:
    opening = {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "clawmw",
        "input": {},
        "caller": {"x": 1},
    }
    pieces = [] if arguments is None else ['{"q', '": "x"}']
    deltas = [{"type": "input_json_delta", "partial_json": p} for p in pieces]
    said_first = said(0, "Well.")
    data = attempts([start(), *thought(1), *said_first, *block(2, opening, *deltas), *end()])
    message = sdk_reads(data)
    assert [b.type for b in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].input == (arguments or {})
    assert message.content[2].to_dict()["caller"] == {"x": 1}


def test_where_nothing_can_be_held_thinking_comes_at_once() -> None:
    data = sse([start(), *thought(0)])
    for holding in (True, False):
        stream = tap(Watching(), holding=holding)
        assert (stream.feed(data) == data) is not holding
        rest = sse([*said(1, "x"), *end()])
        given = stream.feed(rest)
        assert given.endswith(rest)
        assert len(given) == len(rest) + (len(data) - len(sse([start()])) if holding else 0)


class Cutting(Watching):
    """A stage that ends a stream at its second piece."""

    def __init__(self, kind: type[StreamEvent]) -> None:
        self.kind = kind

    def chunk(self, event: StreamEvent, state: Any) -> Sequence[StreamEvent] | Cut:
        state["n"] = state.get("n", 0) + (isinstance(event, self.kind) and event != Extra(None))
        return Cut("test", (event, TextDelta(" [cut]"))) if state["n"] > 1 else (event,)


@pytest.mark.parametrize("holding", [False, True])
@pytest.mark.parametrize("thinking", [False, True])
def test_a_stream_that_is_cut_is_a_whole_message(thinking: bool, holding: bool) -> None:
    stream = tap(Cutting(Extra if thinking else TextDelta), holding=holding)
    events = thought(0, "abcd") if thinking else said(0, "a", "b", "c")
    data = stream.feed(sse([start(), *events, *end()]))
    _, response = stream.end(complete=True)
    data += stream.close(replace(response, finish_reason="stop"))
    message = sdk_reads(data)
    if thinking:
        assert [b.type for b in message.content] == ["thinking", "text"]
    assert message.content[-1].text == (" [cut]" if thinking else "ab [cut]")
    assert message.stop_reason == "end_turn"
    told = kinds(data)
    assert [i for n, i in told if n == "content_block_start"] == [
        i for n, i in told if n == "content_block_stop"
    ]


def test_what_is_said_later_goes_on_in_the_same_message() -> None:
    writer = Writer()
    stream = tap(Expand(ExpandConfig()), writer=writer, holding=True)
    data = stream.feed(sse([start(), *said(0, "Let me look."), *called(1, *ASK), *end("tool_use")]))
    call = ToolCall("toolu_9", "read", '{"p": 1}')
    more = Response(Message(Role.ASSISTANT, (Text("Enough."), call)), Usage(5, 6), "tool_calls")
    data += writer.more(more) + writer.closing(more, None)
    message = sdk_reads(data)
    assert [b.type for b in message.content] == ["text", "text", "tool_use"]
    assert message.content[2].input == {"p": 1}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == 6


def test_a_whole_answer_as_a_stream() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "Eq"}
    content = [
        thinking,
        {"type": "text", "text": "Caf\u00e9"},
        {"type": "tool_use", "id": "a", "name": "read", "input": {"n": [1]}},
        {"type": "redacted_thinking", "data": "Em"},
    ]
    body = {"id": "msg_3", "model": "m", "content": content, "stop_reason": "tool_use"}
    usage = {"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 2}
    answer = CODEC.response(json.dumps({**body, "usage": usage}).encode())
    message = sdk_reads(CODEC.opening(answer) + CODEC.closing(answer, answer.usage))
    read = [{k: v for k, v in b.to_dict().items() if v is not None} for b in message.content]
    assert read == content
    assert (message.id, message.model, message.stop_reason) == ("msg_3", "m", "tool_use")
    assert message.usage.cache_read_input_tokens == 3
    assert message.usage.output_tokens == 2


def test_an_error_in_the_place_of_the_rest() -> None:
    body = CODEC.error({"message": "it broke", "type": "api_error"})
    data = sse([start(), *said(0, "x")]) + Writer().failing(body)
    with pytest.raises(anthropic.APIStatusError) as caught:
        sdk_reads(data)
    assert caught.value.body["error"]["message"] == "it broke"


def test_frames_say_what_they_are_told_to() -> None:
    [frame] = Decoder().feed(sse([said(0, "abc")[1]]))
    assert frame.events == (TextDelta("abc"),)
    told = json.loads(CODEC.reframe(frame, [TextDelta("x"), TextDelta("y")]).splitlines()[1][6:])
    assert told["delta"] == {"type": "text_delta", "text": "xy"}
    assert CODEC.reframe(frame, ()) == b""
    [frame] = Decoder().feed(sse([end()[0]]))
    assert [type(e) for e in frame.events] == [Finish, UsageEvent]
    told = json.loads(CODEC.reframe(frame, [Finish("length")]).splitlines()[1][6:])
    assert told["delta"]["stop_reason"] == "max_tokens"
    assert told["usage"] == {"output_tokens": 20}
    [frame] = Decoder().feed(sse([{"type": "message_stop"}]))
    assert frame.events == (Done(),)
    assert CODEC.reframe(frame, ()) == b""
    [frame] = Decoder().feed(sse([{"type": "error", "error": {"type": "api_error"}}]))
    assert frame.events == (Fault(500),)


def test_a_long_stream_is_read_in_linear_time() -> None:
    import time

    piece = sse([said(0, "word")[1]])
    begun = time.process_time()
    stream = tap(Watching())
    stream.feed(sse([start(), said(0, "")[0]]))
    assert len(stream.feed(piece * 20_000)) == len(piece) * 20_000
    stream.end(complete=False)
    assert time.process_time() - begun < 6


def test_calls_are_released_in_their_order() -> None:
    events = [ToolDelta(0, "a", "clawmw", ""), ToolDelta(1, "b", "clawmw_", "")]
    [frame] = Decoder().feed(sse([end("tool_use")[0]]))
    out = Writer().frame(frame, [*events, *frame.events], changed=True)
    message = sdk_reads(sse([start()]) + out + sse([{"type": "message_stop"}]))
    assert [b.id for b in message.content] == ["a", "b"]

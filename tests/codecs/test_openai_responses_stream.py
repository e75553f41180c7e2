"""Responses as a stream: the provider's bytes where nothing happened, one answer where it did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.codecs.openai_responses import OpenAIResponses
from clawmw.core.stream import Cut, Extra, Fault, StreamEvent, TextDelta
from clawmw.core.tap import Tap
from clawmw.core.types import Json, Message, Response, Role, Text, ToolCall, Usage
from clawmw.stages.context.expand import Expand, ExpandConfig
from tests.codecs.responses import REASONING
from tests.codecs.test_openai_responses import CALL, MESSAGE, OURS

CODEC = OpenAIResponses()
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 16,
}
CUSTOM = {
    "type": "custom_tool_call",
    "id": "ctc_1",
    "status": "completed",
    "call_id": "c3",
    "name": "sh",
    "input": "ls -l",
}


def whole(items: Sequence[Json], name: str = "resp_1", status: str = "completed") -> dict[str, Any]:
    """A response object."""
    head = {"id": name, "object": "response", "created_at": 1, "model": "gpt-5", "status": status}
    return {**head, "error": None, "output": list(items), "usage": USAGE, "zz": [1.5]}


def told(items: Sequence[Json], **about: Any) -> list[dict[str, Any]]:
    """The events of an answer, as OpenAI sends them."""
    done = whole(items, **about)
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")
    ]
    for index, item in enumerate(items):
        at = {"output_index": index, "item_id": item["id"]}
        blank = {k: "" if k in ("arguments", "input") else v for k, v in item.items()}
        events.append({"type": "response.output_item.added", "output_index": index, "item": blank})
        kind = item["type"]
        if kind == "message":
            blank["content"], text = [], item["content"][0]["text"]
            here = {**at, "content_index": 0}
            part = {**item["content"][0], "text": ""}
            events.append({"type": "response.content_part.added", **here, "part": part})
            for piece in (text[:1], text[1:]):
                delta = {"delta": piece, "logprobs": []}
                events.append({"type": "response.output_text.delta", **here, **delta})
            events.append({"type": "response.output_text.done", **here, "text": text})
            part = item["content"][0]
            events.append({"type": "response.content_part.done", **here, "part": part})
        elif kind == "reasoning":
            event = {"type": "response.reasoning_summary_text.delta", "summary_index": 0}
            events.append({**event, **at, "delta": "hm"})
        else:
            name = (
                "function_call_arguments" if kind == "function_call" else "custom_tool_call_input"
            )
            said = item["arguments" if kind == "function_call" else "input"]
            pieces = [{**at, "delta": piece} for piece in (said[:3], said[3:])]
            events += [{"type": f"response.{name}.delta", **piece} for piece in pieces]
            events.append({"type": f"response.{name}.done", **at, "arguments": said})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{done['status']}", "response": done})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def sse(events: Sequence[Json], end: str = "\n") -> bytes:
    """Events as bytes."""
    lines = [f"event: {e['type']}{end}data: {json.dumps(e)}{end}{end}" for e in events]
    return "".join([f": keep-alive{end}{end}", *lines]).encode()


def read(data: bytes) -> list[dict[str, Any]]:
    """Bytes as events."""
    lines = [line for line in data.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines]


def tap(*watchers: Any, writer: Any = None, **options: Any) -> Tap:
    """A tap with stages watching."""

    def failed(name: str, error: Exception) -> None:
        raise error

    named = [(type(w).__name__, w) for w in watchers]
    return Tap(CODEC, named, failed, writer or CODEC.writer(), **options)


def sound(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a reader may rely on; the whole answer at the end."""
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    added = [e for e in events if e["type"] == "response.output_item.added"]
    assert [e["output_index"] for e in added] == list(range(len(added)))
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert sorted(e["output_index"] for e in done) == list(range(len(added)))
    last = events[-1]["response"]
    assert last["output"] == [e["item"] for e in sorted(done, key=lambda e: e["output_index"])]
    for index, item in enumerate(last["output"]):
        if item["type"] == "message":
            deltas = [
                e["delta"]
                for e in events
                if e["type"] == "response.output_text.delta" and e["output_index"] == index
            ]
            assert "".join(deltas) == "".join(part["text"] for part in item["content"])
    return last


ITEMS = [REASONING, MESSAGE, CALL, CUSTOM]


@given(st.lists(st.integers(1, 6000), max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_frames_are_the_same_however_the_bytes_arrive(cuts: list[int], end: str) -> None:
    data = sse(told(ITEMS), end)
    places = sorted({min(c, len(data)) for c in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    watched = tap(Expand(ExpandConfig()))
    shown = b"".join([watched.feed(piece) for piece in pieces])
    rest, response = watched.end(complete=True)
    assert shown + rest == data
    assert response.message.text == "hi"
    assert response.message.tool_calls == (
        ToolCall("c1", "read", CALL["arguments"]),
        ToolCall("c3", "sh", "ls -l"),
    )
    assert response.usage == Usage(10, 6, 4, None, 0)
    assert (response.finish_reason, response.id) == ("tool_calls", "resp_1")
    said = json.loads(b"[" + (response.message.wire or b"") + b"]")
    kept = [{k: v for k, v in item.items() if k not in ("id", "status")} for item in ITEMS]
    assert said == kept


def test_a_delayed_announcement_is_the_providers_bytes() -> None:
    data = sse(told(ITEMS))
    watched = tap(Expand(ExpandConfig()), holding=True)
    assert watched.feed(data) == data


def test_our_call_is_kept_back_and_the_rest_is_numbered_without_it() -> None:
    watched = tap(Expand(ExpandConfig()), holding=True)
    shown = read(watched.feed(sse(told([REASONING, MESSAGE, OURS, CALL]))))
    last = sound(shown)
    assert last["output"] == [REASONING, MESSAGE, CALL]
    assert last["zz"] == [1.5]
    assert "clawmw" not in json.dumps(shown)
    _, response = watched.end(complete=True)
    assert [call.name for call in response.message.tool_calls] == ["clawmw_expand", "read"]


@pytest.mark.parametrize("before", [[], [MESSAGE]])
def test_a_continued_answer_is_one_answer(before: list[Any]) -> None:
    writer = CODEC.writer()
    first = tap(Expand(ExpandConfig()), writer=writer, holding=True)
    shown = first.feed(sse(told([*before, {**REASONING, "id": "rs_0"}, OURS], name="resp_1")))
    assert (b"event:" in shown) is bool(before)
    first.end(complete=True)
    assert not first.finished
    spent = Usage(10, 6, 4, None, 0)
    again = tap(Expand(ExpandConfig()), writer=writer, holding=True, continuing=True, earlier=spent)
    told_again = told([REASONING, {**MESSAGE, "id": "msg_2"}, CALL], name="resp_2")
    shown += again.feed(sse(told_again))
    assert again.finished
    events = read(shown)
    last = sound(events)
    assert [e["type"] for e in events].count("response.created") == 1
    assert last["output"] == [*before, REASONING, {**MESSAGE, "id": "msg_2"}, CALL]
    # The SDK insists on one id; the provider goes on from its own last one.
    assert {e["response"]["id"] for e in events if "response" in e} == {writer.shown}
    assert writer.shown == ("resp_1" if before else "resp_2")
    assert (last["usage"]["input_tokens"], last["usage"]["total_tokens"]) == (20, 32)
    assert last["usage"]["input_tokens_details"] == {"cached_tokens": 8}


def test_an_expansion_that_is_given_up_ends_in_words() -> None:
    watched = tap(Expand(ExpandConfig()), holding=True)
    shown = watched.feed(sse(told([MESSAGE, OURS])))
    watched.end(complete=True)
    answer = Response(Message(Role.ASSISTANT, (Text("enough"),)), None, "stop", "gpt-5", "resp_9")
    shown += watched.writer.more(answer) + watched.close(answer)
    last = sound(read(shown))
    assert [item["content"][0]["text"] for item in last["output"]] == ["hi", "enough"]
    assert last["id"] == "resp_1"


class Cutting:
    """Cuts a stream at a word, as a guard does."""

    def watches(self, request: Any, codec: Any) -> bool:
        return True

    def chunk(self, event: StreamEvent, state: Any) -> Sequence[StreamEvent] | Cut:
        if isinstance(event, TextDelta) and event.text == "i":
            return Cut("test", (event, TextDelta("... cut")))
        if isinstance(event, Extra) and event.thought:
            return Cut("test", (event, TextDelta("enough thought")))
        return (event,)


@pytest.mark.parametrize(
    ("items", "text"), [([MESSAGE, CALL], "hi... cut"), ([REASONING, MESSAGE], "enough thought")]
)
@pytest.mark.parametrize("holding", [False, True])
def test_a_cut_answer_ends_as_a_whole_one_does(items: list[Any], text: str, holding: bool) -> None:
    watched = tap(Cutting(), holding=holding)
    shown = watched.feed(sse(told(items)))
    _, response = watched.end(complete=True)
    shown += watched.close(response)
    last = sound(read(shown))
    assert last["output"][-1]["content"][0]["text"] == text
    assert last["status"] == "completed"


class Loud:
    """Says everything in capitals: the sums that follow must say so, too."""

    def watches(self, request: Any, codec: Any) -> bool:
        return True

    def chunk(self, event: StreamEvent, state: Any) -> Sequence[StreamEvent]:
        return (TextDelta(event.text.upper()),) if isinstance(event, TextDelta) else (event,)


def test_what_repeats_a_changed_text_is_changed_with_it() -> None:
    events = read(tap(Loud()).feed(sse(told([MESSAGE, CALL]))))
    last = sound(events)
    part = {**MESSAGE["content"][0], "text": "HI"}  # type: ignore[index]
    assert last["output"][0] == {**MESSAGE, "content": [part]}
    said = {e["type"]: e for e in events}
    assert said["response.output_text.done"]["text"] == "HI"
    assert said["response.content_part.done"]["part"]["text"] == "HI"


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": None}, 429),
        ({"type": "error", "error": {"type": "server_error", "message": "x"}}, 500),
        (
            {
                "type": "response.failed",
                "response": {**whole([]), "error": {"code": "server_error"}},
            },
            500,
        ),
        (
            {"type": "response.failed", "response": {**whole([]), "error": {"code": "bio_policy"}}},
            400,
        ),
    ],
)
def test_an_error_in_a_stream(event: dict[str, Any], status: int) -> None:
    [frame] = CODEC.decoder().feed(sse([event])[len(": keep-alive\n\n") :])
    assert frame.events == (Fault(status),)
    began = tap()
    assert began.feed(sse([event])) == b""
    assert began.fault is not None
    assert began.fault.status == status


def test_an_error_of_ours_ends_what_began() -> None:
    body = b'{"error": {"message": "busy", "type": "upstream_error", "code": "timeout"}}'
    alone = read(CODEC.writer().failing(body))
    assert [e["type"] for e in alone] == ["error"]
    assert alone[0]["error"]["message"] == alone[0]["message"] == "busy"
    watched = tap(Loud())
    shown = watched.feed(sse(told([MESSAGE])[:6]))
    events = read(shown + watched.writer.failing(body))
    assert [e["type"] for e in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["error"]["message"] == "busy"
    assert [e["sequence_number"] for e in events] == list(range(len(events)))


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_an_answer_that_was_cut_off(reason: str) -> None:
    events = told([MESSAGE], status="incomplete")
    events[-1]["response"]["incomplete_details"] = {"reason": reason}
    watched = tap()
    watched.feed(sse(events))
    _, response = watched.end(complete=True)
    assert response.finish_reason == {"max_output_tokens": "length"}.get(reason, reason)
    assert response.complete


def test_a_server_without_deltas_is_read_by_its_items() -> None:
    events = [e for e in told([MESSAGE, CALL]) if ".delta" not in e["type"]]
    watched = tap()
    watched.feed(sse(events))
    _, response = watched.end(complete=True)
    assert response.message.text == "hi"
    assert response.message.tool_calls == (ToolCall("c1", "read", CALL["arguments"]),)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.delta", "output_index": 0, "delta": 7},
        {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": "x"},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.invented", "output_index": 9},
        {"type": 7},
        [],
    ],
)
def test_an_odd_event_passes_as_it_came(event: Any) -> None:
    data = f"data: {json.dumps(event)}\n\n".encode()
    assert tap(Loud()).feed(data) == data


ALIVE = {"type": "keepalive", "sequence_number": 2}


@pytest.mark.parametrize("holding", [False, True])
def test_a_sign_of_life_is_no_part_of_the_answer(holding: bool) -> None:
    """OpenAI sends them on long calls, undocumented; the SDK wants the response first."""
    events = told([{**REASONING, "id": "rs_0"}, MESSAGE])
    events = [*events[:2], ALIVE, *events[2:]]
    events = [{**event, "sequence_number": n} for n, event in enumerate(events)]
    watched = tap(Expand(ExpandConfig()), holding=holding)
    shown = [watched.feed(sse([event])[len(": keep-alive\n\n") :]) for event in events]
    assert not watched.fault
    if not holding:
        assert b"".join(shown) == sse(events)[len(": keep-alive\n\n") :]
        return
    assert shown[2].startswith(b":")
    sound(read(b"".join(shown)))
    started = tap()
    started.feed(sse([ALIVE]))
    assert (started.moved, started.forwarded) == (False, False)


def test_no_two_items_of_ours_have_one_id() -> None:
    """A client sends them all back, and the provider refuses doubled ids and long ones."""
    said = Message(Role.ASSISTANT, (Text("stopped"), ToolCall("c", "f", "{}")))
    ids: list[str] = []
    for name in ("clawmw-1", "clawmw-2", "resp_" + "0" * 50):
        answer = Response(said, None, "stop", "m", name)
        streamed = sound(read(CODEC.opening(answer) + CODEC.closing(answer, None)))
        whole = json.loads(CODEC.encode_response(answer))
        assert [i["id"] for i in streamed["output"]] == [i["id"] for i in whole["output"]]
        ids += [item["id"] for item in whole["output"]]
    assert len(set(ids)) == len(ids)
    assert all(len(name) <= 64 and name.startswith(("msg_", "fc_")) for name in ids)


def test_our_own_streams_are_sound() -> None:
    calls = (ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", ""))
    for parts in ((Text("hello"),), (Text("hello"), *calls), calls, ()):
        answer = Response(Message(Role.ASSISTANT, parts), Usage(3, 2, 0), "stop", "m", "resp_x")
        data = CODEC.opening(answer) + CODEC.closing(answer, answer.usage)
        last = sound(read(data))
        assert last["usage"]["input_tokens"] == 3
        watched = tap()
        assert watched.feed(data) == data
        _, again = watched.end(complete=True)
        assert again.message.tool_calls == tuple(p for p in parts if isinstance(p, ToolCall))
        assert again.message.text == answer.message.text

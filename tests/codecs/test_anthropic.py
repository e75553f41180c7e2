"""Anthropic's Messages: nothing lost on the way in, nothing changed that nobody changed."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.codecs.anthropic import AnthropicMessages
from clawmw.core.canon import Ids, message_digest
from clawmw.core.types import (
    Image,
    Mark,
    Message,
    Opaque,
    Request,
    Response,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from clawmw.errors import CodecError
from tests.codecs.test_openai_chat import extras, layouts, wire
from tests.laws.dialects import spoken
from tests.laws.strategies import conversations

CODEC = AnthropicMessages()
CAPTURES = sorted(Path(os.environ.get("CLAWMW_CAPTURES", "no such folder")).glob("*anthropic*"))
GOLDEN = Path(__file__).parent / "golden" / "anthropic_messages.jsonl"
MARK = {"type": "ephemeral"}


def make(messages: list[dict[str, Any]], extra: dict[str, Any], *, first: bool) -> dict[str, Any]:
    said, more = spoken(messages)
    head = {"model": "m", "messages": said}
    extra = {k: v for k, v in extra.items() if k not in ("model", "messages", "tools", "system")}
    return {**head, **extra, **more} if first else {**more, **extra, **head}


def body(*messages: Any, **more: Any) -> bytes:
    return wire({"model": "m", "max_tokens": 9, "messages": list(messages), **more})


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def result(call: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def use(*ids: str) -> dict[str, Any]:
    calls = [{"type": "tool_use", "id": i, "name": "read", "input": {"n": i}} for i in ids]
    return {"role": "assistant", "content": calls}


# --- bodies ------------------------------------------------------------------------------------


@given(conversations(), extras, layouts, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_unchanged_body_comes_back_byte_for_byte(
    messages: list[dict[str, Any]],
    extra: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    ascii: bool,
) -> None:
    given = wire(make(messages, extra, first=first), layout, ascii=ascii)
    try:
        given.decode()
    except UnicodeDecodeError:
        with pytest.raises(CodecError):
            CODEC.decode(given)
        return
    assert CODEC.encode(CODEC.decode(given)) == given


@given(conversations(), extras, layouts, st.booleans(), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_reading_on_from_an_earlier_body_is_the_same_as_reading(
    messages: list[dict[str, Any]],
    extra: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    cut: int,
) -> None:
    shorter = [*messages[: max(1, len(messages) - cut)], {"role": "user", "content": "tail"}]
    earlier = [CODEC.decode(wire(make(m, {}, first=first), layout)) for m in (shorter, messages)]
    given = wire(make(messages, extra, first=first), layout)
    read, on = CODEC.decode(given), CODEC.decode(given, earlier)
    assert on == read
    assert [m.wire for m in on.messages] == [m.wire for m in read.messages]
    assert CODEC.encode(on) == given


@given(conversations(), extras, layouts, st.booleans(), st.data())
@settings(max_examples=80, deadline=None)
def test_changing_one_text_changes_only_that_text(
    messages: list[dict[str, Any]],
    extra: dict[str, Any],
    layout: tuple[str, str],
    first: bool,
    data: st.DataObject,
) -> None:
    given = make(messages, extra, first=first)
    request = CODEC.decode(wire(given, layout))
    places = [
        (at, index)
        for at, message in enumerate(request.messages)
        for index, part in enumerate(message.parts)
        if isinstance(part, (Text, ToolResult)) and part.text
    ]
    at, index = data.draw(st.sampled_from(places))
    was = request.messages[at].parts[index].text  # type: ignore[union-attr]
    changed = request.messages[at].with_texts({index: "NEW!"})
    sent = CODEC.encode(
        replace(request, messages=(*request.messages[:at], changed, *request.messages[at + 1 :]))
    )
    found = list(differences(json.loads(wire(given, layout)), json.loads(sent)))
    assert found == [(was, "NEW!")]


def differences(one: Any, other: Any) -> Any:
    """The leaves that differ, in order; the shape must be the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            yield from differences(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            yield from differences(*pair)
    elif one != other:
        yield (one, other)


@pytest.mark.parametrize("line", GOLDEN.read_text().splitlines(), ids=lambda line: line[:40])
def test_bodies_recorded_from_the_sdk(line: str) -> None:
    """As anthropic 2.12 wrote them: what is read of them must not change."""
    row = json.loads(line)
    given = row["body"].encode()
    request = CODEC.decode(given)
    assert CODEC.encode(request) == given
    told = [[str(m.role), *[type(p).__name__ for p in m.parts]] for m in request.messages]
    assert told == row["messages"]
    # A message that is changed is written anew, and says all that it said.
    anew = tuple(replace(m, wire=None, origin=m.wire) for m in request.messages)
    again = json.loads(CODEC.encode(replace(request, messages=anew)))
    assert again == json.loads(given)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: p.stem[:12])  # none: skipped
def test_what_openclaw_sends_comes_back(path: Path) -> None:
    for layout in ((",", ":"), (", ", ": ")):
        given = wire(json.loads(path.read_text())["body"], layout)
        request = CODEC.decode(given)
        assert CODEC.encode(request) == given
        assert request.messages[0].role is Role.SYSTEM
        changed = request.messages[1].with_texts({0: "NEW"})
        sent = CODEC.encode(
            replace(request, messages=(request.messages[0], changed, *request.messages[2:]))
        )
        assert len(list(differences(json.loads(given), json.loads(sent)))) == 1


# --- messages ----------------------------------------------------------------------------------


def test_each_result_of_a_message_is_a_part_of_its_own() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}
    given = body(
        user(text("go")),
        use("a", "b", "c", "d"),
        user(
            result("a", "one"),
            result("b", [image, text("two", cache_control=MARK), text("more")], is_error=True),
            result("c", [image]),
            {"type": "tool_result", "tool_use_id": "d"},
            text("hurry"),
        ),
    )
    message = CODEC.decode(given).messages[2]
    assert message.role is Role.TOOL
    assert message.parts == (
        ToolResult("a", "one"),
        ToolResult("b", "two"),
        Image(image),
        Text("more"),
        ToolResult("c", ""),
        Image(image),
        ToolResult("d", ""),
        Text("hurry"),
    )
    assert message.marks == (None,)
    texts = {0: "1", 1: "2", 4: "3", 6: "4"}
    sent = json.loads(CODEC.seal(message.with_texts(texts)).wire or b"")
    assert sent["content"] == [
        result("a", "1"),
        result("b", [image, text("2", cache_control=MARK), text("more")], is_error=True),
        result("c", [text("3"), image]),
        result("d", [text("4")]),
        text("hurry"),
    ]


def test_the_system_prompt_is_the_first_message_and_comes_back() -> None:
    for system in ("Be brief.", [text("Be brief."), text("Today.", cache_control=MARK)]):
        given = wire({"system": system, "model": "m", "messages": [user(text("hi"))], "x": 1})
        request = CODEC.decode(given)
        assert request.messages[0].role is Role.SYSTEM
        assert request.messages[0].text.startswith("Be brief.")
        assert "system" not in request.params
        changed = request.messages[0].with_texts({0: "Be kind."})
        sent = json.loads(CODEC.encode(replace(request, messages=(changed, request.messages[1]))))
        told = [text("Be kind."), *system[1:]] if isinstance(system, list) else "Be kind."
        assert sent == {**json.loads(given), "system": told}
        assert list(sent) == ["system", "model", "messages", "x"]


def test_what_claude_code_says_of_its_bill_is_no_part_of_the_prompt() -> None:
    def request(nonce: str) -> Request:
        bill = text(f"x-anthropic-billing-header: cc_version=2.1.177.01c; cch={nonce};")
        return CODEC.decode(body(user(text("hi")), system=[bill, text("You are Claude Code.")]))

    one, two = request("36ee5"), request("0aaa9")
    assert one.messages == two.messages
    assert message_digest(b"", one.messages[0], Ids()) == message_digest(
        b"", two.messages[0], Ids()
    )
    assert two.messages[0].text == "You are Claude Code."
    changed = two.messages[0].with_texts({1: "You are kind."})
    sent = CODEC.encode(replace(two, messages=(changed, two.messages[1])))
    assert b"cch=0aaa9" in sent, "each request has its own"
    assert b"You are kind." in sent


@pytest.mark.parametrize("system", ["", [], None])
def test_a_system_prompt_of_nothing_is_none(system: Any) -> None:
    given = body(user(text("hi")), system=system)
    request = CODEC.decode(given)
    assert [m.role for m in request.messages] == [Role.USER]
    assert CODEC.encode(replace(request, model="n")) == given.replace(b'"m"', b'"n"')


def test_thinking_is_never_touched() -> None:
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "EqQ", "future": [1]}
    hidden = {"type": "redacted_thinking", "data": "EmwK"}
    given = {"role": "assistant", "content": [signed, hidden, text("Yes.")]}
    message = CODEC.decode(body(user(text("go")), given)).messages[1]
    assert message.parts == (Thinking(signed), Thinking(hidden), Text("Yes."))
    marked = replace(message, wire=None, origin=message.wire, mark=Mark("cache_control", MARK))
    sent = json.loads(CODEC.seal(marked.with_texts({2: "No."})).wire or b"")
    assert sent["content"] == [signed, hidden, text("No.")]
    only = {"role": "assistant", "content": [signed]}
    message = CODEC.message(wire(only))
    marked = replace(message, wire=None, origin=message.wire, mark=Mark("cache_control", MARK))
    assert json.loads(CODEC.seal(marked).wire or b"") == only


def mark(message: dict[str, Any], hint: Mark) -> Any:
    given = CODEC.message(wire(message))
    marked = replace(given, wire=None, origin=given.wire, mark=hint)
    return json.loads(CODEC.seal(marked).wire or b"")["content"]


def test_where_a_cache_mark_stands() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    here = Mark("cache_control", hour)
    assert mark({"role": "user", "content": "hi"}, here) == [text("hi", cache_control=hour)]
    blocks = [text("a", cache_control=MARK), text("b")]
    assert mark(user(*blocks), here) == [blocks[0], text("b", cache_control=hour)]
    assert mark(user(*blocks), replace(here, part=0))[0] == text("a", cache_control=hour)
    assert mark(user(*blocks), replace(here, value=None, alone=True)) == [text("a"), text("b")]
    assert mark(user(text("a"), text(" ")), here)[0] == text("a", cache_control=hour)
    # On the result itself, not inside it; what came inside it goes.
    inner = [text("x", cache_control=MARK)]
    assert mark(user(result("c", inner)), replace(here, alone=True)) == [
        result("c", [text("x")], cache_control=hour)
    ]
    asked = {**use("a"), "content": [text("x"), *use("a")["content"]]}
    asked["content"][1]["input"] = {"cache_control": "the agent's own"}
    kept = mark(asked, replace(here, value=None, alone=True))
    assert kept[1]["input"] == {"cache_control": "the agent's own"}


def test_what_is_cache_significant() -> None:
    def digest(message: dict[str, Any]) -> bytes:
        return message_digest(b"", CODEC.message(wire(message)), Ids())

    plain = digest({"role": "user", "content": "hi"})
    assert plain == digest(user(text("hi"))) == digest(user(text("hi", cache_control=MARK)))
    assert plain != digest(user(text("ho")))
    one = digest(user(result("a", "x")))
    assert one == digest(user(result("b", [text("x")], cache_control=MARK)))
    assert digest(use("a")) != digest({**use("a"), "content": [text("a")]})
    spaced = json.dumps(use("a"), indent=1).encode()
    assert message_digest(b"", CODEC.message(spaced), Ids()) == digest(use("a"))


# --- what is added -----------------------------------------------------------------------------

NOTE = Message(Role.USER, (Text("a note"),))


def added(*messages: dict[str, Any], at: int) -> list[Any]:
    request = CODEC.decode(body(*messages))
    more = (*request.messages[:at], NOTE, *request.messages[at:])
    sent: list[Any] = json.loads(CODEC.encode(replace(request, messages=more)))["messages"]
    return sent


def test_sides_go_on_alternating_where_the_agent_keeps_to_that() -> None:
    hi, called, answered = user(text("hi")), use("a"), user(result("a", "x"))
    assert added(hi, called, answered, at=1) == [user(text("hi"), text("a note")), called, answered]
    assert added(hi, called, answered, at=3)[-1] == user(result("a", "x"), text("a note"))
    plain = {"role": "user", "content": "hi", "z": 1}
    assert added(plain, at=1) == [{"role": "user", "content": [text("hi"), text("a note")], "z": 1}]


def test_an_agent_that_sends_several_in_a_row_keeps_its_own_messages() -> None:
    """OpenClaw does."""
    hi, tail = user(text("hi")), user(text("transient"))
    note = {"role": "user", "content": "a note"}
    assert added(hi, tail, at=1) == [hi, note, tail]


def test_results_that_we_give_are_one_message() -> None:
    [message] = CODEC.results([ToolResult("a", "x"), ToolResult("b", "y")])
    assert json.loads(CODEC.seal(message).wire or b"") == user(result("a", "x"), result("b", "y"))


def test_a_tool_in_this_dialect() -> None:
    spec = CODEC.tool("t", "d", {"type": "object"})
    assert spec.raw == {"name": "t", "description": "d", "input_schema": {"type": "object"}}
    request = CODEC.decode(body(user(text("hi"))))
    assert CODEC.decode(CODEC.encode(replace(request, tools=(spec,)))).tools == (spec,)


def test_a_request_that_never_had_a_body() -> None:
    call = ToolCall("a", "t", '{"q": 1}')
    messages = (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.USER, (Text("hi"),)),
        Message(Role.ASSISTANT, (Text(""), call)),
        Message(Role.TOOL, (ToolResult("a", "x"),)),
        NOTE,
    )
    request = Request(CODEC.dialect, "m", messages, params={"max_tokens": 5})
    sent = json.loads(CODEC.encode(request))
    asked = {"type": "tool_use", "id": "a", "name": "t", "input": {"q": 1}}
    assert sent == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [asked]},
            user(result("a", "x"), text("a note")),
        ],
        "max_tokens": 5,
        "system": "Be brief.",
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "expected '{' at byte 0"),
        (b'{"model":"m","messages":[]}', "`messages` is empty"),
        (b'{"model":"m"}', "no messages"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "names no model"),
        (b'{"model":"m","messages":["x"]}', "messages[0] is not an object"),
        (b'{"model":"m","messages":[{"role":"tool"}]}', "messages[0] has no known role"),
        (b'{"model":"m","messages":[{"role":[]}]}', "messages[0] is not a message"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"system":5}', "`system` is"),
        (b'{"model":"m","model":"n","messages":[{"role":"user"}]}', "doubled key"),
        (b'{"model":"m","messages":[{"role":"user"}]} x', "more text after the body"),
    ],
)
def test_a_malformed_body_is_refused_with_the_place(given: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says.replace("[", r"\[").replace("{", r"\{")):
        CODEC.decode(given)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_body_raises_anything_else(given: bytes) -> None:
    for prefix in (b"", b'{"model":"m","messages":[{"role":"user","content":"x"},'):
        with contextlib.suppress(CodecError):
            CODEC.decode(prefix + given)


blocks = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "input", "id", "tool_use_id", "x"]),
            inner | st.sampled_from(["text", "tool_result", "tool_use", "thinking"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(blocks, st.sampled_from(["user", "assistant", "system"]))
@settings(max_examples=150, deadline=None)
def test_an_odd_content_passes_as_it_came(content: Any, role: str) -> None:
    given = body({"role": role, "content": content})
    with contextlib.suppress(CodecError):
        request = CODEC.decode(given)
        assert CODEC.encode(request) == given
        anew = tuple(replace(m, wire=None, origin=m.wire) for m in request.messages)
        again = CODEC.encode(replace(request, messages=anew))
        assert json.loads(again) == json.loads(given)


# --- answers -----------------------------------------------------------------------------------

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "Eq"},
        {"type": "text", "text": "Reading.", "citations": None},
        {"type": "tool_use", "id": "a", "name": "clawmw_expand", "input": {"ref": "r1"}},
        {"type": "tool_use", "id": "b", "name": "read", "input": {"p": 1.0}, "caller": {"x": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 5,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
        "service_tier": "standard",
    },
    "future": {"z": 1},
}


def test_an_answer_and_its_usage() -> None:
    answer = CODEC.response(wire(ANSWER))
    assert answer.usage == Usage(125, 7, 100, 20, 3)
    assert (answer.finish_reason, answer.model, answer.id) == ("tool_use", "claude-x", "msg_1")
    assert [call.name for call in answer.message.tool_calls] == ["clawmw_expand", "read"]
    given = {"role": "assistant", "content": ANSWER["content"]}
    assert json.loads(answer.message.wire or b"") == given
    assert json.loads(CODEC.encode_response(answer)) == ANSWER


def test_zero_is_not_unknown() -> None:
    for told, usage in (
        ({"input_tokens": 0, "output_tokens": 0}, Usage(0, 0)),
        ({"input_tokens": 5, "cache_read_input_tokens": 0}, Usage(5, None, 0)),
        ({"output_tokens": 5}, Usage(None, 5)),
        ({"input_tokens": True, "output_tokens": -1}, Usage()),
    ):
        assert CODEC.response(wire({**ANSWER, "usage": told})).usage == usage
    assert CODEC.response(wire({**ANSWER, "usage": None})).usage is None


def test_a_changed_answer_keeps_what_it_is_not_about() -> None:
    answer = CODEC.response(wire(ANSWER))
    kept = tuple(p for p in answer.message.parts if getattr(p, "name", "") != "clawmw_expand")
    changed = replace(
        answer, message=Message(Role.ASSISTANT, kept), usage=Usage(225, 9, 190, 20, 3)
    )
    sent = json.loads(CODEC.encode_response(changed))
    content = [ANSWER["content"][i] for i in (0, 1, 3)]  # type: ignore[index]
    usage = {
        "input_tokens": 15,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 190,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 3},
        "service_tier": "standard",
    }
    assert sent == {**ANSWER, "content": content, "usage": usage}


def test_an_answer_of_ours_is_one_of_theirs() -> None:
    types = pytest.importorskip("anthropic.types")
    for reason, told in (("stop", "end_turn"), (None, "end_turn"), ("length", "max_tokens")):
        message = Message(Role.ASSISTANT, (Text("Stopped."),))
        sent = CODEC.encode_response(Response(message, Usage(0, 0, 0), reason, "m", "id_1"))
        parsed = types.Message.model_validate_json(sent, strict=True)
        assert parsed.stop_reason == told
        assert parsed.content[0].text == "Stopped."
        assert parsed.usage.input_tokens == 0


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 529),
        ({"type": "error", "error": {"type": "rate_limit_error"}}, 429),
        ({"error": {"type": "news"}}, 502),
        ({"error": "x"}, 502),
        ({"x": 1}, None),
        ([], None),
    ],
)
def test_an_error_that_came_as_an_answer(told: Any, status: int | None) -> None:
    assert CODEC.fault(wire(told)) == status
    with pytest.raises(CodecError):
        CODEC.response(wire(told))


def test_an_error_of_ours_has_the_shape_of_theirs() -> None:
    told = json.loads(CODEC.error({"message": "no", "type": "clawmw_refused", "code": "c"}))
    assert told == {
        "type": "error",
        "error": {"message": "no", "type": "clawmw_refused", "code": "c"},
    }
    assert isinstance(CODEC.decode(body(user({"type": "x"}))).messages[0].parts[0], Opaque)

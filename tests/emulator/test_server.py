"""The emulator over real sockets: raw HTTP and the OpenAI SDK."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw import emulator
from clawmw.emulator import (
    Emulator,
    Fault,
    PortInUse,
    Reply,
    ToolUse,
    loop,
    script,
    turns,
)
from clawmw.emulator.wire import cut, output_tokens

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks a thing up.",
            "parameters": {
                "type": "object",
                "properties": {"what": {"type": "string"}},
            },
        },
    }
]
LONG = "This sentence is part of a long system prompt that is worth caching. " * 200
ASK: list[Any] = [{"role": "user", "content": "hello"}]


def act(body: dict[str, Any]) -> Reply:
    """Tells what the last message says; asks for a tool when it says so."""
    last = body["messages"][-1]["content"]
    if last == "use the tool":
        uses = (
            ToolUse("look_up", {"what": "价格 " + "x" * 100}),
            ToolUse("look_up", {}),
        )
        return Reply(text="Looking.", tools=uses)
    return Reply(text=f"You said: {last}")


@pytest.fixture(scope="module")
def emu() -> Iterator[Emulator]:
    with Emulator(bill="openai", brain=act) as emulator:
        yield emulator


@pytest.fixture
def client(emu: Emulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=emu.base_url, api_key="sk-test", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.base_url, timeout=10) as raw:
        yield raw


def test_the_sdk_gets_an_answer_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_the_second_call_reads_the_cache(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "system", "content": LONG},
        {"role": "user", "content": "a"},
    ]
    first = client.chat.completions.create(model="m", messages=messages)
    messages += [
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "b"},
    ]
    second = client.chat.completions.create(model="m", messages=messages)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.prompt_tokens
    written = second.usage.prompt_tokens_details.cache_write_tokens
    assert written == second.usage.prompt_tokens - first.usage.prompt_tokens


def test_tool_calls_come_whole(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "use the tool"}]
    choice = client.chat.completions.create(model="m", messages=messages, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    calls: list[Any] = list(choice.message.tool_calls or ())
    assert [c.function.name for c in calls] == ["look_up", "look_up"]
    assert json.loads(calls[0].function.arguments)["what"].startswith("价格")
    assert len({c.id for c in calls}) == 2


def test_a_stream_folds_to_the_same_answer(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "use the tool"}]
    stream = client.chat.completions.create(
        model="m",
        messages=messages,
        tools=TOOLS,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, arguments, deltas, finish, usage = "", {0: "", 1: ""}, 0, None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or ():
                deltas += 1
                assert call.function is not None
                arguments[call.index] += call.function.arguments or ""
    assert (text, finish) == ("Looking.", "tool_calls")
    assert json.loads(arguments[0])["what"].endswith("x")
    assert json.loads(arguments[1]) == {}
    assert deltas >= 6
    assert usage is not None
    assert usage.prompt_tokens > 0


def test_a_stream_has_no_usage_unless_asked(http: httpx.Client) -> None:
    body = {"model": "m", "messages": ASK, "stream": True}
    text = http.post("/chat/completions", json=body).text
    assert '"usage"' not in text
    assert text.endswith("data: [DONE]\n\n")


def test_max_tokens_cuts_the_answer(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "word " * 200}]
    answer = client.chat.completions.create(model="m", messages=messages, max_tokens=10)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 10


replies = st.builds(
    Reply,
    st.none() | st.text(st.sampled_from("aZ 9\n{}价é🚄"), max_size=80),
    st.lists(
        st.builds(ToolUse, st.just("f"), st.dictionaries(st.text(), st.text())), max_size=3
    ).map(tuple),
)


@given(reply=replies, limit=st.integers(1, 60))
def test_an_answer_is_cut_no_shorter_and_no_longer_than_its_limit(reply: Reply, limit: int) -> None:
    kept, whole = cut(reply, limit), reply.text or ""
    assert output_tokens(kept) <= limit
    assert whole.startswith(kept.text or "")
    assert reply.tools[: len(kept.tools)] == kept.tools
    if output_tokens(reply) <= limit:
        assert kept == reply
        return
    assert kept.finish_reason == "length"
    if (kept.text or "") == whole:
        more = Reply(reply.text, reply.tools[: len(kept.tools) + 1])
    else:
        more = Reply(whole[: len(kept.text or "") + 1])
    assert output_tokens(more) > limit, "one step more would not have fitted"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "anthropic/claude-sonnet-5-5" in [m.id for m in client.models.list()]


CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look_up", "arguments": "{}"},
}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "could not parse the JSON body"),
        (b"[1]", "must be a JSON object"),
        ({"messages": ASK}, "model parameter"),
        ({"model": "m"}, "'messages'"),
        ({"model": "m", "messages": []}, "'messages'"),
        ({"model": "m", "messages": ["x"]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "robot", "content": ""}]}, "role"),
        ({"model": "m", "messages": [{"role": "user"}]}, "content"),
        ({"model": "m", "messages": [{"role": "user", "content": 5}]}, "content"),
        ({"model": "m", "messages": ASK, "stream": "yes"}, "stream"),
        ({"model": "m", "messages": ASK, "tools": [{}]}, "tools[0]"),
        ({"model": "m", "messages": ASK, "n": 10_000}, "'n'"),
        ({"model": "m", "messages": ASK, "max_tokens": "9"}, "max_tokens"),
        (b'{"model":"m","messages":' + b"[" * 100_000, "could not parse"),
        (
            {
                "model": "m",
                "messages": [*ASK, {"role": "assistant", "tool_calls": [CALL]}],
            },
            "did not have response messages: c1",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}],
            },
            "must be a response to a preceding message",
        ),
    ],
)
def test_malformed_bodies_are_refused_in_openais_shape(
    http: httpx.Client, body: Any, says: str
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post("/chat/completions", content=raw)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


def test_other_paths_are_not_found(http: httpx.Client) -> None:
    assert http.get("/nothing").json()["error"]["type"] == "invalid_request_error"
    assert http.get("/chat/completions").status_code == 405


@pytest.mark.parametrize("status", [401, 429, 500, 503, 529])
def test_a_status_on_request(http: httpx.Client, status: int) -> None:
    ask = {"model": "m", "messages": ASK}
    header = {"x-emulate": f"status={status}, retry-after=2"}
    answer = http.post("/chat/completions", json=ask, headers=header)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["message"]


def test_misbehaviour_by_model_name_a_number_of_times(http: httpx.Client) -> None:
    ask = {"model": "flaky?status=503&times=2", "messages": ASK}
    codes = [http.post("/chat/completions", json=ask).status_code for _ in range(3)]
    assert codes == [503, 503, 200]


def test_misbehaviour_lined_up_in_process(emu: Emulator, http: httpx.Client) -> None:
    emu.fail_next(Fault(status=503), Fault(), Fault(status=429))
    ask = {"model": "m", "messages": ASK}
    codes = [http.post("/chat/completions", json=ask).status_code for _ in range(4)]
    assert codes == [503, 200, 429, 200]


def test_an_unknown_directive_is_refused_with_those_that_exist(
    http: httpx.Client,
) -> None:
    ask = {"model": "m", "messages": ASK}
    for wish in ("stauts=503", "status=9000", "delay=soon"):
        answer = http.post("/chat/completions", json=ask, headers={"x-emulate": wish})
        assert answer.status_code == 400
        assert "x-emulate" in answer.json()["error"]["message"]


def test_html_and_empty_answers(http: httpx.Client) -> None:
    ask = {"model": "m", "messages": ASK}
    html = http.post("/chat/completions", json=ask, headers={"x-emulate": "html"})
    assert html.status_code == 200
    assert html.text.startswith("<!doctype html>")
    empty = http.post("/chat/completions", json=ask, headers={"x-emulate": "empty"})
    assert empty.status_code == 200
    assert empty.content == b""


def test_a_delay_comes_before_the_first_byte(http: httpx.Client) -> None:
    ask = {"model": "m", "messages": ASK}
    answer = http.post("/chat/completions", json=ask, headers={"x-emulate": "delay=120ms"})
    assert answer.elapsed.total_seconds() >= 0.12


def test_usage_can_be_left_out(http: httpx.Client) -> None:
    ask = {"model": "m", "messages": ASK}
    answer = http.post("/chat/completions", json=ask, headers={"x-emulate": "no-usage"})
    assert "usage" not in answer.json()


def test_a_stream_cut_short_ends_cleanly_without_done(http: httpx.Client) -> None:
    ask = {
        "model": "m",
        "messages": [{"role": "user", "content": "x" * 300}],
        "stream": True,
    }
    text = http.post("/chat/completions", json=ask, headers={"x-emulate": "truncate-after=3"}).text
    assert text.count("data: ") == 3
    assert "[DONE]" not in text


@pytest.mark.parametrize("after", [0, 3])
def test_a_reset_breaks_the_connection_after_that_many_chunks(
    emu: Emulator, http: httpx.Client, after: int
) -> None:
    ask = {
        "model": "m",
        "messages": [{"role": "user", "content": "x" * 300}],
        "stream": True,
    }
    seen: list[bytes] = []

    def read() -> None:
        header = {"x-emulate": f"reset-after={after}"}
        with http.stream("POST", "/chat/completions", json=ask, headers=header) as answer:
            seen.extend(answer.iter_raw())

    with pytest.raises(httpx.TransportError):
        read()
    assert b"".join(seen).count(b"data: ") == after
    assert not emu.requests[-1].finished


def test_requests_are_kept_with_secrets_masked(emu: Emulator, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="m", messages=ASK, extra_headers={"api-key": "k123"})
    received = emu.requests[-1]
    assert received.headers["authorization"] == "Bearer ***"
    assert received.headers["api-key"] == "***"
    assert received.body["messages"] == ASK
    assert received.finished
    assert received.usage is not None
    assert emu.usages[-1] == received.usage


def test_the_log_has_one_line_a_request_and_is_private(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    with Emulator(log=log) as emu, httpx.Client(base_url=emu.base_url) as http:
        headers = {"authorization": "Bearer sk-secret"}
        http.post("/chat/completions", json={"model": "m", "messages": ASK}, headers=headers)
        http.post("/chat/completions", content=b"{broken")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [set(row) for row in rows] == [{"time", "path", "headers", "body"}] * 2
    assert rows[0]["body"]["messages"] == ASK
    assert rows[1]["body"] == "{broken"
    assert "sk-secret" not in log.read_text()


def test_five_marks_are_refused_where_four_are_allowed() -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    ask = {"model": "m", "messages": [{"role": "user", "content": [part] * 5}]}
    with Emulator(bill="anthropic") as emu, httpx.Client(base_url=emu.base_url) as http:
        answer = http.post("/chat/completions", json=ask)
    assert answer.status_code == 400
    assert "maximum of 4" in answer.json()["error"]["message"]


def test_the_cache_ages_by_the_clock_it_was_given() -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": LONG}]}
    with (
        Emulator(bill="gpt-5.4", clock=lambda: 0.0) as emu,
        httpx.Client(base_url=emu.base_url) as http,
    ):
        for seconds in (0, 100, 400):
            emu.advance(seconds)
            http.post("/chat/completions", json=ask)
    assert [bool(u.cache_read_tokens) for u in emu.usages] == [False, True, False]


def test_scripts_turns_loops_and_brains_that_fail() -> None:
    def broken(_body: dict[str, Any]) -> Reply:
        raise RuntimeError("lost my mind")

    ask: dict[str, Any] = {"model": "m", "messages": ASK, "tools": TOOLS}
    brains = (script(["one", "two"]), turns(["first", "second"]), loop(), broken)
    answers = []
    for brain in brains:
        with Emulator(brain=brain) as emu, httpx.Client(base_url=emu.base_url) as http:
            answers.append([http.post("/chat/completions", json=ask).json() for _ in range(3)])
    texts = [[a["choices"][0]["message"]["content"] for a in row] for row in answers[:2]]
    assert texts == [["one", "two", "(the script has ended)"], ["first"] * 3]
    calls = [a["choices"][0]["message"]["tool_calls"][0]["function"] for a in answers[2]]
    assert calls == [calls[0]] * 3
    assert "lost my mind" in answers[3][0]["error"]["message"]


def test_every_public_name_is_there() -> None:
    assert emulator.__all__ == sorted(emulator.__all__)
    for name in emulator.__all__:
        assert getattr(emulator, name) is not None
    with pytest.raises(AttributeError):
        _ = emulator.nothing


def test_a_brain_that_edits_its_request_does_not_change_the_bill() -> None:
    def messy(body: dict[str, Any]) -> Reply:
        body["messages"].clear()
        return Reply(text="done")

    with Emulator(brain=messy) as emu, httpx.Client(base_url=emu.base_url) as http:
        http.post("/chat/completions", json={"model": "m", "messages": ASK})
    assert emu.usages[0].input_tokens


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"cannot listen on 127.0.0.1:{port}: .*another port"):
            Emulator(port=port).start()

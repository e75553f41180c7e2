"""Calls to models of another dialect: real SDKs, real sockets, bytes as the provider sends them."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, turns
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

QUIET: dict[str, Any] = {"version": 1, "trace": "off", "retry": False}
HELLO: list[Any] = [{"role": "user", "content": "How warm is it in Oslo?"}]
USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 100,
    "output_tokens": 7,
}


class Claude:
    """A server that speaks Anthropic's messages, and asks for a tool before it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.fail: tuple[int, str] | None = None
        self.breaks = False
        self.pause = 0.0
        claude = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                claude.requests.append((self.path, headers, body))
                if claude.fail is not None:
                    status, kind = claude.fail
                    error = {"type": kind, "message": f"told to: {kind}"}
                    self._send(status, "application/json", {"type": "error", "error": error})
                elif body.get("stream"):
                    self._send(200, "text/event-stream", None)
                    for event in claude.events(body)[: 4 if claude.breaks else None]:
                        said = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                        try:
                            self.wfile.write(said.encode())
                        except OSError:  # the reader left
                            return
                        time.sleep(claude.pause)
                else:
                    self._send(200, "application/json", claude.answer(body))

            def _send(self, status: int, kind: str, body: Any) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("request-id", "req_011")
                self.end_headers()
                if body is not None:
                    self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/anthropic"

    def blocks(self, body: Any) -> list[Any]:
        last = body["messages"][-1]["content"]
        done = isinstance(last, list) and any(b["type"] == "tool_result" for b in last)
        if body.get("tools") and not done:
            use = {"id": "toolu_1", "name": body["tools"][0]["name"], "input": {"q": "Oslo"}}
            return [{"type": "text", "text": "I look."}, {"type": "tool_use", **use}]
        return [{"type": "text", "text": "Four degrees, and rain."}]

    def answer(self, body: Any) -> Any:
        blocks = self.blocks(body)
        return {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": blocks,
            "stop_reason": "tool_use" if len(blocks) > 1 else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }

    def events(self, body: Any) -> list[Any]:
        whole = self.answer(body)
        start = {
            **whole,
            "content": [],
            "stop_reason": None,
            "usage": {**USAGE, "output_tokens": 1},
        }
        found: list[Any] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, block in enumerate(whole["content"]):
            empty = {**block, **({"text": ""} if block["type"] == "text" else {"input": {}})}
            at = {"index": index}
            found.append({"type": "content_block_start", **at, "content_block": empty})
            if block["type"] == "text":
                deltas = [
                    {"type": "text_delta", "text": word}
                    for word in (block["text"][:4], block["text"][4:])
                ]
            else:
                said = json.dumps(block["input"])
                deltas = [
                    {"type": "input_json_delta", "partial_json": p} for p in (said[:3], said[3:])
                ]
            found += [{"type": "content_block_delta", **at, "delta": delta} for delta in deltas]
            found.append({"type": "content_block_stop", **at})
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        found.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}})
        return [*found, {"type": "message_stop"}]


@pytest.fixture
def claude() -> Iterator[Claude]:
    made = Claude()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_KEY", "sk-claude")
    monkeypatch.setenv("QWEN_KEY", "sk-qwen")


def entry(claude: Claude, **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-5-5",
        "base_url": claude.base_url,
        "api_key_env": "CLAUDE_KEY",
        **more,
    }


def routed(claude: Claude, **more: Any) -> dict[str, Any]:
    rule = {"when": "true", "to": "claude"}
    return {"models": {"claude": entry(claude)}, "route": [rule], **more}


class Case:
    """A runtime, what it said, and SDKs that call through it."""

    def __init__(self, policy: dict[str, Any], base_url: str) -> None:
        self.events: list[Event] = []
        loaded = load_policy({**QUIET, **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.base_url = base_url

    def sdk(self) -> openai.OpenAI:
        client = clawmw.http_client(self.runtime, flavour="httpx")
        return openai.OpenAI(
            base_url=self.base_url, api_key="sk-caller", http_client=client, max_retries=0
        )

    def asdk(self) -> openai.AsyncOpenAI:
        client = clawmw.async_http_client(self.runtime, flavour="httpx")
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key="sk-caller", http_client=client, max_retries=0
        )

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]


@contextmanager
def served(policy: dict[str, Any], upstream: str | None = None) -> Iterator[tuple[Case, str]]:
    loaded = load_policy({**QUIET, **policy})
    case = Case(policy, "")
    gateway = Gateway(case.runtime, Places(loaded.models, upstream))
    with Served(gateway) as running:
        case.base_url = running.base_url
        yield case, running.base_url


def chat(client: openai.OpenAI, **more: Any) -> list[Any]:
    """A task with one call of a tool: the messages that came."""
    said, came = list(HELLO), []
    for _ in range(2):
        answer = client.chat.completions.create(
            model="gpt-4o", messages=said, tools=[tool("search")], **more
        )
        message = answer.choices[0].message
        came.append(answer)
        said.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            assert json.loads(call.function.arguments) == {"q": "Oslo"}
            said.append({"role": "tool", "tool_call_id": call.id, "content": "4 degrees"})
    return came


def test_a_chat_caller_is_answered_by_claude(claude: Claude, provider: Emulator) -> None:
    case = Case(routed(claude), provider.base_url)
    with case.sdk() as client:
        first, last = chat(client, seed=3)
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.content == "I look."
    assert last.choices[0].message.content == "Four degrees, and rain."
    assert last.usage.prompt_tokens == 117
    assert last.usage.prompt_tokens_details.cached_tokens == 100
    assert not provider.requests
    (path, headers, _), (_, _, body) = claude.requests
    assert path == "/anthropic/v1/messages"
    assert headers["x-api-key"] == "sk-claude"
    assert headers["anthropic-version"] == "2023-06-01"
    assert "sk-caller" not in str(headers)
    assert body["messages"][-1]["content"][0]["tool_use_id"] == "toolu_1"
    usage = case.finished[-1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (117, 100, 5)
    assert case.finished[-1].status == "ok"


def test_what_was_dropped_is_said(claude: Claude, provider: Emulator) -> None:
    case = Case(routed(claude), provider.base_url)
    with case.sdk() as client:
        answer = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO, seed=3, temperature=0.2
        )
        stream = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO, seed=3, stream=True
        )
        assert list(stream.parse())
    assert set(answer.headers["x-clawmw-dropped"].split(",")) == {"seed", "temperature"}
    assert answer.headers["x-request-id"] == "req_011"
    assert "seed" in stream.headers["x-clawmw-dropped"].split(",")


@pytest.mark.parametrize("counted", [False, True])
def test_a_stream_of_claudes_is_read_as_one_of_chat(
    claude: Claude, provider: Emulator, counted: bool
) -> None:
    case = Case(routed(claude, budget=False), provider.base_url)
    more: Any = {"stream_options": {"include_usage": True}} if counted else {}
    with case.sdk() as client:
        chunks = list(
            client.chat.completions.create(
                model="gpt-4o", messages=HELLO, stream=True, tools=[tool("search")], **more
            )
        )
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(c.delta.content or "" for c in choices) == "I look."
    calls = [call for c in choices for call in c.delta.tool_calls or ()]
    assert "".join(call.function.arguments or "" for call in calls) == '{"q": "Oslo"}'
    assert choices[-1].finish_reason == "tool_calls"
    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert [usage.prompt_tokens for usage in told] == ([117] if counted else [])


async def _astream(case: Case) -> str:
    async with case.asdk() as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


def test_the_async_twin_streams_and_answers(claude: Claude, provider: Emulator) -> None:
    case = Case(routed(claude), provider.base_url)
    assert asyncio.run(_astream(case)) == "Four degrees, and rain."

    async def whole() -> Any:
        async with case.asdk() as client:
            return await client.chat.completions.create(model="m", messages=HELLO)

    assert asyncio.run(whole()).choices[0].message.content == "Four degrees, and rain."
    assert [done.status for done in case.finished] == ["ok", "ok"]


def test_pieces_arrive_as_they_are_sent(claude: Claude, provider: Emulator) -> None:
    claude.pause = 0.1
    case = Case(routed(claude), provider.base_url)
    with case.sdk() as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        came = [time.monotonic() for chunk in stream if chunk.choices]
    assert came[-1] - came[0] > 0.25


def test_fallback_leads_to_another_dialect(claude: Claude, provider: Emulator) -> None:
    policy = {"models": {"claude": entry(claude)}, "fallback": {"gpt-4o": ["claude"]}}
    case = Case(policy, provider.base_url)
    provider.fail_next(Fault(status=503), Fault(status=503))
    with case.sdk() as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert answer.choices[0].message.content == text == "Four degrees, and rain."
    assert answer.model == "claude-sonnet-5-5"
    assert len(provider.requests) == 2


def test_claude_fails_and_the_callers_own_model_answers(claude: Claude, provider: Emulator) -> None:
    claude.fail = (529, "overloaded_error")
    policy = routed(claude, fallback={"claude": ["own"]})
    policy["models"]["own"] = {"model": "gpt-4o", "base_url": provider.base_url}
    case = Case(policy, provider.base_url)
    with case.sdk() as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert answer.model == "gpt-4o"
    assert len(claude.requests) == len(provider.requests) == 1


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ((429, "rate_limit_error"), openai.RateLimitError),
        ((401, "authentication_error"), openai.AuthenticationError),
        ((400, "invalid_request_error"), openai.BadRequestError),
        ((529, "overloaded_error"), openai.InternalServerError),
    ],
)
def test_errors_are_the_callers_own(
    claude: Claude, provider: Emulator, fail: tuple[int, str], error: type[openai.APIStatusError]
) -> None:
    claude.fail = fail
    case = Case(routed(claude, breaker=False), provider.base_url)
    with case.sdk() as client, pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert raised.value.status_code == fail[0]
    assert f"told to: {fail[1]}" in str(raised.value)


def test_a_stream_that_breaks_off_is_not_taken_for_whole(
    claude: Claude, provider: Emulator
) -> None:
    claude.breaks = True
    case = Case(routed(claude), provider.base_url)
    with case.sdk() as client:
        stream = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        chunks = [chunk for chunk in stream if chunk.choices]
    assert not any(chunk.choices[0].finish_reason for chunk in chunks)
    assert case.finished[-1].status != "ok"


def test_what_cannot_be_said_is_a_400_at_once(claude: Claude, provider: Emulator) -> None:
    case = Case(routed(claude), provider.base_url)
    with case.sdk() as client, pytest.raises(openai.BadRequestError, match="n: Anthropic") as e:
        client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)
    assert e.value.response.headers["x-should-retry"] == "false"
    assert not claude.requests
    with case.sdk() as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2, stream=True)

    async def same() -> None:
        async with case.asdk() as client:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)

    with pytest.raises(openai.BadRequestError):
        asyncio.run(same())


# --- the gateway ----------------------------------------------------------------------------


@pytest.mark.parametrize("off", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_leads_to_a_place_of_another_dialect(
    claude: Claude, monkeypatch: pytest.MonkeyPatch, off: bool, stream: bool
) -> None:
    if off:
        monkeypatch.setenv("CLAWMW_OFF", "1")
    with (
        served({"models": {"claude": entry(claude)}}) as (_, url),
        openai.OpenAI(base_url=url, api_key="sk-caller", max_retries=0) as client,
    ):
        for model in ("claude", "claude-sonnet-5-5"):
            if stream:
                pieces = client.chat.completions.create(model=model, messages=HELLO, stream=True)
                text = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
            else:
                answer = client.chat.completions.create(model=model, messages=HELLO)
                text = answer.choices[0].message.content or ""
            assert text == "Four degrees, and rain."
        with pytest.raises(openai.BadRequestError, match="n: Anthropic"):
            client.chat.completions.create(model="claude", messages=HELLO, n=2)
    assert {path for path, _, _ in claude.requests} == {"/anthropic/v1/messages"}
    assert {headers["x-api-key"] for _, headers, _ in claude.requests} == {"sk-claude"}


def test_the_callers_key_goes_in_the_form_of_the_place(claude: Claude) -> None:
    with (
        served({"models": {"claude": entry(claude, api_key_env=None)}}) as (_, url),
        openai.OpenAI(base_url=url, api_key="sk-caller", max_retries=0) as client,
    ):
        client.chat.completions.create(model="claude", messages=HELLO)
    [(_, headers, _)] = claude.requests
    assert headers["x-api-key"] == "sk-caller"
    assert "authorization" not in headers


def test_the_gateway_falls_back_to_another_dialect(claude: Claude, provider: Emulator) -> None:
    policy = {"models": {"claude": entry(claude)}, "fallback": {"gpt-4o": ["claude"]}}
    provider.fail_next(Fault(status=503))
    with (
        served(policy, provider.base_url) as (_, url),
        openai.OpenAI(base_url=url, api_key="sk-caller", max_retries=0) as client,
    ):
        [first, last] = chat(client)
    assert first.choices[0].message.content
    assert last.choices[0].finish_reason == "stop"


def test_a_caller_that_leaves_ends_the_call_of_another_dialect(claude: Claude) -> None:
    claude.pause = 0.3
    with served({"models": {"claude": entry(claude)}}) as (case, url):
        body = {"model": "claude", "messages": HELLO, "stream": True}
        with (
            httpx.Client() as client,
            client.stream("POST", f"{url}/chat/completions", json=body) as r,
        ):
            next(r.iter_bytes())
        deadline = time.monotonic() + 5
        while not case.finished and time.monotonic() < deadline:
            time.sleep(0.02)
        assert case.finished


# --- callers of the other dialects ----------------------------------------------------------

BRAIN = [Reply("I look.", (ToolUse("search", {"q": "Oslo"}),)), Reply("Four degrees.")]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}}
DIALECTS = ("openai.chat", "openai.responses", "anthropic.messages")


def runtime_to(provider: Emulator, wire: str) -> tuple[Runtime, list[Event]]:
    key = {"api_key_env": "QWEN_KEY", "dialect": wire}
    there = {"model": "m-there", "base_url": provider.base_url, **key}
    policy = {"models": {"there": there}, "route": [{"when": "true", "to": "there"}]}
    events: list[Event] = []
    return Runtime.of(load_policy({**QUIET, **policy}), observers=[events.append]), events


def by_chat(stream: bool, **options: Any) -> list[str]:
    texts, said = [], list(HELLO)
    with openai.OpenAI(api_key="k", **options) as sdk:
        for _ in range(2):
            ask: Any = {"model": "m", "messages": said, "tools": [tool("search")]}
            if stream:
                with sdk.chat.completions.stream(**ask) as events:
                    message = events.get_final_completion().choices[0].message
            else:
                message = sdk.chat.completions.create(**ask).choices[0].message
            texts.append(message.content or "")
            calls = [
                c.model_dump(exclude={"function": {"parsed_arguments"}})
                for c in message.tool_calls or ()
            ]
            said.append({"role": "assistant", "content": message.content, "tool_calls": calls})
            said += [{"role": "tool", "tool_call_id": c["id"], "content": "4"} for c in calls]
    return texts


def by_messages(stream: bool, **options: Any) -> list[str]:
    texts, said = [], list(HELLO)
    options["base_url"] = options["base_url"].removesuffix("/v1")
    with anthropic.Anthropic(api_key="k", **options) as sdk:
        for _ in range(2):
            tools = [{"name": "search", "input_schema": SCHEMA}]
            ask: Any = {"model": "m", "messages": said, "tools": tools, "max_tokens": 500}
            if stream:
                with sdk.messages.stream(**ask) as events:
                    message = events.get_final_message()
            else:
                message = sdk.messages.create(**ask)
            texts.append("".join(b.text for b in message.content if b.type == "text"))
            assert message.usage.input_tokens > 0
            said.append({"role": "assistant", "content": [b.to_dict() for b in message.content]})
            results = [
                {"type": "tool_result", "tool_use_id": b.id, "content": "4"}
                for b in message.content
                if b.type == "tool_use"
            ]
            assert message.stop_reason == ("tool_use" if results else "end_turn")
            said.append({"role": "user", "content": results})
    return texts


def by_responses(stream: bool, **options: Any) -> list[str]:
    texts, said = [], list(HELLO)
    with openai.OpenAI(api_key="k", **options) as sdk:
        for _ in range(2):
            tools = [{"type": "function", "name": "search", "parameters": SCHEMA, "strict": False}]
            ask: Any = {"model": "m", "input": said, "tools": tools, "store": False}
            if stream:
                with sdk.responses.stream(**ask) as events:
                    answer: Any = events.get_final_response()
            else:
                answer = sdk.responses.create(**ask)
            texts.append(answer.output_text)
            assert answer.usage.input_tokens > 0
            for item in answer.output:
                kept = item.to_dict()
                kept.pop("parsed_arguments", None)
                said.append(kept)
                if item.type == "function_call":
                    result = {"type": "function_call_output", "call_id": item.call_id}
                    said.append({**result, "output": "4"})
    return texts


CALLERS = {
    "openai.chat": by_chat,
    "openai.responses": by_responses,
    "anthropic.messages": by_messages,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire", DIALECTS)
@pytest.mark.parametrize("caller", DIALECTS)
def test_a_task_is_done_across_any_two_dialects(caller: str, wire: str, stream: bool) -> None:
    with Emulator(bill="openai", brain=turns(BRAIN)) as provider:
        runtime, events = runtime_to(provider, wire)
        client = clawmw.http_client(runtime, flavour="httpx2")
        texts = CALLERS[caller](stream, base_url="http://127.0.0.1:1/v1", http_client=client)
    assert texts == ["I look.", "Four degrees."]
    ends = {"openai.chat": "/completions", "openai.responses": "/responses"}
    assert {r.path.endswith(ends.get(wire, "/messages")) for r in provider.requests} == {True}
    done = [e for e in events if isinstance(e, CallFinished)]
    assert [e.status for e in done] == ["ok", "ok"]
    billed = provider.usages[-1]
    assert done[-1].usage is not None
    assert done[-1].usage.input_tokens == billed.input_tokens
    assert done[-1].usage.output_tokens == billed.output_tokens


@pytest.mark.parametrize(("caller", "wire"), [(a, b) for a in DIALECTS for b in DIALECTS if a != b])
def test_the_gateway_too_leads_from_any_dialect_to_any(caller: str, wire: str) -> None:
    with Emulator(bill="openai", brain=turns(BRAIN)) as provider:
        key = {"api_key_env": "QWEN_KEY", "dialect": wire}
        policy = {"models": {"m": {"model": "m-there", "base_url": provider.base_url, **key}}}
        with served(policy) as (case, url):
            texts = CALLERS[caller](True, base_url=url)
    assert texts == ["I look.", "Four degrees."]
    assert {r.body["model"] for r in provider.requests} == {"m-there"}
    assert [e.status for e in case.finished] == ["ok", "ok"]


def claude_sdk(case: Case, base_url: str) -> anthropic.Anthropic:
    client = clawmw.http_client(case.runtime, flavour="httpx2")
    return anthropic.Anthropic(api_key="sk-a", base_url=base_url, http_client=client, max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_callers_fallback_is_a_chat_server(
    claude: Claude, provider: Emulator, stream: bool
) -> None:
    claude.fail = (529, "overloaded_error")
    qwen = {"model": "qwen3", "base_url": provider.base_url, "api_key_env": "QWEN_KEY"}
    policy = {"models": {"qwen": qwen}, "fallback": {"claude-opus-5-5": ["qwen"]}}
    case = Case(policy, "")
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    said: list[Any] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Yes?"}]},
        {"role": "user", "content": "How warm is it?"},
    ]
    ask: Any = {"model": "claude-opus-5-5", "messages": said, "max_tokens": 99}
    with claude_sdk(case, claude.base_url) as sdk:
        if stream:
            with sdk.messages.stream(**ask) as events:
                message = events.get_final_message()
        else:
            message = sdk.messages.create(**ask)
    assert message.model == "qwen3"
    assert message.stop_reason == "end_turn"
    assert len(claude.requests) == len(provider.requests) == 1
    sent = provider.requests[0].body
    assert "Hm." not in json.dumps(sent)
    assert sent["messages"][1]["content"] == "Yes?"
    assert sent["max_tokens"] == 99


def test_an_anthropic_caller_sees_errors_in_its_own_shape(
    claude: Claude, provider: Emulator
) -> None:
    qwen = {"model": "qwen3", "base_url": provider.base_url, "api_key_env": "QWEN_KEY"}
    policy = {"models": {"qwen": qwen}, "route": [{"when": "true", "to": "qwen"}]}
    case = Case({**policy, "breaker": False}, "")
    ask: Any = {"model": "claude-x", "messages": HELLO, "max_tokens": 9}
    with claude_sdk(case, claude.base_url) as sdk:
        provider.fail_next(Fault(status=429))
        with pytest.raises(anthropic.RateLimitError, match="rate_limit_error"):
            sdk.messages.create(**ask)
        with pytest.raises(anthropic.BadRequestError, match="inference_geo: ") as raised:
            sdk.messages.create(**ask, inference_geo="us")
        assert raised.value.response.headers["x-should-retry"] == "false"
    assert not claude.requests


THOUGHTS = [
    {"role": "assistant", "reasoning_content": "Hm, "},
    {"reasoning_content": "so."},
    {"content": "Four."},
]


def thinking_server(request: httpx2.Request) -> httpx2.Response:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "q"}
    chunks: list[Any] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in THOUGHTS
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    headers = {"content-type": "text/event-stream"}
    return httpx2.Response(200, headers=headers, content=body + b"data: [DONE]\n\n")


def test_anothers_reasoning_is_seen_to_go_on_but_not_kept() -> None:
    """Its reader would send it back as thinking that no one signed."""
    there = {"model": "q", "base_url": "http://127.0.0.1:1/v1", "dialect": "openai.chat"}
    case = Case({"models": {"q": there}, "route": [{"when": "true", "to": "q"}]}, "")
    through = httpx2.MockTransport(thinking_server)

    def client() -> Any:
        return clawmw.http_client(case.runtime, flavour="httpx2", transport=through)

    ask: Any = {"model": "m", "max_tokens": 9, "messages": HELLO}
    with anthropic.Anthropic(api_key="k", http_client=client()) as sdk:
        kinds = [event.type for event in sdk.messages.create(**ask, stream=True)]
        with sdk.messages.stream(**ask) as events:
            message = events.get_final_message()
    assert [block.type for block in message.content] == ["text"]
    assert kinds[0] == "message_start"
    with openai.OpenAI(api_key="k", http_client=client()) as sdk:
        with sdk.responses.stream(model="m", input="hi") as stream:
            answer = stream.get_final_response()
        chat = sdk.chat.completions.create(model="m", messages=HELLO, stream=True)
        said = [getattr(c.choices[0].delta, "reasoning_content", None) for c in chat if c.choices]
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == "Four."
    assert [s for s in said if s] == ["Hm, ", "so."]
    assert [e.status for e in case.finished] == ["ok"] * 4


@pytest.mark.parametrize("others", [["qwen"], ["qwen", "spare"]])
def test_a_model_that_cannot_be_told_is_passed_over(
    claude: Claude, provider: Emulator, others: list[str]
) -> None:
    """Without another, the caller hears of the failure that there was, not of ours to help."""
    claude.fail = (529, "overloaded_error")
    key = {"base_url": provider.base_url, "api_key_env": "QWEN_KEY"}
    spare = {"model": "claude-sonnet-5-5", "dialect": "anthropic.messages", **key}
    policy = {
        "models": {"qwen": {"model": "qwen3", **key}, "spare": spare},
        "fallback": {"claude-opus-5-5": others},
    }
    case = Case(policy, "")
    ask: Any = {"model": "claude-opus-5-5", "messages": HELLO, "max_tokens": 99}
    with claude_sdk(case, claude.base_url) as sdk:
        if len(others) > 1:
            message = sdk.messages.create(**ask, inference_geo="us")
            assert message.model == "claude-sonnet-5-5"
            [request] = provider.requests
            assert request.body["inference_geo"] == "us"
        else:
            with pytest.raises(anthropic.APIStatusError, match="told to: overloaded") as raised:
                sdk.messages.create(**ask, inference_geo="us")
            assert raised.value.status_code == 529
            assert not provider.requests


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire", DIALECTS)
def test_what_was_cut_is_expanded_across_dialects(wire: str, stream: bool) -> None:
    """The stages' own tool goes out, is called and answered, in the dialect of the place."""
    seen: list[str] = []

    def brain(asked: dict[str, Any]) -> Reply:
        said = json.dumps(asked)
        found = re.search(r"\[clawmw_expand (\w+):", said)
        seen.append(found[1] if found else "")
        if found is None or len(seen) > 1:
            return Reply("I see.")
        return Reply(tools=(ToolUse("clawmw_expand", {"ref": found[1], "lines": "1-2"}),))

    cut = turn("c1", "search", {"q": "x"}, rows(300))
    said = [HELLO[0], *cut, {"role": "user", "content": "And the cheapest?"}]
    with Emulator(bill="openai", brain=brain) as provider:
        runtime, events = runtime_to(provider, wire)
        client = clawmw.http_client(runtime, flavour="httpx2")
        with openai.OpenAI(
            api_key="k", base_url="http://127.0.0.1:1/v1", http_client=client
        ) as sdk:
            ask: Any = {"model": "m", "messages": said, "tools": [tool("search")]}
            if stream:
                with sdk.chat.completions.stream(**ask) as chunks:
                    message = chunks.get_final_completion().choices[0].message
            else:
                message = sdk.chat.completions.create(**ask).choices[0].message
    assert message.content == "I see."
    assert not message.tool_calls
    assert len(provider.requests) == 2
    assert "clawmw_expand" in json.dumps(provider.requests[0].body["tools"])
    [done] = [e for e in events if isinstance(e, CallFinished)]
    assert done.status == "ok"

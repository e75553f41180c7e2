"""How a stopped call is answered: whom a message reaches, who gets an error, and how often it is
asked for, by the SDKs that people use."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

import httpx
import openai
import pytest

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.adapters.refusal import refusal, style_of, told
from clawmw.core.decisions import Because, Halt
from clawmw.core.events import CallFinished, Event
from clawmw.core.identity import Identity, identify
from clawmw.core.types import Request
from clawmw.emulator import Emulator
from clawmw.policy.build import codecs
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import Bench

STOPPED: dict[str, Any] = {"version": 1, "trace": "off", "budget": {"chain": {"calls": 0}}}
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CLAW = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "You are a personal assistant running inside OpenClaw."},
        {"role": "user", "content": "hi\n\nRuntime: agent=main | session=k | sessionId=s | host=h"},
    ],
}
BUSY = Halt(
    Because("admission", "max_wait"), "upstream", "120 s of waiting", "121 s", "Ask again later.",
    kind="busy", retry_after=7.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


class Stopping:
    """A gateway whose every call is stopped, and the requests that came to it."""

    def __init__(self, provider: Emulator, **policy: Any) -> None:
        loaded = load_policy({**STOPPED, **policy})
        self.events: list[Event] = []
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.gateway = Gateway(self.runtime, Places(loaded.models, provider.base_url))
        self.served = Served(self.gateway)

    def __enter__(self) -> Self:
        self.served.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.served.__exit__(*args)
        self.runtime.close()

    @property
    def calls(self) -> int:
        return self.gateway.counts.calls

    def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        url = f"{self.served.base_url}/chat/completions"
        return httpx.post(url, json=body, headers=named, timeout=20)


# --- R1: one refusal, one request ------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_asks_a_gateway_once(provider: Emulator, stream: bool) -> None:
    """R1, with the SDK's own retries on; B21: nothing goes upstream."""
    before = len(provider.requests)
    with (
        Stopping(provider) as case,
        openai.OpenAI(base_url=case.served.base_url, api_key="k", max_retries=5) as client,
        pytest.raises(openai.APIStatusError, match=r"budget\.chain\.calls") as caught,
    ):
        client.chat.completions.create(**ASK, stream=stream)
    assert caught.value.status_code == 402
    assert case.calls == 1
    assert len(provider.requests) == before
    error: Any = caught.value.body
    assert (error["scope"], error["limit"], error["type"]) == ("chain", "0 calls", "clawmw_refused")
    assert error["code"] == "budget.chain.calls"
    assert error["used"]
    assert error["resume"] in error["message"]


def test_the_async_openai_sdk_asks_a_gateway_once(provider: Emulator) -> None:
    """R1."""

    async def go() -> None:
        async with openai.AsyncOpenAI(
            base_url=case.served.base_url, api_key="k", max_retries=5
        ) as client:
            await client.chat.completions.create(**ASK)

    with Stopping(provider) as case:
        with pytest.raises(openai.APIStatusError):
            asyncio.run(go())
        assert case.calls == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_asks_in_process_once(provider: Emulator, stream: bool) -> None:
    """R1, B21: through `http_client`, the SDK raises its own exception."""
    events: list[Event] = []
    runtime = Runtime.of(load_policy(STOPPED), observers=[events.append])
    before = len(provider.requests)
    client = openai.OpenAI(
        base_url=provider.base_url,
        api_key="k",
        max_retries=5,
        http_client=clawmw.http_client(runtime),
    )
    with client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ASK, stream=stream)
    assert caught.value.status_code == 402
    assert sum(isinstance(e, CallFinished) for e in events) == 1
    assert len(provider.requests) == before


@pytest.mark.parametrize("halt", [None, BUSY])
def test_the_anthropic_sdk_asks_once(halt: Halt | None) -> None:
    """R1: the shape of its dialect, for a limit and for a busy upstream."""
    anthropic = pytest.importorskip("anthropic")
    httpx2 = pytest.importorskip("httpx2")
    status, headers, body = answered(halt, dialect="anthropic.messages")
    asked: list[Any] = []

    def inner(request: Any) -> Any:
        asked.append(request)
        return httpx2.Response(status, headers=headers, content=body)

    http = anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(inner))
    client = anthropic.Anthropic(api_key="k", max_retries=5, http_client=http)
    with client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert len(asked) == 1
    assert caught.value.status_code == (503 if halt else 402)
    assert caught.value.body["type"] == "error"
    assert "resume" in caught.value.body["error"]


# --- who gets what ---------------------------------------------------------------------------


def stopped(halt: Halt | None = None, **request: Any) -> tuple[Any, Any]:
    """A call that a guard stopped, and how it ended."""
    case = Bench(STOPPED)
    body = json.dumps({**ASK, **request}).encode()
    live = case.runtime.begin(case.runtime.decode("openai.chat", body), {}, case.identity)
    step = next(live.run)
    while True:
        try:
            step = live.run.send(live.perform(step))
        except StopIteration as done:
            result = done.value
            break
    return live, replace(result, halt=halt) if halt else result


def answered(halt: Halt | None = None, dialect: str = "openai.chat", **more: Any) -> Any:
    live, result = stopped(halt, **more.pop("request", {}))
    live.request, live.codec = replace(live.request, dialect=dialect), codecs()[dialect]
    return refusal(live, result, more.pop("policy", "auto"))


AGENTS = {
    "openclaw": {},
    "claude-code": {"x-claude-code-session-id": "s"},
    "codex": {"originator": "codex_cli_rs"},
    "opencode": {"user-agent": "opencode/1.0"},
}


@pytest.mark.parametrize("client", AGENTS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_agents_turn_ends_with_a_message(
    provider: Emulator, client: str, stream: bool
) -> None:
    with Stopping(provider) as case:
        said = CLAW if client == "openclaw" else ASK
        response = case.post({**said, "stream": stream}, **AGENTS[client])
        assert case.calls == 1
    assert response.status_code == 200
    assert response.headers["x-clawmw-stopped"] == "budget.chain.calls"
    assert "0 calls per chain (budget.chain.calls)" in response.text
    assert '"finish_reason":"stop"' in response.text.replace(" ", "")
    kind = "text/event-stream" if stream else "application/json"
    assert response.headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    "request_",
    [
        {"response_format": SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        {"output_config": {"format": {"type": "json_schema"}}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}},
        {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}},
        {"function_call": {"name": "f"}},
    ],
)  # fmt: skip
def test_what_a_program_parses_is_an_error_even_for_a_chat_agent(
    request_: dict[str, Any],
) -> None:
    assert style(request_, "openclaw") == "error"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"response_format": {"type": "text"}},
        {"text": {"format": {"type": "text"}}},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
        {"tool_choice": None, "response_format": None},
        {"tool_choice": [], "response_format": "odd", "text": 3},
    ],
)
def test_what_a_person_reads_is_a_message_for_a_chat_agent(request_: dict[str, Any]) -> None:
    assert style(request_, "openclaw") == "message"
    assert style(request_, "") == "error"


def style(params: dict[str, Any], client: str, policy: Any = "auto", **headers: str) -> str:
    request = Request("openai.chat", "m", (), params=params)
    who = identify(request, {k.replace("_", "-"): v for k, v in headers.items()})
    return style_of(policy, replace(who, client=client), request)


def test_the_policy_chooses_and_the_caller_before_it() -> None:
    assert style({"response_format": SCHEMA}, "", "message") == "message"
    assert style({}, "openclaw", "error") == "error"
    assert style({}, "", "error", x_clawmw_refusal="message") == "message"
    assert style({}, "openclaw", "message", x_clawmw_refusal="error") == "error"
    assert style({}, "openclaw", "auto", x_clawmw_refusal="whatever") == "message"


def test_a_callers_choice_comes_by_header(provider: Emulator) -> None:
    with Stopping(provider) as case:
        assert case.post(ASK).status_code == 402
        assert case.post(ASK, x_clawmw_refusal="message").status_code == 200
        assert case.post(CLAW).status_code == 200
        assert case.post(CLAW, x_clawmw_refusal="error").status_code == 402


def test_a_place_with_a_key_of_its_own_hides_nobody(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's headers do not go there, but they say who calls."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    entry = {"model": "m", "base_url": provider.base_url, "api_key_env": "LOCAL_KEY"}
    provider.requests.clear()
    with Stopping(provider, models={"local": entry}, budget={"chain": {"calls": 1}}) as case:
        named = {"x_clawmw_session": "s", "x_clawmw_chain": "c", "x_clawmw_agent": "a"}
        for _ in range(2):
            last = case.post({**ASK, "model": "local"}, **named, cookie="x")
        done = [e for e in case.events if isinstance(e, CallFinished)]
    assert last.headers["x-clawmw-stopped"] == "budget.chain.calls"
    assert {(e.identity.session, e.identity.chain, e.identity.agent) for e in done} == {
        ("s", "c", "a")
    }
    [sent] = provider.requests
    assert not [n for n in sent.headers if n.startswith("x-clawmw") or n == "cookie"]


# --- busy ------------------------------------------------------------------------------------


def test_a_busy_upstream_is_a_503_that_no_sdk_retries() -> None:
    """S11, in part: what is busy says when to come back; a limit never looks like it."""
    status, headers, body = answered(BUSY)
    named = dict(headers)
    assert status == 503
    assert (named["retry-after"], named["x-should-retry"]) == ("8", "false")
    assert json.loads(body)["error"]["code"] == "admission.max_wait"
    asked: list[httpx.Request] = []

    def inner(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, headers=headers, content=body)

    http = httpx.Client(transport=httpx.MockTransport(inner))
    with (
        openai.OpenAI(base_url="http://x/v1", api_key="k", http_client=http) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(**ASK)
    assert len(asked) == 1


def test_a_busy_upstream_is_a_message_for_a_chat_agent() -> None:
    live, result = stopped(BUSY)
    who = Identity(session="s", chain="c", client="openclaw")
    result = replace(result, finished=replace(result.finished, identity=who))
    status, headers, body = refusal(live, result, "auto")
    assert status == 200
    assert dict(headers)["retry-after"] == "8"
    assert "Ask again later." in json.loads(body)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("after", [None, 0.0, -3.0, math.nan, math.inf, 1e12, 0.01])
def test_when_to_come_back_is_a_sane_number(after: float | None) -> None:
    """R3, for what we say ourselves."""
    status, headers, _ = answered(replace(BUSY, retry_after=after))
    assert status == 503
    assert 1 <= int(dict(headers)["retry-after"]) <= 3600


@pytest.mark.parametrize("policy", ["auto", "message", "error"])
@pytest.mark.parametrize("kind", ["limit", "busy"])
def test_a_limit_is_never_a_429_or_a_503(policy: str, kind: Any) -> None:
    status, headers, _ = answered(replace(BUSY, kind=kind), policy=policy)
    assert status in ((200, 402) if kind == "limit" else (200, 503))
    assert dict(headers)["x-should-retry"] == "false"


@pytest.mark.parametrize("whole", [False, True])
def test_the_reason_is_found_in_what_an_sdk_raises(whole: bool) -> None:
    """The openai SDK keeps what is within `error`, the anthropic SDK the whole body."""
    inner = {"type": "clawmw_refused", "message": "no more today"}
    stopped, outer = RuntimeError("402"), ValueError("wrapped")
    stopped.body = {"type": "error", "error": inner} if whole else inner  # type: ignore[attr-defined]
    outer.__cause__ = stopped
    assert told(outer) == "no more today"


def test_another_error_tells_no_reason_though_it_be_its_own_cause() -> None:
    error = RuntimeError("503")
    error.body = {"type": "server_error", "message": "busy"}  # type: ignore[attr-defined]
    error.__cause__ = error
    assert told(error) is None
    assert told(None) is None

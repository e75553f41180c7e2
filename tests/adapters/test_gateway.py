"""The gateway on a real socket, between real clients and a provider on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_socket import listen
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import Attempted, BodyUnread, CallFinished, CallStarted, Event, StageFailed
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, script
from clawmw.errors import ClawmwError
from clawmw.ownership import Tokens
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

QUIET = {"version": 1, "trace": "off", "retry": False}
TOOLS = [tool("search")]
TOKEN = "t" * 40
Body = dict[str, Any]


class Case:
    """A gateway, what its runtime said, and how to ask it."""

    def __init__(self, served: Served, events: list[Event]) -> None:
        self.served = served
        self.events = events
        self.url = served.base_url
        self.chat = f"{served.base_url}/chat/completions"
        self.http = httpx.Client(verify=False, timeout=20)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        given = {"content-type": "application/json", **named}
        return self.http.post(self.chat, content=content, headers=given)

    def sdk(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="sk-caller", max_retries=0, **options)

    def asdk(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url, api_key="sk-caller", max_retries=0)

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]


@contextmanager
def gateway(
    upstream: str | None,
    policy: Body | None = None,
    *,
    token: str | None = None,
    key_env: str | None = None,
    **options: Any,
) -> Iterator[Case]:
    loaded = load_policy({**QUIET, **(policy or {})})
    events: list[Event] = []
    runtime = Runtime.of(loaded, observers=[events.append])
    places = Places(loaded.models, upstream, key_env)
    made = Gateway(runtime, places, tokens=Tokens.of_user(), **options)
    with Served(made, token=token) as served:
        case = Case(served, events)
        with case.http:
            yield case
    runtime.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(shared: Emulator) -> Emulator:
    shared.requests.clear()
    return shared


@pytest.fixture
def case(provider: Emulator) -> Iterator[Case]:
    with gateway(provider.base_url) as made:
        yield made


def body(*messages: Body, **extra: Any) -> Body:
    said = messages or ({"role": "user", "content": "hello there"},)
    return {"model": "gpt-4o", "messages": list(said), **extra}


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


# --- what an SDK sees -----------------------------------------------------------------------


def test_the_sdk_gets_its_answer(case: Case, provider: Emulator) -> None:
    with case.sdk() as client:
        answer = client.chat.completions.create(**body())
    assert answer.choices[0].message.content == "hello there"
    [done] = case.finished
    assert done.status == "ok"
    assert done.usage is not None
    assert done.usage.basis == "measured"
    assert provider.requests[0].headers["authorization"] == "Bearer ***"


@pytest.mark.parametrize("wants_usage", [False, True])
def test_the_async_sdk_streams(case: Case, wants_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}

    async def go() -> tuple[str, list[Any]]:
        async with case.asdk() as client:
            stream = await client.chat.completions.create(**body(), stream=True, **options)
            chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        return text, [c.usage for c in chunks if c.usage]

    text, usage = asyncio.run(go())
    assert text == "hello there"
    assert len(usage) == wants_usage
    until(lambda: len(case.finished) == 1)
    assert case.finished[0].usage is not None
    assert case.finished[0].usage.basis == "measured"


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_and_results_are_reduced(stream: bool) -> None:
    replies = [Reply(tools=(ToolUse("search", {"q": "x"}),)), "found it"]
    with (
        Emulator(brain=script(replies)) as provider,
        gateway(provider.base_url) as case,
        case.sdk() as client,
    ):
        asked = [
            {"role": "system", "content": "You look things up. " * 300},
            {"role": "user", "content": "hello there"},
        ]
        first: Any = client.chat.completions.create(**body(*asked, tools=TOOLS), stream=stream)
        if stream:
            deltas = [c.choices[0].delta for c in first if c.choices]
            calls = [call for d in deltas for call in d.tool_calls or ()]
            name = "".join(c.function.name or "" for c in calls)
            arguments = "".join(c.function.arguments or "" for c in calls)
        else:
            function = first.choices[0].message.tool_calls[0].function
            name, arguments = function.name, function.arguments
        assert (name, json.loads(arguments)) == ("search", {"q": "x"})
        history = [*asked, *turn("c1", "search", {"q": "x"}, rows(300))]
        second = client.chat.completions.create(**body(*history, tools=TOOLS))
        assert second.choices[0].message.content == "found it"
        sent = provider.requests[1].body["messages"][3]["content"]
        assert len(sent) < len(rows(300)) / 3


def test_an_unchanged_body_is_forwarded_as_its_own_bytes() -> None:
    raw = b'{ "messages":[{"content":"h\\u00e9","role":"user"}], "model" : "m","x":1.50}'
    seen: list[bytes] = []
    with upstream(lambda handler, sent: seen.append(sent)) as url, gateway(url) as case:
        case.post(raw)
    assert seen == [raw]


def test_a_hundred_calls_at_once(case: Case, provider: Emulator) -> None:
    async def go() -> list[str | None]:
        async with case.asdk() as client:
            asks = [
                client.chat.completions.create(**body({"role": "user", "content": f"call {n}"}))
                for n in range(100)
            ]
            return [a.choices[0].message.content for a in await asyncio.gather(*asks)]

    assert asyncio.run(go()) == [f"call {n}" for n in range(100)]
    assert len(case.finished) == len(provider.requests) == 100
    assert {done.status for done in case.finished} == {"ok"}


def test_a_stop_is_a_message_that_names_the_rule(provider: Emulator) -> None:
    with gateway(
        provider.base_url, {"budget": {"chain": {"calls": 1}}, "refusal": "message"}
    ) as case:
        assert case.post(body(), x_clawmw_chain="c").status_code == 200
        stopped = case.post(body(), x_clawmw_chain="c")
        assert stopped.status_code == 200
        assert stopped.headers["x-clawmw-stopped"] == "budget.chain.calls"
        assert "calls" in stopped.json()["choices"][0]["message"]["content"]
        assert case.post(body(), x_clawmw_chain="another").headers.get("x-clawmw-stopped") is None
        with case.sdk(default_headers={"x-clawmw-chain": "c"}) as client:
            chunks = list(client.chat.completions.create(**body(), stream=True))
        assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(provider.requests) == 2


def test_a_stop_can_be_an_error(provider: Emulator) -> None:
    policy = {"budget": {"chain": {"calls": 1}}, "refusal": "error"}
    with gateway(provider.base_url, policy) as case, case.sdk() as client:
        client.chat.completions.create(**body())
        with pytest.raises(openai.APIStatusError, match=r"budget\.chain\.calls") as caught:
            client.chat.completions.create(**body())
    assert caught.value.status_code == 402
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_who_is_calling_comes_from_headers_and_the_tenant_does_not(case: Case) -> None:
    case.post(body(), x_clawmw_agent="scout", x_clawmw_session="s1", x_clawmw_tenant="other")
    case.post(body(), traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    first, second = (e.identity for e in case.events if isinstance(e, CallStarted))
    assert (first.agent, first.session, first.tenant) == ("scout", "s1", "default")
    assert second.chain == "ab" * 16


# --- streams --------------------------------------------------------------------------------


def test_a_chunk_is_forwarded_when_it_arrives() -> None:
    """The provider sends the next event only once its reader has the one before."""
    words = ["one", "two", "three"]
    read = [threading.Event() for _ in words]

    def in_step(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for word, seen in zip(words, read, strict=True):
            handler.wfile.write(event(word))
            handler.wfile.flush()
            assert seen.wait(10), f"{word!r} was held back"
        handler.wfile.write(event("", "stop") + b"data: [DONE]\n\n")

    with (
        upstream(in_step) as url,
        gateway(url) as case,
        case.http.stream("POST", case.chat, json=body(stream=True)) as response,
    ):
        text = ""
        for piece in response.iter_text():
            text += piece
            for word, seen in zip(words, read, strict=True):
                if word in text:
                    seen.set()
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_ends_the_call_upstream_once(
    case: Case, provider: Emulator, stream: bool
) -> None:
    gone = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream" if stream else "application/json")
        handler.end_headers()
        handler.wfile.write(event("first"))
        handler.wfile.flush()
        handler.connection.settimeout(10)
        if handler.connection.recv(1) == b"":
            gone.set()

    with upstream(slowly) as url, gateway(url) as case:
        if stream:
            with httpx.stream("POST", case.chat, json=body(stream=True)) as response:
                assert "first" in next(response.iter_text())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(case.chat, json=body(), timeout=0.3)
        assert gone.wait(5)
        until(lambda: case.served.gateway.counts.in_flight == 0)
        [done] = case.finished
        assert done.status == "cancelled"


def test_leaving_at_any_moment_settles_once(provider: Emulator, tmp_path: Path) -> None:
    """Over stores on disk, where writing down what happened takes a while."""

    def leave(number: int) -> None:
        ask = body({"role": "user", "content": f"{number} " + "word " * 30}, stream=True)
        with httpx.stream("POST", case.chat, json=ask) as response:
            for read, _ in enumerate(response.iter_raw()):
                if read >= number % 8:
                    return

    policy = {"store": {"disk": str(tmp_path / "store")}, "budget": {"chain": {"calls": 9}}}
    with gateway(provider.base_url, policy) as case:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(leave, range(24)))
        until(lambda: len(case.finished) == 24)
        until(lambda: case.served.gateway.counts.in_flight == 0)
    assert len({done.exchange for done in case.finished}) == len(case.finished) == 24
    assert {done.status for done in case.finished} <= {"ok", "cancelled"}
    assert not [e for e in case.events if isinstance(e, StageFailed)]


def test_leaving_at_done_is_no_cancellation() -> None:
    """SDKs close the connection as soon as they have read [DONE], whatever comes after."""
    gone = threading.Event()

    def lingers(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(event("fine") + event("", "stop") + b"data: [DONE]\n\n")
        handler.wfile.flush()
        handler.connection.settimeout(10)
        if handler.connection.recv(1) == b"":
            gone.set()

    with upstream(lingers) as url, gateway(url) as case:
        with case.sdk() as client:
            chunks = list(client.chat.completions.create(**body(), stream=True))
        assert chunks[0].choices[0].delta.content == "fine"
        assert gone.wait(5)
        until(lambda: len(case.finished) == 1)
        assert case.finished[0].status == "ok"


def test_a_reset_in_mid_stream_is_told_in_the_stream(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(reset_after=2))
    with case.sdk() as client, pytest.raises(openai.APIError, match="broke off") as caught:
        list(client.chat.completions.create(**body(), stream=True))
    assert caught.value.code == "stream_broken"
    provider.fail_next(Fault(reset_after=2))
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", case.chat, json=body(stream=True)) as response,
    ):
        response.read()
    until(lambda: len(case.finished) == 2)
    assert {done.status for done in case.finished} == {"cancelled"}


def test_a_truncated_stream_does_not_look_complete(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(truncate_after=2))
    with case.sdk() as client:
        chunks = list(client.chat.completions.create(**body(), stream=True))
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] is None
    until(lambda: len(case.finished) == 1)
    assert case.finished[0].status == "cancelled"


# --- failures -------------------------------------------------------------------------------


def test_an_upstream_error_passes_as_it_came(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(status=503, retry_after=7), Fault(status=429))
    failed = case.post(body())
    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "7"
    assert "overloaded" in failed.json()["error"]["message"]
    with case.sdk() as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**body())
    assert [e.status for e in case.events if isinstance(e, Attempted)] == [503, 429]


def test_a_connection_reset_before_any_answer(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(reset_after=0))
    failed = case.post(body())
    assert failed.status_code == 502
    assert "closed the connection before it answered" in error(failed)
    assert case.finished[0].status == "failed"


def test_an_upstream_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with gateway(f"http://127.0.0.1:{port}/v1") as case:
        failed = case.post(body())
        assert case.post(body(stream=True)).status_code == 502
    assert failed.status_code == 502
    assert f"http://127.0.0.1:{port} cannot be reached" in error(failed)
    assert failed.headers["x-should-retry"] == "true"


def test_a_redirect_is_not_followed() -> None:
    seen = []

    def redirect(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        seen.append(handler.headers["authorization"])
        handler.send_response(307)
        handler.send_header("location", "http://127.0.0.1:1/elsewhere")
        handler.end_headers()

    with upstream(redirect) as url, gateway(url) as case:
        failed = case.post(body(), authorization="Bearer sk-1")
    assert failed.status_code == 502
    assert "redirect" in error(failed)
    assert "location" not in failed.headers
    assert seen == ["Bearer sk-1"]


def test_an_upstream_without_a_trusted_certificate(provider: Emulator) -> None:
    with gateway(provider.base_url.replace("http:", "https:")) as case:
        failed = case.post(body())
    assert failed.status_code == 502
    assert "no certificate that is trusted here, or speaks no TLS" in error(failed)
    assert failed.headers["x-should-retry"] == "false"


def test_an_answer_that_is_compressed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def squeezed(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(COMPLETION))

    with upstream(squeezed) as url, gateway(url) as case:
        answers = [case.post(body())]
        monkeypatch.setenv("CLAWMW_OFF", "1")
        answers.append(case.post(body()))
    assert [a.content for a in answers] == [COMPLETION] * 2


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "expected '{'"),
        (b'{"model": "m", "messages": [', "malformed JSON at byte 28"),
        (b'{"model": "m", "messages": []}', "send at least one message"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "names no model"),
        (b'{"model": "m\xff", "messages": []}', "not UTF-8 at byte"),
    ],
)
def test_a_body_that_is_not_understood_passes_as_it_came(raw: bytes, says: str) -> None:
    """At the gateway and in process alike: its provider judges it, and its caps hold."""
    seen: list[bytes] = []
    policy = {"budget": {"tenant": {"day": {"calls": 1}}}}
    with upstream(lambda handler, sent: seen.append(sent)) as url:
        with gateway(url, policy) as case:
            answers = [case.post(raw), case.post(raw)]
        runtime, events = Runtime.of(load_policy({**QUIET, **policy}), observers=[]), []
        runtime.observers = (events.append,)
        with clawmw.http_client(runtime) as client:
            for _ in range(2):
                given = {"content-type": "application/json"}
                answers.append(client.post(f"{url}/chat/completions", content=raw, headers=given))
    assert seen == [raw, raw]
    assert [a.status_code for a in answers] == [200, 402, 200, 402]
    for told in (case.events, events):
        unread = [e for e in told if isinstance(e, BodyUnread)]
        assert len(unread) == 2
        assert says in unread[0].reason


def test_what_is_not_json_is_refused(case: Case) -> None:
    raw = json.dumps(body()).encode()
    assert case.post(raw, content_type="text/plain").status_code == 415
    assert case.post(raw, content_encoding="br").status_code == 415
    assert case.post(raw, content_type="application/json; charset=utf-8").status_code == 200


def test_a_body_beyond_the_cap_is_refused(provider: Emulator) -> None:
    big = json.dumps(body({"role": "user", "content": "x" * 3000})).encode()
    with gateway(provider.base_url, max_body=2000) as case:
        headers = {"content-type": "application/json"}
        told = case.post(big)
        pieces = httpx.post(case.chat, content=iter([big[:1500], big[1500:]]), headers=headers)
    assert [told.status_code, pieces.status_code] == [413, 413]
    assert "larger than 2000 bytes" in error(told)
    assert provider.requests == []


def test_another_path_says_what_there_is(case: Case) -> None:
    missing = httpx.post(f"http://127.0.0.1:{case.served.port}/chat/completions", json=body())
    assert missing.status_code == 404
    assert "the base URL of an SDK ends in /v1" in error(missing)
    assert httpx.get(case.chat).status_code == 405


# --- where calls go -------------------------------------------------------------------------


def test_models_lead_to_their_base_url(provider: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    seen: list[tuple[str, str | None]] = []

    def note(handler: BaseHTTPRequestHandler, sent: bytes) -> None:
        seen.append((json.loads(sent)["model"], handler.headers["authorization"]))

    with upstream(note) as url:
        policy = {
            "models": {
                "local": {"model": "qwen3", "base_url": url},
                "keyed": {"model": "big", "base_url": url, "api_key_env": "OTHER_KEY"},
                "far": "acme/model-9",
            }
        }
        with gateway(None, policy) as case:
            for model in ("local", "qwen3", "keyed"):
                case.post({**body(), "model": model}, authorization="Bearer sk-caller")
            lost = case.post({**body(), "model": "far"})
        with gateway(provider.base_url, policy) as case:
            for model in ("local", "qwen3", "far"):
                case.post({**body(), "model": model}, authorization="Bearer sk-caller")
    assert seen == [
        ("qwen3", "Bearer sk-caller"),
        ("qwen3", "Bearer sk-caller"),
        ("big", "Bearer sk-other"),
        ("qwen3", None),  # with --upstream, the caller's key is the upstream's alone
    ]
    assert [r.body["model"] for r in provider.requests] == ["qwen3", "acme/model-9"]
    assert lost.status_code == 404
    assert "model 'far' leads nowhere: ask for one of keyed, local" in error(lost)


@pytest.mark.parametrize("url", ["ftp://x/v1", "127.0.0.1:9000", "http://u:p@h/v1", "http://h?k=1"])
def test_an_upstream_must_be_a_plain_url(url: str) -> None:
    with pytest.raises(ClawmwError, match="expected a base URL such as"):
        Places({}, url)


def test_models_are_the_upstreams_or_the_policys(provider: Emulator) -> None:
    policy = {"models": {"local": {"model": "qwen3", "base_url": "http://127.0.0.1:1/v1"}}}
    with gateway(provider.base_url, policy) as case, case.sdk() as client:
        assert "openai" in " ".join(m.id + m.owned_by for m in client.models.list()).lower()
    with gateway(None, policy) as case, case.sdk() as client:
        assert [m.id for m in client.models.list()] == ["local"]
    with gateway("http://127.0.0.1:1/v1", policy) as case, case.sdk() as client:
        assert [m.id for m in client.models.list()] == ["local"]


def test_headers_of_one_hop_stay_there() -> None:
    seen: dict[str, str] = {}

    def note(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        seen.update({k.lower(): v for k, v in handler.headers.items()})
        handler.send_response(200)
        for name, value in (
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("x-clawmw-stopped", "not ours"),
            ("x-request-id", "r1"),
            ("x-odd", "caf\xe9"),
        ):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(COMPLETION)

    with upstream(note) as url, gateway(url) as case:
        answer = case.post(
            body(),
            connection="keep-alive, x-mine",
            x_mine="1",
            cookie="c=d",
            x_forwarded_for="1.2.3.4",
            x_clawmw_agent="scout",
            x_title="my app",
            api_key="k",
        )
    assert answer.status_code == 200
    hidden = ("x-mine", "cookie", "x-forwarded-for", "x-clawmw-agent", "connection-token")
    assert not set(hidden) & set(seen)
    assert (seen["x-title"], seen["api-key"]) == ("my app", "k")
    assert answer.headers["x-request-id"] == "r1"
    shown = ("set-cookie", "access-control-allow-origin", "x-clawmw-stopped", "x-odd")
    assert not set(shown) & set(answer.headers)


# --- one owner ------------------------------------------------------------------------------


CHILD = """
import sys, clawmw
with clawmw.http_client({"version": 1, "trace": "off"}) as client:
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "from the child"}]}
    for stream in (False, True):
        answer = client.post(sys.argv[1] + "/chat/completions", json={**ask, "stream": stream})
        print("from the child" in answer.text)
"""


@pytest.mark.parametrize("knows", [True, False])
def test_a_child_process_that_owns_its_calls(case: Case, provider: Emulator, knows: bool) -> None:
    """Decided and counted once: by the child if it knows of the gateway, else by each."""
    env = {**os.environ, **({"CLAWMW_GATEWAY": case.url} if knows else {})}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, case.url], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True", "True"]
    assert len(provider.requests) == 2
    assert len(case.finished) == (0 if knows else 2)
    assert case.served.gateway.counts.owned_elsewhere == (2 if knows else 0)
    assert not any(h.startswith("x-clawmw") for r in provider.requests for h in r.headers)


def test_an_owners_header_counts_once_and_a_forged_one_never(
    case: Case, provider: Emulator
) -> None:
    raw = json.dumps(body()).encode()
    genuine = Tokens.of_user().header("x1", raw)
    forged = Tokens(b"k" * 32).header("x1", raw)
    for value in (genuine, genuine, forged, "nonsense"):
        assert case.post(raw, x_clawmw_owner=value).status_code == 200
    assert case.post(raw + b" ", x_clawmw_owner=Tokens.of_user().header("x1", raw)).is_success
    assert len(provider.requests) == 5
    assert len(case.finished) == 4
    assert not any("x-clawmw-owner" in r.headers for r in provider.requests)


def test_switched_off_everything_passes(
    case: Case, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    history = turn("c1", "search", {"q": "x"}, rows(300))
    assert case.post(body(*history, tools=TOOLS), x_clawmw_agent="a").is_success
    assert case.post(b"{").status_code == 400  # the provider's own word
    assert provider.requests[0].body["messages"] == history
    assert "x-clawmw-agent" not in provider.requests[0].headers
    assert case.events == []


# --- who may call ---------------------------------------------------------------------------


def test_only_our_own_names_are_answered_to(case: Case) -> None:
    port = case.served.port
    health = f"http://127.0.0.1:{port}/healthz"

    def status(**headers: str) -> int:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return case.http.get(health, headers=named).status_code

    for good in ("127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "[0:0::1]"):
        assert status(host=f"{good}:{port}") == 200, good
    for bad in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1.evil.example:{port}",
        f"localhost:{port}@evil.example",
        f"::1:{port}",
    ):
        assert status(host=bad) == 403, bad
    assert status(origin=f"http://localhost:{port}") == 200
    for bad in ("null", "http://evil.example", "https://127.0.0.1", "http://localhost:3000"):
        assert status(origin=bad) == 403, bad
    assert status(sec_fetch_site="cross-site") == 403
    assert status(sec_fetch_site="none") == 200


def test_no_page_is_ever_allowed_in(case: Case) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = httpx.options(case.chat, headers=asked)
    assert answer.status_code == 403
    answers = (answer, httpx.options(case.chat), case.post(body()))
    assert not any(h.startswith("access-control") for a in answers for h in a.headers)


def test_a_token_is_asked_of_every_request_and_kept_from_the_upstream() -> None:
    seen: list[str | None] = []

    def note(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        seen.append(handler.headers["authorization"])

    with upstream(note) as url, gateway(url, token=TOKEN) as case:
        assert case.post(body()).status_code == 401
        assert case.post(body(), authorization="Bearer wrong").status_code == 401
        assert case.post(body(), authorization=TOKEN).status_code == 401
        assert case.post(body(), authorization=f"Bearer {TOKEN}").status_code == 200
        both = {"x_clawmw_token": TOKEN, "authorization": "Bearer sk-1"}
        assert case.post(body(), **both).status_code == 200
        assert case.post(body(), x_clawmw_token="no", authorization=f"Bearer {TOKEN}").is_error
        assert httpx.get(f"http://127.0.0.1:{case.served.port}/healthz").status_code == 401
        assert case.finished
    assert seen == [None, "Bearer sk-1"]


def test_accepted_sockets_send_at_once() -> None:
    """asyncio sets TCP_NODELAY only where the listening socket names its protocol."""

    async def go() -> int:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[int] = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                sock = transport.get_extra_info("socket")
                accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        listening = listen("127.0.0.1", 0)
        server = await loop.create_server(Protocol, sock=listening)
        async with server:
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await accepted
            writer.close()
            await writer.wait_closed()
        return found

    assert asyncio.run(go()) == 1


def test_health_counts(case: Case) -> None:
    case.post(body())
    found = httpx.get(f"http://127.0.0.1:{case.served.port}/healthz").json()
    assert (found["status"], found["calls"], found["in_flight"]) == ("ok", 1, 0)
    assert found["policy"]["digest"] == case.served.gateway.runtime.pipeline.digest
    [place] = found["upstreams"]
    assert (place["reachable"], place["breaker"], place["failing"]) == (True, "closed", [])


# --- an upstream of our own -----------------------------------------------------------------

COMPLETION = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "fine"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()


def event(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def error(response: httpx.Response) -> str:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return str(found["message"])


@contextmanager
def upstream(answers: Callable[[BaseHTTPRequestHandler, bytes], Any]) -> Iterator[str]:
    """A provider that does what `answers` does; a fine completion where it writes nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"] or 0))
            before = self._headers_buffer if hasattr(self, "_headers_buffer") else []
            self.answered = False
            answers(self, sent)
            if not self.answered:
                assert not before
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(COMPLETION)

        do_GET = do_DELETE = do_POST  # noqa: N815 - http.server's names

        def send_response(self, code: int, message: str | None = None) -> None:
            self.answered = True
            super().send_response(code, message)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()

"""What the gateway serves besides chat completions, and whose key goes where."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

import clawmw
from clawmw.core.events import BodyUnread, CallStarted
from clawmw.emulator import Emulator
from tests.adapters.test_gateway import (
    COMPLETION,
    TOKEN,
    TOOLS,
    Case,
    body,
    event,
    gateway,
    until,
    upstream,
)
from tests.conftest import rows, turn

EMBEDDED = json.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
).encode()
Seen = list[tuple[str, str, dict[str, str], bytes]]


def noted(seen: Seen, answer: bytes = COMPLETION, status: int = 200) -> Any:
    """A provider that notes (method, path, headers, body) and gives one answer."""

    def note(handler: BaseHTTPRequestHandler, sent: bytes) -> None:
        named = {name.lower(): value for name, value in handler.headers.items()}
        seen.append((handler.command, handler.path, named, sent))
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        handler.wfile.write(answer)

    return note


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def case(provider: Emulator) -> Iterator[Case]:
    with gateway(provider.base_url) as made:
        yield made


# --- embeddings and counts ------------------------------------------------------------------


def test_embeddings_are_guarded_and_their_bodies_untouched() -> None:
    seen: Seen = []
    policy = {"budget": {"agent": {"day": {"calls": 2}}}}
    with upstream(noted(seen, EMBEDDED)) as url, gateway(url, policy) as case:
        raw = b'{ "model":"text-embedding-3-small", "input": ["a\\u00e9", "b"] }'
        headers = {"content-type": "application/json", "x-clawmw-agent": "indexer"}
        first = case.http.post(f"{case.url}/embeddings", content=raw, headers=headers)
        with case.sdk(default_headers={"x-clawmw-agent": "indexer"}) as client:
            found = client.embeddings.create(model="text-embedding-3-small", input="hello")
            with pytest.raises(openai.APIStatusError, match=r"budget\.agent\.day\.calls") as stop:
                client.embeddings.create(model="text-embedding-3-small", input="more")
    assert (first.content, len(found.data)) == (EMBEDDED, 1)
    assert stop.value.status_code == 402
    assert [(method, path) for method, path, _, _ in seen] == [("POST", "/v1/embeddings")] * 2
    assert seen[0][3] == raw
    done = case.finished
    assert [d.status for d in done] == ["ok", "ok", "halted"]
    assert done[0].usage is not None
    assert (done[0].usage.input_tokens, done[0].usage.output_tokens) == (5, 0)
    assert {e.dialect for e in case.events if isinstance(e, CallStarted)} == {"openai.embeddings"}
    assert not any(isinstance(e, BodyUnread) for e in case.events)  # nothing is odd about them


def test_a_budget_of_tokens_holds_for_embeddings_before_they_are_made() -> None:
    seen: Seen = []
    policy = {"budget": {"call": {"input_tokens": 100}}}
    with upstream(noted(seen, EMBEDDED)) as url, gateway(url, policy) as case:
        small = {"model": "text-embedding-3-small", "input": "few words"}
        assert case.http.post(f"{case.url}/embeddings", json=small).status_code == 200
        large = {**small, "input": "word " * 400}
        stopped = case.http.post(f"{case.url}/embeddings", json=large)
    assert stopped.headers["x-clawmw-stopped"] == "budget.call.input_tokens"
    assert len(seen) == 1


def test_embeddings_of_an_agent_leave_its_conversation_alone(provider: Emulator) -> None:
    """Same session, in between: what was sent before stays the prefix of what is sent next."""
    history = [
        {"role": "system", "content": "You look things up. " * 300},
        {"role": "user", "content": "hello there"},
        *turn("c1", "search", {"q": "x"}, rows(300)),
    ]
    with gateway(provider.base_url) as case:
        named = {"x_clawmw_session": "s1"}
        case.post(body(*history, tools=TOOLS), **named)
        headers = {"x-clawmw-session": "s1"}
        case.http.post(f"{case.url}/embeddings", json={"model": "e", "input": "x"}, headers=headers)
        more = [*history, {"role": "user", "content": "and now?"}]
        case.post(body(*more, tools=TOOLS), **named)
        chains = {e.identity.chain for e in case.events if isinstance(e, CallStarted)}
    first, second = (r.body["messages"] for r in provider.requests if "messages" in r.body)
    assert second[: len(first)] == first
    assert len(first[3]["content"]) < len(rows(300)) / 3
    assert len(chains) == 1  # the embedding belongs to the task that its session was at


def test_tokens_are_counted_upstream_and_cost_nothing() -> None:
    seen: Seen = []
    policy = {"budget": {"tenant": {"day": {"calls": 2, "input_tokens": 400}}}}
    with upstream(noted(seen, b'{"input_tokens": 7}')) as url, gateway(url, policy) as case:
        base = case.url.removesuffix("/v1")
        with anthropic.Anthropic(base_url=base, api_key="sk-a", max_retries=0) as client:
            ask: Any = {"model": "claude-haiku-4-5", "messages": body()["messages"]}
            for _ in range(2):
                assert client.messages.count_tokens(**ask).input_tokens == 7
            with pytest.raises(anthropic.APIStatusError) as stop:
                client.messages.count_tokens(**ask)
    told: Any = stop.value.body
    assert (stop.value.status_code, told["type"]) == (402, "error")
    assert told["error"]["code"] == "budget.tenant.day.calls"
    assert case.finished[0].usage is not None
    assert case.finished[0].usage.input_tokens == 0
    assert seen[0][1] == "/v1/messages/count_tokens"
    assert seen[0][2]["authorization"] == "Bearer sk-a"


def test_an_error_has_the_shape_of_its_dialect(case: Case) -> None:
    base = case.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key="sk-a", max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError) as missing:
            client.beta.files.list()
        told: Any = missing.value.body
    assert told["type"] == "error"
    assert "this gateway answers POST /v1/chat/completions" in told["error"]["message"]
    plain = case.http.post(f"{case.url}/messages/count_tokens", content=b"x")
    assert plain.status_code == 415
    assert plain.json()["type"] == "error"


# --- the other dialects ---------------------------------------------------------------------


def test_every_dialect_is_served_whole_and_as_a_stream(case: Case, provider: Emulator) -> None:
    with case.sdk() as client:
        asked: Any = {"model": "gpt-4o", "input": "hello there"}
        assert client.responses.create(**asked).output_text == "hello there"
        events = list(client.responses.create(**asked, stream=True))
        assert events[-1].type == "response.completed"
    base = case.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key="sk-a", max_retries=0) as other:
        said = [{"role": "user", "content": "hello there"}]
        ask: Any = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": said}
        whole: Any = other.messages.create(**ask)
        assert whole.content[0].text == "hello there"
        with other.messages.stream(**ask) as told:
            assert "".join(told.text_stream) == "hello there"
    until(lambda: len(case.finished) == 4)
    started = [e.dialect for e in case.events if isinstance(e, CallStarted)]
    assert started == ["openai.responses"] * 2 + ["anthropic.messages"] * 2
    assert {done.status for done in case.finished} == {"ok"}
    paths = [request.path for request in provider.requests]
    assert paths == ["/v1/responses"] * 2 + ["/v1/messages"] * 2


# --- what else there is ---------------------------------------------------------------------


def test_stored_responses_are_handed_on_and_other_paths_where_the_policy_says() -> None:
    seen: Seen = []
    with upstream(noted(seen)) as url, gateway(url, paths=("responses/*", "batches")) as case:
        got = case.http.get(f"{case.url}/responses/resp_1?include=a", headers=KEY)
        gone = case.http.delete(f"{case.url}/responses/resp_1", headers=KEY)
        made = case.http.post(f"{case.url}/batches", json={"x": 1}, headers=KEY)
        refused = [
            case.http.get(f"{case.url}/files"),
            case.http.get(f"{case.url}/responses/%2e%2e/files"),
            case.http.get(f"{case.url}/batches/b1"),
        ]
    assert [r.status_code for r in (got, gone, made)] == [200] * 3
    assert [r.status_code for r in refused] == [404] * 3
    assert "gateway: {paths: [...]}" in refused[0].json()["error"]["message"]
    assert [(method, path) for method, path, _, _ in seen] == [
        ("GET", "/v1/responses/resp_1?include=a"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/batches"),
    ]
    assert seen[2][3] == b'{"x":1}'
    assert {headers["authorization"] for _, _, headers, _ in seen} == {"Bearer sk-caller"}
    assert case.finished == []


def test_models_are_the_upstreams_and_the_policys(provider: Emulator) -> None:
    policy = {"models": {"light": {"model": "gpt-4o-mini"}, "main": "gpt-4o"}}
    with gateway(provider.base_url, policy) as case, case.sdk() as client:
        names = [model.id for model in client.models.list()]
        assert client.models.retrieve("light").owned_by == "clawmw"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")
        listed = anthropic.Anthropic(base_url=case.url.removesuffix("/v1"), api_key="k")
        with listed:
            assert "light" in {model.id for model in listed.models.list()}
    assert len(names) > 2
    assert names[-2:] == ["light", "main"]


def test_health_says_which_upstream_fails_and_no_secret(provider: Emulator) -> None:
    policy = {
        "models": {"far": {"model": "m", "base_url": "http://127.0.0.1:1/secret-path/v1"}},
        "breaker": True,
    }
    with gateway(provider.base_url, policy) as case:
        for _ in range(6):
            case.post({**body(), "model": "far"})
        told = case.http.get(f"{case.url.removesuffix('/v1')}/healthz")
    health = told.json()
    near, far = health["upstreams"]
    assert health["status"] == "degraded"
    assert (near["reachable"], near["breaker"]) == (True, "closed")
    assert (far["reachable"], far["breaker"], far["failing"]) == (False, "open", ["m"])
    assert far["url"] == "http://127.0.0.1:1"
    assert "secret" not in told.text


# --- bodies that must not change ------------------------------------------------------------


def test_a_signed_body_passes_unchanged_and_is_guarded() -> None:
    seen: Seen = []
    signed = "AWS4-HMAC-SHA256 Credential=AKIA/20261126/us-east-1/bedrock/aws4_request, Signature=a"
    raw = json.dumps(body(*turn("c1", "search", {"q": "x"}, rows(300)), tools=TOOLS)).encode()
    policy = {"budget": {"tenant": {"day": {"calls": 2}}}}
    with upstream(noted(seen)) as url, gateway(url, policy) as case:
        answers = [case.post(raw, authorization=signed) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 402]
    assert [sent for _, _, _, sent in seen] == [raw, raw]
    assert seen[0][2]["authorization"] == signed
    assert [e.reason for e in case.events if isinstance(e, BodyUnread)] == ["signed"] * 3


def test_a_stream_asked_for_by_a_body_that_is_not_read_comes_as_it_is_sent() -> None:
    first, more = threading.Event(), threading.Event()

    def in_step(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(event("one"))
        handler.wfile.flush()
        assert first.wait(10)
        handler.wfile.write(event("two", "stop") + b"data: [DONE]\n\n")
        more.set()

    odd = {"model": "m", "messages": "what is this", "stream": True}
    with (
        upstream(in_step) as url,
        gateway(url) as case,
        case.http.stream("POST", case.chat, json=odd) as response,
    ):
        text = ""
        for piece in response.iter_text():
            text += piece
            if "one" in text:
                first.set()
    assert more.is_set()
    assert text.endswith("data: [DONE]\n\n")
    assert case.finished[0].status == "ok"


# --- keys -----------------------------------------------------------------------------------

KEY = {"authorization": "Bearer sk-caller"}


def test_a_key_held_by_the_gateway_is_the_only_one_its_provider_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HELD_KEY", "sk-held")
    seen: Seen = []
    with upstream(noted(seen)) as url:
        models = {"main": {"model": "gpt-4o", "base_url": url, "api_key_env": "HELD_KEY"}}
        with gateway(None, {"models": models}, token=TOKEN, paths=("responses/*",)) as case:
            theirs = {
                "x-clawmw-token": TOKEN,
                "authorization": "Bearer sk-caller",
                "api-key": "sk-caller",
                "x-api-key": "sk-caller",
                "openai-organization": "org-caller",
                "cookie": "key=sk-caller",
                "x-my-key": "sk-caller",
            }
            ask = {**body(), "model": "main"}
            query = "?key=sk-caller&api-version=2026-10-01"
            for end in ("chat/completions", "embeddings", "messages/count_tokens"):
                sent = {**ask, "input": "x"}
                case.http.post(f"{case.url}/{end}{query}", json=sent, headers=theirs)
            case.http.get(f"{case.url}/responses/r1{query}", headers=theirs)
            case.http.get(f"{case.url}/models{query}", headers=theirs)
    assert len(seen) == 4
    told = json.dumps([(path, headers) for _, path, headers, _ in seen])
    assert "sk-caller" not in told
    assert TOKEN not in told
    assert "org-caller" not in told
    assert [headers["authorization"] for _, _, headers, _ in seen] == ["Bearer sk-held"] * 4
    assert seen[0][1] == "/v1/chat/completions?api-version=2026-10-01"


def test_a_key_for_the_upstream_replaces_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELD_KEY", "sk-held")
    seen: Seen = []
    with upstream(noted(seen)) as url, gateway(url, token=TOKEN, key_env="HELD_KEY") as case:
        answer = case.post(body(), authorization=f"Bearer {TOKEN}")
        case.http.get(f"{case.url}/models", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert [headers["authorization"] for _, _, headers, _ in seen] == ["Bearer sk-held"] * 2


def test_a_key_that_is_not_set_is_none_and_never_the_callers() -> None:
    seen: Seen = []
    with upstream(noted(seen)) as url, gateway(url, key_env="NO_SUCH_KEY") as case:
        case.post(body(), authorization="Bearer sk-caller")
    assert "authorization" not in seen[0][2]


# --- callers who leave ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["chat/completions", "responses", "messages", "embeddings", "responses/r1/cancel"]
)
def test_a_caller_who_leaves_ends_the_call_upstream_within_100_ms(end: str) -> None:
    gone: list[float] = []
    waits = threading.Event()

    def never(handler: BaseHTTPRequestHandler, _sent: bytes) -> None:
        handler.answered = True  # type: ignore[attr-defined]
        handler.connection.settimeout(10)
        waits.set()
        if handler.connection.recv(1) == b"":
            gone.append(time.monotonic())

    with upstream(never) as url, gateway(url, paths=("responses/*",)) as case:
        place = urlsplit(case.url)
        raw = json.dumps({**body(), "input": "x", "max_tokens": 9}).encode()
        head = (
            f"POST /v1/{end} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(raw)}\r\n\r\n"
        )
        with socket.create_connection((place.hostname or "", place.port or 0)) as sock:
            sock.sendall(head.encode() + raw)
            assert waits.wait(5)
        left = time.monotonic()
        until(lambda: bool(gone))
        until(lambda: case.served.gateway.counts.in_flight == 0)
    assert gone[0] - left < 0.1


# --- secrets --------------------------------------------------------------------------------


def test_a_body_in_which_secrets_cannot_be_replaced_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2-hunter2")
    seen: Seen = []
    signed = "AWS4-HMAC-SHA256 Credential=AKIA/20261126/us-east-1/bedrock/aws4_request, Signature=a"
    secret = json.dumps(body({"role": "user", "content": "it is hunter2-hunter2"})).encode()
    packed = {"authorization": "Bearer k", "content-encoding": "gzip"}
    policy = {"redact": {"env": ["MY_SECRET"]}, "mode": "observe"}
    with upstream(noted(seen)) as url, gateway(url, policy, paths=("batches",)) as case:
        stopped = [case.post(secret, authorization=signed), case.post(b'{"m": "\xff"}')]
        told = case.post(b'{"odd": "hunter2-hunter2"}')
        batch = case.http.post(f"{case.url}/batches", json={"x": "hunter2-hunter2"})
        with clawmw.http_client(case.served.gateway.runtime) as client:
            raw = gzip.compress(secret)
            chat = f"{url}/chat/completions"
            stopped.append(client.post(chat, content=raw, headers=packed))
        clean = case.post(json.dumps(body()).encode(), authorization=signed)
    assert [r.status_code for r in stopped] == [402] * 3
    assert {r.headers["x-clawmw-stopped"] for r in stopped} == {"redact.unread"}
    assert [r.status_code for r in (told, batch, clean)] == [200] * 3
    assert [sent for _, _, _, sent in seen][:2] == [
        b'{"odd": "[redacted:MY_SECRET]"}',
        b'{"x":"[redacted:MY_SECRET]"}',
    ]
    assert len(seen) == 3

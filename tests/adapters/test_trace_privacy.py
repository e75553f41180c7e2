"""Nothing that is said, fails or is secret gets into a span: canaries on every path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import clawmw
from clawmw.adapters.direct import Direct
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault
from clawmw.observe.otel import OtelObserver
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

CANARY = "canary-7f3a"
SECRET = "sk-hidden-0123456789"
WHO = Identity(agent="alice-agent", session="alice-session", chain="alice-trip")


class Watched:
    """A runtime whose spans go everywhere, and all the text they came to."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.path = folder / "t.sqlite"
        hashed = policy.pop("hash_ids", False)
        self.observer = OtelObserver(
            self.provider, store=SpanStore.open(self.path), hash_ids=hashed
        )
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.observer])

    def text(self) -> str:
        """Whatever a span says, exported or kept."""
        self.observer.close()
        told = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        assert told
        store = SpanStore.read(self.path)
        names = [
            r["name"] for r in store.query("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = [tuple(row) for name in names for row in store.query(f"SELECT * FROM {name}")]
        store.close()
        assert rows
        return told + json.dumps(rows, default=str)


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**policy: Any) -> Watched:
        made.append(Watched(tmp_path, **policy))
        return made[-1]

    yield make
    for one in made:
        one.runtime.close()
        one.provider.shutdown()


def ask(text: str = CANARY, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5.4", "messages": [{"role": "user", "content": text}], **more}


FAULTS: dict[str, Any] = {
    "refused": Fault(status=400),
    "unauthorized": Fault(status=401),
    "limited": Fault(status=429),
    "broken": Fault(status=500),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_failure_of_a_provider_brings_text(
    provider: Emulator, watched: Callable[..., Watched], fault: str, stream: bool
) -> None:
    case = watched(retry={"attempts": 1})
    provider.fail_next(FAULTS[fault])
    with clawmw.http_client(case.runtime, identity=WHO) as client:
        client.post(f"{provider.base_url}/chat/completions", json=ask(stream=stream))
    assert CANARY not in case.text()


def _raises(error: Exception) -> httpx.MockTransport:
    def handle(_request: httpx.Request) -> httpx.Response:
        raise error

    return httpx.MockTransport(handle)


def _answers(status: int, body: str, kind: str = "application/json") -> httpx.MockTransport:
    headers = {"content-type": kind}
    return httpx.MockTransport(lambda _r: httpx.Response(status, text=body, headers=headers))


WIRES: dict[str, Callable[[], httpx.MockTransport]] = {
    "connect": lambda: _raises(httpx.ConnectError(f"no route to {CANARY}")),
    "timeout": lambda: _raises(httpx.ReadTimeout(CANARY)),
    "bug": lambda: _raises(RuntimeError(CANARY)),
    "error body": lambda: _answers(422, json.dumps({"error": {"message": CANARY}})),
    "odd type": lambda: _answers(
        400, json.dumps({"error": {"type": f"{CANARY} x", "code": CANARY}})
    ),
    "no json": lambda: _answers(200, f"<html>{CANARY}</html>", "text/html"),
    "half a stream": lambda: _answers(200, f'data: {{"{CANARY}', "text/event-stream"),
    "error in a stream": lambda: _answers(
        200, f'data: {{"error": {{"message": "{CANARY}"}}}}\n\n', "text/event-stream"
    ),
}


@pytest.mark.parametrize("wire", WIRES)
def test_no_failure_of_the_wire_brings_text(watched: Callable[..., Watched], wire: str) -> None:
    case = watched(retry={"attempts": 1})
    stream = "stream" in wire
    client = clawmw.http_client(case.runtime, identity=WHO, transport=WIRES[wire]())
    with client:
        try:
            response = client.post("http://model/v1/chat/completions", json=ask(stream=stream))
            response.read()
        except (httpx.HTTPError, RuntimeError):
            pass
    assert CANARY not in case.text()


def test_no_exception_of_a_framework_brings_text(watched: Callable[..., Watched]) -> None:
    case = watched(retry={"attempts": 1})

    class OddError(Exception):
        status_code = 400

    def fails(_asked: Any) -> Any:
        raise OddError(CANARY)

    with pytest.raises(OddError), clawmw.calling(WHO):
        Direct(case.runtime).call(ask(), fails)
    assert CANARY not in case.text()


def test_no_exception_in_a_flow_brings_text(watched: Callable[..., Watched]) -> None:
    case, observer = watched(), None
    observer = case.observer
    for opened in (
        observer.chain(WHO, "trip"),
        observer.agent(WHO, "planner"),
        observer.tool(WHO, "search", "c1"),
    ):
        with pytest.raises(ValueError, match="canary"), opened:
            raise ValueError(CANARY) from KeyError(CANARY)
    text = case.text()
    assert CANARY not in text
    assert "ValueError" in text


def test_a_type_made_of_text_is_no_type(watched: Callable[..., Watched]) -> None:
    """Some libraries make exception classes as they go, and name them after what went wrong."""
    case = watched()
    error = type(f"no such user {CANARY}", (Exception,), {})
    with pytest.raises(error), case.observer.agent(WHO, "planner"):
        raise error
    text = case.text()
    assert CANARY not in text
    assert "_OTHER" in text


def test_a_tools_result_arguments_and_answers_stay_out(
    provider: Emulator, watched: Callable[..., Watched]
) -> None:
    case = watched(compress="balanced", loop_guard={"nudge": 2, "refuse": 3, "stop": 4})
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "search", "arguments": json.dumps({"q": CANARY})},
    }
    messages: list[dict[str, Any]] = [{"role": "user", "content": CANARY}]
    for number in range(5):
        one = {**call, "id": f"c{number}"}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [one]},
            {"role": "tool", "tool_call_id": one["id"], "content": f"{CANARY}\n" * 400},
        ]
        with clawmw.http_client(case.runtime, identity=WHO) as client:
            body = {"model": "gpt-5.4", "messages": messages}
            client.post(f"{provider.base_url}/chat/completions", json=body)
    assert CANARY not in case.text()


# --- names ---------------------------------------------------------------------------


def test_hashed_names_are_nowhere(provider: Emulator, watched: Callable[..., Watched]) -> None:
    case = watched(
        hash_ids=True,
        budget={"chain": {"calls": 2}, "session": {"calls": 9}},
        loop_guard={"nudge": 2, "refuse": 3, "stop": 4},
    )
    who = Identity(
        agent="planner",
        session="alice-session",
        chain="alice-trip",
        parent="alice-day",
        parent_agent="boss",
        parent_session="alice-above",
        conversation="alice-talk",
        joined=(Identity(agent="n", session="alice-north", chain="alice-trip"),),
    )
    with (
        case.observer.chain(who, "trip"),
        case.observer.agent(who, "planner"),
        clawmw.http_client(case.runtime, identity=who) as client,
    ):
        for _ in range(4):  # the last ones are stopped, which says the chain's name to the caller
            client.post(f"{provider.base_url}/chat/completions", json=ask("hi"))
    with clawmw.http_client(case.runtime, identity=who) as client:
        client.post(f"{provider.base_url}/chat/completions", json=ask("hi"))
    text = case.text()
    assert "alice" not in text
    assert text.count("sha256-") > 10


def test_a_secret_in_any_name_is_replaced(
    provider: Emulator, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    case = watched(redact={"env": ["MY_KEY"]})
    who = Identity(agent=f"a-{SECRET}", session=f"s-{SECRET}", chain=f"c-{SECRET}", kind=SECRET)
    answer = json.dumps(
        {
            "model": f"m-{SECRET}",
            "choices": [
                {
                    "finish_reason": SECRET,
                    "message": {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": SECRET,
                                "type": "function",
                                "function": {"name": SECRET, "arguments": "{}"},
                            }
                        ],
                    },
                }
            ],
        }
    )
    body = ask("hi", tools=[{"type": "function", "function": {"name": SECRET}}])
    body["model"] = f"m-{SECRET}"
    transport = _answers(200, answer)
    with (
        case.observer.chain(who, f"trip {SECRET}"),
        case.observer.agent(who, f"planner {SECRET}"),
        case.observer.tool(who, f"tool-{SECRET}", SECRET),
        clawmw.http_client(case.runtime, identity=who, transport=transport) as client,
    ):
        client.post("http://model/v1/chat/completions", json=body)
    assert SECRET not in case.text()

"""The application's trace above a model call, and what of it never reaches a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import httpx
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import CallFinished, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.observe.otel import OtelObserver
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TELLING = {
    "traceparent": f"00-{TRACE}-{SPAN}-01",
    "tracestate": "vendor=1",
    "baggage": "userId=alice,clawmw.agent=boss,clawmw.chain.hop=2",
    "b3": "1-2-1",
    "x-b3-traceid": "1",
    "uber-trace-id": "1:2:3:1",
}
ASK = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}


class Traced:
    """A runtime whose spans an application exports."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.events: list[Event] = []
        observers = [OtelObserver(self.provider), self.events.append]
        policy = load_policy({"version": 1, "trace": "off"})
        self.runtime = Runtime.of(policy, observers=observers)
        self.tracer = self.provider.get_tracer("app")

    @property
    def identity(self) -> Identity:
        return [e for e in self.events if isinstance(e, CallFinished)][-1].identity

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    case = Traced()
    yield case
    case.provider.shutdown()


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="anthropic") as emulator:
        yield emulator


def clean(emulator: Emulator, count: int) -> None:
    """Nothing of a trace arrived with any of `count` requests."""
    assert len(emulator.requests) == count
    for received in emulator.requests:
        found = {n.lower() for n in received.headers} & set(TELLING)
        assert not found, found


# --- in the application's trace ------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_calls_join_the_current_trace(provider: Emulator, traced: Traced, stream: bool) -> None:
    with (
        traced.tracer.start_as_current_span("handle request") as request,
        clawmw.http_client(traced.runtime) as client,
    ):
        client.post(f"{provider.base_url}/chat/completions", json={**ASK, "stream": stream})
    at = request.get_span_context()
    assert traced.identity.chain == f"{at.trace_id:032x}"
    assert "chain" not in traced.identity.derived
    assert set(traced.spans) == {"handle request", "chat claude-sonnet-4-5"}
    assert traced.spans["chat claude-sonnet-4-5"].parent.span_id == at.span_id


def test_a_named_chain_is_its_own_trace_with_a_link(provider: Emulator, traced: Traced) -> None:
    with (
        traced.tracer.start_as_current_span("handle request") as request,
        clawmw.calling(chain="trip-7", agent="a", session="s"),
        clawmw.http_client(traced.runtime) as client,
    ):
        client.post(f"{provider.base_url}/chat/completions", json=ASK)
    assert traced.identity.chain == "trip-7"
    (link,) = traced.spans["chat claude-sonnet-4-5"].links
    assert link.context.span_id == request.get_span_context().span_id


def test_without_a_current_span_the_messages_decide(provider: Emulator, traced: Traced) -> None:
    with clawmw.http_client(traced.runtime) as client:
        client.post(f"{provider.base_url}/chat/completions", json=ASK)
    assert "chain" in traced.identity.derived


def test_a_call_in_a_flows_tool_belongs_to_the_flow(provider: Emulator, traced: Traced) -> None:
    observer: Any = traced.runtime.observers[0]
    who = Identity(agent="planner", session="s", chain="trip-7")
    with (
        observer.chain(who, "trip"),
        observer.agent(who, "planner"),
        observer.tool(who, "ask", "c1"),
        clawmw.http_client(traced.runtime) as client,
    ):
        client.post(f"{provider.base_url}/chat/completions", json=ASK)
    assert traced.identity.chain == "trip-7"
    tool = traced.spans["execute_tool ask"]
    assert traced.spans["chat claude-sonnet-4-5"].parent.span_id == tool.context.span_id


# --- over the wire -------------------------------------------------------------------


def test_the_gateway_adopts_its_callers_span(provider: Emulator, traced: Traced) -> None:
    gateway = Gateway(traced.runtime, Places({}, provider.base_url))
    with Served(gateway) as served:
        response = httpx.post(f"{served.base_url}/chat/completions", json=ASK, headers=TELLING)
        assert response.status_code == 200
    clean(provider, 1)
    chat = traced.spans["chat claude-sonnet-4-5"]
    assert chat.parent.span_id == int(SPAN, 16)
    assert chat.context.trace_state.to_header() == "vendor=1"
    who = next(e for e in traced.events if isinstance(e, CallFinished)).identity
    assert (who.chain, who.hop, who.parent_agent) == (TRACE, 3, "boss")


# --- never to a provider -------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
@pytest.mark.parametrize("how", ["client", "wrap", "install"])
def test_no_trace_context_reaches_a_provider(
    provider: Emulator, traced: Traced, flavour: Any, how: str
) -> None:
    module = import_module(flavour)
    url = f"{provider.base_url}/chat/completions"

    def go(client: Any) -> None:
        for body in (ASK, {**ASK, "stream": True}):
            assert client.post(url, json=body, headers=TELLING).status_code == 200
        client.post(url, content=b"no json", headers=TELLING)

    if how == "client":
        with clawmw.http_client(traced.runtime, flavour=flavour) as client:
            go(client)
    elif how == "wrap":
        with module.Client() as plain:
            go(clawmw.wrap(plain, traced.runtime))
    else:
        with clawmw.install(traced.runtime), module.Client() as plain:
            go(plain)
    clean(provider, 3)
    assert traced.identity.chain == TRACE


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
def test_none_reaches_it_async(provider: Emulator, traced: Traced, flavour: Any) -> None:
    async def go() -> None:
        async with clawmw.async_http_client(traced.runtime, flavour=flavour) as client:
            url = f"{provider.base_url}/chat/completions"
            await client.post(url, json=ASK, headers=TELLING)

    asyncio.run(go())
    clean(provider, 1)


def test_other_services_keep_their_trace(provider: Emulator, traced: Traced) -> None:
    """Installed, clawmw sees every request of the process; only model calls are its business."""
    seen: list[httpx.Headers] = []

    def service(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    with clawmw.install(traced.runtime), httpx.Client(transport=httpx.MockTransport(service)) as c:
        c.post("http://agent.internal/tasks", json={}, headers=TELLING)
    assert set(TELLING) <= set(seen[0])


class _Instrumented:
    """What instrumentation of an HTTP client does: a span, and headers that tell of it."""

    def __init__(self, module: Any, tracer: trace.Tracer) -> None:
        self.tracer = tracer
        self.plain = module.HTTPTransport.handle_request

    def __call__(self, transport: Any, request: Any) -> Any:
        key = otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY  # the one they all ask
        if otel_context.get_value(key):
            return self.plain(transport, request)
        with self.tracer.start_as_current_span("POST"):
            request.headers.update(TELLING)
            return self.plain(transport, request)


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
def test_an_instrumented_client_below_is_still(
    provider: Emulator, traced: Traced, flavour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(flavour)
    patched = _Instrumented(module, traced.tracer)
    monkeypatch.setattr(module.HTTPTransport, "handle_request", lambda s, r: patched(s, r))
    with clawmw.http_client(traced.runtime, flavour=flavour) as client:
        client.post(f"{provider.base_url}/chat/completions", json=ASK)
    clean(provider, 1)
    assert "POST" not in traced.spans
    with module.Client() as client:  # its own calls are traced as ever
        client.post(f"{provider.base_url}/chat/completions", json=ASK)
    assert "POST" in traced.spans


def test_an_instrumented_client_of_the_gateway_is_still(
    provider: Emulator, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aiohttp

    plain: Callable[..., Any] = aiohttp.ClientSession._request

    async def traced_request(session: Any, method: str, url: Any, **more: Any) -> Any:
        if not otel_context.get_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY):
            more["headers"] = [*more["headers"], *TELLING.items()]
        return await plain(session, method, url, **more)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", traced_request)
    with Served(Gateway(traced.runtime, Places({}, provider.base_url))) as served:
        httpx.post(f"{served.base_url}/chat/completions", json=ASK)
    clean(provider, 1)

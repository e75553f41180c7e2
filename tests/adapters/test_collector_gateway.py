"""A program with its own traces, behind the gateway: one trace of both, each call counted once."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from clawmw.adapters.collector import Collector
from clawmw.adapters.collector_server import Collecting
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.emulator import Emulator
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import Node, chains, spans, tree
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy.load import load_policy
from clawmw.providers.load import profile_for
from clawmw.runtime import Runtime

MODEL = "gpt-5.6"
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": MODEL}


def ask(url: str, tracer: trace.Tracer, number: int) -> None:
    """A model call as OpenClaw's diagnostics plugin tells of it: the span, then its header."""
    with tracer.start_as_current_span("openclaw.model.call", attributes=CALL) as span:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"question {number}"}]}
        answer = httpx.post(f"{url}/chat/completions", json=body, headers=headers).json()
        span.set_attribute("gen_ai.usage.input_tokens", answer["usage"]["prompt_tokens"])
        span.set_attribute("gen_ai.usage.output_tokens", answer["usage"]["completion_tokens"])


def names(node: Node) -> list[object]:
    """The tree as names."""
    return [node.span.name, *(names(child) for child in node.children)]


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_openclaw_behind_the_gateway(first: str, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    store = SpanStore.open(path)
    observer = OtelObserver(store=SpanStore.open(path))
    runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}), observers=[observer])
    provider = TracerProvider(
        resource=Resource({"service.name": "openclaw-gateway"}), shutdown_on_exit=False
    )
    tracer = provider.get_tracer("openclaw")
    with (
        Emulator() as emulator,
        Collecting(Collector(store, profiles=profile_for)) as collecting,
        Served(Gateway(runtime, Places({}, emulator.base_url))) as served,
    ):
        exporter = OTLPSpanExporter(f"{collecting.url}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
        with tracer.start_as_current_span("openclaw.run"):
            ask(served.base_url, tracer, 1)
            with tracer.start_as_current_span("openclaw.tool.execution") as tool:
                tool.set_attribute("gen_ai.tool.name", "exec")
            ask(served.base_url, tracer, 2)
        order = [provider.shutdown, observer.close]
        for hand_over in order if first == "theirs" else reversed(order):
            hand_over()
    (task,) = chains(store)
    rows = spans(store, task.trace_id)
    ours = [r for r in rows if r.op == "chat"]
    assert (task.calls, task.reported) == (2, 0)
    assert task.cost_nano == sum(r.cost_nano or 0 for r in ours) > 0
    assert task.input_tokens == sum(r.input_tokens or 0 for r in ours)
    assert {r.source for r in ours} == {None}
    shadows = [r for r in rows if r.op == "inference"]
    assert [r.input_tokens for r in shadows] == [r.input_tokens for r in ours]
    root = tree(rows)
    assert root is not None
    call = ["openclaw.model.call", [f"chat {MODEL}"]]
    assert names(root) == ["openclaw.run", call, ["openclaw.tool.execution"], call]
    store.close()
    runtime.close()

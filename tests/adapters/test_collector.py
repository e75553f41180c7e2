"""The collector over a socket: every SDK's way of sending, and what it must not be talked into."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from clawmw.adapters.collector import Collector
from clawmw.adapters.collector_server import Collecting
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.wire import WireSpan
from clawmw.observe.otlp.writing import encode
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.store.spanstore import SpanStore
from clawmw.providers.load import profile_for
from tests.observe.calls import Says, halted, tell

TOKEN = "t" * 40
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
CALL = WireSpan(
    f"{5:032x}",
    f"{6:016x}",
    None,
    "openclaw.model.call",
    1_000,
    2_000,
    attributes={"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7},
    scope="openclaw",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    opened = SpanStore.open(tmp_path / "t.sqlite", keep=4e9)
    yield opened
    opened.close()


@pytest.fixture
def collecting(store: SpanStore) -> Iterator[Collecting]:
    with Collecting(Collector(store, profiles=profile_for, limit=100_000)) as running:
        yield running


def post(at: Collecting, body: bytes, path: str = "/v1/traces", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{at.url}{path}", content=body, headers={**PROTOBUF, **named})


def as_json(**more: Any) -> dict[str, Any]:
    span = {
        "traceId": f"{5:032X}",
        "spanId": f"{6:016x}",
        "name": "openclaw.model.call",
        "kind": 3,
        "startTimeUnixNano": "1000",
        "endTimeUnixNano": 2000,
        "status": {"code": "STATUS_CODE_ERROR", "message": "what was said"},
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}},
        ],
        "ofTheFuture": 1,
        **more,
    }
    scoped = {"scope": {"name": "openclaw"}, "spans": [span]}
    service = {"key": "service.name", "value": {"stringValue": "gateway"}}
    return {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [scoped]}]}


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_protobuf(collecting: Collecting, store: SpanStore, encoding: str) -> None:
    fold = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    said = post(collecting, fold(encode([CALL], {})), content_encoding=encoding)
    assert (said.status_code, said.content) == (200, b"")
    assert said.headers["content-type"] == "application/x-protobuf"
    (chain,) = chains(store)
    assert (chain.calls, chain.input_tokens, chain.reported) == (1, 7, 1)


def test_json(collecting: Collecting, store: SpanStore) -> None:
    said = httpx.post(f"{collecting.url}/v1/traces", json=as_json())
    assert (said.status_code, said.json()) == (200, {})
    (row,) = [r for r in spans(store, f"{5:032x}") if not r.synthetic]
    assert (row.span_id, row.input_tokens, row.status) == (f"{6:016x}", 7, "failed")
    assert (row.agent, row.source) == ("gateway", "openclaw")
    assert "what was said" not in str(row)


def test_what_is_no_span_is_told(collecting: Collecting, store: SpanStore) -> None:
    bad = [WireSpan("00" * 16, f"{1:016x}", None, "x", 1, 2), WireSpan("", "", None, "x", 1, 2)]
    said = post(collecting, encode([CALL, *bad], {}))
    told = ExportTraceServiceResponse.FromString(said.content).partial_success
    assert (said.status_code, told.rejected_spans) == (200, 2)
    assert told.error_message == "a span without a trace id of 16 bytes"
    assert len(store.query("SELECT 1 FROM spans")) == 1
    said = httpx.post(f"{collecting.url}/v1/traces", json=as_json(startTimeUnixNano=0))
    assert said.json()["partialSuccess"]["rejectedSpans"] == "1"


def test_an_sdk_sends_ours_and_they_are_ours(
    collecting: Collecting, store: SpanStore, tmp_path: Path
) -> None:
    exporter = OTLPSpanExporter(f"{collecting.url}/v1/traces", compression=Compression.Gzip)
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    here = SpanStore.open(tmp_path / "here.sqlite")
    observer = OtelObserver(provider, store=here)
    tell(observer, Says(), halted())
    observer.flush(5)
    (there,), (ours,) = chains(store), chains(here)
    assert there == ours
    assert (there.calls, there.stops, there.reported) == (2, 1, 0)
    assert spans(store, there.trace_id) == spans(here, there.trace_id)
    observer.close()
    provider.shutdown()


@pytest.mark.parametrize("signal", ["metrics", "logs"])
def test_other_signals_are_counted_and_dropped(collecting: Collecting, signal: str) -> None:
    assert post(collecting, b"\x0a\x00", f"/v1/{signal}").status_code == 200
    health = httpx.get(f"{collecting.url}/healthz").json()
    assert health["status"] == "ok"
    assert health["dropped"][signal] == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no protobuf", {}, 400),
        (b"\xff" * 50, {}, 400),
        (b"{", JSON, 400),
        (b"[1]", JSON, 400),
        (b'{"resourceSpans": 7}', JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 5}]}]}]}', JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}', JSON, 400),
        (b"[" * 90_000, JSON, 400),
        (b"", {"content-type": "text/plain"}, 415),
        (b"", {"content-encoding": "br"}, 415),
        (b"cut off", {"content-encoding": "gzip"}, 400),
        (b"x" * 100_001, {}, 413),
        (gzip.compress(bytes(1_000_000)), {"content-encoding": "gzip"}, 413),
        (b"", {"host": "evil.example"}, 403),
        (b"", {"origin": "http://evil.example"}, 403),
    ],
)
def test_what_is_refused(
    collecting: Collecting, store: SpanStore, body: bytes, headers: dict[str, str], status: int
) -> None:
    said = post(collecting, body, **headers)
    assert said.status_code == status
    assert "Traceback" not in said.text
    assert post(collecting, encode([CALL], {})).status_code == 200, "and it goes on"


def test_paths_and_methods(collecting: Collecting) -> None:
    assert httpx.get(f"{collecting.url}/v1/traces").status_code == 405
    assert httpx.post(f"{collecting.url}/v1/profiles").status_code == 404
    assert httpx.get(f"{collecting.url}/").status_code == 404


def test_the_token(store: SpanStore) -> None:
    with Collecting(Collector(store), token=TOKEN) as running:
        body = encode([CALL], {})
        for headers in ({}, {"authorization": "Bearer wrong"}):
            said = post(running, body, **headers)
            assert said.status_code == 401
            assert "this collector wants its token" in said.json()["error"]["message"]
        assert post(running, body, authorization=f"Bearer {TOKEN}").status_code == 200


def test_a_store_that_cannot_be_written_is_no_loss_yet(
    collecting: Collecting, store: SpanStore
) -> None:
    store.close()
    said = post(collecting, encode([CALL], {}))
    assert (said.status_code, said.headers["retry-after"]) == (503, "5")
    assert json.loads(httpx.get(f"{collecting.url}/healthz").text)["refused"] == 1

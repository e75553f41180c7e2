"""`clawmw traces export`: what was stored here arrives there, whole, and errors are one line."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from clawmw.adapters import otlp_sender
from clawmw.adapters.collector import Collector
from clawmw.adapters.collector_server import Collecting
from clawmw.cli.traces import traces
from clawmw.core.identity import Identity
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.reading import decode
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.providers.load import profile_for
from tests.observe.calls import EPOCH, PLANNER, Says, halted, tell
from tests.observe.test_doubles import OTHER, OURS, THEIRS, row

WORKER = Identity(agent="worker", session="s2", chain="trip-7", hop=1)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A flow with a worker that nobody wrote a span of, and a trace of two programs."""
    path = tmp_path / "here.sqlite"
    observer = OtelObserver(store=SpanStore.open(path, keep=4e9))
    with observer.chain(PLANNER, "plan a trip"), observer.agent(PLANNER, "planner"):
        tell(observer, Says(tools=[("search", "c1", EPOCH - 3)]))
        tell(observer, Says(identity=WORKER), halted(identity=WORKER))
    observer.close()
    store = SpanStore.open(path, keep=4e9)
    agent = {"op": "invoke_agent", "source": "openclaw", "agent": "pi"}
    call = THEIRS | {"agent": "pi", "cache_read_tokens": 40, "usage_basis": "measured"}
    alone = call | {"model": "claude-sonnet-4-5", "cost_nano": 450_000}
    ours = OURS | {"agent": "main", "usage_basis": "measured", "cost_basis": "measured"}
    store.write([row(1, None, agent), row(2, 1, call), row(3, 2, OTHER), row(4, 3, ours)])
    store.write([row(5, 1, alone), row(6, 77, ours), row(7, 1, ours)])
    store.close()
    return path


def run(*args: object, **environment: str) -> Result:
    words = ["export", *map(str, args)]
    return CliRunner().invoke(traces, words, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "", **environment})


def everything(path: Path) -> tuple[Any, dict[str, list[SpanRow]]]:
    store = SpanStore.read(path)
    found = chains(store)
    rows = {chain.trace_id: spans(store, chain.trace_id) for chain in found}
    store.close()
    return found, rows


def test_the_two_stores_agree(stored: Path, tmp_path: Path) -> None:
    there = SpanStore.open(tmp_path / "there.sqlite", keep=4e9)
    with Collecting(Collector(there, profiles=profile_for)) as running:
        result = run("--since", "0001-01-02", "--otlp", running.url, "--store", stored)
        again = run("trip-7", "--otlp", f"{running.url}/v1/traces", "--store", stored)
    there.close()
    here, copied = everything(stored), everything(tmp_path / "there.sqlite")
    assert result.exit_code == again.exit_code == 0
    count = sum(len(rows) for rows in here[1].values())
    assert result.stdout == f"sent {count} spans of 2 chains to {running.url}/v1/traces\n"
    for trace, rows in here[1].items():
        assert copied[1][trace] == rows
    assert copied[0] == here[0]


class Backend(BaseHTTPRequestHandler):
    """Answers with what it is told to, and keeps what it was sent."""

    answers: ClassVar[list[tuple[int, bytes, dict[str, str]]]] = []
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status, said, headers = self.answers.pop(0) if self.answers else (200, b"", {})
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(said))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Backend)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(Backend, "answers", [])
    monkeypatch.setattr(Backend, "got", [])
    waits: list[float] = []
    monkeypatch.setattr(otlp_sender.time, "sleep", waits.append)
    Backend.waits = waits  # type: ignore[attr-defined]
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_span_has_its_parent_and_headers_are_heeded(stored: Path, backend: str) -> None:
    result = run(
        "trip-7",
        "--store",
        stored,
        OTEL_EXPORTER_OTLP_ENDPOINT=backend,
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20k,x-mlflow-experiment-id=0",
        OTEL_RESOURCE_ATTRIBUTES="openinference.project.name=p",
    )
    assert result.exit_code == 0, result.output
    ((headers, body),) = Backend.got
    assert headers["authorization"] == "Bearer k"
    assert headers["x-mlflow-experiment-id"] == "0"
    whole = gzip.decompress(body)
    assert b"openinference.project.name" in whole
    found = decode(whole, "protobuf").spans
    ids = {span.span_id for span in found}
    assert [s.name for s in found if s.parent_id not in ids] == ["invoke_workflow plan a trip"]
    assert {s.service for s in found} == {"clawmw"}


def test_it_is_tried_again_and_not_for_ever(stored: Path, backend: str) -> None:
    Backend.answers[:] = [(503, b"", {}), (429, b"", {"retry-after": "7"}), (200, b"", {})]
    assert run("--latest", "--otlp", backend, "--store", stored).exit_code == 0
    assert Backend.waits == [0.5, 7.0]  # type: ignore[attr-defined]
    Backend.answers[:] = [(503, b"", {})] * 9
    result = run("--latest", "--otlp", backend, "--store", stored)
    assert result.exit_code == 1
    assert result.stderr.strip().endswith(f"{backend}/v1/traces answered 503")
    assert len(Backend.answers) == 9 - otlp_sender.TRIES


def test_what_the_receiver_rejects_is_told(stored: Path, backend: str) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
    said = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    Backend.answers[:] = [(200, said, {})]
    result = run("trip-7", "--otlp", backend, "--store", stored)
    assert result.stderr == "the receiver rejected 2 of them: too old\n"


@pytest.mark.parametrize(
    ("args", "answer", "said"),
    [
        (["--otlp", "BACKEND"], (401, b"", {}), "answered 401: it wants a key; set OTEL_EXPORTER_"),
        (["--otlp", "BACKEND"], (404, b"", {}), "answered 404: it takes no OTLP there"),
        (["--otlp", "http://127.0.0.1:9"], None, "cannot be reached (ConnectError)"),
        (["--otlp", "ftp://x"], None, "--otlp: expected http://HOST:PORT or https://HOST"),
        (["--otlp", "http://"], None, "--otlp: expected http://HOST:PORT or https://HOST"),
        (["--otlp", "http://h:99999"], None, "--otlp: expected http://HOST:PORT"),
        ([], None, "give --otlp URL, such as http://127.0.0.1:6006"),
    ],
)
def test_errors_are_one_line(
    stored: Path, backend: str, args: list[str], answer: Any, said: str
) -> None:
    Backend.answers[:] = [answer] if answer else []
    words = [backend if word == "BACKEND" else word for word in args]
    result = run("--latest", *words, "--store", stored, OTEL_EXPORTER_OTLP_HEADERS="k=s3cret")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "s3cret" not in result.output


def test_a_dry_run_sends_nothing(stored: Path, backend: str) -> None:
    result = run("--since", "0001-01-02", "--otlp", backend, "--dry-run", "--store", stored)
    assert result.stdout.startswith("would send ")
    told = json.loads(
        run("--latest", "--otlp", backend, "--dry-run", "--json", "--store", stored).stdout
    )
    assert (told["chains"], told["sent"]) == (1, False)
    assert not Backend.got


def test_usage(stored: Path) -> None:
    for args in ([], ["trip-7", "--latest"], ["--latest", "--since", "1h"]):
        result = run(*args, "--otlp", "http://127.0.0.1:9", "--store", stored)
        assert result.exit_code == 2
        assert "give IDs of chains, --since, or --latest" in result.stderr

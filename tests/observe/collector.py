"""A collector of OTLP over HTTP for tests: one that answers, or does not."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """`answer` says what to do with a request: a status, or None to hang."""

    def __init__(self, port: int = 0) -> None:
        self.answer: Callable[[int], int | None] = lambda spans: 200
        self.rejects = 0
        self.spans: list[Any] = []
        self.metrics: list[dict[str, Any]] = []
        """Each message's, by name."""
        self.resources: list[dict[str, str]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.retry_after: str | None = None
        self._let_go = threading.Event()
        self._connections: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._connections.append(self.connection)

            def do_POST(self) -> None:
                outer._take(self)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        encoding = request.headers.get("content-encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        if request.path.endswith("/metrics"):
            self._take_metrics(request, body)
            return
        found = ExportTraceServiceRequest.FromString(body)
        spans = [s for r in found.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.requests.append((request.path, dict(request.headers.items())))
        status = self.answer(len(spans))
        if status is None:
            self._let_go.wait(30)
            return
        answer = ExportTraceServiceResponse()
        if status == 200:
            self.spans += spans
            for each in found.resource_spans:
                values = {a.key: a.value.string_value for a in each.resource.attributes}
                self.resources.append(values)
            if self.rejects:
                answer.partial_success.rejected_spans = self.rejects
        data = answer.SerializeToString()
        request.send_response(status)
        if self.retry_after is not None and status != 200:
            request.send_header("retry-after", self.retry_after)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        with suppress(OSError):
            request.wfile.write(data)

    def _take_metrics(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append((request.path, dict(request.headers.items())))
        status = self.answer(0)
        if status is None:
            self._let_go.wait(30)
            return
        if status == 200:
            for whole in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                values = {a.key: a.value.string_value for a in whole.resource.attributes}
                self.resources.append(values)
                found = [metric for scope in whole.scope_metrics for metric in scope.metrics]
                self.metrics.append({metric.name: metric for metric in found})
        request.send_response(status)
        request.send_header("content-length", "0")
        request.end_headers()

    def names(self) -> list[str]:
        """The names of the spans that came."""
        return [span.name for span in self.spans]

    def wait(self, number: int, seconds: float = 10) -> None:
        """Until so many spans came."""
        until(lambda: len(self.spans) >= number, seconds)

    def close(self) -> None:
        """Gone: connections are refused from now on."""
        self._let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def until(done: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it is done; fails when it is not."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)

"""Takes in spans over OTLP/HTTP and keeps them in the trace store. Pure ASGI.

Any OpenTelemetry SDK can send here, in either encoding, compressed or not. Metrics and logs
are counted and dropped, so that no exporter has anything to complain of. One body is decoded
at a time, away from the event loop: that bounds the memory, and the interpreter would not do
two at once anyway.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from clawmw.adapters.gateway_guard import GatewayError, Receive, Scope, Send, header, receive_body
from clawmw.adapters.gateway_guard import answer as respond
from clawmw.errors import StoreError
from clawmw.observe.otlp.reading import decode
from clawmw.observe.otlp.rows import taken
from clawmw.observe.otlp.wire import BadOtlp, Batch, Encoding
from clawmw.observe.otlp.writing import answer
from clawmw.observe.store.exporter import SCOPE

if TYPE_CHECKING:
    from clawmw.observe.otlp.foreign import Profiles
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["MAX_BODY", "Collector"]

MAX_BODY = 16 * 2**20
"""The largest body, bytes, as it comes and as it unfolds."""
_WAITING = 16
"""Bodies held at once; whoever comes later is told to come again."""
_ENCODINGS: dict[bytes, Encoding] = {
    b"application/x-protobuf": "protobuf",
    b"application/json": "json",
}
_TYPES: dict[Encoding, bytes] = {encoding: kind for kind, encoding in _ENCODINGS.items()}
_LIBRARIES = 64
"""Libraries counted apart, at most."""


class Collector:
    """The application: /v1/traces, /v1/metrics, /v1/logs and /healthz."""

    def __init__(
        self, store: SpanStore, *, profiles: Profiles | None = None, limit: int = MAX_BODY
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._limit = limit
        self._decoding = asyncio.Lock()
        self._held = 0
        self.spans: Counter[str] = Counter()
        """Spans stored, by library."""
        self.rejected = 0
        self.dropped: Counter[str] = Counter()
        """Requests with metrics or logs, by signal."""
        self.lost = 0
        """Requests refused because the store could not be written."""

    def counts(self) -> dict[str, Any]:
        """What came in so far."""
        return {
            "spans": self.spans.total(),
            "libraries": dict(self.spans.most_common()),
            "rejected": self.rejected,
            "dropped": {"metrics": self.dropped["metrics"], "logs": self.dropped["logs"]},
            "refused": self.lost,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except GatewayError as refusal:
            await refusal.answer(send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/healthz" and method in ("GET", "HEAD"):
            health = json.dumps({"status": "ok", **self.counts()}).encode()
            await _respond(send, b"application/json", b"" if method == "HEAD" else health)
            return
        signal = path.removeprefix("/v1/")
        if path != f"/v1/{signal}" or signal not in ("traces", "metrics", "logs"):
            raise GatewayError(
                404, "here are /v1/traces, /v1/metrics, /v1/logs and /healthz", "not_found"
            )
        if method != "POST":
            raise GatewayError(405, "send spans with POST", "method_not_allowed", allow="POST")
        encoding = _encoding(scope)
        if self._held >= _WAITING:
            raise GatewayError(
                429, "too many requests at once", "too_many_requests", retry_after="1"
            )
        self._held += 1
        try:
            body = await receive_body(scope, receive, self._limit)
            if body is None:  # its sender left
                return
            answered = await self._taken(signal, body, encoding)
        finally:
            self._held -= 1
        await _respond(send, _TYPES[encoding], answered)

    async def _taken(self, signal: str, body: bytes, encoding: Encoding) -> bytes:
        """Keep what a request holds; what to answer."""
        if signal != "traces":
            self.dropped[signal] += 1
            return b"{}" if encoding == "json" else b""
        async with self._decoding:
            try:
                batch, libraries = await asyncio.to_thread(self._keep, body, encoding)
            except BadOtlp as error:
                raise GatewayError(400, str(error), "invalid_body") from None
            except StoreError as error:
                self.lost += 1
                raise GatewayError(503, str(error), "store", retry_after="5") from None
        for library, count in libraries.items():
            known = library in self.spans or len(self.spans) < _LIBRARIES
            self.spans[library if known else "others"] += count
        self.rejected += batch.rejected
        return answer(encoding, batch.rejected, batch.why)

    def _keep(self, body: bytes, encoding: Encoding) -> tuple[Batch, Counter[str]]:
        batch = decode(body, encoding)
        libraries: Counter[str] = Counter()
        rows = []
        for span in batch.spans:
            row = taken(span, self._profiles)
            if row is not None:
                rows.append(row)
                libraries[row.source or SCOPE] += 1
        self._store.write(rows)
        return batch, libraries


def _encoding(scope: Scope) -> Encoding:
    kind = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    encoding = _ENCODINGS.get(kind)
    if encoding is None:
        raise GatewayError(
            415,
            "send OTLP over HTTP as application/x-protobuf or application/json "
            "(OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)",
            "unsupported_type",
        )
    return encoding


async def _respond(send: Send, kind: bytes, body: bytes) -> None:
    await respond(send, 200, [(b"content-type", kind)], body)

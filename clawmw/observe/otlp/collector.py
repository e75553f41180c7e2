"""Spans -> a collector, by OTLP over HTTP. What of it costs time to import is imported on the
exporting thread, with the first batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from clawmw.observe.otlp.post import Post, release
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.sending.counts import Counts
from clawmw.observe.sending.outbox import Outbox, Outcome, Shape
from clawmw.observe.spans.compat import duplicate

__all__ = ["Collector", "otlp_outbox", "resource"]

_TOO_LARGE = 413
_LARGEST = 2**63
_SERVICE = "clawmw"
_Done = Outcome[ReadableSpan]


def resource() -> Resource:
    """Who the spans are from: OTEL_SERVICE_NAME, else `clawmw`; OTEL_RESOURCE_ATTRIBUTES, and what
    the SDK's detectors find."""
    found = Resource.create()
    ours: dict[str, str] = {"telemetry.distro.name": _SERVICE}
    number = release()
    if number:
        ours["telemetry.distro.version"] = number
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        ours["service.name"] = _SERVICE
        if number:
            ours["service.version"] = number
    given = {name: value for name, value in found.attributes.items() if name not in ours}
    return Resource({**given, **ours}, found.schema_url)


class Collector:
    """The other end; used by one thread at a time."""

    def __init__(self, settings: Settings, compat: Sequence[str]) -> None:
        self._compat = tuple(compat)
        self._post = Post(settings)
        # Now, not with the first batch: the SDK's detectors run on threads of their own, which
        # nobody can start while the process ends.
        self._resource = resource()
        self._pid = os.getpid()

    def deliver(self, spans: Sequence[ReadableSpan]) -> _Done:
        """Send a batch, in halves where it is too large for the collector."""
        if self._pid != os.getpid():  # a forked child is another instance of the service
            self._pid = os.getpid()
            with suppress(RuntimeError):  # as above
                self._resource = resource()
        answer = self._post.send(self._encoded(spans))
        if answer.status == _TOO_LARGE and len(spans) > 1:
            middle = len(spans) // 2
            first, second = self.deliver(spans[:middle]), self.deliver(spans[middle:])
            return Outcome(
                first.refused + second.refused,
                (*first.again, *second.again),
                max(first.after or 0.0, second.after or 0.0),
                second.why or first.why,
            )
        if 200 <= answer.status < 300:
            refused = min(_rejected(answer.body), len(spans))
            return Outcome(refused=refused, why="some were rejected" if refused else "")
        if answer.passing:
            return Outcome(again=spans, after=answer.after, why=answer.said)
        return Outcome(refused=len(spans), why=answer.said)

    def close(self) -> None:
        """Let go of the connection."""
        self._post.close()

    def _encoded(self, spans: Sequence[ReadableSpan]) -> bytes:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        shown = [_exported(span, self._resource, self._compat) for span in spans]
        data: bytes = encode_spans(shown).SerializeToString()
        return data


def otlp_outbox(settings: Settings, compat: Sequence[str], counts: Counts) -> Outbox[ReadableSpan]:
    """A bounded queue to a collector; sized by OpenTelemetry's own variables."""
    batch = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    room = max(_number("OTEL_BSP_MAX_QUEUE_SIZE", 8192), batch)
    delay = _number("OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000
    collector = Collector(settings, compat)
    shape = Shape(room, batch, delay)
    return Outbox(settings.shown, collector.deliver, counts, shape, collector.close)


def _number(name: str, default: int) -> int:
    try:
        return max(int(os.environ.get(name, "")), 1)
    except ValueError:
        return default


def _exported(span: ReadableSpan, origin: Resource, compat: Sequence[str]) -> ReadableSpan:
    """A span as others read it: from us, with the names that readers want besides."""
    attributes = duplicate(dict(span.attributes or {}), compat)
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        origin,
        {name: value for name, value in attributes.items() if _fits(value)},
        span.events,
        span.links,
        span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _fits(value: Any) -> bool:
    """Whether the wire can hold it: a provider may say any number."""
    return not isinstance(value, int) or -_LARGEST <= value < _LARGEST


def _rejected(body: bytes) -> int:
    """How many spans the collector says it did not take."""
    if not body:
        return 0
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except Exception:  # noqa: BLE001 it accepted the request; what else it says is not ours
        return 0
    return max(int(answer.partial_success.rejected_spans), 0)

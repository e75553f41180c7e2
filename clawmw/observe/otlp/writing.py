"""Spans -> the body of an OTLP/HTTP request; what the answer to one says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from clawmw.observe.otlp.wire import Encoding, Value, WireSpan

__all__ = ["answer", "encode", "rejected"]

_LARGEST = 2**63 - 1


def encode(spans: Sequence[WireSpan], resource: Mapping[str, Value]) -> bytes:
    """The protobuf body of a request that sends these spans.

    `resource` says where they come from; a span that names its own service has that one.
    """
    request = ExportTraceServiceRequest()
    groups: dict[str | None, Any] = {}
    scopes: dict[tuple[str | None, str], Any] = {}
    for span in spans:
        key = (span.service, span.scope)
        scoped = scopes.get(key)
        if scoped is None:
            group = groups.get(span.service)
            if group is None:
                group = groups[span.service] = request.resource_spans.add()
                named = {"service.name": span.service} if span.service else {}
                group.resource.attributes.extend(_pairs({**resource, **named}))
            scoped = scopes[key] = group.scope_spans.add()
            scoped.scope.name = span.scope
        scoped.spans.append(_message(span))
    body: bytes = request.SerializeToString()
    return body


def _message(span: WireSpan) -> Span:
    return Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id or ""),
        name=span.name,
        kind=Span.SPAN_KIND_CLIENT if span.client else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        flags=1,  # sampled
        status=Status(code=Status.STATUS_CODE_ERROR) if span.failed else None,
        attributes=_pairs(span.attributes),
        events=[
            Span.Event(name=e.name, time_unix_nano=e.time_ns, attributes=_pairs(e.attributes))
            for e in span.events
        ],
        links=[
            Span.Link(
                trace_id=bytes.fromhex(trace),
                span_id=bytes.fromhex(one),
                attributes=_pairs({"clawmw.link": kind}),
            )
            for kind, trace, one in span.links
        ],
    )


def _pairs(attributes: Mapping[str, Value | None]) -> list[KeyValue]:
    return [
        KeyValue(key=_text(key), value=_any(value))
        for key, value in attributes.items()
        if value is not None
    ]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):  # before int, which it is, too
        return AnyValue(bool_value=value)
    if isinstance(value, int):  # the wire has 64 bits
        small = abs(value) <= _LARGEST
        return AnyValue(int_value=value) if small else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=_text(value))
    result = AnyValue()
    result.array_value.values.extend([_any(item) for item in value])
    return result


def _text(value: str) -> str:
    """Lone surrogates have no UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8")


def answer(encoding: Encoding, rejected: int = 0, why: str = "") -> bytes:
    """The body that answers a request for spans."""
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = why
    if encoding == "json":
        return str(MessageToJson(response, indent=None)).encode()
    body: bytes = response.SerializeToString()
    return body


def rejected(body: bytes) -> tuple[int, str]:
    """What a protobuf answer says was rejected, and why; (0, "") where it cannot be read."""
    try:
        said = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return said.rejected_spans, said.error_message

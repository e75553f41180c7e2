"""The body of an OTLP/HTTP request -> spans, in both encodings.

The protobuf is read span by span: the parser needs up to ninety times the size of what it
reads, so that is bounded by the largest span and not by the whole request. What is not a
span (no ids, no start) is counted as rejected; a body that cannot be read at all is a
`BadOtlp`. In JSON ids are hexadecimal (the protocol's one departure from protobuf's JSON).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, TypeAlias, TypeVar

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from clawmw.observe.otlp.wire import BadOtlp, Batch, Encoding, Value, WireEvent, WireSpan

__all__ = ["LARGEST_SPAN", "MOST_SPANS", "decode"]

MOST_SPANS = 50_000
"""Spans that one request may hold; those beyond are rejected."""
LARGEST_SPAN = 4 * 2**20
"""Bytes of one span; a larger one is rejected."""
_MOST_PARTS = 8 * MOST_SPANS
"""Groups, scopes and spans of one request: the empty ones are cheap to send, and not to read."""
_LATEST = 2**63 - 1
T = TypeVar("T")


def decode(body: bytes, encoding: Encoding) -> Batch:
    """The spans of a request's body. Raises `BadOtlp`."""
    batch = Batch()
    try:
        groups = _from_json(body) if encoding == "json" else _from_protobuf(memoryview(body))
        for service, scope, raw in groups:
            if len(batch.spans) >= MOST_SPANS:
                batch.reject(f"more than {MOST_SPANS} spans in one request")
                continue
            span = _read(raw)
            if span is None:
                batch.reject(f"a span larger than {LARGEST_SPAN // 2**20} MB")
                continue
            _take(batch, span, scope, service)
    except (
        DecodeError,
        ParseError,
        ValueError,
        TypeError,
        RecursionError,
        AttributeError,
    ) as error:
        kind = "JSON" if encoding == "json" else "protobuf"
        raise BadOtlp(f"the body is no OTLP {kind} ({type(error).__name__})") from None
    return batch


_Raw: TypeAlias = memoryview | Mapping[str, Any]


def _read(raw: _Raw) -> Span | None:
    span = Span()
    if isinstance(raw, memoryview):
        if len(raw) > LARGEST_SPAN:
            return None
        span.ParseFromString(bytes(raw))
    else:
        ParseDict(_with_bytes(raw), span, ignore_unknown_fields=True)
    return span


def _take(batch: Batch, span: Span, scope: str, service: str | None) -> None:
    start = span.start_time_unix_nano
    if len(span.trace_id) != 16 or not any(span.trace_id):
        batch.reject("a span without a trace id of 16 bytes")
    elif len(span.span_id) != 8 or not any(span.span_id):
        batch.reject("a span without an id of 8 bytes")
    elif not 0 < start < _LATEST or span.end_time_unix_nano > _LATEST:
        batch.reject("a span without a start time")
    else:
        above = span.parent_span_id
        batch.spans.append(
            WireSpan(
                span.trace_id.hex(),
                span.span_id.hex(),
                above.hex() if len(above) == 8 and any(above) else None,
                span.name,
                start,
                max(span.end_time_unix_nano, start),
                span.status.code == Status.STATUS_CODE_ERROR,
                span.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER),
                _attributes(span.attributes),
                tuple(
                    WireEvent(e.name, min(e.time_unix_nano, _LATEST), _attributes(e.attributes))
                    for e in span.events
                ),
                tuple(_link(link) for link in span.links),
                scope,
                service,
            )
        )


def _link(link: Span.Link) -> tuple[str, str, str]:
    kind = _attributes(link.attributes).get("clawmw.link", "link")
    return str(kind), link.trace_id.hex(), link.span_id.hex()


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Value]:
    """Those whose value is plain or a list of plain ones; the others have no place in a row."""
    found: dict[str, Value] = {}
    for pair in pairs:
        value = _value(pair.value)
        if value is not None:
            found[pair.key] = value
    return found


def _value(value: AnyValue) -> Value | None:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        items = [_value(item) for item in value.array_value.values]
        return tuple([i for i in items if isinstance(i, str | bool | int | float)])
    if kind in ("string_value", "bool_value", "int_value"):
        plain: str | bool | int = getattr(value, kind)
        return plain
    if kind == "double_value" and isfinite(value.double_value):
        return value.double_value
    return None


def _service(resource: Resource) -> str | None:
    for pair in resource.attributes:
        if pair.key == "service.name" and pair.value.string_value:
            return str(pair.value.string_value)
    return None


# --- protobuf ------------------------------------------------------------------------


def _from_protobuf(body: memoryview) -> Iterator[tuple[str | None, str, memoryview]]:
    """(service, scope, span) of each span; the spans not parsed yet."""
    left = iter(range(_MOST_PARTS))
    for group in _counted(_fields(body, 1), left):
        resource = next(_fields(group, 1), memoryview(b""))
        service = _service(Resource.FromString(bytes(_small(resource))))
        for scoped in _counted(_fields(group, 2), left):
            scope = next(_fields(scoped, 1), memoryview(b""))
            name = InstrumentationScope.FromString(bytes(_small(scope))).name
            for span in _counted(_fields(scoped, 2), left):
                yield service, name, span


def _counted(parts: Iterator[T], left: Iterator[int]) -> Iterator[T]:
    """The same parts, while any are left of those that one request may have."""
    for part in parts:
        if next(left, None) is None:
            raise ValueError("too many parts")
        yield part


def _small(data: memoryview) -> memoryview:
    if len(data) > LARGEST_SPAN:
        raise ValueError("a resource or scope too large")
    return data


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields of that number in a message, which is not parsed otherwise."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut off")
            if tag >> 3 == wanted:
                yield data[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("no protobuf")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


# --- JSON ----------------------------------------------------------------------------


def _from_json(body: bytes) -> Iterator[tuple[str | None, str, Mapping[str, Any]]]:
    whole = json.loads(body)
    if not isinstance(whole, dict):
        raise TypeError("no object")
    left = iter(range(_MOST_PARTS))
    for group in _counted(_listed(whole, "resourceSpans"), left):
        resource = ParseDict(group.get("resource") or {}, Resource(), ignore_unknown_fields=True)
        for scoped in _counted(_listed(group, "scopeSpans"), left):
            name = (scoped.get("scope") or {}).get("name")
            for span in _counted(_listed(scoped, "spans"), left):
                yield _service(resource), str(name or ""), span


def _listed(value: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    for item in value.get(key) or ():
        if not isinstance(item, dict):
            raise TypeError("no object")
        yield item


_IDS = ("traceId", "spanId", "parentSpanId")


def _with_bytes(span: Mapping[str, Any]) -> dict[str, Any]:
    """The span with its ids as protobuf's own JSON has them."""
    result = {**span, **{key: _base64(span[key]) for key in _IDS if span.get(key)}}
    if span.get("links"):
        result["links"] = [_with_bytes(link) for link in _listed(span, "links")]
    return result


def _base64(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("an id that is no text")
    return base64.b64encode(bytes.fromhex(text)).decode()

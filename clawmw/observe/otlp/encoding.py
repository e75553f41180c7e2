"""Counted metrics as a message of OTLP. Imported by who sends it, with the first message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Origin
from opentelemetry.sdk.resources import Resource

from clawmw.observe.metrics.cells import Snapshot, Spread
from clawmw.observe.metrics.instruments import INSTRUMENTS, Instrument
from clawmw.observe.store.exporter import SCOPE

__all__ = ["Frame", "encoded"]

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """What was counted between two moments, in nanoseconds since the epoch."""

    now: Snapshot
    """The cells at its end."""
    start: int
    end: int
    before: Snapshot | None = None
    """The cells at its start, where what is told is the difference; None: it is told as it is,
    counted since the start."""


def encoded(origin: Resource, frame: Frame) -> bytes:
    """The message."""
    scope = pb2.ScopeMetrics(scope=InstrumentationScope(name=SCOPE), metrics=list(_metrics(frame)))
    whole = pb2.ResourceMetrics(
        resource=Origin(attributes=_pairs(origin.attributes)),
        scope_metrics=[scope],
        schema_url=origin.schema_url,
    )
    message: bytes = ExportMetricsServiceRequest(resource_metrics=[whole]).SerializeToString()
    return message


def _metrics(frame: Frame) -> Iterator[pb2.Metric]:
    for row in INSTRUMENTS:
        cells = frame.now.get(row.name)
        if not cells:
            continue
        metric = pb2.Metric(name=row.name, unit=row.unit, description=row.about)
        told = frame.before if row.kind in ("counter", "histogram") else None
        before = {} if told is None else told.get(row.name, {})
        points = _points(metric, row, delta=told is not None)
        for labels, value in cells.items():
            earlier = before.get(labels)
            if isinstance(value, Spread):
                whole = told is None
                point = _spread(row, value, earlier if isinstance(earlier, Spread) else None, whole)
            else:
                point = _number(row, value - (earlier if isinstance(earlier, float) else 0.0))
            point.start_time_unix_nano, point.time_unix_nano = frame.start, frame.end
            point.attributes.extend(_pairs(row.attributes(labels)))
            points.append(point)
        yield metric


def _points(metric: pb2.Metric, row: Instrument, *, delta: bool) -> Any:
    """Where the points of a metric go."""
    if row.kind == "gauge":
        return metric.gauge.data_points
    data = metric.histogram if row.kind == "histogram" else metric.sum
    if row.kind == "counter":
        metric.sum.is_monotonic = True
    data.aggregation_temporality = (
        pb2.AGGREGATION_TEMPORALITY_DELTA if delta else pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    return data.data_points


def _number(row: Instrument, value: float) -> pb2.NumberDataPoint:
    if row.money:
        return pb2.NumberDataPoint(as_double=value)
    return pb2.NumberDataPoint(as_int=min(int(value), _LARGEST))


def _spread(
    row: Instrument, value: Spread, earlier: Spread | None, whole: bool
) -> pb2.HistogramDataPoint:
    """A histogram's point; of a difference nobody knows the least and the most."""
    counts, total = value.counts, value.total
    if earlier is not None:
        counts = tuple(a - b for a, b in zip(counts, earlier.counts, strict=True))
        total -= earlier.total
    point = pb2.HistogramDataPoint(
        count=sum(counts), sum=total, bucket_counts=counts, explicit_bounds=row.buckets
    )
    if whole:
        point.min, point.max = value.least, value.most
    return point


def _pairs(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: object) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, Sequence):
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    return AnyValue(string_value=str(value))

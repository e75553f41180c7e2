"""Metrics by OpenTelemetry: the application's provider, or none."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from clawmw.observe.metrics.otel_metrics import OtelMetrics
from tests.observe.calls import Says


def applied() -> tuple[MeterProvider, InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    """All data points of the metrics of a name."""
    data = reader.get_metrics_data()
    return [
        point
        for of_resource in (data.resource_metrics if data is not None else ())
        for scope in of_resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def test_two_policies_of_one_process_count_together() -> None:
    provider, reader = applied()
    for observer in (OtelMetrics(provider), OtelMetrics(provider)):
        for event in Says().events():
            observer(event)
    [calls] = points(reader, "clawmw.calls")
    assert calls.value == 2
    [duration] = points(reader, "gen_ai.client.inference.duration")
    assert duration.count == 2


def test_the_present_names_alone_where_the_application_asks_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    provider, reader = applied()
    observer = OtelMetrics(provider)
    for event in Says().events():
        observer(event)
    assert points(reader, "gen_ai.client.inference.duration")
    assert not points(reader, "gen_ai.client.operation.duration")
    assert not points(reader, "gen_ai.client.token.usage")


def test_a_provider_that_fails_stops_no_call(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MeterProvider):
        def get_meter(self, *args: Any, **more: Any) -> Any:
            raise ValueError("no")

    observer = OtelMetrics(Broken(shutdown_on_exit=False))
    for event in Says().events():
        observer(event)
    assert [record.getMessage() for record in caplog.records] == [
        "clawmw could not count a call: ValueError"
    ]


def test_a_provider_that_the_application_sets_later_is_used_from_then_on() -> None:
    program = """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from clawmw.observe.metrics.otel_metrics import OtelMetrics
        from tests.observe.calls import Says

        observer = OtelMetrics()
        for event in Says().events():
            observer(event)  # nobody reads it
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        for event in Says(model="later").events():
            observer(event)
        found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        [calls] = [metric for metric in found if metric.name == "clawmw.calls"]
        for point in calls.data.data_points:
            print(point.attributes["model"], point.value)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("later 1\n", "")

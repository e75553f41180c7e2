"""Metrics that go to a collector: which, when, by whom, and what when it does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

import clawmw
from clawmw.core.events import Event
from clawmw.emulator import Emulator
from clawmw.observe.metrics.cells import Cells
from clawmw.observe.metrics.measures import Measures
from clawmw.observe.metrics.otel_metrics import OtelMetrics
from clawmw.observe.otlp.encoding import Frame, encoded
from clawmw.observe.otlp.settings import otlp_settings
from clawmw.policy import build
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.observe.calls import Says
from tests.observe.collector import Collector, until

pytest.importorskip("prometheus_client", reason="compared with what a scraper reads")
from clawmw.observe.metrics.prometheus import Metrics
from tests.observe.measured import Values, everything, labels, scraped, stories

ROOT = Path(__file__).parents[3]
ASKED: Any = [{"role": "user", "content": "hello " * 900}]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def metrics_of(trace: Any) -> OtelMetrics:
    """The metrics of a policy's `trace:` section."""
    observers = build.observers(load_policy({"version": 1, "trace": trace}))
    (found,) = [one for one in observers if isinstance(one, OtelMetrics)]
    return found


def tell(metrics: OtelMetrics, *calls: Says) -> None:
    for call in calls:
        for event in call.events():
            metrics(event)


def points(message: Mapping[str, Any], name: str) -> list[Any]:
    """The data points of a metric."""
    metric = message[name]
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


def value(message: Mapping[str, Any], name: str) -> float:
    """The only one's value."""
    (point,) = points(message, name)
    return float(getattr(point, point.WhichOneof("value")))


def by_wire(message: Mapping[str, Any]) -> Values:
    """What was sent, by the names of Prometheus; of a histogram, how many values it holds."""
    found: Values = {}
    for name, metric in message.items():
        stem = name.replace(".", "_") + {"s": "_seconds"}.get(metric.unit, "")
        if metric.WhichOneof("data") == "sum" and metric.sum.is_monotonic:
            stem += "_total"
        for point in points(message, name):
            about = labels({a.key: a.value.string_value for a in point.attributes})
            whole = metric.WhichOneof("data") == "histogram"
            found[stem, about] = point.count if whole else getattr(point, point.WhichOneof("value"))
    return found


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the policy's observers in it."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_arrives_is_what_a_scraper_reads(collector: Collector) -> None:
    metrics, prometheus = metrics_of({"store": "off", "otlp": collector.url}), Metrics()
    for event in everything():
        metrics(event)
        prometheus(event)
    metrics.close()
    (message,) = collector.metrics
    sent, read = by_wire(message), scraped(prometheus.text().decode())
    shared = set(sent) & set(read)
    assert {name for name, _ in shared} == {name for name, _ in read} - {"clawmw_cache_hit_ratio"}
    assert {k: sent[k] for k in shared} == pytest.approx({k: read[k] for k in shared})
    spread = points(message, "gen_ai.client.token.usage")[0]
    assert (sum(spread.bucket_counts), spread.count) == (5, 5)
    assert (spread.min, spread.max, spread.sum) == (12_000, 12_000, 60_000)
    assert len(spread.explicit_bounds) == len(spread.bucket_counts) - 1 == 14
    (resource,) = collector.resources
    assert resource["service.name"] == "clawmw"
    assert resource["service.instance.id"]
    assert [path for path, _ in collector.requests] == ["/v1/metrics"]


@given(st.lists(stories, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_on_the_wire_it_is_what_the_sdk_would_send(calls: list[Says]) -> None:
    reader = InMemoryMetricReader()
    origin = Resource({"service.name": "s", "numbers": (1, 2), "on": True, "share": 0.5})
    provider = MeterProvider([reader], origin, shutdown_on_exit=False)
    applied, cells = OtelMetrics(provider), Cells()
    measures = Measures(cells.bind)
    for event in (event for call in calls for event in call.events()):
        applied(event)
        measures.take(event)
    data = reader.get_metrics_data()
    assert data is not None
    theirs = encode_metrics(data)
    ours = ExportMetricsServiceRequest.FromString(encoded(origin, Frame(cells.now(), 0, 0)))
    assert in_order(ours) == in_order(theirs)


def in_order(message: ExportMetricsServiceRequest) -> Any:
    """A message without its times, and with everything by name."""
    (whole,) = message.resource_metrics
    (scope,) = whole.scope_metrics
    for metric in scope.metrics:
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            point.start_time_unix_nano = point.time_unix_nano = 0
    found = MessageToDict(message)["resourceMetrics"][0]
    found["resource"]["attributes"].sort(key=lambda pair: pair["key"])
    metrics = found["scopeMetrics"][0].pop("metrics")
    for metric in metrics:
        for data in metric.values():
            for point in data["dataPoints"] if isinstance(data, dict) else ():
                point.setdefault("attributes", []).sort(key=lambda pair: pair["key"])
            if isinstance(data, dict):
                data["dataPoints"].sort(key=str)
    return found, sorted(metrics, key=lambda metric: metric["name"])


def test_calls_of_an_agent_arrive_by_and_by(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    trace = {"store": "off", "otlp": collector.url}
    runtime = Runtime.of(load_policy({"version": 1, "trace": trace}))
    with Emulator(bill="openai") as provider:
        client = clawmw.wrap(openai.OpenAI(base_url=provider.base_url, api_key="k"), runtime)
        for stream in (False, True):
            answer = client.chat.completions.create(model="gpt-4o", messages=ASKED, stream=stream)
            list(answer)
        client.close()
    until(lambda: any("clawmw.added" in m and points(m, "clawmw.added")[0].count == 2
                      for m in collector.metrics))  # fmt: skip
    for observer in runtime.observers:
        getattr(observer, "close")()  # noqa: B009
    runtime.close()
    found = by_wire(collector.metrics[-1])
    about = (("dialect", "openai.chat"), ("model", "gpt-4o"), ("status", "ok"))
    assert found["clawmw_calls_total", about] == 2
    assert found["clawmw_cost_usd_total", (("model", "gpt-4o"),)] > 0
    assert found["clawmw_in_flight", ()] == 0
    firsts = points(collector.metrics[-1], "gen_ai.client.inference.time_to_first_chunk")
    assert [point.count for point in firsts] == [1], "of the stream only"


@pytest.mark.parametrize(
    ("trace", "environment", "paths"),
    [
        ({}, {}, {"/v1/metrics", "/v1/traces"}),
        ({}, {"OTEL_METRICS_EXPORTER": "none"}, {"/v1/traces"}),
        ({}, {"OTEL_TRACES_EXPORTER": "none"}, {"/v1/metrics"}),
        ({}, {"OTEL_SDK_DISABLED": "true"}, set()),
        ({"otlp": False}, {}, set()),
    ],
)
def test_each_signal_can_be_switched_off(
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    trace: dict[str, Any],
    environment: dict[str, str],
    paths: set[str],
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    policy = load_policy({"version": 1, "trace": {"store": "off", **trace}})
    observers = build.observers(policy)
    for event in Says().events():
        for observer in observers:
            observer(event)
    for observer in observers:
        getattr(observer, "close")()  # noqa: B009
    assert {path for path, _ in collector.requests} == paths


def test_metrics_alone_have_an_endpoint(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.url}/my/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=k")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    metrics = metrics_of({"store": "off"})
    tell(metrics, Says())
    assert metrics.flush()
    ((path, headers),) = collector.requests
    assert path == "/my/metrics"
    assert headers["api-key"] == "k"
    assert value(collector.metrics[0], "clawmw.calls") == 1


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/v1/metrics"])
def test_each_signal_has_its_own_path(path: str) -> None:
    for signal in ("traces", "metrics"):
        found = otlp_settings(signal, f"http://c:4318/base{path}", {})  # type: ignore[arg-type]
        assert found is not None
        assert found.url == f"http://c:4318/base/v1/{signal}"


def test_a_collector_that_fails_loses_nothing_and_is_said_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = metrics_of({"store": "off", "otlp": collector.url})
    collector.answer = lambda _: 503
    for _ in range(3):
        tell(metrics, Says())
        metrics.flush()
    assert [record.getMessage() for record in caplog.records] == [
        f"metrics do not reach {collector.url}/v1/metrics (HTTP 503); clawmw tries on"
    ]
    collector.answer = lambda _: 200
    metrics.flush()
    assert value(collector.metrics[0], "clawmw.calls") == 3


def test_differences_where_the_backend_wants_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    metrics = metrics_of({"store": "off", "otlp": collector.url})
    told = 0
    for more, status in ((1, 200), (2, 503), (3, 200)):
        collector.answer = lambda _, status=status: status  # type: ignore[misc]
        tell(metrics, *[Says()] * more)
        metrics.flush()
        told += more
    first, second = collector.metrics
    assert [value(message, "clawmw.calls") for message in (first, second)] == [1, 5]
    assert second["clawmw.calls"].sum.aggregation_temporality == 1
    (spread,) = points(second, "gen_ai.client.inference.duration")
    assert (spread.count, sum(spread.bucket_counts), spread.sum) == (5, 5, 10)
    assert not spread.HasField("min")
    assert spread.start_time_unix_nano == points(first, "clawmw.calls")[0].time_unix_nano
    assert second["clawmw.in_flight"].sum.aggregation_temporality == 2


MADE = """
    import os, time, warnings
    from clawmw.observe.metrics.otel_metrics import OtelMetrics
    from clawmw.observe.otlp.metrics import metered
    from clawmw.observe.otlp.settings import otlp_settings
    from tests.observe.calls import Says
    metrics = OtelMetrics(own=metered(otlp_settings("metrics")))
    def calls(number):
        for _ in range(number):
            for event in Says().events():
                metrics(event)
"""
"""What a policy's metrics are, in a program of their own."""


def test_a_process_that_ends_sends_what_it_counted(collector: Collector) -> None:
    ends = MADE + "    calls(1)\n    print(time.monotonic())"
    done = run(ends, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert value(collector.metrics[0], "clawmw.calls") == 1


@pytest.mark.slow
def test_a_process_that_ends_does_not_wait_for_a_collector_that_hangs(
    collector: Collector,
) -> None:
    collector.answer = lambda _: None
    ends = MADE + "    calls(1)\n    print(time.monotonic())"
    done = run(ends, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - float(done.stdout) < 4


def test_the_applications_provider_goes_first_and_nothing_goes_twice(
    collector: Collector,
) -> None:
    code = """
    from opentelemetry.metrics import set_meter_provider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    set_meter_provider(MeterProvider([reader]))
    calls(1)
    found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    print([m.data.data_points[0].value for m in found if m.name == "clawmw.calls"])
    """
    done = run(MADE + code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert (done.stdout, done.stderr) == ("[1]\n", "")
    assert not collector.requests


def test_a_forked_child_counts_for_itself(collector: Collector) -> None:
    code = """
    warnings.simplefilter("ignore", DeprecationWarning)
    calls(2)
    child = os.fork()
    if not child:
        calls(3)
        metrics.close()
        os._exit(0)
    os.waitpid(child, 0)
    calls(1)
    """
    done = run(MADE + code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert [value(message, "clawmw.calls") for message in collector.metrics] == [3, 3]
    assert len({resource["service.instance.id"] for resource in collector.resources}) == 2


def test_nothing_is_imported_or_run_before_there_is_something_to_send(
    collector: Collector,
) -> None:
    code = """
        import sys, threading
        from clawmw.policy import build
        from clawmw.policy.load import load_policy
        build.observers(load_policy("version: 1\\ntrace: {store: off}"))
        heavy = ("opentelemetry.sdk.metrics", "google.protobuf", "httpx", "requests")
        print([name for name in heavy if name in sys.modules], threading.active_count())
    """
    assert run(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).stdout == "[] 1\n"
    assert not collector.requests


def test_lost_spans_are_among_the_metrics(collector: Collector, tmp_path: Path) -> None:
    observers = build.observers(
        load_policy(
            {"version": 1, "trace": {"store": str(tmp_path / "t.sqlite"), "otlp": collector.url}}
        )
    )
    events: list[Event] = Says().events()
    for event in events:
        for observer in observers:
            observer(event)
    for observer in observers:
        getattr(observer, "close")()  # noqa: B009
    until(lambda: bool(collector.metrics))
    lost = points(collector.metrics[-1], "clawmw.spans.lost")
    told = {tuple(a.value.string_value for a in point.attributes): point.as_int for point in lost}
    assert set(told.values()) == {0}
    assert {("otlp", "queue"), ("store", "queue"), ("store", "refused")} <= set(told)

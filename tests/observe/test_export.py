"""Where spans are sent: what a policy says, what the environment says, and who goes first."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawmw.core.events import Event
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.settings import otlp_settings
from clawmw.observe.reading.chains import chains, find, spans
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy import build
from clawmw.policy.load import load_policy
from tests.observe.calls import PLANNER, Says, halted, tell
from tests.observe.collector import Collector

ROOT = Path(__file__).parents[2]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and processes that send soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    found = Collector()
    yield found
    found.close()


def observer_of(trace: Any) -> OtelObserver:
    """The observer that a policy's `trace:` section makes."""
    found, *_ = build.observers(load_policy({"version": 1, "trace": trace}))
    assert isinstance(found, OtelObserver)
    return found


def values_of(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.double_value for a in span.attributes}


def test_a_policy_names_a_collector(collector: Collector, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    observer = observer_of({"store": str(path), "otlp": collector.url})
    tell(observer, Says())
    observer.close()
    (resource,) = collector.resources
    assert resource["service.name"] == "clawmw"
    assert resource["telemetry.sdk.language"] == "python"
    assert resource["service.instance.id"]
    reader = SpanStore.read(path)
    (chain,) = chains(reader)
    stored = {row.span_id for row in spans(reader, chain.trace_id)}
    assert {span.trace_id.hex() for span in collector.spans} == {chain.trace_id}
    assert {span.span_id.hex() for span in collector.spans} == stored  # stand-ins included
    (chat,) = [span for span in collector.spans if span.name.startswith("chat")]
    assert values_of(chat)["openinference.span.kind"] == "LLM"
    assert values_of(chat)["gen_ai.usage.cost"] == pytest.approx(0.0162)
    assert [path for path, _ in collector.requests] == ["/v1/traces"]
    reader.close()


def test_the_environment_names_one(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b, x-tenant=t")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "trips")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    observer = observer_of({"store": "off"})
    tell(observer, Says())
    observer.close()
    (resource,) = collector.resources
    assert resource["service.name"] == "trips"
    assert resource["deployment.environment.name"] == "test"
    assert "service.version" not in resource  # that would be ours, and the service is not
    (path, headers) = collector.requests[0]
    assert path == "/v1/traces"
    assert (headers["api-key"], headers["x-tenant"]) == ("a b", "t")
    assert headers["content-encoding"] == "gzip"


def test_a_signals_own_endpoint_is_taken_as_it_is(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/there")
    observer = observer_of({"store": "off"})
    tell(observer, Says())
    observer.close()
    assert [path for path, _ in collector.requests] == ["/there"]


@pytest.mark.parametrize(
    ("trace", "environment"),
    [
        ({"otlp": False}, {}),
        ("off", {}),
        ({}, {"OTEL_SDK_DISABLED": "true"}),
        ({}, {"OTEL_TRACES_EXPORTER": "none"}),
        ({}, {"OTEL_TRACES_EXPORTER": "console"}),
        ({"otlp": "http://127.0.0.1:{port}"}, {"OTEL_SDK_DISABLED": "true"}),
    ],
)
def test_switched_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, trace: Any, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(trace, dict):
        trace = {k: v.format(port=collector.port) if v else v for k, v in trace.items()}
    for observer in build.observers(load_policy({"version": 1, "trace": trace})):
        if not isinstance(observer, OtelObserver):
            continue
        tell(observer, Says())
        observer.close()
        assert [count.destination for count in observer.counts()] == ["store"]
    assert collector.requests == []


def test_what_cannot_be_done_is_said_once() -> None:
    grpc = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with pytest.warns(RuntimeWarning, match="over HTTP, not gRPC"):
        assert otlp_settings("traces", None, grpc) is None
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4318"}
    with pytest.warns(RuntimeWarning, match="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL"):
        assert otlp_settings("traces", None, own) is None
    assert otlp_settings("traces", "http://c:4318", grpc) is not None  # the policy's own


def test_settings() -> None:
    said = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:secret@c.example/base/?k=secret",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=secret",
    }
    traces, metrics = (otlp_settings(signal, None, said) for signal in ("traces", "metrics"))
    assert traces is not None
    assert metrics is not None
    assert (traces.timeout, metrics.timeout) == (2.5, 3.0)
    assert "secret" not in traces.shown
    policy = otlp_settings("metrics", "http://c:4318/v1/metrics", {})
    assert policy is not None
    assert policy.url == "http://c:4318/v1/metrics"
    assert otlp_settings("traces", None, {}) is None


def test_hashed_names_are_so_in_the_store_and_outside(collector: Collector, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    observer = observer_of({"store": str(path), "otlp": collector.url, "ids": "hashed"})
    with observer.chain(PLANNER, "trip"):
        tell(observer, Says(tools=[("search", "c1", None)]), halted())
    observer.close()
    reader = SpanStore.read(path)
    (chain,) = chains(reader)
    kept = str(
        [tuple(row) for t in ("spans", "details") for row in reader.query(f"SELECT * FROM {t}")]
    )
    assert chain.chain_id.startswith("sha256-")
    assert find(reader, "trip-7") == [chain]  # by who knows its name
    assert find(reader, "trip") == []
    for text in (kept, str(collector.spans)):
        assert "trip-7" not in text
        assert "'s1'" not in text
    reader.close()


def run(code: str, *args: str, **env: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OTEL_BSP_SCHEDULE_DELAY": "20"} | env,
    )
    return done.stdout


def test_the_applications_provider_goes_first_and_nothing_goes_twice(
    collector: Collector, tmp_path: Path
) -> None:
    """Set in the middle of a chain; a span is open when it is."""
    code = """
        import sys
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from clawmw.policy import build
        from clawmw.policy.load import load_policy
        from tests.observe.calls import PLANNER, Says, tell

        policy = {"version": 1, "trace": {"store": sys.argv[1] + "/t.sqlite"}}
        observer, *_ = build.observers(load_policy(policy))
        memory = InMemorySpanExporter()
        with observer.chain(PLANNER, "trip"):
            tell(observer, Says(model="before"))
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(memory))
            trace.set_tracer_provider(provider)
            tell(observer, Says(model="after"))
        observer.close()
        print(*sorted(span.name for span in memory.get_finished_spans()), sep="\\n")
    """
    code = code.replace("load_policy(policy)", "load_policy(policy)")
    code = code.replace('"t.sqlite"', "sys.argv[1] + '/t.sqlite'")
    theirs = run(code, str(tmp_path), OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).splitlines()
    ours = collector.names()
    assert "chat before" in ours
    assert "chat after" in theirs
    together = sorted([*ours, *theirs])
    assert together == sorted(set(together))
    reader = SpanStore.read(tmp_path / "t.sqlite")
    assert chains(reader)[0].calls == 2
    reader.close()


def test_nothing_of_the_exporter_is_imported_before_it_is_needed(collector: Collector) -> None:
    code = """
        import sys
        from clawmw.policy import build
        from clawmw.policy.load import load_policy
        from tests.observe.calls import Says, tell
        def show():
            print([m for m in ("opentelemetry.exporter", "google.protobuf", "httpx", "requests")
                   if m in sys.modules])
        observer, *_ = build.observers(load_policy("version: 1"))
        show()
        tell(observer, Says())
        observer.flush()
        show()
    """
    assert run(code) == "[]\n[]\n"
    before, after = run(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).splitlines()
    assert before == "[]"
    assert after.startswith("['opentelemetry.exporter', 'google.protobuf'")
    assert collector.names()


def test_a_forked_child_sends_for_itself(collector: Collector) -> None:
    code = """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from clawmw.core.identity import Identity
        from clawmw.policy import build
        from clawmw.policy.load import load_policy
        from tests.observe.calls import Says, tell
        observer, *_ = build.observers(load_policy("version: 1\\ntrace: {store: off}"))
        def call(name):
            tell(observer, Says(identity=Identity(agent=name, session=name, chain="c"), model=name))
        call("before")
        observer.flush()
        call("parent")
        child = os.fork()
        if not child:
            call("child")
            observer.close()
            os._exit(0 if observer.counts()[0].delivered == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    run(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    chats = sorted(name for name in collector.names() if name.startswith("chat"))
    assert chats == ["chat before", "chat child", "chat parent"]
    assert len({r["service.instance.id"] for r in collector.resources}) == 2


def test_the_head_sampler_of_the_environment_is_heeded(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    observer = observer_of({"store": "off", "otlp": collector.url})
    tell(observer, Says())
    observer.close()
    (count,) = observer.counts()
    assert (count.handed, count.unsampled) == (3, 3)
    assert collector.requests == []


def test_an_events_content_is_never_sent(collector: Collector) -> None:
    observer = observer_of({"store": "off", "otlp": collector.url})
    told: list[Event] = Says(status="failed", error="the prompt said: hello", usage=None).events()
    for event in told:
        observer(event)
    observer.close()
    assert collector.spans
    assert "hello" not in str(collector.spans)

"""Content on exported spans: only where the standard variable asks, and never in the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs as otel_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import ReadableSpan

from clawmw.observe.otel import OtelObserver
from clawmw.observe.spans.capture import VARIABLE
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy import build
from clawmw.policy.load import load_policy
from clawmw.testing import Bench, answer, asks
from tests.conftest import tool
from tests.observe.collector import Collector
from tests.observe.conftest import Exported
from tests.observe.inside import TOOLS, conversation

KEYS = ("gen_ai.input.messages", "gen_ai.output.messages")
SECRET = "sk-verysecret-1234567890"
Exporting = Callable[..., Exported]


def spans(
    exporting: Exporting, path: Path, messages: list[dict[str, Any]], **more: Any
) -> list[ReadableSpan]:
    """The exported spans of one call, which a local store keeps besides."""
    bench = Bench({"version": 1, **more.pop("policy", {})})
    bench.model = more.pop("model", lambda _body: answer("TAP, 89 euros."))
    observer, exporter = exporting(store=SpanStore.open(path))
    bench.runtime.observers = (observer,)
    bench.send(messages, tools=TOOLS)
    observer.flush()
    observer.close()
    return [span for span in exporter.get_finished_spans() if span.name.startswith("chat")]


def stored(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize("value", [None, "NO_CONTENT", "false", "", "nonsense"])
def test_without_being_asked_nothing_of_it_goes_out(
    exporting: Exporting, store_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    (span,) = spans(exporting, store_path, conversation(1))
    assert "Lisbon" not in span.to_json()
    assert not [key for key in span.attributes or {} if "messages" in key and "gen_ai" in key]


@pytest.mark.parametrize("value", ["SPAN_ONLY", "span_and_event", "true"])
def test_spans_carry_what_was_sent_as_the_conventions_have_it(
    exporting: Exporting, store_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    policy = {"compress": "balanced"}
    (span,) = spans(exporting, store_path, conversation(1), policy=policy)
    said = {key: json.loads(str((span.attributes or {})[key])) for key in KEYS}
    user, call, result = said["gen_ai.input.messages"]
    assert user == {
        "role": "user",
        "parts": [{"type": "text", "content": "Find me the cheapest flight to Lisbon."}],
    }
    assert call["parts"] == [
        {"type": "tool_call", "id": "c0", "name": "search", "arguments": {"q": "page 0"}}
    ]
    assert result["parts"][0]["type"] == "tool_call_response"
    assert result["parts"][0]["response"].startswith("[clawmw_expand ")
    assert said["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "TAP, 89 euros."}],
            "finish_reason": "stop",
        }
    ]
    system = json.loads(str((span.attributes or {})["gen_ai.system_instructions"]))
    assert system == [{"type": "text", "content": "You look for flights."}]
    tools = json.loads(str((span.attributes or {})["gen_ai.tool.definitions"]))
    assert [one["name"] for one in tools] == ["read", "search", "clawmw_expand"]
    assert tools[0]["parameters"] == tool("read")["function"]["parameters"]
    for word in (b"Lisbon", b"flights.", b"89 euros", b"Ticket"):
        assert word not in stored(store_path)


def test_secrets_are_replaced_in_what_goes_out(
    exporting: Exporting, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    monkeypatch.setenv("SOME_KEY", SECRET)
    (span,) = spans(
        exporting,
        store_path,
        [{"role": "user", "content": f"my key: {SECRET}"}],
        policy={"redact": {"env": ["SOME_KEY"]}},
        model=lambda _body: asks("search", {"q": SECRET}),
    )
    assert SECRET not in span.to_json()
    assert "[redacted:SOME_KEY]" in str((span.attributes or {})["gen_ai.output.messages"])


def test_long_texts_are_cut_before_they_become_json(
    exporting: Exporting, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK would cut a value in the middle, it is shorter already."""
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3000")
    long = [{"role": "user", "content": f"{number} " + "x" * 9000} for number in range(40)]
    (span,) = spans(exporting, store_path, long)
    text = str((span.attributes or {})["gen_ai.input.messages"])
    assert len(text) <= 3000
    newest = json.loads(text)[-1]["parts"][0]["content"]
    assert newest.startswith("39 ")
    assert "[cut here: the first" in newest


def test_a_stopped_call_has_no_input_that_was_sent(
    exporting: Exporting, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    (span,) = spans(
        exporting, store_path, conversation(1), policy={"budget": {"chain": {"calls": 0}}}
    )
    assert (span.attributes or {})["clawmw.status"] == "halted"
    assert not [key for key in span.attributes or {} if key in KEYS]


@pytest.fixture
def events() -> Iterator[InMemoryLogRecordExporter]:
    """What an application's logger provider is given."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    patch = pytest.MonkeyPatch()
    patch.setattr(otel_logs, "get_logger_provider", lambda: provider)
    yield exporter
    patch.undo()
    provider.shutdown()


def test_events_carry_it_where_they_are_asked_for(
    exporting: Exporting,
    store_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: InMemoryLogRecordExporter,
) -> None:
    monkeypatch.setenv(VARIABLE, "EVENT_ONLY")
    (span,) = spans(exporting, store_path, conversation(1))
    assert not [key for key in span.attributes or {} if key in KEYS]
    (told,) = events.get_finished_logs()
    record = told.log_record
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert span.context is not None
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    assert "Lisbon" in str((record.attributes or {})["gen_ai.input.messages"])
    assert (record.attributes or {})["gen_ai.operation.name"] == "chat"


def test_nothing_is_held_where_nobody_exports(
    monkeypatch: pytest.MonkeyPatch, store_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    bench = Bench({"version": 1})
    observer = OtelObserver(store=SpanStore.open(store_path))
    bench.runtime.observers = (observer,)
    bench.send(conversation(1), tools=TOOLS)
    assert not observer._capture._calls
    observer.close()
    assert b"Lisbon" not in stored(store_path)


def test_a_collector_of_the_policys_own_gets_it_and_the_store_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector = Collector()
    path = tmp_path / "t.sqlite"
    policy = {"version": 1, "trace": {"store": str(path), "otlp": collector.url}}
    bench = Bench(policy)
    bench.runtime.observers = build.observers(load_policy(policy))
    bench.send(conversation(1), tools=TOOLS)
    for observer in bench.runtime.observers:
        observer.close()  # type: ignore[attr-defined]
    collector.close()
    chat = next(span for span in collector.spans if span.name.startswith("chat"))
    said = {one.key: one.value.string_value for one in chat.attributes}
    assert "Lisbon" in said["gen_ai.input.messages"]
    assert b"Lisbon" not in stored(path)

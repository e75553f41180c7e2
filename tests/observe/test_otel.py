"""Events become spans: exact attributes, and nothing that is content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from clawmw.core.events import Attempted, Totals
from clawmw.core.money import Cost
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver
from clawmw.observe.spans.compat import ALIASES
from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id
from tests.observe.calls import (
    EPOCH,
    PLANNER,
    Says,
    by_name,
    degraded,
    epoch_began,
    epoch_ended,
    halted,
    parent,
    stage_failed,
    tell,
)
from tests.observe.conftest import Exported

Make = Callable[..., Exported]


WHO = {
    "clawmw.tenant": "default",
    "clawmw.chain.id": "trip-7",
    "clawmw.chain.hop": 0,
    "clawmw.agent": "planner",
    "clawmw.session.id": "s1",
    "gen_ai.conversation.id": "s1",
    "session.id": "s1",
    "langfuse.session.id": "s1",
}


# --- golden attributes ---------------------------------------------------------------


def test_chat_span(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(
        observer,
        Says(
            acted=[("compress", "rewrite", "compress.json", False, {"tokens_before": 1200})],
            asked="anthropic/claude-big",
            stream=True,
        ),
    )
    span = by_name(exporter)["chat anthropic/claude-x"]
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert (span.start_time, span.end_time) == (int(EPOCH * 1e9), int((EPOCH + 2) * 1e9))
    assert dict(span.attributes or {}) == WHO | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "anthropic/claude-x",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "claude-x-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.agent.name": "planner",
        "gen_ai.conversation.compacted": True,
        "gen_ai.usage.input_tokens": 12_000,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 9_000,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.cost": 0.0162,
        "operation.cost": 0.0162,
        "langfuse.observation.cost_details": '{"total": 0.0162}',
        "openinference.span.kind": "LLM",
        "clawmw.usage.basis": "measured",
        "clawmw.cost.usd": 0.0162,
        "clawmw.cost.source": "local",
        "clawmw.cost.basis": "measured",
        "clawmw.cost.baseline_usd": 0.0245,
        "clawmw.saved.usd": 0.0083,
        "clawmw.saved.tokens": 8_000,
        "clawmw.saved.basis": "estimated",
        "clawmw.saved.by.compress.json": 7_000,
        "clawmw.saved.by.dedupe": 1_000,
        "clawmw.tokens.raw": 20_000,
        "clawmw.tokens.sent": 12_000,
        "clawmw.tokens.would": 12_000,
        "clawmw.cache.predicted_tokens": 9_000,
        "clawmw.cache.predicted_raw_tokens": 15_000,
        "clawmw.status": "ok",
        "clawmw.attempts": 1,
        "clawmw.upstream_ms": 2000.0,
        "clawmw.overhead_ms": 3.0,
        "clawmw.call.seq": 1,
        "clawmw.exchange": (span.attributes or {})["clawmw.exchange"],
        "clawmw.messages": 12,
        "clawmw.mode": "enforce",
        "clawmw.policy": "p0l1cy",
        "clawmw.dialect": "openai-chat",
        "clawmw.tools": ("search",),
        "clawmw.routed": True,
        "clawmw.route.requested": "anthropic/claude-big",
        "clawmw.route.chosen": "anthropic/claude-x",
        "clawmw.rule.compress.json": True,
    }
    (event,) = span.events
    assert event.name == "clawmw.acted"
    assert dict(event.attributes or {}) == {
        "stage": "compress",
        "action": "rewrite",
        "rule": "compress.json",
        "would": False,
        "detail.tokens_before": 1200,
    }


def test_workflow_agent_and_tool_spans_opened_by_a_flow(exporting: Make) -> None:
    observer, exporter = exporting()
    with (
        observer.chain(PLANNER, "Plan a trip", flow="trip"),
        observer.agent(PLANNER, "Planner"),
        observer.tool(PLANNER, "search", "call_1"),
    ):
        pass
    found = by_name(exporter)
    root = found["invoke_workflow Plan a trip"]
    assert root.kind is SpanKind.INTERNAL
    assert root.parent is None
    assert dict(root.attributes or {}) == WHO | {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "Plan a trip",
        "gen_ai.workflow.name": "Plan a trip",
        "clawmw.flow": "trip",
        "openinference.span.kind": "CHAIN",
    }
    agent = found["invoke_agent Planner"]
    assert agent.kind is SpanKind.INTERNAL
    assert dict(agent.attributes or {}) == WHO | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "Planner",
        "openinference.span.kind": "AGENT",
    }
    tool = found["execute_tool search"]
    assert dict(tool.attributes or {}) == WHO | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "openinference.span.kind": "TOOL",
    }
    assert root.context is not None
    assert root.context.trace_id == trace_id(PLANNER)
    assert parent(agent) == root.context.span_id == root_span_id(trace_id(PLANNER))
    assert parent(tool) == agent_span_id(trace_id(PLANNER), "planner", "s1")


def test_tool_span_told_by_the_next_call(exporting: Make) -> None:
    observer, exporter = exporting()
    tools = [("search", "call_1", EPOCH - 3), ("weather", "", None)]
    tell(observer, Says(tools=tools))
    found = by_name(exporter)
    timed, untimed = found["execute_tool search"], found["execute_tool weather"]
    assert (timed.start_time, timed.end_time) == (int((EPOCH - 3) * 1e9), int(EPOCH * 1e9))
    assert dict(timed.attributes or {}) == WHO | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "clawmw.tool.result_tokens": 1_200,
        "openinference.span.kind": "TOOL",
    }
    assert (untimed.attributes or {})["clawmw.duration.unknown"] is True
    assert parent(timed) == parent(found["chat anthropic/claude-x"])


def test_a_stopped_call(exporting: Make) -> None:
    observer, exporter = exporting()
    with observer.chain(PLANNER, "trip"), observer.agent(PLANNER, "planner"):
        tell(observer, halted())
    found = by_name(exporter)
    span = found["chat anthropic/claude-x"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    values = dict(span.attributes or {})
    assert values["error.type"] == "loop_guard.stop"
    assert values["clawmw.stopped"] is True
    assert values["clawmw.stopped.by"] == "loop_guard.stop"
    assert values["clawmw.loop.capped"] is True
    assert values["clawmw.cost.usd"] == 0.0
    assert "gen_ai.usage.input_tokens" not in values
    (event,) = span.events
    assert event.name == "clawmw.loop.capped"
    assert (event.attributes or {})["detail.count"] == 16
    for name in ("invoke_workflow trip", "invoke_agent planner"):
        assert (found[name].attributes or {})["clawmw.loop.capped"] is True


def test_unknown_is_left_out_and_zero_is_not(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(
        observer,
        Says(usage=Usage(10, 0, 0, None, None), cost=None, baseline=None, model="a"),
        Says(usage=None, cost=None, baseline=None, model="b"),
    )
    found = by_name(exporter)
    zero, unknown = (dict(found[f"chat {m}"].attributes or {}) for m in "ab")
    assert zero["gen_ai.usage.cache_read.input_tokens"] == 0
    assert zero["gen_ai.usage.output_tokens"] == 0
    assert "gen_ai.usage.cache_write.input_tokens" not in zero
    assert zero["clawmw.cost.source"] == "unknown"
    assert "clawmw.cost.usd" not in zero
    assert not [name for name in unknown if name.startswith("gen_ai.usage")]


def test_a_call_clawmw_answered_used_no_tokens(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(status="answered", attempts=(), cost=Cost()))
    values = dict(by_name(exporter)["chat anthropic/claude-x"].attributes or {})
    assert not [name for name in values if name.startswith("gen_ai.usage.input")]
    assert values["clawmw.status"] == "answered"


def test_retries_are_one_span_with_their_attempts_as_events(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(attempts=[(0.5, 429, "status"), (1.5, 200, None)]))
    span = by_name(exporter)["chat anthropic/claude-x"]
    values = dict(span.attributes or {})
    assert values["clawmw.attempts"] == 2
    assert values["clawmw.retried"] is True
    assert [(e.attributes or {}).get("status") for e in span.events] == [429, 200]
    assert values["clawmw.upstream_ms"] == 2000.0


def test_a_stream_says_when_its_first_part_came(exporting: Make) -> None:
    observer, exporter = exporting()
    for stream in (True, False):
        for event in Says(stream=stream, model=f"m-{stream}").events():
            observer(replace(event, first=0.4) if isinstance(event, Attempted) else event)
    spans = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    assert spans["chat m-True"]["gen_ai.response.time_to_first_chunk"] == 0.4
    assert "gen_ai.response.time_to_first_chunk" not in spans["chat m-False"]


@pytest.mark.parametrize(
    ("attempts", "error", "expected", "cost"),
    [
        ([(0.5, 503, "status")], "status", "503", Cost()),
        ([(0.5, None, "timeout")], "timeout", "timeout", None),
        ([], "key sk-123 is wrong", "_OTHER", None),
    ],
)
def test_a_failed_call(
    exporting: Make, attempts: Any, error: str, expected: str, cost: Cost | None
) -> None:
    observer, exporter = exporting()
    tell(
        observer,
        Says(status="failed", attempts=attempts, usage=None, cost=cost, error=error),
    )
    span = by_name(exporter)["chat anthropic/claude-x"]
    assert span.status.status_code is StatusCode.ERROR
    values = dict(span.attributes or {})
    assert values["error.type"] == expected
    assert values.get("clawmw.cost.usd") == (cost and cost.usd)


def test_observe_and_holdout_say_what_would_have_been(exporting: Make) -> None:
    observer, exporter = exporting()
    totals = Totals(20_000, 20_000, 12_000, 0, 0, {})
    acted: list[Any] = [("loop_guard", "halt", "loop_guard.stop", True, {})]
    tell(
        observer,
        Says(model="a", mode="observe", totals=totals, acted=acted),
        Says(model="b", mode="holdout", totals=totals),
    )
    found = by_name(exporter)
    observed, held = (dict(found[f"chat {m}"].attributes or {}) for m in "ab")
    assert observed["clawmw.would.loop_guard.stop"] is True
    assert "clawmw.stopped" not in observed
    assert (observed["clawmw.tokens.sent"], observed["clawmw.tokens.would"]) == (20_000, 12_000)
    assert "gen_ai.conversation.compacted" not in observed
    assert held["clawmw.holdout"] is True
    assert "clawmw.held" not in held


def test_a_trace_says_why_nothing_was_reduced(exporting: Make) -> None:
    """The provider holds the history: the caller's bytes went out."""
    observer, exporter = exporting()
    tell(observer, Says(model="a", held=True))
    assert dict(by_name(exporter)["chat a"].attributes or {})["clawmw.held"] is True


# --- no content ----------------------------------------------------------------------


def test_the_text_of_an_exception_goes_nowhere(exporting: Make, local: Any) -> None:
    observer, exporter = exporting()
    stored, reader = local
    secret = "the prompt was: tell me"
    for each in (observer, stored):
        tell(
            each,
            Says(
                status="failed",
                error=secret,
                usage=None,
                attempts=[(1, None, secret)],
                trouble=[stage_failed("compress", secret), degraded("ledger", secret)],
            ),
        )
        with pytest.raises(ValueError, match="prompt"), each.agent(PLANNER, "planner"):
            raise ValueError(secret)
    stored.flush()
    exported = "".join(span.to_json() for span in exporter.get_finished_spans())
    tables = [reader.query(f"SELECT * FROM {table}") for table in ("spans", "details")]
    kept = json.dumps([tuple(row) for table in tables for row in table])
    for text in (exported, kept):
        assert "tell me" not in text
        assert "ValueError" in text
        assert "_OTHER" in text


def test_ids_leave_as_digests_when_asked(exporting: Make) -> None:
    observer, exporter = exporting(hash_ids=True)
    who = replace(PLANNER, session="alice@example.org", chain="alice-trip", parent="alice-day")
    with observer.chain(who, "trip"):
        tell(observer, Says(identity=who, tools=[("t", "c", None)]))
    text = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "alice" not in text
    assert "sha256-" in text


def test_an_epoch_tells_both_sums_and_what_came_of_it(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(trouble=[epoch_ended(), epoch_began()]))
    span = by_name(exporter)["chat anthropic/claude-x"]
    assert span.attributes
    assert span.attributes["clawmw.epoch"] == "idle"
    ended, began = (dict(event.attributes or {}) for event in span.events)
    assert [event.name for event in span.events] == ["clawmw.epoch.ended", "clawmw.epoch"]
    assert (began["price_usd"], began["saving_usd"]) == (0.03, 0.12)
    assert (began["tokens_before"], began["tokens_after"]) == (52_000, 31_000)
    assert (ended["calls"], ended["saved_usd"], ended["expected_usd"]) == (12, 0.15, 0.09)
    assert began["basis"] == ended["basis"] == "estimated"


def test_an_epoch_without_a_price_or_only_said_claims_nothing(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(trouble=[epoch_began(price=None, saving=None, would=True)]))
    span = by_name(exporter)["chat anthropic/claude-x"]
    assert span.attributes
    assert "clawmw.epoch" not in span.attributes
    [event] = span.events
    assert event.attributes
    assert event.attributes["would"] is True
    assert "price_usd" not in event.attributes


def test_names_from_the_wire_are_bounded_and_encodable(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(model="m\ud800" + "x" * 5000, finish="f" * 5000))
    (span,) = [s for s in exporter.get_finished_spans() if s.name.startswith("chat")]
    assert len(span.name) < 200
    span.to_json().encode()


def test_second_names_can_be_left_out(exporting: Make) -> None:
    observer, exporter = exporting(compat=())
    tell(observer, Says())
    for span in exporter.get_finished_spans():
        assert not ALIASES & set(span.attributes or {})
    with pytest.raises(ValueError, match="no such compat group: phoenix; there are langfuse"):
        OtelObserver(compat=["phoenix"])

"""Events become spans: exact attributes, one tree a chain, nothing that is content."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from clawmw.core.events import CallStarted, Totals
from clawmw.core.identity import Identity
from clawmw.core.types import Usage
from clawmw.observe.chains import chains, spans
from clawmw.observe.ids import agent_span_id, root_span_id, trace_id
from clawmw.observe.otel import OtelObserver
from clawmw.observe.spanstore import SpanStore
from tests.observe.calls import EPOCH, PLANNER, Says, degraded, halted, stage_failed
from tests.observe.conftest import Exported

Make = Callable[..., Exported]


def tell(observer: OtelObserver, *says: Says) -> None:
    for story in says:
        for event in story.events():
            observer(event)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    found = exporter.get_finished_spans()
    names = {span.name: span for span in found}
    assert len(names) == len(found), [span.name for span in found]
    return names


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


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
    tell(observer, Says(status="answered", attempts=(), cost=None))
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


@pytest.mark.parametrize(
    ("attempts", "error", "expected", "cost"),
    [
        ([(0.5, 503, "status")], "status", "503", 0.0),
        ([(0.5, None, "timeout")], "timeout", "timeout", None),
        ([], "key sk-123 is wrong", "_OTHER", None),
    ],
)
def test_a_failed_call(
    exporting: Make, attempts: Any, error: str, expected: str, cost: float | None
) -> None:
    observer, exporter = exporting()
    tell(
        observer,
        Says(status="failed", attempts=attempts, usage=None, cost=None, error=error),
    )
    span = by_name(exporter)["chat anthropic/claude-x"]
    assert span.status.status_code is StatusCode.ERROR
    values = dict(span.attributes or {})
    assert values["error.type"] == expected
    assert values.get("clawmw.cost.usd") == cost


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


def test_names_from_the_wire_are_bounded_and_encodable(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(model="m\ud800" + "x" * 5000, finish="f" * 5000))
    (span,) = [s for s in exporter.get_finished_spans() if s.name.startswith("chat")]
    assert len(span.name) < 200
    span.to_json().encode()


# --- the tree ------------------------------------------------------------------------


def test_calls_over_the_wire_export_a_whole_tree(exporting: Make) -> None:
    observer, exporter = exporting()
    other = replace(PLANNER, agent="writer", session="s2")
    tell(observer, Says(model="a"), Says(model="b"), Says(model="c", identity=other))
    found = by_name(exporter)
    trace_ids = {span.context.trace_id for span in found.values() if span.context}
    assert trace_ids == {trace_id(PLANNER)}
    root = found["invoke_workflow trip-7"]
    assert root.parent is None
    assert (root.attributes or {})["clawmw.synthetic"] is True
    planner, writer = found["invoke_agent planner"], found["invoke_agent writer"]
    assert root.context
    assert planner.context
    assert writer.context
    assert parent(planner) == parent(writer) == root.context.span_id
    assert parent(found["chat a"]) == parent(found["chat b"]) == planner.context.span_id
    assert parent(found["chat c"]) == writer.context.span_id


def test_calls_in_a_flow_go_under_its_agents_without_stand_ins(exporting: Make) -> None:
    observer, exporter = exporting()
    with observer.chain(PLANNER, "trip"):
        for turn in "ab":  # the same conversation, opened twice
            with observer.agent(PLANNER, f"planner {turn}"):
                tell(observer, Says(model=turn))
    found = by_name(exporter)
    assert len(found) == 5
    for turn in "ab":
        agent = found[f"invoke_agent planner {turn}"]
        assert agent.context
        assert parent(found[f"chat {turn}"]) == agent.context.span_id
        assert parent(agent) == root_span_id(trace_id(PLANNER))


def test_an_agent_used_as_a_tool_nests(exporting: Make) -> None:
    observer, exporter = exporting()
    inner = replace(PLANNER, agent="judge", session="s9", hop=1)
    with (
        observer.chain(PLANNER, "trip"),
        observer.agent(PLANNER, "planner"),
        observer.tool(PLANNER, "ask_judge", "call_1"),
        observer.agent(inner, "judge"),
    ):
        tell(observer, Says(identity=inner))
    found = by_name(exporter)
    path = [
        "chat anthropic/claude-x",
        "invoke_agent judge",
        "execute_tool ask_judge",
        "invoke_agent planner",
        "invoke_workflow trip",
    ]
    for child, above in pairwise(path):
        context = found[above].context
        assert context
        assert parent(found[child]) == context.span_id


def test_a_tool_a_flow_timed_is_not_told_twice(exporting: Make) -> None:
    observer, exporter = exporting()
    with observer.chain(PLANNER, "trip"), observer.agent(PLANNER, "planner"):
        with observer.tool(PLANNER, "search", "call_1"):
            pass
        tell(observer, Says(tools=[("search", "call_1", EPOCH), ("fetch", "call_2", EPOCH)]))
    assert {"execute_tool search", "execute_tool fetch"} <= set(by_name(exporter))


def test_the_applications_own_spans_stay_in_between(exporting: Make, local: Any) -> None:
    """A chain named by the application's trace id joins its trace, under its span."""
    observer, exporter = exporting()
    tracer = observer._tracers._given.get_tracer("app")  # type: ignore[union-attr]
    with tracer.start_as_current_span("handle request") as request:
        context = request.get_span_context()
        joined = replace(PLANNER, chain=f"{context.trace_id:032x}")
        tell(observer, Says(model="a", identity=joined), Says(model="b"))
    found = by_name(exporter)
    assert parent(found["chat a"]) == context.span_id
    assert parent(found["chat b"]) == agent_span_id(trace_id(PLANNER), "planner", "s1")
    (link,) = found["chat b"].links
    assert link.context.span_id == context.span_id
    stored, reader = local
    with trace.use_span(request):
        tell(stored, Says(identity=joined))
    stored.flush()
    rows = spans(reader, joined.chain)
    assert [row.op for row in rows] == ["invoke_workflow", "invoke_agent", "chat"]
    assert rows[2].parent_id == rows[1].span_id


def test_a_child_chain_links_to_its_parent(exporting: Make) -> None:
    observer, exporter = exporting()
    child = replace(PLANNER, chain="trip-7.1", parent="trip-7")
    with observer.chain(child, "part"):
        pass
    (link,) = by_name(exporter)["invoke_workflow part"].links
    assert link.context.trace_id == trace_id(PLANNER)
    assert link.context.span_id == root_span_id(trace_id(PLANNER))


def test_flow_failures_name_the_type_and_pass_on(exporting: Make) -> None:
    observer, exporter = exporting()
    with pytest.raises(KeyError), observer.chain(PLANNER, "trip"):
        raise KeyError("secret")
    root = by_name(exporter)["invoke_workflow trip"]
    assert root.status.status_code is StatusCode.ERROR
    assert (root.attributes or {})["error.type"] == "KeyError"
    assert not root.events


# --- sampling, threads, robustness ---------------------------------------------------


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_the_local_store_keeps_what_the_application_does_not_sample(
    exporting: Make, store_path: Any, sampler: Any
) -> None:
    observer, exporter = exporting(sampler, store=SpanStore.open(store_path))
    with observer.chain(PLANNER, "trip"), observer.agent(PLANNER, "planner"):
        tell(observer, Says())
    tell(observer, Says(identity=replace(PLANNER, chain="wire")))
    observer.close()
    assert exporter.get_finished_spans() == ()
    reader = SpanStore.read(store_path)
    assert {chain.chain_id: chain.calls for chain in chains(reader)} == {"trip-7": 1, "wire": 1}
    kinds = [(r.op, r.synthetic) for r in spans(reader, f"{trace_id(PLANNER):032x}")]
    assert sorted(kinds) == [("chat", False), ("invoke_agent", False), ("invoke_workflow", False)]
    reader.close()


def test_a_ratio_keeps_or_drops_whole_chains(exporting: Make) -> None:
    observer, exporter = exporting(ParentBased(TraceIdRatioBased(0.5)))
    for number in range(60):
        who = replace(PLANNER, chain=f"c{number}")
        tell(observer, Says(identity=who), Says(identity=who, model="b"))
    kept: dict[int, int] = {}
    for span in exporter.get_finished_spans():
        assert span.context
        kept[span.context.trace_id] = kept.get(span.context.trace_id, 0) + 1
    assert 10 < len(kept) < 50
    assert set(kept.values()) == {4}  # root, agent, two calls


def test_calls_of_many_threads_do_not_mix(exporting: Make) -> None:
    observer, exporter = exporting()

    def work(number: int) -> None:
        who = Identity(agent=f"a{number}", session=f"s{number}", chain=f"c{number % 3}")
        for turn in range(25):
            usage = Usage(number * 1000 + turn, 1, 0, 0, None)
            tell(observer, Says(identity=who, model=f"m{number}", usage=usage))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chats = [s for s in exporter.get_finished_spans() if s.name.startswith("chat")]
    assert len(chats) == 200
    for span in chats:
        values = span.attributes or {}
        number = int(str(values["clawmw.agent"])[1:])
        assert values["gen_ai.usage.input_tokens"] // 1000 == number  # type: ignore[operator]
        assert values["clawmw.chain.id"] == f"c{number % 3}"
    sequences = [int(str((s.attributes or {})["clawmw.call.seq"])) for s in chats]
    assert max(sequences) == 75


def test_interleaved_exchanges_of_one_thread(exporting: Make) -> None:
    observer, exporter = exporting()
    one, two = Says(model="a").events(), Says(model="b").events()
    for pair in zip(one, two, strict=True):
        for event in pair:
            observer(event)
    assert {"chat a", "chat b"} <= set(by_name(exporter))


def test_calls_that_never_finish_are_forgotten(exporting: Make) -> None:
    observer, _ = exporting()
    for number in range(5000):
        observer(CallStarted(f"n{number}", 0.0, PLANNER, "m", "d", False, 1, "enforce", ""))
    assert len(observer._calls) == 4096


def test_an_observer_never_raises(exporting: Make, caplog: pytest.LogCaptureFixture) -> None:
    observer, _ = exporting()
    for _ in range(3):
        tell(observer, replace(Says(), totals=None))  # type: ignore[arg-type]
    assert len(caplog.records) == 1
    assert "NoneType" not in caplog.text


def test_nobody_reads_nothing_is_kept() -> None:
    observer = OtelObserver()
    tell(observer, Says())
    observer(Says().events()[0])
    with observer.chain(PLANNER, "trip"), observer.agent(PLANNER, "planner"):
        pass
    assert not observer._calls
    assert observer.flush()


def test_flush_says_when_it_took_too_long(local: Any) -> None:
    observer, _ = local
    release = threading.Event()
    observer._tracers.flush = release.wait
    assert observer.flush(0.05) is False
    release.set()

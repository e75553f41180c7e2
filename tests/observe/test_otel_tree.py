"""One tree a chain, whoever saw its calls; sampling, threads, and what must never happen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from clawmw.core.events import CallStarted
from clawmw.core.identity import Identity
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id
from clawmw.observe.store.spanstore import SpanStore
from tests.observe.calls import EPOCH, PLANNER, Says, by_name, parent, tell
from tests.observe.conftest import Exported

Make = Callable[..., Exported]


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


def test_a_call_costs_the_caller_little(local: Any) -> None:
    """About 60 us on a quiet machine; the least of several rounds, so that noise is out."""
    observer, _ = local
    rounds = []
    for _ in range(5):
        told = [e for n in range(100) for e in Says(tools=[("t", f"c{n}", EPOCH)]).events()]
        began = time.thread_time()
        for event in told:
            observer(event)
        rounds.append((time.thread_time() - began) / 100)
    assert min(rounds) < 250e-6


def test_a_provider_set_later_is_found() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from clawmw.observe.otel import OtelObserver
from tests.observe.calls import Says

observer, exporter = OtelObserver(), InMemorySpanExporter()
for event in Says().events():
    observer(event)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
for event in Says().events():
    observer(event)
print([span.name.split()[0] for span in exporter.get_finished_spans()])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "['invoke_workflow', 'invoke_agent', 'chat']"

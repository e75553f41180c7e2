"""A chain inside somebody else's trace: under its caller's span, with no root of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from clawmw.core.context import TraceContext
from clawmw.core.identity import Identity
from clawmw.observe.reading.chains import spans, tree
from clawmw.observe.reading.figures import UNICODE
from clawmw.observe.reading.notes import notes
from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id
from tests.observe.calls import EPOCH, PLANNER, Says, by_name, parent, tell
from tests.observe.conftest import Exported

Make = Callable[..., Exported]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REMOTE = replace(PLANNER, chain=TRACE, context=TraceContext(TRACE, SPAN, True, "vendor=7"))


def shape(store: Any, trace_hex: str) -> list[tuple[str, str | None]]:
    """(name, name of the parent) of a stored chain."""
    rows = spans(store, trace_hex)
    names = {row.span_id: row.name for row in rows}
    assert tree(rows) is not None
    return [(row.name, names.get(row.parent_id or "")) for row in rows]


def test_a_sampled_callers_span_is_the_parent(exporting: Make, local: Any) -> None:
    """As OpenClaw sends it: one trace, another span for every call."""
    observer, exporter = exporting()
    second = TraceContext(TRACE, "00000000000000aa", True)
    calls = (
        Says(model="a", identity=REMOTE, tools=[("search", "c1", EPOCH)]),
        Says(model="b", identity=replace(REMOTE, context=second)),
    )
    tell(observer, *calls)
    found = by_name(exporter)
    assert set(found) == {"chat a", "chat b", "execute_tool search"}  # no stand-in
    one = found["chat a"]
    assert one.context is not None
    assert one.context.trace_id == int(TRACE, 16)
    assert parent(one) == parent(found["execute_tool search"]) == int(SPAN, 16)
    assert one.context.trace_state.to_header() == "vendor=7"
    assert parent(found["chat b"]) == 0xAA
    stored, reader = local
    tell(stored, *calls)
    stored.flush()
    assert shape(reader, TRACE) == [
        (f"invoke_workflow {TRACE}", None),
        ("invoke_agent planner", f"invoke_workflow {TRACE}"),
        ("execute_tool search", "invoke_agent planner"),
        ("chat a", "invoke_agent planner"),
        ("chat b", "invoke_agent planner"),
    ]


def test_an_agent_called_from_anothers_span_is_seen_below_it(local: Any) -> None:
    """Both wrote to one store: the caller opened its agent, the one called made calls only."""
    stored, reader = local
    with stored.chain(PLANNER, "trip"), stored.agent(PLANNER, "planner"):
        at = trace.get_current_span().get_span_context()
    context = TraceContext(f"{at.trace_id:032x}", f"{at.span_id:016x}", True)
    worker = replace(PLANNER, agent="worker", session="w", context=context)
    tell(stored, Says(model="a", identity=worker), Says(model="b", identity=worker))
    stored.flush()
    assert set(shape(reader, context.trace)) == {
        ("invoke_workflow trip", None),
        ("invoke_agent planner", "invoke_workflow trip"),
        ("invoke_agent worker", "invoke_agent planner"),
        ("chat a", "invoke_agent worker"),
        ("chat b", "invoke_agent worker"),
    }


def test_an_unsampled_or_absent_span_has_stand_ins(exporting: Make) -> None:
    observer, exporter = exporting()
    unsampled = replace(REMOTE, context=TraceContext(TRACE, SPAN, False))
    tell(observer, Says(identity=unsampled))
    assert len(by_name(exporter)) == 3
    assert parent(by_name(exporter)[f"invoke_workflow {TRACE}"]) is None


@pytest.mark.parametrize("which", ["root", "agent", "caller"])
def test_a_span_that_is_only_derived_is_nobodys(exporting: Make, which: str) -> None:
    """`clawmw run` and our own headers name ids that perhaps nobody writes."""
    observer, exporter = exporting()
    number = int(TRACE, 16)
    ids = {
        "root": root_span_id(number),
        "agent": agent_span_id(number, "planner", "s1"),
        "caller": agent_span_id(number, "boss", "s0"),
    }
    context = TraceContext(TRACE, f"{ids[which]:016x}", True)
    who = replace(REMOTE, context=context, parent_agent="boss", parent_session="s0")
    tell(observer, Says(identity=who))
    assert len(by_name(exporter)) == 3


def test_a_later_call_without_context_stays_in_the_callers_tree(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(model="a", identity=REMOTE))
    other = replace(REMOTE, agent="writer", session="s2", context=None)
    tell(observer, Says(model="b", identity=other))
    found = by_name(exporter)
    assert set(found) == {"chat a", "chat b", "invoke_agent writer"}
    assert parent(found["invoke_agent writer"]) == int(SPAN, 16)


def test_another_chains_caller_is_linked(exporting: Make) -> None:
    observer, exporter = exporting()
    tell(observer, Says(identity=replace(REMOTE, chain="trip-7")))
    chat = by_name(exporter)["chat anthropic/claude-x"]
    (link,) = chat.links
    assert (link.context.trace_id, link.context.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert dict(link.attributes or {}) == {"clawmw.link": "caller"}
    assert chat.context is not None
    assert chat.context.trace_id == trace_id(replace(PLANNER, chain="trip-7"))


def test_a_flow_goes_where_its_caller_says_or_tells_of_it(exporting: Make) -> None:
    observer, exporter = exporting()
    with observer.chain(REMOTE, "joined"):
        pass
    app = observer._tracers._given.get_tracer("app")  # type: ignore[union-attr]
    with (
        app.start_as_current_span("request") as request,
        observer.chain(PLANNER, "own trace"),
        observer.agent(PLANNER, "planner"),
    ):
        pass
    found = by_name(exporter)
    assert parent(found["invoke_workflow joined"]) == int(SPAN, 16)
    assert found["invoke_workflow own trace"].parent is None
    (link,) = found["invoke_workflow own trace"].links
    assert link.context.span_id == request.get_span_context().span_id


def test_the_applications_sampling_holds_for_its_trace(exporting: Make, local: Any) -> None:
    observer, exporter = exporting(ParentBased(ALWAYS_OFF))
    dropped = SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(0))
    who = replace(PLANNER, chain=TRACE, context=TraceContext(TRACE, SPAN, False))
    stored, reader = local
    with trace.use_span(NonRecordingSpan(dropped)):
        tell(observer, Says(identity=who))
        tell(stored, Says(identity=who))
    stored.flush()
    assert exporter.get_finished_spans() == ()
    assert len(spans(reader, TRACE)) == 3


# --- branches that come together -----------------------------------------------------


def test_a_join_has_a_link_to_every_branch(exporting: Make, local: Any) -> None:
    branches = [replace(PLANNER, agent=f"worker-{n}", session=f"s{n}") for n in range(3)]
    ids = tuple(f"{agent_span_id(trace_id(b), b.agent, b.session):016x}" for b in branches)
    joining = replace(PLANNER, agent="merger", session="m", joined=(*branches, branches[0]))
    observer, exporter = exporting()
    tell(observer, Says(model="a", identity=joining), Says(model="b", identity=joining))
    found = by_name(exporter)
    for name in ("invoke_agent merger", "chat a"):
        span = found[name]
        assert (span.attributes or {})["clawmw.joined_from"] == ids
        assert tuple(f"{link.context.span_id:016x}" for link in span.links) == ids
        assert all((link.attributes or {})["clawmw.link"] == "fan_in" for link in span.links)
    assert not found["chat b"].links  # told once
    with observer.agent(joining, "merger again"):
        pass
    assert len(by_name(exporter)["invoke_agent merger again"].links) == 3
    stored, reader = local
    with stored.agent(joining, "merger"):
        pass
    stored.flush()
    (row,) = [r for r in spans(reader, f"{trace_id(PLANNER):032x}") if r.op == "invoke_agent"]
    assert tuple(row.attributes["clawmw.joined_from"]) == ids
    assert row.attributes["clawmw.links"] == [f"fan_in {trace_id(PLANNER):032x}-{i}" for i in ids]
    assert list(notes(row, UNICODE)) == ["\u00b7 joins 3 branches: worker-0, worker-1, worker-2"]


def test_branches_may_be_in_other_processes(exporting: Make) -> None:
    observer, exporter = exporting()
    who = replace(PLANNER, joined=(TraceContext(TRACE, SPAN, True), Identity(chain="c")))
    tell(observer, Says(identity=who))
    chat = by_name(exporter)["chat anthropic/claude-x"]
    assert [link.context.trace_id for link in chat.links] == [
        int(TRACE, 16),
        trace_id(Identity(chain="c")),
    ]


# --- another library has a span for the call -----------------------------------------

FOREIGN: dict[str, dict[str, Any]] = {
    "opentelemetry": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "theirs"},
    "openinference": {"openinference.span.kind": "LLM"},
    "traceloop": {"llm.request.type": "chat"},
}


def foreign_call(
    observer: Any, identity: Identity, values: dict[str, Any], *, ends: bool = False
) -> ReadableSpan:
    """A call made within another library's span, which may end before the answer is read."""
    app = observer._tracers._given.get_tracer("theirs")
    *events, last = Says(identity=identity, tools=[("search", "c1", EPOCH)]).events()
    with app.start_as_current_span("request"):
        span = app.start_span("chat theirs", attributes=values)
        with trace.use_span(span):
            for event in events:
                observer(event)
        if ends:
            span.end()
        observer(last)
        if not ends:
            span.end()
    assert isinstance(span, ReadableSpan)
    return span


@pytest.mark.parametrize("convention", FOREIGN)
@pytest.mark.parametrize("named", [False, True])
def test_a_call_has_one_exported_span(
    exporting: Make, local: Any, convention: str, named: bool
) -> None:
    observer, exporter = exporting()
    stored, reader = local
    observer._tracers._local = stored._tracers._local
    app = observer._tracers._given.get_tracer("theirs")  # type: ignore[union-attr]
    with app.start_as_current_span("app"):
        trace_hex = f"{trace.get_current_span().get_span_context().trace_id:032x}"
        who = replace(PLANNER, chain="trip-7" if named else trace_hex)
        foreign_call(observer, who, FOREIGN[convention])
    found = by_name(exporter)
    ours = {"execute_tool search"} if not named else set()
    assert set(found) == {"app", "request", "chat theirs"} | ours
    values = dict(found["chat theirs"].attributes or {})
    assert values["clawmw.saved.tokens"] == 8_000
    assert values["clawmw.chain.id"] == who.chain
    assert values["gen_ai.response.model"] == "claude-x-1"
    if convention == "openinference":
        assert "gen_ai.usage.input_tokens" not in values  # counted under its own names, once
        assert values["llm.token_count.prompt"] == 12_000
    if convention == "opentelemetry":
        assert values["gen_ai.usage.input_tokens"] == 12_000
        assert values["gen_ai.request.model"] == "theirs"  # what it says itself stays
    assert "gen_ai.usage.cost" not in values
    stored.flush()
    (row,) = [r for r in spans(reader, f"{trace_id(who):032x}") if r.op == "chat"]
    assert row.input_tokens == 12_000
    if not named:
        context = found["chat theirs"].context
        assert context is not None
        assert row.span_id == f"{context.span_id:016x}"


def test_a_span_that_ended_first_gets_a_note_that_counts_nothing(exporting: Make) -> None:
    observer, exporter = exporting()
    app = observer._tracers._given.get_tracer("theirs")  # type: ignore[union-attr]
    with app.start_as_current_span("app"):
        at = trace.get_current_span().get_span_context()
        who = replace(PLANNER, chain=f"{at.trace_id:032x}")
        foreign_call(observer, who, FOREIGN["opentelemetry"], ends=True)
    found = by_name(exporter)
    theirs, note = found["chat theirs"], found["clawmw anthropic/claude-x"]
    assert theirs.context is not None
    assert parent(note) == theirs.context.span_id
    values = dict(note.attributes or {})
    assert values["clawmw.duplicate"] is True
    assert values["clawmw.saved.tokens"] == 8_000
    counted = ("gen_ai.", "openinference.", "operation.cost", "langfuse.observation")
    assert not [name for name in values if name.startswith(counted)]
    assert "clawmw.saved.tokens" not in (theirs.attributes or {})


def test_agents_and_tools_of_others_are_no_model_calls(exporting: Make) -> None:
    observer, exporter = exporting()
    app = observer._tracers._given.get_tracer("theirs")  # type: ignore[union-attr]
    for operation in ("invoke_agent", "execute_tool", "embeddings"):
        with app.start_as_current_span(operation, attributes={"gen_ai.operation.name": operation}):
            tell(observer, Says(model=operation))
    assert {"chat invoke_agent", "chat execute_tool", "chat embeddings"} <= set(by_name(exporter))


def test_what_a_root_is_linked_to_is_shown(exporting: Make, local: Any) -> None:
    stored, reader = local
    child = replace(PLANNER, chain="trip-7.1", parent="trip-7", context=REMOTE.context)
    with stored.chain(child, "part"):
        pass
    stored.flush()
    (row,) = spans(reader, f"{trace_id(child):032x}")
    assert list(notes(row, UNICODE)) == [
        f"\u00b7 a part of trace {trace_id(PLANNER):032x}",
        f"\u00b7 begun in trace {TRACE}",
    ]

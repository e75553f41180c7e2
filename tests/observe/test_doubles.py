"""One model call that two libraries tell of counts once, whichever comes first."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clawmw.observe.reading.chains import chains, spans, tree
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.observe.terminal.render import render_trace

T = f"{7:032x}"
OURS: dict[str, Any] = {"source": None, "input_tokens": 100, "output_tokens": 5, "cost_nano": 700}
THEIRS = OURS | {"source": "openclaw", "cost_nano": 650, "cost_basis": "estimated"}
SILENT = {"source": "sdk", "input_tokens": None, "output_tokens": None, "cost_nano": None}
OTHER = {"source": "http", "op": "span"}


def row(span_id: int, parent: int | None, values: dict[str, Any]) -> SpanRow:
    return SpanRow(
        **{
            "trace_id": T,
            "span_id": f"{span_id:016x}",
            "parent_id": f"{parent:016x}" if parent else None,
            "op": "chat",
            "name": f"span {span_id}",
            "start_ns": span_id,
            "end_ns": 100 - span_id,
            "status": "ok",
            "agent": "main",
            "model": "m",
            **values,
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = SpanStore.open(tmp_path / "t.sqlite", keep=4e9)
    yield opened
    opened.close()


CASES = {
    "ours beneath theirs": [row(1, None, THEIRS), row(2, 1, OURS)],
    "an HTTP span between": [row(1, None, THEIRS), row(2, 1, OTHER), row(3, 2, OURS)],
    "a server's beneath ours": [row(1, None, OURS), row(2, 1, OTHER), row(3, 2, THEIRS)],
    "a framework's around an SDK's": [row(1, None, THEIRS), row(2, 1, THEIRS | {"source": "sdk"})],
    "the inner one says no tokens": [row(1, None, THEIRS), row(2, 1, SILENT)],
    "the outer one says no tokens": [row(1, None, SILENT), row(2, 1, THEIRS)],
    "three of them": [row(1, None, THEIRS), row(2, 1, SILENT), row(3, 2, OURS)],
}


@pytest.mark.parametrize("case", CASES)
def test_a_call_counts_once_in_any_order(case: str, tmp_path: Path) -> None:
    for number, order in enumerate(permutations(CASES[case])):
        store = SpanStore.open(tmp_path / f"{number}.sqlite", keep=4e9)
        for one in order:
            store.write([one])
        (chain,) = chains(store)
        assert (chain.calls, chain.input_tokens, chain.output_tokens) == (1, 100, 5)
        expected = 700 if any(r.source is None for r in order) else 650
        assert (chain.cost_nano, chain.unknown_usage, chain.unknown_cost) == (expected, 0, 0)
        assert len(spans(store, T)) >= len(order), "every span is shown"
        store.write(list(order))
        assert chains(store) == [chain], "sent again, as exporters do"
        store.close()


def test_ours_stands_where_both_have_one_id(tmp_path: Path) -> None:
    both = [row(1, None, OURS), row(1, None, THEIRS)]
    for number, order in enumerate(permutations(both)):
        store = SpanStore.open(tmp_path / f"{number}.sqlite", keep=4e9)
        for one in order:
            store.write([replace(one, attributes={"by": one.source or "clawmw"})])
        (kept,) = store_rows(store)
        assert (kept.cost_nano, kept.source, kept.attributes) == (700, None, {"by": "clawmw"})
        store.close()


def test_two_calls_are_two(store: SpanStore) -> None:
    agent = row(1, None, {"op": "invoke_agent", "source": "openclaw", "agent": "pi"})
    store.write([agent, row(2, 1, THEIRS), row(3, 1, THEIRS), row(4, 1, OURS)])
    (chain,) = chains(store)
    assert (chain.calls, chain.input_tokens, chain.reported, chain.estimated_cost) == (3, 300, 2, 2)


def test_a_call_goes_to_the_agent_above_it(store: SpanStore) -> None:
    store.write([row(3, 2, THEIRS | {"agent": "the-program"})])
    store.write([row(2, 1, OTHER | {"agent": "the-program"})])
    store.write([row(1, None, {"op": "invoke_agent", "source": "x", "agent": "planner"})])
    assert [r.agent for r in store_rows(store)] == ["planner", "the-program", "planner"]
    assert chains(store)[0].agents == 1


def store_rows(store: SpanStore) -> list[SpanRow]:
    return [r for r in spans(store, T) if not r.synthetic]


def test_the_tree_begins_where_the_other_program_began(store: SpanStore) -> None:
    store.write([row(1, None, OTHER), row(2, 1, THEIRS)])
    root = tree(spans(store, T))
    assert root is not None
    assert (root.span.name, [c.span.name for c in root.children]) == ("span 1", ["span 2"])


def test_the_tree_names_models_and_tools(store: SpanStore) -> None:
    tool = OTHER | {"op": "execute_tool", "model": None, "name": "openclaw.tool.execution"}
    agent = {"op": "invoke_agent", "source": "openclaw", "agent": "pi", "name": "openclaw.run"}
    call = THEIRS | {"name": "openclaw.model.call"}
    store.write([row(1, None, agent), row(2, 1, call), row(4, 2, OURS | {"baseline_nano": 900})])
    store.write([row(3, 1, tool | {"attributes": {"gen_ai.tool.name": "exec"}}), row(5, 1, call)])
    out = io.StringIO()
    render_trace(chains(store)[0], spans(store, T), Console(file=out, width=120))
    shown = out.getvalue()
    assert "├── openclaw.model.call m " in shown
    assert "· a call that another span counts (its own count: 100→5)" in shown
    assert "├── openclaw.tool.execution exec " in shown
    assert "2 calls · 2 agents · 1 as other libraries tell" in shown
    assert "(usage x price table; 1 call estimated)" in shown
    assert "estimated: the calls that clawmw saw, native caching only" in shown


def test_a_trace_about_no_model_is_not_listed(store: SpanStore) -> None:
    store.write([row(1, None, OTHER), row(2, 1, OTHER)])
    assert chains(store) == []


def test_a_cycle_ends(store: SpanStore) -> None:
    store.write([row(1, 2, THEIRS), row(2, 1, THEIRS), row(3, 3, THEIRS)])
    assert len(chains(store)) == 1

"""Reading: sums that know what they do not know, and a tree whatever was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.observe.reading.chains import SORTS, Node, chains, find, spans, tree
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from tests.observe.test_spanstore import NOW, row

S = 10**9


@pytest.fixture
def store(store_path: Path) -> Iterator[SpanStore]:
    opened = SpanStore.open(store_path)
    yield opened
    opened.close()


def one(store: SpanStore, *rows: SpanRow) -> Any:
    store.write(rows)
    (found,) = chains(store)
    return found


def test_sums(store: SpanStore) -> None:
    found = one(
        store,
        row(
            span=1,
            seq=1,
            input_tokens=100,
            output_tokens=5,
            cache_read_tokens=80,
            cost_nano=10,
            baseline_nano=30,
            raw_tokens=200,
            sent_tokens=100,
            would_tokens=100,
            overhead_us=7,
        ),
        row(
            span=2,
            seq=2,
            input_tokens=50,
            output_tokens=1,
            cost_nano=4,
            baseline_nano=4,
            agent="b",
            end_ns=NOW + 3 * S,
            usage_basis="estimated",
        ),
        row(span=3, op="execute_tool", start_ns=NOW - S),
    )
    assert (found.calls, found.agents, found.start_ns, found.end_ns) == (2, 2, NOW - S, NOW + 3 * S)
    assert (found.input_tokens, found.output_tokens, found.unknown_usage) == (150, 6, 0)
    assert (found.cache_read_tokens, found.cacheable_tokens) == (80, 100)
    assert (found.cost_nano, found.baseline_nano, found.saved_nano) == (14, 34, 20)
    assert (found.compared_nano, found.unknown_cost, found.estimated) == (34, 0, 1)
    assert (found.raw_tokens, found.overhead_us, found.status) == (200, 7, "ok")


def test_unknown_is_not_zero(store: SpanStore) -> None:
    found = one(
        store,
        row(span=1, input_tokens=100, output_tokens=0, cache_read_tokens=0, cost_nano=0),
        row(span=2, baseline_nano=99),
        row(span=3, status="halted", cost_nano=0, stopped=1),
    )
    assert (found.unknown_usage, found.unknown_cost, found.stops) == (1, 1, 1)
    assert (found.cost_nano, found.cache_read_tokens, found.saved_nano) == (0, 0, None)
    store.write([row(trace=2, span=1)])
    nothing = next(c for c in chains(store) if c.chain_id == "c2")
    assert nothing.input_tokens is nothing.cost_nano is nothing.cache_read_tokens is None


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([("chat", "failed", 1), ("chat", "ok", 2)], "ok"),
        ([("chat", "ok", 1), ("chat", "failed", 2)], "failed"),
        ([("chat", "ok", 1), ("chat", "answered", 2)], "ok"),
        ([("chat", "ok", 1), ("chat", "halted", 2)], "halted"),
        ([("chat", "failed", 1), ("invoke_workflow", "ok", 2)], "ok"),
        ([("chat", "ok", 1), ("invoke_workflow", "failed", 2)], "failed"),
        ([("chat", "halted", 1), ("invoke_workflow", "failed", 2)], "halted"),
        ([("execute_tool", "ok", 1)], "ok"),
    ],
)
def test_status(store: SpanStore, rows: list[tuple[str, str, int]], status: str) -> None:
    written = [
        row(span=n, op=op, status=how, end_ns=NOW + end * S)
        for n, (op, how, end) in enumerate(rows, 1)
    ]
    assert one(store, *written).status == status


def test_filters_and_sorts(store: SpanStore) -> None:
    for n in range(1, 6):
        store.write(
            [
                row(
                    trace=n,
                    end_ns=NOW + n * S,
                    cost_nano=[None, 5, 9, 0, 7][n - 1],
                    status="failed" if n == 2 else "ok",
                    stopped=int(n == 4),
                )
            ]
        )

    def ids(**how: Any) -> list[str]:
        return [c.chain_id for c in chains(store, **how)]

    assert ids() == ["c5", "c4", "c3", "c2", "c1"]
    assert ids(limit=2) == ["c5", "c4"]
    assert ids(failed=True) == ["c2"]
    assert ids(since_ns=NOW + 4 * S) == ["c5", "c4"]
    assert ids(sort="cost") == ["c3", "c5", "c2", "c4", "c1"]
    assert ids(sort="stops")[0] == "c4"
    for sort in SORTS:
        assert len(ids(sort=sort)) == 5


def test_find_by_whole_id_then_by_beginning(store: SpanStore) -> None:
    store.write(
        [
            row(trace=1, chain_id="trip"),
            row(trace=2, chain_id="trip-2"),
            row(trace=3, chain_id="100%_done"),
        ]
    )
    assert [c.chain_id for c in find(store, "trip")] == ["trip"]
    assert {c.chain_id for c in find(store, "tri")} == {"trip", "trip-2"}
    assert [c.chain_id for c in find(store, "100%")] == ["100%_done"]
    assert [c.chain_id for c in find(store, f"{2:032x}")] == ["trip-2"]
    assert find(store, "1%") == find(store, "' OR 1=1 --") == []


def test_missing_parents_are_inferred(store: SpanStore) -> None:
    agent, root = f"{0xA:016x}", f"{0xB:016x}"
    store.write(
        [
            row(span=1, parent_id=agent, start_ns=NOW + S, end_ns=NOW + 2 * S),
            row(span=2, parent_id=agent, end_ns=NOW + 5 * S, status="failed"),
            row(span=3, parent_id=f"{0xC:016x}", agent="b"),
            row(span=4, op="execute_tool", name="execute_tool t", parent_id=agent),
            row(span=5, parent_id=f"{0xD:016x}"),  # beneath a span only the application has
            row(span=6, op="invoke_agent", parent_id=root, agent="z", name="invoke_agent z"),
        ]
    )
    rows = spans(store, f"{1:032x}")
    made = {r.name: r for r in rows if r.synthetic}
    assert set(made) == {"invoke_workflow c1", "invoke_agent a", "invoke_agent b"}
    a = made["invoke_agent a"]
    assert (a.span_id, a.start_ns, a.end_ns, a.status) == (agent, NOW, NOW + 5 * S, "failed")
    top = tree(rows)
    assert top is not None
    assert top.span.name == "invoke_workflow c1"
    assert [len(node.children) for node in top.children] == [4, 1, 0]


def test_a_root_that_was_written_is_used(store: SpanStore) -> None:
    store.write(
        [
            row(span=1, parent_id=f"{7:016x}"),
            row(span=9, op="invoke_workflow", name="invoke_workflow trip", agent=None),
        ]
    )
    rows = spans(store, f"{1:032x}")
    assert [r.name for r in rows if r.parent_id is None] == ["invoke_workflow trip"]
    assert chains(store)[0].name == "trip"
    assert spans(store, f"{5:032x}") == []
    assert tree([]) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["chat", "execute_tool", "invoke_agent", "invoke_workflow"]),
            st.integers(1, 6),
            st.sampled_from(["a", "b"]),
            st.integers(0, 7),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda t: t[1],
    )
)
def test_every_written_span_is_in_the_tree_once(
    written: list[tuple[str, int, str, int]],
) -> None:
    """Whatever parts of a trace were lost, and whatever a parent may be."""
    from clawmw.observe.reading.chains import _completed

    rows = [
        row(span=number, op=op, agent=agent, parent_id=f"{parent:016x}")
        for op, number, agent, parent in written
    ]
    root = tree(_completed(rows))

    def walk(node: Node) -> Iterator[str]:
        yield node.span.span_id
        for child in node.children:
            yield from walk(child)

    assert root is not None
    seen = list(walk(root))
    assert len(seen) == len(set(seen))
    assert {r.span_id for r in rows} <= set(seen)

"""Lists of chains: the right ones, in order, quick in a store of many."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from clawmw.observe.page.render import PAGE, overview_page
from clawmw.observe.reading.chains import SORTS, chains
from clawmw.observe.reading.listing import Filter, choices, matching, these
from clawmw.observe.store.spanstore import SpanRow, SpanStore

NOW = time.time_ns()


def chain(number: int, *, calls: int = 2, status: str = "ok", model: str = "m") -> list[SpanRow]:
    """The spans of a chain, a minute after the one before."""
    start = NOW - (20_000 - number) * 60 * 10**9
    return [
        SpanRow(
            f"{number:032x}",
            f"{call:016x}",
            None,
            "chat",
            f"chat {model}",
            start + call * 10**9,
            start + (call + 1) * 10**9,
            status if call == calls - 1 else "ok",
            chain_id=f"task-{number}",
            session_id="s",
            agent=f"agent-{number % 3}",
            model=model,
            mode="enforce",
            input_tokens=100 * (number % 7),
            output_tokens=10,
            cost_nano=10**6 * (number % 5),
            baseline_nano=2 * 10**6 * (number % 5),
            stopped=int(status == "halted") if call == calls - 1 else None,
        )
        for call in range(calls)
    ]


@pytest.fixture
def store(tmp_path: Path) -> SpanStore:
    """60 chains, some of which did not end well."""
    kept = SpanStore.open(tmp_path / "t.sqlite")
    endings = ["ok", "ok", "failed", "ok", "halted", "cancelled", "answered"]
    for number in range(60):
        model = "claude" if number % 2 else "gpt%_x"
        kept.write(chain(number, calls=1 + number % 4, status=endings[number % 7], model=model))
    return kept


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_is_that_of_the_terminal(store: SpanStore, sort: str) -> None:
    wanted = [c.trace_id for c in chains(store, limit=100, sort=sort)]  # type: ignore[arg-type]
    assert matching(store, Filter(sort=sort)) == wanted  # type: ignore[arg-type]


def test_every_filter_keeps_what_it_says(store: SpanStore) -> None:
    every = chains(store, limit=100)

    def found(**more: object) -> list[str]:
        return [c.chain_id for c in these(store, matching(store, Filter(**more)))]  # type: ignore[arg-type]

    for status in ("ok", "failed", "halted", "cancelled"):
        assert found(status=status) == [c.chain_id for c in every if c.status == status]
    assert found(status="unwell") == [c.chain_id for c in every if c.status != "ok"]
    assert len(found(agent="agent-1")) == 20
    assert len(found(model="claude")) == 30
    assert found(text="TASK-7") == ["task-7"]
    assert found(text="task-5 agent-2 claude") == ["task-59", "task-53", "task-5"]
    assert len(found(text="gpt%_x")) == 30
    assert found(text="%") == found(text="gpt%_x"), "a sign of SQL is a sign like any"
    assert found(text="' OR 1=1 --") == []
    assert found(since_ns=NOW) == []
    newest = max(c.end_ns for c in every)
    assert found(since_ns=newest) == [c.chain_id for c in every if c.end_ns == newest]
    assert choices(store) == (["agent-0", "agent-1", "agent-2"], ["claude", "gpt%_x"])


def test_traces_that_are_about_no_model_are_not_listed(store: SpanStore) -> None:
    store.write([SpanRow("f" * 32, "1" * 16, None, "span", "GET /", NOW, NOW + 1, "ok")])
    assert "f" * 32 not in matching(store, Filter())
    assert "f" * 32 not in matching(store, Filter(status="ok"))
    assert len(matching(store, Filter())) == len(chains(store, limit=100))


def test_chains_that_are_gone_are_left_out(store: SpanStore) -> None:
    some = matching(store, Filter())[:2]
    assert [c.trace_id for c in these(store, [some[1], "f" * 32, some[0]])] == [some[1], some[0]]
    assert these(store, []) == ()


@pytest.mark.slow
def test_a_page_of_ten_thousand_chains_is_quick(tmp_path: Path) -> None:
    """About 150 ms of CPU; others use this machine, too."""
    kept = SpanStore.open(tmp_path / "t.sqlite")
    dice = random.Random(3)
    for first in range(0, 10_000, 500):
        kept.write(
            [
                row
                for number in range(first, first + 500)
                for row in chain(number, calls=10, status=dice.choice(["ok"] * 20 + ["failed"]))
            ]
        )
    for wanted in (Filter(), Filter(sort="cost"), Filter(status="unwell"), Filter(text="task-77")):
        overview_page(kept, NOW, wanted)  # templates are read, pages are in memory
        took = []
        for _ in range(3):
            begin = time.process_time()
            page = overview_page(kept, NOW, wanted)
            took.append(time.process_time() - begin)
        assert page.count('<tr id="c-') <= PAGE
        assert min(took) < 0.3, wanted

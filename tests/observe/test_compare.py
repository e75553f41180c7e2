"""Two runs of one task: what differs, where they part, and what is said when little is known."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clawmw.core.identity import Identity
from clawmw.core.types import Usage
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import find, spans
from clawmw.observe.reading.compare import Comparison, compare
from clawmw.observe.store.spanstore import SpanStore
from clawmw.observe.terminal.render_diff import render_comparison
from tests.observe.calls import EPOCH, Says, halted

Compared = Callable[[Sequence[Says], Sequence[Says]], Comparison]

_numbers = count()


@pytest.fixture
def compared(store_path: Path) -> Compared:
    """Records two runs and compares them as they were stored."""

    def make(a: Sequence[Says], b: Sequence[Says]) -> Comparison:
        observer = OtelObserver(store=SpanStore.open(store_path, keep=None))
        names = f"a{next(_numbers)}", f"b{next(_numbers)}"
        for name, calls in zip(names, (a, b), strict=True):
            for number, call in enumerate(calls):
                who = replace(call.identity, chain=name, session=call.identity.session + name)
                at = EPOCH + 10 * number
                for event in replace(call, identity=who, at=at).events():
                    observer(event)
        observer.close()
        store = SpanStore.read(store_path)
        (one,), (other,) = (find(store, name) for name in names)
        found = compare(one, spans(store, one.trace_id), other, spans(store, other.trace_id))
        store.close()
        return found

    return make


@dataclass
class Asking(Says):
    """Says what the model asked for, too."""

    asked_for: tuple[str, ...] = ()

    def events(self) -> list[Any]:
        *before, last = super().events()
        tools = tuple((f"c{n}", name) for n, name in enumerate(self.asked_for))
        return [*before, replace(last, tools=tools)]


def asks(*tools: str, agent: str = "planner", **more: Any) -> Says:
    """A call in which the model asks for tools."""
    return Asking(Identity(agent=agent, session=agent), asked_for=tools, **more)


def shown(found: Comparison, width: int = 120, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="") as out:
        console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        render_comparison(found, console)
        out.flush()
        return raw.getvalue().decode(encoding)


def lines(found: Comparison) -> list[str]:
    return [" ".join(line.split()) for line in shown(found).splitlines()]


def test_two_runs_that_did_the_same(compared: Compared) -> None:
    run = [asks("search"), asks("read_file"), asks()]
    found = compared(run, run)
    assert (found.alike, found.partings, found.switches) == (3, (), ())
    said = lines(found)
    assert "both ran under one policy: what differs is not its doing" in said
    assert "calls 3 3 =" in said
    assert "planner, claude-x 3 36.0k 75% $0.0486" in said
    assert said[-1] == "all 3 calls are alike in the tools asked for and in how they ended"


def test_where_they_part(compared: Compared) -> None:
    """By agent: what others do meanwhile does not count."""
    a = [asks("search"), asks("plan", agent="critic"), asks("search"), asks()]
    b = [
        asks("search"),
        asks("search"),
        asks("search", "search", "buy"),
        asks("plan", agent="critic"),
    ]
    found = compared(a, b)
    (parting,) = found.partings
    assert (parting.agent, parting.differs, found.alike) == ("planner", ("tools",), 3)
    said = lines(found)
    at = said.index("the first 3 calls alike, then they part:")
    assert said[at + 1 :] == [
        "planner, call 3",
        "A asks for no tool",
        "B asks for search x2, buy",
    ]


def test_what_a_guard_did_is_told(compared: Compared) -> None:
    a = [asks("search"), asks("search"), asks("search")]
    stop = replace(halted(), identity=Identity(agent="planner", session="planner"))
    found = compared(a, [asks("search"), stop])
    said = lines(found)
    assert "stopped by a guard 0 1 +1" in said
    assert "stopped by loop_guard.stop 0 1 +1" in said
    at = said.index("the first call alike, then they part:")
    assert said[at + 1 :] == [
        "planner, call 2",
        "A ok · asks for search; then 1 call more",
        "B stopped by loop_guard.stop",
    ]


def test_a_longer_run(compared: Compared) -> None:
    found = compared([asks("search"), asks()], [asks("search"), asks(), asks("search"), asks()])
    (parting,) = found.partings
    assert (parting.differs, parting.more_b) == (("only_b",), 1)
    assert lines(found)[-3:] == [
        "planner, call 3",
        "A no such call: the conversation is over",
        "B asks for search; then 1 call more",
    ]


def test_another_model_is_no_end_of_the_comparison(compared: Compared) -> None:
    a = [asks("search", model="big"), asks("read", model="big"), asks("x", model="big")]
    b = [asks("search", model="small"), asks("read", model="small"), asks("y", model="big")]
    found = compared(a, b)
    (switch,) = found.switches
    assert (switch.a, switch.b, switch.calls, switch.number) == ("big", "small", 2, 1)
    assert "big → small: in 2 calls, first planner, call 1" in lines(found)
    assert found.alike == 2
    whole = compared([asks(model="p/big")], [asks(model="p/small")])
    assert "planner, big → small 1 12.0k 75% $0.0162" in lines(whole)


def test_what_it_came_to(compared: Compared) -> None:
    cheaper = asks(usage=Usage(6_000, 300, 3_000, 0, None))
    said = lines(compared([asks()], [cheaper]))
    assert "tokens in 12,000 6,000 -6,000 (-50%)" in said
    assert "cached 75% 50% -25 points" in said


def test_what_is_unknown_stays_so(compared: Compared) -> None:
    silent = asks(usage=None, cost=None, baseline=None)
    found = compared([asks(), asks()], [silent, silent])
    said = lines(found)
    assert "B: no call reported its usage, so its cost is unknown" in said
    assert "tokens in 24,000 - -" in said
    assert "cost $0.0324 - -" in said
    assert "planner, claude-x 2 24.0k → - 75% → - $0.0324 → -" in said
    partly = lines(compared([asks(), asks()], [asks(), silent]))
    assert "cost $0.0324 ≥$0.0162 ~-$0.0162 (-50%)" in partly


def test_strangers_are_told_so(compared: Compared) -> None:
    found = compared([asks(agent="cook")], [asks(agent="driver")])
    assert "no agent is in both: these may not be runs of the same task" in lines(found)
    assert "from the beginning they part:" in lines(found)


def test_one_without_calls(compared: Compared, store_path: Path) -> None:
    found = compared([asks()], [asks()])
    nothing = compare(replace(found.a.chain, calls=0, input_tokens=None), [], found.b.chain, [])
    assert "A has no model call: nothing of it can be compared" in lines(nothing)


def test_it_fits_what_it_is_shown_on(compared: Compared) -> None:
    found = compared([asks("search", agent="a" * 100)], [asks("search", agent="a" * 100)])
    assert max(map(len, shown(found, width=80).splitlines())) <= 80
    shown(found, encoding="ascii").encode("ascii")
    shown(compared([asks(model="x")], [asks(model="y")]), encoding="ascii").encode("ascii")

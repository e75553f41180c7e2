"""Tail sampling: the chains that matter go out whole, a share of the rest, and nothing is held
for good."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from clawmw.core.events import CacheMissed
from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.reading.chains import chains
from clawmw.observe.sending.counts import Counts
from clawmw.observe.sending.tail import Sample, Tail
from clawmw.observe.sending.ways import Export
from clawmw.observe.store.spanstore import SpanStore
from tests.observe.calls import PLANNER, Says, halted, tell
from tests.observe.collector import Collector

DEAR = Cost(200_000_000, 0, 0, 0)
CHEAP = Cost(1_000, 0, 0, 0)
NONE_BUT = Sample(0.0, 100_000_000, 300.0)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    found = Collector()
    yield found
    found.close()


def observing(collector: Collector, sample: Sample = NONE_BUT, **more: Any) -> OtelObserver:
    return OtelObserver(otlp=Export(Settings(collector.url), sample), **more)


def who(chain: str) -> Identity:
    return replace(PLANNER, chain=chain, session=chain)


def chats(collector: Collector) -> list[str]:
    return sorted(name for name in collector.names() if name.startswith("chat"))


MISSED = CacheMissed("", 1.0, "m", 9_000, 0)


@pytest.mark.parametrize(
    "last",
    [
        {"cost": DEAR},
        {"status": "failed", "error": "timeout", "usage": None},
        {"seconds": 301.0},
        {"trouble": [MISSED]},
    ],
)
def test_what_qualifies_goes_out_whole(collector: Collector, last: dict[str, Any]) -> None:
    """What came before it, too, and what comes after."""
    observer = observing(collector)
    tell(observer, Says(identity=who("a"), model="a1", cost=CHEAP))
    tell(observer, Says(identity=who("b"), model="b1", cost=CHEAP))
    assert observer.flush()
    assert collector.names() == []
    tell(observer, Says(identity=who("a"), model="a2", **({"cost": CHEAP} | last)))
    tell(observer, Says(identity=who("a"), model="a3", cost=CHEAP))
    observer.close()
    assert chats(collector) == ["chat a1", "chat a2", "chat a3"]
    (count,) = observer.counts()
    assert (count.handed, count.delivered, count.unsampled) == (8, 5, 3)


def test_stops_qualify(collector: Collector) -> None:
    observer = observing(collector)
    tell(observer, Says(model="first", cost=CHEAP), halted(model="stopped"))
    observer.close()
    assert chats(collector) == ["chat first", "chat stopped"]


def test_small_sums_add_up(collector: Collector) -> None:
    observer = observing(collector)
    for number in range(4):
        tell(observer, Says(model=f"m{number}", cost=Cost(30_000_000, 0, 0, 0)))
        observer.flush()
        assert len(chats(collector)) == (4 if number == 3 else 0)
    observer.close()


def test_a_chain_whose_root_ends_is_let_go(collector: Collector) -> None:
    observer = observing(collector)
    with observer.chain(PLANNER, "trip"):
        tell(observer, Says(at=time.time(), seconds=0.0, cost=CHEAP))
        (count,) = observer.counts()
        assert (count.waiting, count.unsampled) == (2, 0)  # a stand-in of its agent
    (count,) = observer.counts()
    assert (count.waiting, count.unsampled) == (0, 3)
    with pytest.raises(KeyError), observer.chain(who("other"), "trip"):
        raise KeyError("x")
    observer.close()
    assert collector.names() == ["invoke_workflow trip"]


def test_the_share_is_the_same_in_every_process(collector: Collector) -> None:
    """And it is as large as was said."""
    sample = Sample(0.3, 100_000_000, 300.0)
    observers = [observing(collector, sample), observing(collector, sample)]
    found = []
    for observer in observers:
        before = len(collector.spans)
        for number in range(200):
            tell(observer, Says(identity=who(f"c{number}"), cost=CHEAP))
        observer.close()
        found.append({span.trace_id for span in collector.spans[before:]})
    assert found[0] == found[1]
    assert 35 < len(found[0]) < 85


def test_the_local_store_keeps_all(collector: Collector, store_path: Path) -> None:
    observer = observing(collector, store=SpanStore.open(store_path))
    tell(observer, *[Says(identity=who(f"c{n}"), cost=CHEAP) for n in range(5)])
    observer.close()
    assert collector.names() == []
    reader = SpanStore.read(store_path)
    assert len(chains(reader)) == 5
    reader.close()


# --- bounds --------------------------------------------------------------------------


def values(chain: int, number: int = 1) -> list[ReadableSpan]:
    """Spans as the observer makes them, without their events."""
    kept: list[ReadableSpan] = []
    observer = OtelObserver(otlp=Export(Settings("http://127.0.0.1:9")))
    remote = observer._tracers._remote
    assert remote is not None
    remote._put = kept.append
    tell(observer, *[Says(identity=who(f"c{chain}"), cost=CHEAP) for _ in range(number)])
    observer.close()
    return [span for span in kept if span.name.startswith("chat")]


def test_idle_chains_are_let_go() -> None:
    counts, out, now = Counts("otlp"), list[ReadableSpan](), [0.0]
    tail = Tail(NONE_BUT, out.append, counts, clock=lambda: now[0])
    for chain in (1, 2):
        tail.put(values(chain)[0])
    now[0] = 599.0
    tail.put(values(2)[0])
    now[0] = 700.0
    tail.put(values(3)[0])
    assert counts.now().unsampled == 1
    assert len(tail._held) == 2
    assert out == []


def test_what_is_held_is_bounded_and_what_is_dropped_counted() -> None:
    counts, out = Counts("otlp"), list[ReadableSpan]()
    tail = Tail(NONE_BUT, out.append, counts, most=10)
    for span in [s for chain in range(1, 5) for s in values(chain, 3)]:
        tail.put(span)
    assert counts.now().lost == {"held": 3}  # the chain heard of least
    assert tail._number == sum(len(held.spans) for held in tail._held.values()) == 9
    tail.close()
    assert counts.now().unsampled == 9
    assert tail._number == 0


def test_holding_costs_little() -> None:
    """Ten microseconds a span at most; the least of several rounds, so that noise is out."""
    made = [values(chain, 20) for chain in range(5)]
    rounds = []
    for _ in range(10):
        tail = Tail(NONE_BUT, lambda span: None, Counts("otlp"))
        began = time.thread_time()
        for spans in made:
            for span in spans:
                tail.put(span)
        rounds.append((time.thread_time() - began) / 100)
    assert min(rounds) < 10e-6

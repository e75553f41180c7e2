"""A slow or dead collector costs the caller nothing, and what is lost is counted to the span."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clawmw.observe.otel import OtelObserver
from clawmw.observe.otlp.settings import Settings
from clawmw.observe.sending.counts import Count
from clawmw.observe.sending.ways import Export
from clawmw.observe.store.losses import losses, told
from clawmw.observe.store.spanstore import SpanStore
from tests.observe.calls import Says
from tests.observe.collector import Collector, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector; 64 spans may wait for it, in batches of 16."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    found = Collector()
    yield found
    found.close()


def exporting(url: str, timeout: float = 10, **more: Any) -> OtelObserver:
    return OtelObserver(otlp=Export(Settings(url + "/v1/traces", timeout=timeout)), **more)


def paced(observer: OtelObserver, calls: int) -> list[float]:
    """How long the caller waited for each of so many calls."""
    took = []
    for _ in range(calls):
        told = Says().events()
        began = time.perf_counter()
        for event in told:
            observer(event)
        took.append(time.perf_counter() - began)
    return took


def otlp(observer: OtelObserver) -> Count:
    (found,) = [count for count in observer.counts() if count.destination == "otlp"]
    assert found.handed == found.delivered + found.unsampled + found.waiting + sum(
        found.lost.values()
    )
    return found


def test_every_span_arrives_and_is_counted(collector: Collector) -> None:
    observer = exporting(collector.url)
    paced(observer, 10)
    observer.close()
    count = otlp(observer)
    assert (count.handed, count.delivered, count.lost) == (12, 12, {})  # with two stand-ins
    assert len(collector.spans) == 12


@pytest.mark.parametrize("how", ["hangs", "answers 503", "is absent"])
def test_a_dead_collector_costs_the_caller_nothing(collector: Collector, how: str) -> None:
    """As long as with a good one, whatever the other end does; and the sum is exact."""
    good = exporting(collector.url)
    usual = statistics.median(paced(good, 100))
    good.close()
    came = len(collector.spans)
    collector.answer = lambda spans: None if how == "hangs" else 503
    url = "http://127.0.0.1:9" if how == "is absent" else collector.url
    observer = exporting(url)
    took = paced(observer, 100)
    assert statistics.median(took) < 3 * usual + 1e-3
    assert max(took) < 1.0
    began = time.monotonic()
    observer.close()
    assert time.monotonic() - began < 3.5  # two seconds, on a busy machine
    count = otlp(observer)
    assert (count.handed, count.delivered, count.waiting) == (102, 0, 0)
    assert set(count.lost) == {"queue", "exit"}
    assert 64 <= count.lost["exit"] <= 80  # what waited, and a batch under way
    assert len(collector.spans) == came


def test_a_collector_that_comes_back_gets_what_waited(collector: Collector) -> None:
    """Nothing is lost as long as the queue has room for it."""
    observer = exporting(collector.url)
    paced(observer, 5)
    collector.wait(7)
    collector.close()
    paced(observer, 20)
    observer.flush(0.5)
    assert otlp(observer).waiting == 20
    again = Collector(collector.port)
    try:
        assert observer.flush(5)
        assert len(again.spans) == 20
        count = otlp(observer)
        assert (count.handed, count.delivered, count.waiting, count.lost) == (27, 27, 0, {})
        observer.close()
    finally:
        again.close()


def test_it_is_tried_again_by_itself(collector: Collector) -> None:
    answers = iter([503, 429])
    collector.answer = lambda spans: next(answers, 200)
    collector.retry_after = "0"
    observer = exporting(collector.url)
    paced(observer, 3)
    collector.wait(5)
    assert len(collector.requests) == 3
    observer.close()
    assert otlp(observer).delivered == 5


def test_a_collector_that_stays_away_is_told_of_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = lambda spans: 503
    observer = exporting(collector.url)
    paced(observer, 3)
    until(lambda: len(collector.requests) == 3)
    observer.flush(0.3)
    collector.answer = lambda spans: 200
    assert observer.flush(5)
    observer.close()
    (said,) = [r.getMessage() for r in caplog.records if r.levelno > logging.INFO]
    waits = "(HTTP 503); they are kept for now, and tried again"
    assert said == f"clawmw: spans do not reach {collector.url}/v1/traces {waits}"
    assert otlp(observer).lost == {}


def test_many_threads_lose_no_count(collector: Collector, store_path: Path) -> None:
    observer = exporting(collector.url, store=SpanStore.open(store_path))
    threads = [threading.Thread(target=paced, args=(observer, 100)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observer.close()
    count = otlp(observer)
    assert count.handed == 802
    assert count.delivered == len(collector.spans)
    (stored,) = [c for c in observer.counts() if c.destination == "store"]
    assert (stored.delivered, stored.lost) == (800, {})


def test_a_slow_answer_is_given_up(collector: Collector) -> None:
    collector.answer = lambda spans: None
    observer = exporting(collector.url, timeout=0.2)
    paced(observer, 3)
    until(lambda: len(collector.requests) == 1)
    collector.answer = lambda spans: 200
    assert observer.flush(5)
    assert otlp(observer).delivered == 5
    observer.close()


def test_what_is_refused_is_lost_at_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = lambda spans: 401
    observer = exporting(collector.url)
    paced(observer, 3)
    assert observer.flush(5)
    assert otlp(observer).lost == {"refused": 5}
    collector.answer = lambda spans: 200
    collector.rejects = 1
    paced(observer, 3)
    observer.close()
    assert otlp(observer).lost == {"refused": 6}
    said = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    reason = "(refused 5; it said: HTTP 401)"
    assert said[0] == f"clawmw: 5 of 5 spans did not reach {collector.url}/v1/traces {reason}"
    assert len(said) == 2  # and once more at the end


def test_a_batch_too_large_is_halved(collector: Collector) -> None:
    collector.answer = lambda spans: 413 if spans > 4 else 200
    observer = exporting(collector.url)
    paced(observer, 14)
    observer.close()
    assert otlp(observer).delivered == len(collector.spans) == 16


def test_one_that_cannot_be_halved_is_lost(collector: Collector) -> None:
    collector.answer = lambda spans: 413
    observer = exporting(collector.url)
    paced(observer, 2)
    observer.close()
    assert otlp(observer).lost == {"refused": 4}


def test_the_store_is_written_all_the_same_and_knows_what_was_lost(
    collector: Collector, store_path: Path
) -> None:
    collector.answer = lambda spans: 503
    observer = exporting(collector.url, store=SpanStore.open(store_path))
    paced(observer, 100)
    observer.close()
    with closing(SpanStore.read(store_path)) as reader:
        assert reader.query("SELECT count(*) FROM spans")[0][0] == 100
        found = {loss.reason: loss.spans for loss in losses(reader)}
        assert found == otlp(observer).lost
        assert told(losses(reader)).startswith("spans were lost: ")
        assert losses(reader, since_ns=time.time_ns() + 10**9) == []


def test_a_store_that_is_locked_is_written_when_it_is_free(store_path: Path) -> None:
    observer = OtelObserver(store=SpanStore.open(store_path))
    with closing(SpanStore.open(store_path)) as other:
        other.query("BEGIN IMMEDIATE")
        paced(observer, 5)
        assert observer.flush(0.2) is False
        other.query("ROLLBACK")
        assert observer.flush(10)
        observer.close()
        assert other.query("SELECT count(*) FROM spans")[0][0] == 5
    (count,) = observer.counts()
    assert (count.handed, count.delivered, count.lost) == (5, 5, {})


def test_a_process_ends_though_its_collector_hangs(collector: Collector, store_path: Path) -> None:
    collector.answer = lambda spans: None
    code = """
        import sys, time
        from clawmw.observe.otel import OtelObserver
        from clawmw.observe.otlp.settings import Settings
        from clawmw.observe.store.spanstore import SpanStore
        from clawmw.observe.sending.ways import Export
        from tests.observe.calls import Says, tell
        store = SpanStore.open(sys.argv[2])
        observer = OtelObserver(store=store, otlp=Export(Settings(sys.argv[1])))
        tell(observer, *[Says() for _ in range(3)])
        print(time.time(), flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), collector.url, str(store_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert time.time() - float(done.stdout) < 4
    assert "5 of 5 spans did not reach" in done.stderr
    assert "Traceback" not in done.stderr
    with closing(SpanStore.read(store_path)) as reader:
        assert reader.query("SELECT count(*) FROM spans")[0][0] == 3
        assert [(x.destination, x.reason, x.spans) for x in losses(reader)] == [("otlp", "exit", 5)]


def test_what_is_handed_over_after_the_end_is_counted(collector: Collector) -> None:
    observer = exporting(collector.url)
    observer.close()
    paced(observer, 1)
    assert otlp(observer).lost == {"exit": 3}

"""The report of traces as a page: right, safe, self-contained, quick, and shown by a browser."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clawmw.cli.main import main
from clawmw.core.events import CacheMissed
from clawmw.core.identity import Identity
from clawmw.observe.otel import OtelObserver
from clawmw.observe.page.figures import overview
from clawmw.observe.page.render import chain_page, overview_page, report
from clawmw.observe.reading.chains import chains
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from tests.browser import Browser, needs_chromium
from tests.observe.calls import EPOCH, Says

NOW = int((EPOCH + 60) * 1e9)
EVIL = "<script>alert(1)</script>\"'"


class Page(HTMLParser):
    """What a page holds: its tags, and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action") and value:
                self.fetched.append(value)


@pytest.fixture
def store(tmp_path: Path) -> SpanStore:
    """Two chains: one with a cache break and a stop, one named by somebody evil."""
    path = tmp_path / "t.sqlite"
    observer = OtelObserver(store=SpanStore.open(path, keep=1e9))
    missed = CacheMissed("x", EPOCH, "m", 14_000, 200, "tools", 3, None, "exec", lost=5_000_000)
    stop = [("loop_guard", "halt", "loop_guard.refuse", False, {})]
    evil = Identity(agent=EVIL, session="s", chain=EVIL)
    calls = [
        Says(),
        Says(at=EPOCH + 3, trouble=[missed]),
        Says(at=EPOCH + 6, acted=stop, status="halted", usage=None, cost=None, attempts=()),
        Says(identity=evil, at=EPOCH + 9, model=f"m{EVIL}", tools=[(EVIL, "c1", EPOCH + 8)]),
    ]
    for call in calls:
        for event in call.events():
            observer(event)
    observer.close()
    return SpanStore.read(path)


def test_the_sums_are_those_of_the_chains(store: SpanStore) -> None:
    seen, listed = overview(store), chains(store)
    assert [c.trace_id for c in seen.chains] == [c.trace_id for c in listed]
    assert seen.cost_nano == sum(c.cost_nano or 0 for c in listed)
    assert seen.saved_nano == sum(c.saved_nano or 0 for c in listed)
    assert sum(g.cost_nano or 0 for g in seen.by_agent) == seen.cost_nano
    assert sum(g.cost_nano or 0 for g in seen.by_model) == seen.cost_nano
    assert sum(g.calls for g in seen.by_kind) == sum(c.calls for c in listed)
    assert dict(seen.mechanisms) == {"compress.json": 28_000, "dedupe": 4_000}
    assert [(b.part, b.read, b.predicted, b.lost_nano) for b in seen.breaks] == [
        ("tool 3 (exec)", 200, 14_000, 5_000_000)
    ]
    assert [(s.rule, s.calls) for s in seen.stops] == [("loop_guard.refuse", 1)]
    one = overview(store, trace_id=listed[0].trace_id)
    assert (len(one.chains), one.breaks, one.stops) == (1, (), ())


def test_a_page_needs_nothing_and_runs_nothing_of_what_it_shows(store: SpanStore) -> None:
    trace = chains(store)[0].trace_id
    alone = r"#|data:,$"
    served = r"#|/chain/|/$|/budgets$|/static/(style\.css|script\.js|icon\.svg)$"
    for page, links in (
        (report(store, NOW), alone),
        (report(store, NOW, trace_id=trace), alone),
        (overview_page(store, NOW), served),
        (chain_page(store, NOW, trace), served),
    ):
        read = Page(page)
        assert read.tags.count("script") == 1, "ours"
        assert all(re.match(links, link) for link in read.fetched), read.fetched
        assert EVIL not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "url(" not in page
        assert "@import" not in page


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    SpanStore.open(tmp_path / "t.sqlite").close()
    page = report(SpanStore.read(tmp_path / "t.sqlite"), NOW)
    assert "No traces yet" in page
    assert chain_page(SpanStore.read(tmp_path / "t.sqlite"), NOW, "0" * 32) == ""


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    store = SpanStore.open(tmp_path / "t.sqlite")
    store.write([SpanRow("a" * 32, "b" * 16, None, "chat", "chat m", NOW, NOW + 10**9, "ok")])
    seen = overview(store)
    assert (seen.cost_nano, seen.saved_nano, seen.native_nano) == (None, None, None)
    assert "$0" not in report(store, NOW)


def _thousand(path: Path) -> SpanStore:
    store = SpanStore.open(path)
    rows = [
        SpanRow(
            "a" * 32,
            f"{n + 1:016x}",
            None,
            "chat" if n % 3 else "execute_tool",
            f"chat model-{n % 4}" if n % 3 else f"execute_tool tool_{n % 7}",
            NOW + n * 10**7,
            NOW + (n + 3) * 10**7,
            "ok",
            chain_id="long",
            agent=f"agent-{n % 5}",
            model=f"model-{n % 4}",
            input_tokens=1000 + n,
            output_tokens=10,
            cost_nano=10**6,
            baseline_nano=2 * 10**6,
            raw_tokens=1000 + 2 * n,
            sent_tokens=1000 + n,
        )
        for n in range(1000)
    ]
    store.write(rows)
    return store


def test_a_thousand_spans_are_rendered_in_under_a_second(tmp_path: Path) -> None:
    store = _thousand(tmp_path / "t.sqlite")
    report(store, NOW)  # templates are read
    begin = time.perf_counter()
    page = report(store, NOW)
    assert time.perf_counter() - begin < 1.0
    assert page.count("<details") >= 1000


def test_the_command_writes_the_file_and_says_what_is_wrong(
    store: SpanStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, where = tmp_path / "out.html", ["--store", str(store.path)]
    assert main(["report", *where, "-o", str(out)]) == 0
    assert "trip-7" in out.read_text()
    assert main(["report", "trip-7", *where, "-o", "-"]) == 0
    assert "<!doctype html>" in capsys.readouterr().out
    for wrong in (["nothing"], ["--latest", "--since", "2h"], ["-o", str(tmp_path)]):
        try:
            code: object = main(["report", *wrong, *where])
        except SystemExit as end:
            code = end.code
        assert code
        said = capsys.readouterr().err
        assert said.strip()
        assert "Traceback" not in said


@pytest.mark.external
@needs_chromium
def test_a_browser_shows_a_thousand_spans_in_under_a_second(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report(_thousand(tmp_path / "t.sqlite"), NOW))
    with Browser(tmp_path / "profile") as browser:
        tab = browser.open(page.as_uri())
        assert tab.settled() < 1000
        assert tab.ask("document.querySelectorAll('details').length") >= 1000

"""The pages in a browser: they follow what happens, go by keyboard, are legible and quick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawmw.adapters.ui import Ui
from clawmw.adapters.ui_server import UiServed
from clawmw.observe.page.render import report
from clawmw.observe.page.watched import Watched
from clawmw.observe.store.spanstore import SpanStore
from tests.adapters.test_ui import EVIL, no_books, row
from tests.browser import Browser, Tab, needs_chromium
from tests.observe.test_page import _thousand

pytestmark = [pytest.mark.external, needs_chromium]

WATCHES = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (e) => refused.push(e.violatedDirective));
addEventListener("error", (e) => refused.push(e.message));
"""
FAINT = """
(() => {
  const seen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    seen.clearRect(0, 0, 1, 1); seen.fillStyle = text; seen.fillRect(0, 0, 1, 1);
    return seen.getImageData(0, 0, 1, 1).data;
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
    const v = c[i] / 255;
    return sum + part * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const colour = rgba(getComputedStyle(up).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(rgba(style.fill && node.closest("svg") ? style.fill : style.color)),
      light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) {
      faint.push(`${node.className || node.tagName}: ${ratio.toFixed(2)}`);
    }
  }
  return [...new Set(faint)];
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    kept = SpanStore.open(tmp_path / "t.sqlite", keep=1e9)
    now = time.time_ns()
    for number in range(1, 41):
        at = now - (100 - number) * 60 * 10**9
        for call in range(1, 4):
            kept.write(
                [
                    row(
                        number,
                        call,
                        start_ns=at + call * 10**9,
                        end_ns=at + (call + 1) * 10**9,
                        agent=f"agent-{number % 2}",
                        baseline_nano=3 * 10**6,
                        raw_tokens=3000 * call,
                        sent_tokens=1000 * call,
                        predicted_tokens=500,
                        status="failed" if number == 38 else "ok",
                    )
                ]
            )
    yield kept
    kept.close()


@pytest.fixture
def url(store: SpanStore) -> Iterator[str]:
    watched = Watched(store.path)
    with UiServed(Ui(watched, no_books)) as served:
        yield served.url.rstrip("/")
    watched.close()


def watched(browser: Browser, url: str, **more: object) -> Tab:
    """A page that notes what its policy refuses."""
    tab = browser.open("about:blank", **more)  # type: ignore[arg-type]
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCHES)
    tab.go(url)
    return tab


def test_new_chains_appear_and_a_reader_keeps_her_place(
    browser: Browser, store: SpanStore, url: str
) -> None:
    tab = watched(browser, f"{url}/", height=500)
    tab.ask("window.same = true")
    for _ in range(9):
        tab.press("j")
    before = tab.ask("[document.activeElement.textContent, scrollY > 0]")
    assert before == ["task-32", True]
    top = tab.ask("document.activeElement.getBoundingClientRect().top")
    store.write([row(99)])
    tab.until(f"document.getElementById('c-{99:032x}') !== null")
    assert tab.ask("[document.activeElement.textContent, same]") == ["task-32", True]
    moved = tab.ask("document.activeElement.getBoundingClientRect().top") - top
    assert abs(moved) < 2, "what is read stays where it was"
    assert tab.ask("document.querySelector('#chains tbody tr th').textContent.trim()") == "task-99"
    assert tab.ask("refused") == []


def test_a_chain_grows_while_it_is_looked_at(browser: Browser, store: SpanStore, url: str) -> None:
    tab = watched(browser, f"{url}/chain/{40:032x}")
    tab.ask("[...document.querySelectorAll('summary')][2].click()")
    tab.until("document.querySelectorAll('.rows details[open]').length === 1")
    opened = tab.ask("document.querySelector('details[open]').parentElement.id")
    columns = tab.ask("document.querySelectorAll('.plot a').length")
    store.write([row(40, 9, raw_tokens=90_000, sent_tokens=9_000)])
    tab.until("document.getElementById('s-0000000000000009') !== null")
    assert tab.ask("document.querySelector('details[open]').parentElement.id") == opened
    assert tab.ask("document.querySelectorAll('.plot a').length") == columns + 1
    assert tab.ask("document.querySelector('.pill.active') !== null")
    assert tab.ask("refused") == []


def test_it_goes_by_keyboard(browser: Browser, url: str) -> None:
    tab = watched(browser, f"{url}/")
    tab.press("/")
    assert tab.ask("document.activeElement.id") == "find"
    tab.type("agent-1")
    tab.until("location.search === '?q=agent-1'")
    tab.until("document.querySelector('.count').textContent === '20'")
    tab.type(" task-7")
    tab.until("document.querySelectorAll('#chains tbody tr').length === 1")
    assert tab.ask("document.activeElement.value") == "agent-1 task-7"
    tab.press("Escape")
    tab.press("?")
    tab.until("document.getElementById('help').open")
    tab.press("Escape")
    tab.until("!document.getElementById('help').open")
    tab.press("j")
    tab.press("Enter")
    tab.until("location.pathname.startsWith('/chain/')")
    tab.until("document.readyState === 'complete'")
    for _ in range(3):
        tab.press("j")
    assert tab.ask("document.activeElement.tagName") == "SUMMARY"
    tab.press("Enter")
    tab.until("document.activeElement.parentElement.open")
    tab.press("u")
    tab.until("location.pathname === '/' && document.readyState === 'complete'")
    tab.go(f"{url}/")
    stops = set()
    for _ in range(12):
        tab.press("Tab")
        stops.add(tab.ask("document.activeElement.id || document.activeElement.textContent"))
    assert {"Skip to the content", "theme", "ask", "find"} <= stops


def test_light_and_dark_are_both_legible_and_the_choice_stays(browser: Browser, url: str) -> None:
    places = ("/", f"/chain/{38:032x}", f"/chain/{38:032x}/call/{1:016x}", "/budgets")
    for dark in (False, True):
        for place in places:
            tab = watched(browser, url + place, dark=dark)
            assert tab.ask(FAINT) == [], (place, dark)
            assert tab.ask("refused") == []
            assert tab.ask("document.querySelectorAll('main, header, h1').length") == 3
            unnamed = "button:not([aria-label]):empty, input:not([aria-label]):not(label input)"
            assert tab.ask(f"document.querySelectorAll('{unnamed}').length") == 0
            assert tab.ask("document.querySelectorAll('th:not([scope])').length") == 0
    tab.press("t")
    light = tab.ask("getComputedStyle(document.body).backgroundColor")
    tab.go(f"{url}/")
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == light
    tab.press("t")


@pytest.mark.parametrize("width", [360, 820, 1400])
def test_nothing_lies_beyond_the_edge(browser: Browser, url: str, width: int) -> None:
    for place in ("/", f"/chain/{38:032x}", f"/chain/{38:032x}/call/{1:016x}", "/budgets"):
        tab = watched(browser, url + place, width=width)
        assert tab.ask("document.documentElement.scrollWidth") <= width, place


def test_nothing_hostile_runs(browser: Browser, store: SpanStore, url: str) -> None:
    store.write([row(77, chain_id=EVIL, agent=EVIL, model=EVIL, name=f"chat {EVIL}")])
    for place in ("/", f"/chain/{77:032x}", f"/chain/{77:032x}/call/{1:016x}"):
        tab = watched(browser, url + place, width=700)
        assert tab.ask("document.scripts.length") == 1
        assert tab.ask("refused") == []
        assert tab.ask("document.documentElement.scrollWidth") <= 700, place


def test_a_report_holds_to_its_own_policy(
    browser: Browser, store: SpanStore, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(store, time.time_ns()))
    tab = watched(browser, file.as_uri())
    assert tab.ask("refused") == []
    assert tab.ask("document.querySelector('svg.track .run').getBoundingClientRect().width") > 1
    tab.press("/")
    tab.type("task-38")
    tab.until(
        "[...document.querySelectorAll('#chains tbody tr')].filter(r => !r.hidden).length === 1"
    )
    tab.press("Escape")
    tab.press("t")
    assert tab.ask("document.documentElement.dataset.theme") in ("light", "dark")
    assert tab.ask(FAINT) == []


def test_a_thousand_spans_are_there_in_under_a_second(browser: Browser, tmp_path: Path) -> None:
    """CPU of server and page together, since others use this machine, too."""
    path = tmp_path / "long.sqlite"
    _thousand(path).close()
    seen = Watched(path)

    def worked(tab: Tab) -> float:
        metrics = {m["name"]: m["value"] for m in tab.call("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"])

    with UiServed(Ui(seen, no_books)) as served:
        tab = watched(browser, f"{served.url}chain/{'a' * 32}")  # templates are read
        assert tab.ask("document.querySelectorAll('.span').length") > 1000
        top = "document.querySelector('.row.head').getBoundingClientRect().top"
        tab.ask(f"scrollBy(0, {top} + 400)")
        assert tab.ask(top) == 0, "the axis stays in sight"
        unfolded = "[...document.querySelectorAll('.run li')].filter(li => li.checkVisibility())"
        assert tab.ask(f"{unfolded}.length") == 0
        tab.ask("document.querySelector('.run summary').focus()")
        tab.press("j")
        assert tab.ask("document.activeElement.closest('.run')") is None, "past what is folded"
        tab.press("e")
        assert tab.ask(f"{unfolded}.length") > 500
        tab.go("about:blank#")
        tab.call("Performance.enable", timeDomain="threadTicks")
        own, shown = time.process_time(), worked(tab)
        tab.go(f"{served.url}chain/{'a' * 32}?again")
        tab.settled()
        took = time.process_time() - own + worked(tab) - shown
    seen.close()
    assert took < 1, took

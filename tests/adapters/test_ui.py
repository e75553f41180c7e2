"""The pages of `clawmw ui` over real sockets: what they show, and whom they refuse."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from clawmw.adapters.ui import Ui
from clawmw.adapters.ui_budgets import Books, read_books
from clawmw.adapters.ui_server import UiServed, UiServer
from clawmw.errors import ClawmwError
from clawmw.observe.otel import OtelObserver
from clawmw.observe.page.watched import Watched
from clawmw.observe.store.spanstore import _ADDED, COLUMNS, SpanRow, SpanStore
from tests.observe.calls import Says
from tests.observe.test_page import Page

EVIL = "<script>alert(1)</script>\u202e\x1b[31m" + "🦀" * 20 + "x" * 10_000


def no_books() -> Books:
    return read_books(None)


def row(trace: int, span: int = 1, **more: object) -> SpanRow:
    now = time.time_ns()
    known: dict[str, object] = {
        "trace_id": f"{trace:032x}",
        "span_id": f"{span:016x}",
        "parent_id": None,
        "op": "chat",
        "name": "chat m",
        "start_ns": now - 10**9,
        "end_ns": now,
        "status": "ok",
        "chain_id": f"task-{trace}",
        "agent": "main",
        "model": "m",
        "cost_nano": 10**6,
        "input_tokens": 100,
        "output_tokens": 5,
    }
    return SpanRow(**(known | more))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SpanStore]:
    kept = SpanStore.open(path, keep=1e9)
    yield kept
    kept.close()


@pytest.fixture
def serving(path: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Makes a client of a server of its own."""
    watched = Watched(path)
    stack: list[object] = []

    def start(books: Callable[[], Books] = no_books, token: str | None = None) -> httpx.Client:
        served = UiServed(Ui(watched, books), token=token)
        served.__enter__()
        client = httpx.Client(base_url=served.url, trust_env=False)
        stack.extend([served, client])
        return client

    yield start
    for one in stack:
        one.__exit__(None, None, None)  # type: ignore[attr-defined]
    watched.close()


Serving = Callable[..., httpx.Client]


def test_every_page_is_served_and_needs_nothing_from_elsewhere(
    store: SpanStore, serving: Serving
) -> None:
    observer = OtelObserver(store=store)
    for call in (Says(), Says(at=1_790_000_004)):
        for event in call.events():
            observer(event)
    observer.flush()
    client = serving()
    listed = client.get("/", params={"format": "json"}).json()
    assert listed["total"] == 1
    trace = listed["chains"][0]["trace_id"]
    whole = client.get(f"/chain/{trace}", params={"format": "json"}).json()
    call = next(s for s in whole["spans"] if s["op"] == "chat")
    pages = ["/", f"/chain/{trace}", f"/chain/{trace}/call/{call['span_id']}", "/budgets"]
    for place in pages:
        answer = client.get(place)
        assert answer.status_code == 200, place
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = Page(answer.text)
        assert all(re.match(r"/(?!/)|#", link) for link in page.fetched), page.fetched
        assert " style=" not in answer.text, "the policy would not apply it"
        assert not re.search(r"<script>|<style>| on\w+=", answer.text)
        for link in page.fetched:
            if link.startswith("/"):
                assert client.get(link).status_code == 200, link
    assert client.get(f"{pages[2]}?format=json").json()["span_id"] == call["span_id"]
    assert client.head("/").content == b""


def test_a_page_is_to_be_had_as_a_file(store: SpanStore, serving: Serving) -> None:
    store.write([row(1), row(2, agent="other")])
    client = serving()
    for place in ("/report.html?agent=other", f"/chain/{2:032x}/report.html"):
        answer = client.get(place)
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert "task-2" in answer.text
        assert "task-1" not in answer.text
        assert "<style>" in answer.text
        assert "/static/" not in answer.text


def test_new_calls_move_the_version_and_nothing_else_does(
    store: SpanStore, serving: Serving
) -> None:
    client = serving()

    def version() -> str:
        return str(client.get("/api/version").json()["version"])

    first = version()
    assert version() == first
    store.write([row(1)])
    second = version()
    assert second != first
    client.get("/")
    assert version() == second
    assert f'data-version="{second}"' in client.get("/").text


def test_a_store_may_come_go_and_come_again(path: Path, serving: Serving) -> None:
    client = serving()
    assert "No traces yet" in client.get("/").text
    assert "clawmw demo" in client.get("/").text
    assert client.get("/?format=json").json() == {"total": 0, "page": 1, "chains": []}
    one = SpanStore.open(path)
    one.write([row(1)])
    assert "task-1" in client.get("/").text
    before = client.get("/api/version").json()
    one.close()
    for file in path.parent.glob("t.sqlite*"):
        file.unlink()
    assert "No traces yet" in client.get("/").text
    assert client.get(f"/chain/{1:032x}").status_code == 404
    other = SpanStore.open(path)
    other.write([row(2)])
    page = client.get("/").text
    assert "task-2" in page
    assert "task-1" not in page
    assert client.get("/api/version").json() != before
    other.close()


def test_what_is_no_store_is_said(path: Path, serving: Serving) -> None:
    client = serving()
    path.write_text("this is no database, it is a letter to somebody")
    answer = client.get("/")
    assert answer.status_code == 503
    assert "cannot be read" in answer.text
    assert "Traceback" not in answer.text
    assert "error" in client.get("/?format=json").json()
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE spans (a)")
        other.execute("PRAGMA user_version = 999")
    other.close()
    assert "not a trace store of this version" in client.get("/").text


def test_a_store_of_an_older_version_is_read(path: Path, serving: Serving) -> None:
    added = {column.split()[0] for column in _ADDED[2]}
    columns = ", ".join(column for column in COLUMNS if column not in added)
    with sqlite3.connect(path) as old:
        old.execute(f"CREATE TABLE spans ({columns}, PRIMARY KEY (trace_id, span_id))")
        old.execute("CREATE TABLE details (trace_id, span_id, attributes, events)")
        old.execute("PRAGMA user_version = 2")
        old.execute(
            "INSERT INTO spans (trace_id, span_id, op, name, start_ns, end_ns, status, chain_id) "
            f"VALUES ('{1:032x}', 'b', 'chat', 'chat m', 1, {time.time_ns()}, 'ok', 'old-one')"
        )
    old.close()
    assert "old-one" in serving().get("/").text


def test_hostile_names_stay_text(store: SpanStore, serving: Serving) -> None:
    store.write(
        [
            row(
                1,
                chain_id=EVIL,
                agent=EVIL,
                model=EVIL,
                name=f"chat {EVIL}",
                kind=EVIL,
                session_id=EVIL,
                error_type=EVIL,
                status="failed",
                moved="tools",
                stopped=1,
                stopped_by=EVIL,
                source=EVIL,
                events=({"name": "clawmw.acted", "rule": EVIL, "action": EVIL},),
            ),
            row(2, span_id="../../x?y#z", op=EVIL, name=EVIL),
        ]
    )
    client = serving()
    for place in ("/", f"/chain/{1:032x}", f"/chain/{2:032x}", "/budgets", "/report.html"):
        answer = client.get(place)
        assert answer.status_code == 200, place
        assert "<script>alert" not in answer.text
        assert "\x1b" not in answer.text
        assert "\u202e" not in answer.text
        assert "x" * 500 not in answer.text, "cut to what a page can bear"
    assert "&lt;script&gt;alert(1)" in client.get("/").text
    evil = client.get("/", params={"q": EVIL, "agent": EVIL, "since": EVIL, "sort": EVIL})
    assert evil.status_code == 200
    assert "<script>alert" not in evil.text


def test_what_is_odd_is_shown_all_the_same(store: SpanStore, serving: Serving) -> None:
    """Clocks that differ, spans that end before they begin, in a ring, or 3,000 levels deep."""
    now = time.time_ns()
    store.write(
        [
            row(1, 1, start_ns=now + 10**15, end_ns=now - 10**15),
            row(1, 2, start_ns=0, end_ns=0),
            row(1, 3, start_ns=-(2**62), end_ns=2**62),
            row(2, 1, parent_id=f"{2:016x}"),
            row(2, 2, parent_id=f"{1:016x}"),
            *[row(3, n, parent_id=f"{n - 1:016x}") for n in range(1, 3000)],
        ]
    )
    client = serving()
    for place in ("/", f"/chain/{1:032x}", f"/chain/{2:032x}", f"/chain/{3:032x}"):
        assert client.get(place).status_code == 200, place


def test_lists_are_paged_and_filtered(store: SpanStore, serving: Serving) -> None:
    now = time.time_ns()
    store.write([row(n, start_ns=now - n * 10**9, end_ns=now - n * 10**9) for n in range(1, 61)])
    client = serving()
    first = client.get("/").text
    assert first.count('<tr id="c-') == 25
    assert "page 1 of 3" in first
    after = re.search(r'rel="next" href="([^"]+)"', first)
    assert after is not None
    assert "task-26<" in client.get(after[1].replace("&amp;", "&")).text
    assert client.get("/?page=99").text.count('<tr id="c-') == 10
    one = client.get("/?q=task-57")
    assert one.text.count('<tr id="c-') == 1
    assert "No chain matches" in client.get("/?q=nothing-like-it").text
    assert client.get("/?page=x").status_code == 400
    assert len(client.get("/?format=json&limit=40&page=2").json()["chains"]) == 20


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:80"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_other_sites_and_rebound_names_are_refused(
    serving: Serving, headers: dict[str, str], status: int
) -> None:
    client = serving()
    for place in ("/", "/api/version", "/?format=json"):
        answer = client.get(place, headers=headers)
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
        assert (status == 200) == ("clawmw ui:" not in answer.text)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_pages_are_only_read(serving: Serving, method: str) -> None:
    assert serving().request(method, "/").status_code == 405


@pytest.mark.parametrize(
    "place",
    [
        "/static/../ui.py",
        "/static/%2e%2e%2fui.py",
        "/static/x",
        "/chain",
        "/chain/a/b",
        "/api",
    ],
)
def test_there_are_no_other_pages(serving: Serving, place: str) -> None:
    answer = serving().get(place)
    assert answer.status_code == 404
    assert "All chains" in answer.text or "error" in answer.text


def test_other_machines_need_a_token(path: Path, serving: Serving) -> None:
    import socket

    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        with pytest.raises(ClawmwError, match="needs a token"):
            UiServer(Ui(Watched(path), no_books), sock)
    client = serving(token="a-token-of-some-length")
    assert client.get("/").status_code == 401
    assert client.get("/?token=another").status_code == 401
    bearer = {"authorization": "Bearer a-token-of-some-length"}
    assert client.get("/api/version", headers=bearer).status_code == 200
    first = client.get("/?token=a-token-of-some-length&q=x")
    assert (first.status_code, first.headers["location"]) == (303, "/?q=x")
    assert "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
    assert client.get("/").status_code == 200, "the cookie is enough"
    assert "a-token" not in client.get("/").text
    away = client.get("//evil.example/?token=a-token-of-some-length", follow_redirects=False)
    assert not away.headers.get("location", "/").startswith("//")


@pytest.mark.parametrize(
    "token", ["bm90LWEtc2VjcmV0+/8=+/8=", "a;b;c;d;e;f;g;h;i", 'quotes " and, commas']
)
def test_any_token_opens_the_pages(serving: Serving, token: str) -> None:
    """Also where another program of this host has set a cookie that is none."""
    client = serving(token=token)
    first = client.get("/", params={"token": token}, follow_redirects=False)
    assert first.status_code == 303
    kept = first.headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    assert client.get("/").status_code == 401
    assert client.get("/", headers={"cookie": f'theirs={{"a": 1}}; {kept}'}).status_code == 200


def test_what_a_path_holds_is_no_header(serving: Serving) -> None:
    client = serving(token="a-token-of-some-length")
    away = client.get("/x%0d%0aa:b?token=a-token-of-some-length", follow_redirects=False)
    assert (away.status_code, away.headers["location"]) == (303, "/x%0D%0Aa%3Ab")


def test_a_long_query_is_no_trouble(serving: Serving) -> None:
    assert serving().get("/", params={f"a{n}": "1" for n in range(900)}).status_code == 200


def test_writers_and_readers_do_not_wait_for_each_other(
    store: SpanStore, path: Path, serving: Serving
) -> None:
    client, done = serving(), threading.Event()

    def write(number: int) -> None:
        with_own = SpanStore.open(path)
        for span in range(1, 100_000):
            with_own.write([row(number, span)])
            if done.wait(0.005):
                break
        with_own.close()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(1, 4)]
    for writer in writers:
        writer.start()
    seen = set()
    try:
        end = time.monotonic() + 20
        while len(seen) <= 3 and time.monotonic() < end:
            assert client.get("/").status_code == 200
            seen.add(client.get("/api/version").json()["version"])
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert len(seen) > 3
    assert client.get("/?format=json").json()["total"] == 3


def test_budgets_are_shown_with_the_way_on(
    tmp_path: Path, store: SpanStore, serving: Serving
) -> None:
    from clawmw.core.effects import Charge
    from clawmw.policy import build
    from clawmw.policy.load import load_policy

    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"version: 1\nstore: {{disk: {tmp_path / 'kept'}}}\n"
        "budget: {chain: {calls: 10, usd: 1.00}, agent: {day: {usd: 5}}}\n"
    )
    assert "no agent ran under this policy yet" in read_books(policy).problem
    stores, now = build.stores(load_policy(policy)), time.time()
    key = "chain:default\x1fc-<1>"
    charges = (Charge(key, "calls", 10, 10, None), Charge(key, "usd", 850_000_000, 10**9, None))
    stores.ledger.reserve("r1", charges, now + 60, now)
    stores.ledger.settle("r1", charges, now)
    waiting = (Charge(key, "usd", 50_000_000, 10**9, None),)
    stores.ledger.reserve("r2", waiting, now + 60, now)
    stores.close()
    client = serving(lambda: read_books(policy))
    page = client.get("/budgets").text
    assert "chain:c-&lt;1&gt;" in page
    assert "clawmw budget raise" in page
    assert "calls 10 --policy" in page
    cells = re.findall(r'<td class="n">([^<]*)</td>', page)
    assert cells == ["10", "0", "10", "0", "$0.85", "$0.05", "$1", "$0.1"]
    rows = client.get("/budgets?format=json").json()["rows"]
    assert {r["meter"]: (r["used"], r["reserved"], r["limit"]) for r in rows} == {
        "calls": (10, 0, 10),
        "usd": (0.9, 0.05, 1.0),
    }


def test_without_a_policy_the_page_says_how(serving: Serving) -> None:
    assert "clawmw ui --policy" in serving().get("/budgets").text


def test_a_store_that_may_not_be_read_is_said(path: Path, serving: Serving) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read anything")
    SpanStore.open(path).close()
    path.chmod(0)
    assert serving().get("/").status_code == 503

"""What `clawmw ui` serves: traces and budgets as pages and as JSON. Pure ASGI, reading only."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from clawmw.adapters.gateway_guard import Receive, Scope, Send, answer
from clawmw.adapters.ui_budgets import Books
from clawmw.core.money import Profile
from clawmw.errors import ClawmwError
from clawmw.observe.page import render
from clawmw.observe.page.environment import text_of
from clawmw.observe.page.figures import overview
from clawmw.observe.page.watched import Watched
from clawmw.observe.reading.chains import SORTS, Sort, spans
from clawmw.observe.reading.listing import STATUSES, Filter, matching, these
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Ui"]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("cache-control", "no-store"),
    ("content-security-policy", _CSP),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)
"""Of every answer. No script and no style but ours runs, and nobody may frame or keep a page."""
_STATIC = {
    "style.css": "text/css; charset=utf-8",
    "call.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_QUERY = 4096
_MOST_LISTED = 1000
"""Chains of one page of JSON."""


@dataclass(frozen=True, slots=True)
class _Reply:
    body: str
    kind: str = "text/html; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request: the parts of its path, and its query."""

    parts: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> bool:
        """Whether a program asks."""
        return self.query.get("format") == "json"


class Ui:
    """The application. `books` reads the limits in use whenever they are looked at; `prices` are
    those that a call is explained by."""

    def __init__(
        self,
        watched: Watched,
        books: Callable[[], Books],
        prices: Callable[[str], Profile] | None = None,
    ) -> None:
        self._watched = watched
        self._books = books
        self._prices = prices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            reply = _Reply("pages are only read here\n", "text/plain", 405, (("allow", "GET"),))
        else:
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            query = scope.get("query_string", b"").decode("latin-1")
            asked = _Asked(_parts(raw), dict(parse_qsl(query[:_LONGEST_QUERY])))
            reply = await asyncio.to_thread(self._reply, asked)  # SQLite is not to hold the loop
        encoded = [
            (k.encode(), v.encode("latin-1", "replace"))
            for k, v in (("content-type", reply.kind), *HEADERS, *reply.headers)
        ]
        body = reply.body.encode("utf-8", "replace")
        if scope["method"] == "HEAD":
            encoded.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
            await send({"type": "http.response.body", "body": b""})
            return
        await answer(send, reply.status, encoded, body)

    def _reply(self, asked: _Asked) -> _Reply:
        """What to answer. Whatever is wrong with the store is said, not raised."""
        try:
            found = self._found(asked)
        except ClawmwError as error:
            found = self._problem(asked, "These traces cannot be read", str(error), 503)
        except ValueError:  # a query that is none, a number that is no page
            found = self._problem(asked, "Not understood", "The address is not right.", 400)
        return found or self._problem(
            asked, "Not here", "There is no such page or chain; it may have been dropped.", 404
        )

    def _found(self, asked: _Asked) -> _Reply | None:
        match asked.parts:
            case ():
                return self._chains(asked)
            case ("static", name) if name in _STATIC:
                return _Reply(text_of(name), _STATIC[name])
            case ("api", "version"):
                return _json({"version": self._watched.version()})
            case ("report.html",):
                return self._report(asked, None)
            case ("chain", trace):
                return self._chain(asked, trace)
            case ("chain", trace, "report.html"):
                return self._report(asked, trace)
            case ("chain", trace, "call", span):
                return self._call(asked, trace, span)
            case ("budgets",):
                return self._budgets(asked)
            case _:
                return None

    def _chains(self, asked: _Asked) -> _Reply:
        wanted, page = _filter(asked.query), max(int(asked.query.get("page") or 1), 1)
        version = self._watched.version()
        store = self._watched.store()
        if asked.json:
            return _json(_listed(store, wanted, asked.query))
        query = {k: v for k, v in asked.query.items() if v and k != "page"}
        live = self._live(version, "chains", _link("/report.html", query))
        if store is None:
            return _Reply(render.empty_page(time.time_ns(), live))
        place = render.Place(
            asked.query.get("since", ""),
            page,
            lambda number: _link("/", query | ({"page": str(number)} if number > 1 else {})),
        )
        return _Reply(render.overview_page(store, time.time_ns(), wanted, place=place, live=live))

    def _chain(self, asked: _Asked, trace: str) -> _Reply | None:
        version, store = self._watched.version(), self._watched.store()
        if store is None:
            return None
        if asked.json:
            rows = spans(store, trace)
            chain = these(store, [trace])
            if not chain:
                return None
            return _json({"chain": asdict(chain[0]), "spans": [asdict(row) for row in rows]})
        live = self._live(version, "chain", f"/chain/{trace}/report.html")
        page = render.chain_page(store, time.time_ns(), trace, live)
        return _Reply(page) if page else None

    def _call(self, asked: _Asked, trace: str, span: str) -> _Reply | None:
        version, store = self._watched.version(), self._watched.store()
        if store is None:
            return None
        if asked.json:
            row = next((row for row in spans(store, trace) if row.span_id == span), None)
            return _json(asdict(row)) if row is not None else None
        live = self._live(version, "chain", f"/chain/{trace}/report.html")
        page = render.call_page(store, time.time_ns(), trace, span, self._prices, live)
        return _Reply(page) if page else None

    def _report(self, asked: _Asked, trace: str | None) -> _Reply | None:
        """The page as a file to keep."""
        store = self._watched.store()
        if store is None or (trace is not None and not these(store, [trace])):
            return None
        page = render.report(store, time.time_ns(), _filter(asked.query), trace_id=trace)
        name = re.sub(r"[^\w-]", "", trace or "")[:16]
        file = f"clawmw-{name}.html" if name else "clawmw-report.html"
        headers = (("content-disposition", f'attachment; filename="{file}"'),)
        return _Reply(page, headers=headers)

    def _budgets(self, asked: _Asked) -> _Reply:
        books = self._books()
        if asked.json:
            kept = {"policy": books.policy or None, "problem": books.problem or None}
            return _json(kept | {"today": books.today, "rows": list(books.plain)})
        store = self._watched.store()
        seen = overview(store) if store is not None else None
        live = self._live(self._watched.version(), "budgets", "")
        return _Reply(render.budgets_page(time.time_ns(), books, seen, live))

    def _problem(self, asked: _Asked, title: str, said: str, status: int) -> _Reply:
        if asked.json or asked.parts[:1] == ("api",):
            return _json({"error": said}, status)
        page = render.problem_page(time.time_ns(), title, said, self._live("", "", ""))
        return _Reply(page, status=status)

    def _live(self, version: str, here: str, export: str) -> render.Live:
        return render.Live(version, here, export, str(self._watched.path))


def _parts(raw: bytes) -> tuple[str, ...]:
    """A path in its parts; an encoded slash is none."""
    path = raw.partition(b"?")[0].decode("latin-1")
    return tuple([unquote(part) for part in path.split("/") if part])


def _filter(query: Mapping[str, str]) -> Filter:
    """What the query asks for; what it does not know is ignored."""
    ago = _AGO.fullmatch(query.get("since", ""))
    since = time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * 10**9 if ago else None
    sort: Sort = next((name for name in SORTS if name == query.get("sort")), "newest")
    status = query.get("status")
    return Filter(
        query.get("q", "").strip()[:200],
        query.get("agent") or None,
        query.get("model") or None,
        status if status in STATUSES else None,
        None if since is None else max(since, 0),
        sort,
    )


def _listed(store: SpanStore | None, wanted: Filter, query: Mapping[str, str]) -> Any:
    """A page of chains for programs, with how many there are."""
    size = min(max(int(query.get("limit") or render.PAGE), 1), _MOST_LISTED)
    page = max(int(query.get("page") or 1), 1)
    ids = matching(store, wanted) if store is not None else []
    some = these(store, ids[(page - 1) * size : page * size]) if store is not None else ()
    return {"total": len(ids), "page": page, "chains": [asdict(chain) for chain in some]}


def _link(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _json(value: Any, status: int = 200) -> _Reply:
    text = json.dumps(value, indent=2, ensure_ascii=True)
    return _Reply(text + "\n", "application/json", status)

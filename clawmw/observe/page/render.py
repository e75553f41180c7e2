"""Traces as HTML: one file without anything outside it, or the pages of `clawmw ui`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clawmw.core.money import Profile
from clawmw.observe.page.call import look
from clawmw.observe.page.environment import environment, text_of
from clawmw.observe.page.figures import Overview, overview, summary
from clawmw.observe.page.growth import growth
from clawmw.observe.page.holdout import holdout
from clawmw.observe.page.waterfall import bars, rows, ticks
from clawmw.observe.reading.chains import SORTS, Chain, spans
from clawmw.observe.reading.listing import STATUSES, Filter, choices, going_on, matching
from clawmw.observe.store.spanstore import SpanStore

__all__ = [
    "PAGE",
    "Live",
    "Place",
    "budgets_page",
    "call_page",
    "chain_page",
    "empty_page",
    "overview_page",
    "problem_page",
    "report",
]

PAGE = 25
"""Chains of one page of the list."""
_DRAWN, _SPANS = 20, 4000
"""Chains whose waterfall is in a report of many, and spans of all of them."""
_SINCE = (
    ("", "Any time"),
    ("15m", "Last 15 minutes"),
    ("1h", "Last hour"),
    ("1d", "Last day"),
    ("7d", "Last 7 days"),
)
_SORTED = {
    "newest": "Newest first",
    "cost": "Most cost",
    "saved": "Most saved",
    "wall": "Longest",
    "calls": "Most calls",
    "tokens": "Most tokens",
    "stops": "Most stops",
}
_STATUS = {"": "Any status", "ok": "ok", "unwell": "any but ok"}


@dataclass(frozen=True, slots=True)
class Live:
    """What a served page knows besides its contents."""

    version: str = "0"
    """Of the store; when it moves, the page fetches itself anew."""
    here: str = "chains"
    export: str = ""
    """Where the page is to be had as one file."""
    store: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the list of chains a reader is."""

    since: str = ""
    """The time of the filter as the reader chose it: 15m, 1h."""
    page: int = 1
    link: Callable[[int], str] = "/?page={}".format
    """The address of another page of the list."""


@dataclass(frozen=True, slots=True)
class _Pages:
    """Where a page of the list stands among the others."""

    now: int
    last: int
    before: str
    """Its address; empty on the first page."""
    after: str


def report(
    store: SpanStore,
    now_ns: int,
    wanted: Filter = Filter(),  # noqa: B008 frozen
    *,
    trace_id: str | None = None,
) -> str:
    """A report of the chains that match, or of one chain, as one HTML file."""
    seen = overview(store, wanted, trace_id=trace_id)
    return _overview(store, now_ns, seen, wanted, only=trace_id is not None)


def overview_page(
    store: SpanStore,
    now_ns: int,
    wanted: Filter = Filter(),  # noqa: B008 frozen
    *,
    place: Place = Place(),
    live: Live = Live(),
) -> str:
    """The list of chains, its rows leading to their own pages."""
    ids = matching(store, wanted)
    last = max(-(-len(ids) // PAGE), 1)
    now = min(max(place.page, 1), last)
    seen = summary(store, ids, slice((now - 1) * PAGE, now * PAGE))
    before = place.link(now - 1) if now > 1 else ""
    after = place.link(now + 1) if now < last else ""
    more: dict[str, Any] = {
        "pages": _Pages(now, last, before, after),
        "selects": _selects(store, wanted, place.since),
    }
    return _overview(store, now_ns, seen, wanted, live=live, **more)


def chain_page(
    store: SpanStore,
    now_ns: int,
    trace_id: str,
    live: Live = Live(),
) -> str:
    """One chain, for a server; empty when there is no such chain."""
    seen = overview(store, trace_id=trace_id)
    return _overview(store, now_ns, seen, Filter(), only=True, live=live) if seen.chains else ""


def call_page(
    store: SpanStore,
    now_ns: int,
    trace_id: str,
    span_id: str,
    prices: Callable[[str], Profile] | None = None,
    live: Live = Live(),
) -> str:
    """One call, for a server; empty when there is no such call."""
    seen = look(store, now_ns, trace_id, span_id, prices)
    return _page("call.html", now_ns, seen.span.name, live, look=seen) if seen is not None else ""


def budgets_page(now_ns: int, books: Any, seen: Overview | None, live: Live) -> str:
    """The limits in use. `books`: see `clawmw.adapters.ui_budgets`."""
    stops = seen.stops if seen is not None else ()
    shown = {"breaks": (), "stops": stops}
    return _page("budgets.html", now_ns, "Budgets", live, books=books, seen=shown, shown=())


def empty_page(now_ns: int, live: Live) -> str:
    """What is shown where there is no store yet."""
    return _page("report.html", now_ns, "No traces yet", live, seen={"chains": ()}, filtered=False)


def problem_page(now_ns: int, title: str, said: str, live: Live) -> str:
    """What went wrong, in one line."""
    return _page("problem.html", now_ns, title, live, said=said)


def _overview(
    store: SpanStore,
    now_ns: int,
    seen: Overview,
    wanted: Filter,
    *,
    only: bool = False,
    live: Live | None = None,
    **more: Any,
) -> str:
    first = seen.chains[0] if seen.chains else None
    drawn = _drawings(store, seen.chains) if only or live is None else []
    context: dict[str, Any] = {
        "seen": seen,
        "wanted": wanted,
        "only": only,
        "filtered": wanted.any and not only,
        "drawn": drawn,
        "shown": {one["chain"].trace_id for one in drawn},
        "pages": None,
        "selects": (),
        "held": None if only else holdout(store, wanted.since_ns),
    }
    title = first.chain_id if only and first is not None else "Chains"
    context |= more
    context["active"] = going_on(store, seen.chains, now_ns) if live is not None else ()
    return _page("report.html", now_ns, title, live, **context)


def _drawings(store: SpanStore, chains: Sequence[Chain]) -> list[Mapping[str, Any]]:
    """The waterfalls of the first chains, as far as a page can bear."""
    found: list[Mapping[str, Any]] = []
    room = _SPANS
    for chain in chains[:_DRAWN]:
        every = spans(store, chain.trace_id)
        lines = bars(chain, every)
        fits = not found or len(lines) <= room
        room -= len(lines) if fits else 0
        found.append(
            {
                "chain": chain,
                "rows": rows(lines) if fits else (),
                "undrawn": 0 if fits else len(lines),
                "ticks": ticks(chain),
                "growth": growth(every),
            }
        )
    return found


def _selects(store: SpanStore, wanted: Filter, since: str) -> list[tuple[Any, ...]]:
    """The drop-down lists above the chains: name, label, options, and what is chosen."""
    agents, models = choices(store)
    orders = [("" if s == "newest" else s, _SORTED[s]) for s in SORTS]
    sort = "" if wanted.sort == "newest" else wanted.sort
    statuses = [(s, _STATUS.get(s, s)) for s in ("", *STATUSES)]
    return [
        ("agent", "Agent", [("", "Any agent"), *((a, a) for a in agents)], wanted.agent or ""),
        ("model", "Model", [("", "Any model"), *((m, m) for m in models)], wanted.model or ""),
        ("status", "Status", statuses, wanted.status or ""),
        ("since", "Active since", _SINCE, since),
        ("sort", "Order", orders, sort),
    ]


def _page(template: str, now_ns: int, title: str, live: Live | None, **more: Any) -> str:
    inline = (
        {} if live is not None else {"style": text_of("style.css"), "script": text_of("script.js")}
    )
    made = environment().get_template(template)
    return made.render(now=now_ns, title=title, live=live, **inline, **more)

"""Traces as HTML: one file without anything outside it, light and dark, readable by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from clawmw.core.money import Profile
from clawmw.observe.chains import Chain, spans
from clawmw.observe.figures import clean, duration, money, share, tokens
from clawmw.observe.page.call import look
from clawmw.observe.page.figures import Overview, overview
from clawmw.observe.page.waterfall import bars, growth
from clawmw.observe.spanstore import SpanStore

__all__ = ["call_page", "chain_page", "overview_page", "report"]

_DRAWN = 20
"""Chains whose waterfall is in a report of many."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("clawmw.observe.page", "templates"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Callable[..., Any]] = {
        "money": money,
        "tokens": tokens,
        "duration": duration,
        "clean": lambda text: clean(text or "-"),
        "when": _when,
        "percent": share,
    }
    made.filters.update(filters)
    return made


def _when(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def report(
    store: SpanStore,
    now_ns: int,
    *,
    since_ns: int | None = None,
    trace_id: str | None = None,
) -> str:
    """A report of the chains active since a time, or of one chain, as one HTML file."""
    seen = overview(store, since_ns=since_ns, trace_id=trace_id)
    drawn = [_drawn(store, chain) for chain in seen.chains[:_DRAWN]]
    return _page("report.html", seen, now_ns, drawn=drawn, live=False, only=trace_id is not None)


def overview_page(store: SpanStore, now_ns: int, *, since_ns: int | None = None) -> str:
    """The list of chains, its rows leading to their own pages."""
    seen = overview(store, since_ns=since_ns)
    return _page("report.html", seen, now_ns, drawn=[], live=True, only=False)


def chain_page(store: SpanStore, now_ns: int, trace_id: str) -> str:
    """One chain, for a server; empty when there is no such chain."""
    seen = overview(store, trace_id=trace_id)
    if not seen.chains:
        return ""
    drawn = [_drawn(store, seen.chains[0])]
    return _page("report.html", seen, now_ns, drawn=drawn, live=True, only=True)


def call_page(
    store: SpanStore,
    now_ns: int,
    trace_id: str,
    span_id: str,
    prices: Callable[[str], Profile] | None = None,
) -> str:
    """One call, for a server; empty when there is no such call."""
    seen = look(store, now_ns, trace_id, span_id, prices)
    if seen is None:
        return ""
    return _environment().get_template("call_page.html").render(look=seen, now=now_ns)


def _drawn(store: SpanStore, chain: Chain) -> dict[str, Any]:
    rows = spans(store, chain.trace_id)
    return {"chain": chain, "bars": bars(chain, rows), "growth": growth(rows)}


def _page(template: str, seen: Overview, now_ns: int, **more: Any) -> str:
    return _environment().get_template(template).render(seen=seen, now=now_ns, **more)

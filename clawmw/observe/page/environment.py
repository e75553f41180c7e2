"""Templates and what they say of numbers, names and times."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from clawmw.observe.page.holdout import Compared, Holdout
from clawmw.observe.reading.figures import UNICODE, clean, duration, money, share, tokens
from clawmw.observe.reading.statistics import Interval
from clawmw.observe.reading.summary import cost, counted, used
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["environment", "text_of"]

_LONGEST = 100
_TENFOLD = 9.0
_DAY_NS = 86_400 * 10**9


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates, escaping whatever they are given."""
    made = Environment(
        loader=PackageLoader("clawmw.observe.page", "templates"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Callable[..., Any]] = {
        "cost": lambda sums: cost(sums, UNICODE),
        "count": tokens,
        "drawn": _drawn,
        "duration": duration,
        "facts": lambda span: list(_facts(span)),
        "hashed": _hashed,
        "lately": _lately,
        "many": counted,
        "measure": _measure,
        "money": money,
        "named": _named,
        "percent": share,
        "signed": _signed,
        "tokens": tokens,
        "used": lambda sums: used(sums, UNICODE, short=True),
        "verdict": _verdict,
        "when": _when,
        "word": lambda text: re.sub(r"[^a-z]", "", text.lower())[:20],
    }
    made.filters.update(filters)
    return made


@lru_cache(maxsize=8)
def text_of(name: str) -> str:
    """A file beside the templates: the style sheet, the script, the icon."""
    return (files("clawmw.observe.page") / "templates" / name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    """How a Content-Security-Policy names an inline style or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _named(text: Any, longest: int = _LONGEST) -> str:
    """A name as it came off a wire, made harmless and not too long."""
    said = clean(str(text or "-"))
    return said if len(said) <= longest else f"{said[: longest - 1]}…"


def _when(ns: int) -> str:
    try:
        return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a clock that is centuries off
        return "-"


def _lately(ns: int, now_ns: int) -> str:
    """The time of day for the last hours, else the day, too."""
    said = _when(ns)
    return said[11:] if abs(now_ns - ns) < _DAY_NS / 2 else said[5:16]


def _facts(span: SpanRow) -> Iterator[tuple[str, str]]:
    """What is known of a span, in few words."""
    if span.op == "chat":
        instead = ""
        if span.requested_model and span.requested_model != span.model:
            instead = f" instead of {span.requested_model}"
        yield "model", f"{span.model or '-'}{instead}"
        kind = f" ({span.kind})" if span.kind else ""
        yield "agent", f"{span.agent or '-'}{kind}, hop {span.hop if span.hop is not None else '-'}"
        if span.raw_tokens is not None:
            context = f"~{tokens(span.raw_tokens)} asked, ~{tokens(span.sent_tokens)} sent"
            yield "context", f"{context}, ~{tokens(span.predicted_tokens)} expected in the cache"
        about = "~" if span.usage_basis == "estimated" else ""
        flow = f"{about}{tokens(span.input_tokens)} in, {about}{tokens(span.output_tokens)} out"
        yield "tokens", flow
        read, written = tokens(span.cache_read_tokens), tokens(span.cache_write_tokens)
        yield "cache", f"{read} read, {written} written"
        without = "-" if span.baseline_nano is None else f"~{money(span.baseline_nano)}"
        sums = f"{money(span.cost_nano)}; without clawmw {without}"
        yield "money", f"{sums}; without any cache {money(span.uncached_nano)}"
        spent = duration(None if span.overhead_us is None else span.overhead_us * 1000)
        tries = "-" if span.attempts is None else counted(span.attempts, "attempt")
        yield "effort", f"{tries}; {spent} in clawmw"
    failed = f": {span.error_type}" if span.error_type else ""
    stopped = f", stopped by {span.stopped_by}" if span.stopped_by else ""
    yield "status", f"{span.status}{failed}{stopped}"
    yield "began", _when(span.start_ns)
    if span.source:
        yield "from", span.source
    yield "span", "inferred from what is beneath it" if span.synthetic else span.span_id


# --- the comparison of raw and governed chains ------------------------------------------------


def _measure(value: float | None, unit: str) -> str:
    """A mean in its unit."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.1f}%"
    if unit == "number":
        return f"{value:,.1f}"
    number = round(value)
    return {"money": money, "time": duration}.get(unit, tokens)(number)


def _signed(change: float, unit: str) -> str:
    if change > _TENFOLD:
        return "> +900%"
    points = " pts" if unit == "share" else "%"
    return f"{100 * change:+.0f}{points}".replace("-", "−")


def _verdict(held: Holdout) -> str:
    """What the comparison says of cost; no more than it can."""
    usual, bill = held.measures[0], held.measures[1]
    if usual.change is None:
        return "What chains cost is not known of enough of them to compare."
    if usual.verdict == "even":
        low, high = usual.change.low, usual.change.high
        said = (
            "No difference in cost that chance could not have made: a typical governed chain "
            f"costs between {_less(low)} and {_less(high)} than a raw one."
        )
    else:
        ends = sorted(abs(100 * end) for end in (usual.change.low, usual.change.high))
        said = (
            f"A typical governed chain costs {abs(100 * usual.change.estimate):.0f}% "
            f"{usual.verdict} than a raw one; with 95% confidence between {ends[0]:.0f}% and "
            f"{ends[1]:.0f}% {usual.verdict}."
        )
    if bill.verdict != usual.verdict:
        what = {"even": "cannot be told yet", "less": "went down", "more": "went up"}[bill.verdict]
        said += f" Of the whole bill, which a few large chains may decide, it {what}."
    return said


def _less(change: float) -> str:
    return f"{abs(100 * change):.0f}% {'less' if change < 0 else 'more'}"


def _drawn(change: Interval, held: Holdout) -> tuple[float, float, float]:
    """Where an interval lies in a picture whose middle is no change, in per cent."""
    most = max(_reach(one) for one in held.measures)
    scale = 46 / max(most, 0.05)
    ends = (change.estimate, change.low, change.high)
    at = [round(min(max(50 + scale * end, 1), 99), 2) for end in ends]
    return at[0], at[1], at[2]


def _reach(one: Compared) -> float:
    """How far an interval reaches, as far as the picture shows it."""
    return min(max(abs(one.change.low), abs(one.change.high)), 1.0) if one.change else 0.0

"""One chain as rows of a waterfall, long runs folded, and the ticks of its time axis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, log10

from clawmw.observe.reading.chains import Chain, Node, tree
from clawmw.observe.reading.figures import UNICODE, clean, duration
from clawmw.observe.reading.notes import notes, title
from clawmw.observe.reading.sums import Sum, own
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["Bar", "Fold", "Tick", "bars", "rows", "ticks"]

_WORDS = {
    "invoke_workflow": "task",
    "invoke_agent": "agent",
    "execute_tool": "tool",
    "chat": "call",
    "inference": "call",
}
_LONG = 40
"""Rows below one span from which on quiet ones in the middle are folded."""
_KEPT = 10
"""Rows at either end that stay."""
_RUN = 6
"""Quiet rows in a row that are worth a fold."""
_TICKS = 6
_STEPS = tuple(
    [n * 10**9 for n in (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)]
)
"""Between ticks of more than a minute, clocks count otherwise than tens."""
_DEEPEST = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: a span, where its bar lies, and what is said of it."""

    span: SpanRow
    depth: int
    what: str
    """`task`, `agent`, `tool`, `call`, or `span` for another program's."""
    name: str
    left: float
    """Per cent of the chain's time before it began."""
    width: float
    """Per cent of the chain's time that it took."""
    took_ns: int | None
    sums: Sum
    """What the calls beneath it, or it itself, came to."""
    notes: tuple[str, ...]
    children: int

    @property
    def indent(self) -> int:
        """Its depth as far as the page has room for it."""
        return min(self.depth, _DEEPEST)

    @property
    def quiet(self) -> bool:
        """Whether it is one like many: nothing went wrong, nothing is beneath it."""
        span = self.span
        well = span.status in ("ok", "answered") and not span.stopped and span.moved is None
        return well and not self.children and (span.attempts or 1) <= 1


@dataclass(frozen=True, slots=True)
class Fold:
    """Quiet rows in a row, shown as one until it is opened."""

    bars: tuple[Bar, ...]
    depth: int
    text: str
    """`48 calls, 51 tools`."""
    left: float
    width: float
    took_ns: int
    sums: Sum

    @property
    def indent(self) -> int:
        """Its depth as far as the page has room for it."""
        return min(self.depth, _DEEPEST)


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis: per cent of the chain's time, and what to write there."""

    left: float
    text: str


def bars(chain: Chain, spans: Sequence[SpanRow]) -> tuple[Bar, ...]:
    """The rows of a trace, each below what led to it."""
    root = tree(spans)
    return tuple(_bars(chain, root, 0)[0]) if root is not None else ()


def rows(every: Sequence[Bar]) -> tuple[Bar | Fold, ...]:
    """The same with long runs of quiet siblings folded."""
    siblings: dict[str | None, list[Bar]] = {}
    for bar in every:
        siblings.setdefault(bar.span.parent_id, []).append(bar)
    foldable = {
        bar.span.span_id
        for family in siblings.values()
        if len(family) > _LONG
        for bar in family[_KEPT:-_KEPT]
        if bar.quiet
    }
    found: list[Bar | Fold] = []
    for (folds, _), group in groupby(
        every, key=lambda bar: (bar.span.span_id in foldable, bar.span.parent_id)
    ):
        run = tuple(group)
        found += (_fold(run),) if folds and len(run) >= _RUN else run
    return tuple(found)


def ticks(chain: Chain) -> tuple[Tick, ...]:
    """Some round moments of the chain's time."""
    whole = chain.end_ns - chain.start_ns
    if whole <= 0:
        return ()
    size = 10.0 ** floor(log10(whole / _TICKS))
    steps = _STEPS if whole > _TICKS * 10**10 else tuple([size * n for n in (1, 2, 5, 10)])
    step = next((step for step in steps if whole / step <= _TICKS), whole / _TICKS)
    moments = (round(n * step) for n in range(int(whole / step) + 1))
    return tuple([Tick(round(100 * at / whole, 2), _moment(at)) for at in moments])


def _moment(ns: int) -> str:
    """A moment on the axis, without decimals or zeros that say nothing."""
    said = duration(ns).replace(".0s", "s")
    return re.sub(r"(?<=\d)([mh])0+[sm]$", r"\1", said) if ns else "0"


def _bars(chain: Chain, node: Node, depth: int) -> tuple[list[Bar], Sum]:
    """The rows of a subtree, and what it comes to."""
    span, total = node.span, own(node.span)
    below: list[Bar] = []
    for child in node.children:
        more, part = _bars(chain, child, depth + 1)
        below += more
        total.add(part)
    left, width = _place(chain, span.start_ns, span.end_ns)
    unknown = span.attributes.get("clawmw.duration.unknown") or span.end_ns < span.start_ns
    bar = Bar(
        span,
        depth,
        _WORDS.get(span.op, "span"),
        _name(span),
        left,
        width,
        None if unknown else span.end_ns - span.start_ns,
        total,
        tuple([note.lstrip("· ") for note in notes(span, UNICODE)]),
        len(node.children),
    )
    return [bar, *below], total


def _place(chain: Chain, start_ns: int, end_ns: int) -> tuple[float, float]:
    """Where a bar begins and how long it is, in per cent; within the picture, never invisible."""
    whole = max(chain.end_ns - chain.start_ns, 1)
    left = min(max(100 * (start_ns - chain.start_ns) / whole, 0.0), 99.6)
    width = min(max(100 * (end_ns - start_ns) / whole, 0.4), 100 - left)
    return round(left, 2), round(width, 2)


def _fold(run: tuple[Bar, ...]) -> Fold:
    total = Sum()
    for bar in run:
        total.add(bar.sums)
    kinds = [bar.what for bar in run]
    text = ", ".join(
        f"{kinds.count(kind):,} {kind}{'' if kinds.count(kind) == 1 else 's'}"
        for kind in dict.fromkeys(kinds)
    )
    first = min(bar.left for bar in run)
    last = max(bar.left + bar.width for bar in run)
    took = max(bar.span.end_ns for bar in run) - min(bar.span.start_ns for bar in run)
    return Fold(run, run[0].depth, text, first, round(last - first, 2), took, total)


def _name(span: SpanRow) -> str:
    """What a span is of: the chain, an agent, a tool; a model without its provider."""
    ours = span.source is None and (span.op in _WORDS or span.op == "chat")
    if not ours:
        return title(span) or clean(span.op)
    name = clean(span.name).partition(" ")[2] or clean(span.op)
    return name.rpartition("/")[2] or name if span.op == "chat" else name

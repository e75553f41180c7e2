"""One chain as rows of a waterfall, and its context call by call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clawmw.observe.chains import Chain, Node, tree
from clawmw.observe.figures import UNICODE, clean
from clawmw.observe.notes import notes, title
from clawmw.observe.spanstore import SpanRow

__all__ = ["Bar", "Growth", "bars", "growth"]

_WORDS = {
    "invoke_workflow": "task",
    "invoke_agent": "agent",
    "execute_tool": "tool",
    "chat": "call",
    "inference": "call",
}


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
    saved_nano: int | None
    notes: tuple[str, ...]


def bars(chain: Chain, rows: Sequence[SpanRow]) -> tuple[Bar, ...]:
    """The rows of a trace, each below what led to it."""
    root = tree(rows)
    return tuple(_bars(chain, root, 0)) if root is not None else ()


def _bars(chain: Chain, node: Node, depth: int) -> Iterator[Bar]:
    span = node.span
    whole = max(chain.end_ns - chain.start_ns, 1)
    left = min(max(100 * (span.start_ns - chain.start_ns) / whole, 0.0), 99.7)
    width = min(max(100 * (span.end_ns - span.start_ns) / whole, 0.3), 100 - left)
    both = span.cost_nano is not None and span.baseline_nano is not None
    yield Bar(
        span,
        depth,
        _WORDS.get(span.op, "span"),
        _name(span),
        round(left, 2),
        round(width, 2),
        None if span.attributes.get("clawmw.duration.unknown") else span.end_ns - span.start_ns,
        (span.baseline_nano or 0) - (span.cost_nano or 0) if both else None,
        tuple(notes(span, UNICODE)),
    )
    for child in node.children:
        yield from _bars(chain, child, depth + 1)


def _name(span: SpanRow) -> str:
    """What a span is of: the chain, an agent, a tool; a model without its provider."""
    if span.source is not None:
        return title(span)
    name = clean(span.name).partition(" ")[2] or span.op
    return name.rpartition("/")[2] if span.op == "chat" else name


@dataclass(frozen=True, slots=True)
class Growth:
    """The context of the chain's calls, in estimated tokens, as points of a drawing 100 x 40."""

    most: int
    raw: str
    """What the agents asked for; points of a polyline."""
    sent: str
    cached: str
    """What of it the provider was expected to hold."""
    calls: int


def growth(rows: Sequence[SpanRow]) -> Growth | None:
    """None for fewer than two calls that say how large their context was."""
    calls = [r for r in rows if r.op == "chat" and r.raw_tokens and r.sent_tokens is not None]
    calls.sort(key=lambda row: row.start_ns)
    if len(calls) < 2:
        return None
    most = max(max(r.raw_tokens or 0, r.sent_tokens or 0) for r in calls)
    return Growth(
        most,
        _line([r.raw_tokens or 0 for r in calls], most),
        _line([r.sent_tokens or 0 for r in calls], most),
        _line([min(r.predicted_tokens or 0, r.sent_tokens or 0) for r in calls], most),
        len(calls),
    )


def _line(values: Sequence[int], most: int) -> str:
    step = 100 / (len(values) - 1)
    points = (f"{i * step:.2f},{40 - 38 * v / most:.2f}" for i, v in enumerate(values))
    return " ".join(points)

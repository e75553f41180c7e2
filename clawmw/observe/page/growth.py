"""A chain's context, call by call: what was asked, what was sent, what the cache held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from clawmw.observe.store.spanstore import SpanRow

__all__ = ["Column", "Growth", "growth"]

_COLUMNS = 160
"""The most columns of a drawing; of more calls, each column stands for the last of several."""


@dataclass(frozen=True, slots=True)
class Column:
    """One call: heights in per cent of the drawing's, and its place in it."""

    span_id: str
    number: int
    """Which call of the chain it is, from 1."""
    left: float
    width: float
    raw: float
    sent: float
    cached: float
    raw_tokens: int
    sent_tokens: int
    cached_tokens: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """The context of the chain's calls, in estimated tokens."""

    most: int
    """What the top of the drawing stands for: a round number."""
    calls: int
    columns: tuple[Column, ...]
    first_sent: int
    last_sent: int
    last_raw: int


def growth(rows: Sequence[SpanRow]) -> Growth | None:
    """None for fewer than two calls that say how large their context was."""
    calls = [r for r in rows if r.op == "chat" and r.raw_tokens and r.sent_tokens is not None]
    calls.sort(key=lambda row: (row.start_ns, row.seq or 0))
    if len(calls) < 2:
        return None
    most = _round(max(max(r.raw_tokens or 0, r.sent_tokens or 0) for r in calls))
    each = -(-len(calls) // _COLUMNS)
    shown = [
        (min(n + each, len(calls)), calls[min(n + each, len(calls)) - 1])
        for n in range(0, len(calls), each)
    ]
    pitch = 100 / len(shown)
    return Growth(
        most,
        len(calls),
        tuple(
            [_column(row, number, i * pitch, pitch, most) for i, (number, row) in enumerate(shown)]
        ),
        calls[0].sent_tokens or 0,
        calls[-1].sent_tokens or 0,
        calls[-1].raw_tokens or 0,
    )


def _column(row: SpanRow, number: int, left: float, pitch: float, most: int) -> Column:
    raw, sent = row.raw_tokens or 0, row.sent_tokens or 0
    cached = min(row.predicted_tokens or 0, sent)
    width = min(pitch * 0.76, 6.0)
    return Column(
        row.span_id,
        number,
        round(left + (pitch - width) / 2, 2),
        round(width, 2),
        round(100 * raw / most, 2),
        round(100 * sent / most, 2),
        round(100 * cached / most, 2),
        raw,
        sent,
        cached,
        bool(row.stopped),
    )


def _round(value: int) -> int:
    """The next number that is easy to read on an axis."""
    size = 10.0 ** floor(log10(max(value, 1)))
    return next(round(size * n) for n in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if size * n >= value)

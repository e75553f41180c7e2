"""Reduces one tool result to what a model needs to see of it; the kind is picked by content."""

from __future__ import annotations

from dataclasses import replace

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.blob import BlobReducer
from clawmw.stages.context.compress.code import CodeReducer
from clawmw.stages.context.compress.commits import CommitsReducer
from clawmw.stages.context.compress.cut import CutReducer
from clawmw.stages.context.compress.diff import DiffReducer
from clawmw.stages.context.compress.html import HtmlReducer
from clawmw.stages.context.compress.json import JsonReducer
from clawmw.stages.context.compress.listing import ListingReducer
from clawmw.stages.context.compress.literal import PythonReducer
from clawmw.stages.context.compress.log import LogReducer
from clawmw.stages.context.compress.minified import MinifiedReducer
from clawmw.stages.context.compress.output import OutputReducer
from clawmw.stages.context.compress.prose import ProseReducer
from clawmw.stages.context.compress.protocol import (
    Brief,
    Level,
    Reduced,
    Reducer,
    failures,
    is_reduced,
    marker,
)
from clawmw.stages.context.compress.search import SearchReducer
from clawmw.stages.context.compress.squeeze import squeeze
from clawmw.stages.context.compress.table import TableReducer
from clawmw.stages.context.compress.test_report import TestReportReducer
from clawmw.stages.context.compress.trace import TraceReducer

__all__ = [
    "REDUCERS",
    "Brief",
    "Level",
    "Reduced",
    "Reducer",
    "failures",
    "is_reduced",
    "marker",
    "reduce",
]

_TEXTS: tuple[Reducer, ...] = (LogReducer(), OutputReducer(), ProseReducer())
"""These read what `squeeze` leaves of a text."""

_HTML = HtmlReducer()


def _within(text: str, brief: Brief) -> str | None:
    """What a long string inside a JSON value becomes; its own marker is the enclosing result's."""
    brief = replace(brief, ref="")
    reduced = _HTML.reduce(text, brief) if _HTML.matches(text) else _plain(text, brief)
    if reduced is None or len(reduced.text) > 0.8 * len(text):
        return None
    return reduced.text.partition("\n")[2] if is_reduced(reduced.text) else reduced.text


_SHAPES: tuple[Reducer, ...] = (
    CutReducer(_within),
    BlobReducer(_within),
    DiffReducer(),
    TraceReducer(),
    TestReportReducer(),
    SearchReducer(),
    CommitsReducer(),
    ListingReducer(),
    MinifiedReducer(),
    CodeReducer(),
    TableReducer(),
)
"""These read a text as it stands, where every space may matter; the strictest first."""

_VALUES: tuple[Reducer, ...] = (JsonReducer(_within), PythonReducer(_within), _HTML)

REDUCERS: tuple[Reducer, ...] = (*_VALUES, *_SHAPES, *_TEXTS)
"""In the order in which they are asked whether a text is theirs; the strictest first."""


def reduce(text: str, brief: Brief, *, floor: int = 0, margin: float = 0.1) -> Reduced | None:
    """`text` reduced at the brief's level, or None where it is better sent as it is.

    None below `floor` estimated tokens, for a text already reduced, and where the result
    (its marker included) would not be smaller by the share `margin`. A result with `lossless`
    set contains no marker.
    """
    if brief.level == "off" or is_reduced(text):
        return None
    before = estimate(text)
    if before < max(floor, 1):
        return None
    reduced = None
    for reducer in _VALUES:
        if reducer.matches(text):
            reduced = reducer.reduce(text, brief)
            if reduced is not None:
                break
    else:
        reduced = _plain(text, brief)
    if reduced is None:
        return None
    after = estimate(reduced.text)
    if after >= before or after > before * (1 - margin):
        return None
    # What squeezing uncovered (a value behind padding, say) is reduced now, so that reducing
    # the result once more changes nothing.
    again = reduce(reduced.text, brief, margin=margin) if reduced.lossless else None
    return again or reduced


def _plain(text: str, brief: Brief) -> Reduced | None:
    """A text that is no structured value: cut by its kind, the plainer ones after squeezing."""
    for reducer in _SHAPES:
        if reducer.matches(text):
            reduced = reducer.reduce(text, brief)
            if reduced is not None:
                return reduced
    squeezed = squeeze(text)
    for reducer in _TEXTS:
        if reducer.matches(squeezed):
            reduced = reducer.reduce(squeezed, brief)
            if reduced is not None:
                return reduced
    return None

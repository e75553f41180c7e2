"""A slice of an original: what a model (or a person) asked for of something that was cut.

Pure, never fails, and bounded whatever the original is: an answer is about 1,500 tokens,
says what else there is, and how to ask for that.
"""

from __future__ import annotations

from clawmw.stages.context.slices import lines as numbered
from clawmw.stages.context.slices import records
from clawmw.stages.context.slices.asked import Asked
from clawmw.stages.context.slices.path import NotJsonError, at_path, shown
from clawmw.stages.context.slices.rank import terms
from clawmw.stages.context.slices.values import document

__all__ = ["MOST", "Asked", "slice_of"]

MOST = 1_500
"""Estimated tokens of an answer: it is carried in every later call of the session."""


def slice_of(
    text: str, *, query: str = "", lines: str = "", path: str = "", most: int = MOST
) -> str:
    """What was asked for of `text`, in at most about `most` estimated tokens.

    `path` is a place in JSON: `data.items[3].id`, `[*]` for every item. `lines` is `A-B`,
    from 1; a line of more than 1,000 characters counts as several. `query` picks the JSON
    records, or else the lines with their neighbours, that best hold its words. Given
    together, each narrows the one before. With none: all of it, or as much as fits.
    """
    try:
        return _slice(text, query, lines, path, most)
    except (RecursionError, NotJsonError) as error:
        # Nested deeper than Python follows, or no JSON at all: it is still lines.
        rest = numbered.slice_of(text, query, lines, most)
        return f"({error})\n{rest}" if isinstance(error, NotJsonError) else rest


def _slice(text: str, query: str, lines: str, path: str, most: int) -> str:
    if path.strip():
        doc = document(text)
        found = at_path(doc, path.strip(), most)
        if doc is None or found.place is None or not (query.strip() or lines.strip()):
            return found.text
        if query.strip() and not isinstance(found.place[1], str):
            return records.best(doc, found.place, query, most)
        return numbered.slice_of(found.whole, query, lines, most)
    if not lines.strip() and (not query.strip() or terms(query)):
        doc = document(text)
        if doc is not None and query.strip():
            return records.best(doc, ("", doc.value), query, most)
        if doc is not None and numbered.fitting(text, most) != text:
            return shown(doc, ("", doc.value), most)
    return numbered.slice_of(text, query, lines, most)

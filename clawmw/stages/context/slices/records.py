"""The records and leaves of a JSON value that best hold the words of a question."""

from __future__ import annotations

from collections.abc import Iterator

from clawmw.core.tokens import estimate
from clawmw.core.types import Json
from clawmw.stages.context.slices.lines import fitting
from clawmw.stages.context.slices.rank import folding, ranked, terms
from clawmw.stages.context.slices.values import Document, Place, child

__all__ = ["best", "places"]

_MOST = 500_000
"""Records and leaves looked at."""
_DEEPEST = 6
"""How often a record too long for the answer is looked into."""


def places(value: Json, path: str) -> Iterator[Place]:
    """The records of `value` (items of its outermost lists of objects), and every other leaf."""
    if isinstance(value, list):
        whole = len(value) > 1 and any(isinstance(item, dict | list) for item in value)
        for index, item in enumerate(value):
            if whole:
                yield child(path, index), item
            else:
                yield from places(item, child(path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                yield from places(item, child(path, key))
            else:
                yield child(path, key), item
    else:
        yield path, value


def best(doc: Document, place: Place, query: str, most: int, depth: int = 0) -> str:
    """The places below `place` that answer `query`, whole, in order, as many as fit."""
    found = []
    for one in places(place[1], place[0]):
        found.append(one)
        if len(found) == _MOST:
            break
    texts = [f"{where}: {doc.dump(item)}" for where, item in found]
    fold = folding(sum(map(len, texts)))
    hits = ranked([fold(text) for text in texts], terms(query), fold(query.strip()[:500]))
    if not hits:
        if depth:  # the words stand together only in the record as a whole
            return _cut(doc, place, most)
        return f"(nothing in the original matches {query[:80]!r}; use other words, or a `path`)"
    keep: list[int] = []
    left = most
    for hit in hits:
        cost = estimate(texts[hit]) + 1 if len(texts[hit]) < most * 9 else most + 1
        if cost > left:
            break
        left -= cost
        keep.append(hit)
    if not keep:
        return _inside(doc, found[hits[0]], query, most, depth)
    out = [texts[index] for index in sorted(keep)]
    if more := hits[len(keep) :]:
        some = ", ".join(found[index][0][-120:] for index in sorted(more[:6]))
        dots = ", …" if len(more) > 6 else ""
        out.append(f"({len(more):,} more match: {some}{dots}; ask with `path`, or narrow `query`)")
    return "\n".join(out)


def _inside(doc: Document, place: Place, query: str, most: int, depth: int) -> str:
    """What answers in a record that is too long to be given whole."""
    if isinstance(place[1], dict | list) and depth < _DEEPEST:
        return best(doc, place, query, most, depth + 1)
    return _cut(doc, place, most)


def _cut(doc: Document, place: Place, most: int) -> str:
    path, value = place
    text = value if isinstance(value, str) else doc.dump(value)
    return f"{path[-200:]}: {fitting(text, most)}…\n(cut; for more of it ask with path and lines)"

"""A slice of an original: what a model asked for of something that was cut."""

from __future__ import annotations

import json
import re

from clawmw.core.types import Json

__all__ = ["slice_of"]

_AROUND = 2
"""Lines of context on each side of a matching one."""


def slice_of(text: str, *, query: str = "", lines: str = "", most: int = 24_000) -> str:
    """The lines or records of `text` that were asked for, at most `most` characters.

    `lines` is `A-B`, from 1. `query` selects the records of a JSON list, or else the lines
    (with two around each), that hold all of its words; failing that, any of them.
    Says what is left out and how to ask for it; never fails.
    """
    if lines and (span := re.fullmatch(r"\s*(\d+)\s*(?:[-:,]\s*(\d+)\s*)?", lines)):
        first, last = int(span[1]), int(span[2] or span[1])
        chosen = text.splitlines()[max(first - 1, 0) : last]
        return _limit("\n".join(chosen) or f"(no lines {lines})", most)
    words = [w for w in re.split(r"\s+", query.lower().strip()) if w]
    if not words:
        return _limit(text, most)
    found = _records(text, words)
    if found is None:
        found = _lines(text, words)
    if not found:
        return f"(nothing in the original matches {query!r}; ask without `query` for all of it)"
    return _limit(found, most)


def _limit(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    rest = len(text) - most
    return f"{text[:most]}\n(… {rest} more characters; narrow it with `query` or `lines`)"


def _hits(texts: list[str], words: list[str]) -> list[int]:
    """Which texts hold all words, or else any of them."""
    lowered = [t.lower() for t in texts]
    every = [i for i, t in enumerate(lowered) if all(w in t for w in words)]
    return every or [i for i, t in enumerate(lowered) if any(w in t for w in words)]


def _records(text: str, words: list[str]) -> str | None:
    """Matching records of the longest list in a JSON text; None if it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        rows = _longest_list(json.loads(text), 0)
    except (ValueError, RecursionError):
        return None
    if len(rows) < 2:
        return None
    shown = [json.dumps(row, ensure_ascii=False) for row in rows]
    return "\n".join(shown[i] for i in _hits(shown, words))


def _longest_list(value: Json, depth: int) -> list[Json]:
    best = value if isinstance(value, list) else []
    if depth < 6:
        inner = value.values() if isinstance(value, dict) else best[:50]
        for item in inner:
            if isinstance(item, dict | list):
                found = _longest_list(item, depth + 1)
                best = found if len(found) > len(best) else best
    return best


def _lines(text: str, words: list[str]) -> str:
    lines = text.splitlines()
    if len(lines) == 1 and len(text) > 400:  # minified: cut where a reader would
        lines = re.split(r"(?<=[>;.。}])\s*", text)
    keep: set[int] = set()
    for hit in _hits(lines, words):
        keep.update(range(max(hit - _AROUND, 0), min(hit + _AROUND + 1, len(lines))))
    out, last = [], -1
    for index in sorted(keep):
        if last >= 0 and index > last + 1:
            out.append("…")
        out.append(lines[index])
        last = index
    return "\n".join(out)

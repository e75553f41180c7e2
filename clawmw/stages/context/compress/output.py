"""What programs print line by line and no other kind knows: ps, dpkg, git log, status lists.

The first lines and the last, what says that something failed, and the lines that hold what is
sought stay; of the others each stretch names as many of its entries as there is room for, by the
column that tells them apart (a package's name, a commit's hash).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import Picker, hits, render, sample
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    barred,
    count,
    failures,
    marker,
    room,
)

__all__ = ["OutputReducer"]

HEAD, TAIL = 3, 2
"""Lines shown of the start and the end."""

SOUGHT = 20
"""Lines shown for what is sought."""

NAMES = 0.6
"""The share of the room for the names of what is not shown."""

COLUMNS = 6
"""Columns of which one tells lines apart."""

_SENTENCE = re.compile(r"(?:\b[^\W\d_]+\b[,;]? ){7}")
_COMMIT = re.compile(r"[*|/\\ ]{0,8}[0-9a-f]{7,40} ")
_NAME = re.compile(r"[^\W\d_]")


class OutputReducer:
    """Many short lines that are no sentences."""

    name = "output"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        if barred(text) or len(lines) < 8 or sum(map(len, lines)) > 200 * len(lines):
            return False
        said = sum(1 for line in lines if _SENTENCE.search(line[:300]) and not _COMMIT.match(line))
        return said < 0.25 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        tokens = estimate(text)
        whole = Reduced(text, "output", True)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        size = room(tokens, brief.level)
        if size > 0.8 * tokens:
            return whole
        lines = text.split("\n")
        picker = Picker(lines, (1 - NAMES) * size)
        _pick(picker, lines, brief.sought)
        if len(picker.kept) > 0.85 * len(lines):
            return whole
        hidden = len(lines) - len(picker.kept)
        said = f"output, {hidden:,} of {count(len(lines), 'line')} left out"
        gap = _Names(lines, picker.kept, NAMES * size + max(picker.left, 0))
        body = render(lines, picker.kept, gap)
        return Reduced(f"{marker(brief.ref, said)}\n{body}", "output", False)


def _pick(picker: Picker, lines: Sequence[str], sought: frozenset[str]) -> None:
    total = len(lines)
    size = picker.left
    picker.take(range(min(HEAD, total)), anyway=True)
    picker.take([i for i in range(max(total - TAIL, 0), total) if lines[i]], anyway=True)
    for index in sorted(failures(lines)):
        picker.take([index], anyway=picker.left > -size)
    picker.left = max(picker.left, size / 3)
    scores = hits(lines, sought)
    ranked = sorted((i for i in range(total) if scores[i] > 1), key=lambda i: (-scores[i], i))
    for index in ranked[:SOUGHT]:
        if not picker.take([index]):
            break


class _Names:
    """The notes: how many lines, and what some of them are about."""

    def __init__(self, lines: Sequence[str], kept: set[int], left: float) -> None:
        hidden = [i for i in range(len(lines)) if i not in kept and lines[i].strip()]
        self._keys = dict(zip(hidden, _keys([lines[i] for i in hidden]), strict=True))
        total = sum(len(key) for key in self._keys.values()) * 0.35 + 2 * len(hidden)
        self._share = min(1.0, left / (total or 1))

    def __call__(self, start: int, end: int) -> str:
        keys = [self._keys[i] for i in range(start, end) if self._keys.get(i)]
        distinct = list(dict.fromkeys(keys))
        shown = distinct[: max(int(self._share * len(distinct)), 1 if len(distinct) else 0)]
        more = len(distinct) - len(shown)
        names = ", ".join(shown) + (f" and {more:,} more" if more and shown else "")
        return f"… {count(end - start, 'line')}{': ' if names else ''}{names} …"


def _keys(lines: Sequence[str]) -> list[str]:
    """What tells each line from the others: its word in the first column of distinct words."""
    rows = [line.split(None, COLUMNS) for line in lines]
    best, most = 0, 0.0
    for column in range(COLUMNS):
        words = [row[column] for row in rows if len(row) > column]
        if len(words) < 0.7 * len(rows):
            break
        # A name tells more than a number.
        found = set(words)
        named = sum(1 for word in found if _NAME.search(word))
        distinct = (named + 0.5 * (len(found) - named)) / (len(rows) or 1)
        # A later column must be told apart much better.
        if distinct > most + 0.2:
            best, most = column, distinct
    return [row[min(best, len(row) - 1)].strip(",:;\"'")[:60] for row in rows]

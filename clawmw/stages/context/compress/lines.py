"""A long text shown in part: which lines, in how much room, and what is said of the rest.

Kinds made of lines (source, search hits, reports, traces, logs) rank lines; this shares out the
room among them and writes the notes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import log

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import count

__all__ = [
    "Gap",
    "Picker",
    "hits",
    "names",
    "numbers",
    "places",
    "render",
    "sample",
    "shorten",
    "words_of",
]

LINE_CHARS = 400
"""A longer line keeps its start and end."""

SAMPLE = 16_000
"""Characters of a text that are looked at to tell its kind."""

NOTE = 6
"""Tokens of an in-place note."""

PER_GAP = 80
"""Lines of a gap that are read for identifiers."""

_COMMON = 400
"""A sought word in so many places tells nothing."""

_WORD = re.compile(r"[\w/~.@$-][\w./:@$-]{2,79}")
_DATA = re.compile(r"\d|\w[_./:@-]\w|[a-z][A-Z]|^[/~]\w")
_STRONG = re.compile(r"^[A-Z][A-Z\d]*_[A-Z\d_]+$|^~?/\w|\w/\w|[a-z][A-Z]|[a-z\d]_[a-z]|\w-\d|\d{6}")

Gap = Callable[[int, int], str]
"""The note that stands for the hidden lines from one index up to another."""


class Picker:
    """Lines taken in the order of their worth until the room is used up."""

    def __init__(self, lines: Sequence[str], left: float) -> None:
        head = "\n".join(lines[:2000])[:100_000]
        rate = estimate(head) / (len(head) or 1)
        self._costs = [1 + rate * min(len(line), LINE_CHARS) for line in lines]
        self.left = left
        self.kept: set[int] = set()

    def cost(self, indexes: Iterable[int]) -> float:
        """Tokens that showing lines costs, but for notes."""
        return sum([self._costs[index] for index in indexes])

    def take(self, indexes: Iterable[int], *, anyway: bool = False) -> bool:
        """Keep these lines all together; False where there is no room for them."""
        new = [i for i in indexes if i not in self.kept and 0 <= i < len(self._costs)]
        if not new:
            return True
        price = self.cost(new)
        # An island splits a gap in two.
        if new[0] - 1 not in self.kept and new[-1] + 1 not in self.kept:
            price += NOTE
        if price > self.left and not anyway:
            return False
        self.left -= price
        self.kept.update(new)
        return True


def places(lines: Sequence[str], sought: frozenset[str]) -> dict[str, set[int]]:
    """The lines each sought word stands in; words that are everywhere are left out.

    The words of `sought` are cut to their first letters (see `relevance`), so a longer word that
    begins so counts, and from five letters on also one that has it inside (`setPrecision`).
    Searched for in the whole text at once: 30 words in 100 KB take a millisecond.
    """
    found: dict[str, set[int]] = {}
    if not sought:
        return found
    text = "\n".join(lines).casefold()
    folded = lines if text.isascii() else text.split("\n")
    starts = [0, *accumulate([len(line) + 1 for line in folded])]
    for word in sorted(sought):
        number = word.isdigit()
        if (number and len(word) < 3) or word not in text:
            continue
        held: set[int] = set()
        at = text.find(word)
        seen = 0
        while at >= 0 and seen < _COMMON:
            end = at + len(word)
            before = at == 0 or not text[at - 1].isalnum()
            after = end == len(text) or not text[end].isalnum()
            if (before and (after or (len(word) > 3 and not number))) or (
                len(word) > 4 and not number
            ):
                held.add(bisect_right(starts, at) - 1)
            seen += 1
            at = text.find(word, end)
        if held and seen < _COMMON:
            found[word] = held
    return found


def hits(
    lines: Sequence[str], sought: frozenset[str], found: dict[str, set[int]] | None = None
) -> list[float]:
    """How much of what is sought each line holds; a rare word weighs more."""
    scores = [0.0] * len(lines)
    for held in (places(lines, sought) if found is None else found).values():
        weight = log((len(lines) + 1) / len(held))
        for index in held:
            scores[index] += weight
    return scores


def numbers(sought: frozenset[str]) -> list[int]:
    """The numbers among what is sought, as line numbers would be."""
    return sorted(
        int(word) for word in sought if word.isascii() and word.isdigit() and len(word) < 8
    )


def names(
    lines: Sequence[str], shown: set[str], most: int, scores: Sequence[float] = ()
) -> list[str]:
    """Up to `most` identifiers, paths and numbers of `lines` that are not in `shown` yet.

    Added to `shown`. Those on sought lines first, then constants, paths and compound names, then
    what stands there most often.
    """
    if most <= 0:
        return []
    found: Counter[str] = Counter()
    sought: Counter[str] = Counter()
    for at, line in enumerate(lines[:PER_GAP]):
        worth = scores[at] if scores else 0.0
        for match in _WORD.findall(line[:LINE_CHARS]):
            word = match.rstrip(".:-/@")
            if len(word) > 3 and word not in shown and _DATA.search(word):
                if word.isdigit() and len(word) < 6:
                    continue
                found[word] += 1
                if worth > sought[word]:
                    sought[word] = worth  # type: ignore[assignment]
    ranked = sorted(found, key=lambda word: (-sought[word], not _STRONG.search(word), -found[word]))
    best = ranked[:most]
    shown.update(best)
    return best


def sample(text: str) -> list[str]:
    """Lines that are not blank from the start and the end, enough to tell what a text is."""
    if len(text) > SAMPLE:
        head, tail = text[: SAMPLE * 3 // 4], text[-SAMPLE // 4 :]
        # Whole lines, where there are any.
        head = head[: head.rfind("\n")] if "\n" in head else head
        text = f"{head}\n{tail.partition(chr(10))[2] or tail}"
    return [line for line in text.split("\n")[:400] if line and not line.isspace()]


def words_of(text: str) -> set[str]:
    """What `names` would find in a text that is shown."""
    return {word.rstrip(".:-/@") for word in _WORD.findall(text)}


def shorten(line: str, limit: int = LINE_CHARS) -> str:
    """A line longer than `limit` with its middle counted instead."""
    if len(line) <= limit + 40:
        return line
    head, tail = limit * 2 // 3, limit // 3
    return f"{line[:head]} … {len(line) - head - tail:,} characters … {line[-tail:]}"


def render(lines: Sequence[str], kept: set[int], gap: Gap | None = None) -> str:
    """The kept lines in order, each run of others as one note, unless a note saves nothing."""
    out: list[str] = []
    at = 0
    for index in [*sorted(kept), len(lines)]:
        if index > at:
            hidden = lines[at:index]
            if sum(map(len, hidden)) + 2 * len(hidden) < (24 if len(hidden) > 1 else 48):
                out.extend(hidden)
            else:
                out.append(gap(at, index) if gap else f"… {count(index - at, 'line')} …")
        if index < len(lines):
            out.append(shorten(lines[index]))
        at = index + 1
    return "\n".join(out)

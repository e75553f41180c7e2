"""Numbered lines: ranges of them, and those that best hold the words of a question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.slices.rank import folding, ranked, terms

__all__ = ["fitting", "numbered", "ranges_text", "slice_of"]

_LONGEST = 1_000
"""Characters from which a line counts as several: one of 10 MB has no use as a whole."""
_PIECE = 800
_MOST_LINES = 2_000_000
"""Lines told apart; what comes after them is cut by length alone."""
_AROUND = ((12, 2), (40, 1))
"""Up to so many matching lines are shown with so many neighbours on each side."""
_BREAKS = ("}", ">", "]", ";", "。", ". ", ",", " ")
_RANGE = re.compile(r"(\d{1,12})(?:\s*(?:-|–|:|\.\.|to)\s*(\d{1,12})?)?|[-:]\s*(\d{1,12})")
_COLUMNS = "\t|;,"


def numbered(text: str) -> list[str]:
    """The lines of `text` as they are counted here, line ends left out."""
    lines: list[str] = []
    for line in text.split("\n", _MOST_LINES):
        if len(line) <= _LONGEST:
            lines.append(line.removesuffix("\r"))
        else:
            lines += _pieces(line)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _pieces(line: str) -> list[str]:
    """A long line in pieces, cut where a reader would."""
    pieces, at = [], 0
    while len(line) - at > _PIECE:
        least, end = at + _PIECE // 2, at + _PIECE
        cut = next((c for b in _BREAKS if (c := line.rfind(b, least, end)) > 0), end - 1)
        pieces.append(line[at : cut + 1])
        at = cut + 1
    return [*pieces, line[at:]]


def fitting(text: str, most: int) -> str:
    """The longest beginning of `text` of at most `most` estimated tokens."""
    text = text[: most * 9]  # no text has more characters to a token
    if estimate(text) <= most:
        return text
    low, high = 0, len(text)
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if estimate(text[:middle]) <= most else (low, middle)
    return text[:low]


def slice_of(text: str, query: str, lines: str, most: int) -> str:
    """Lines of `text`, at most about `most` tokens, with a note of what else there is."""
    if not (query.strip() or lines.strip()) and fitting(text, most) == text:
        return text or "(the original is empty)"
    every = numbered(text)
    spans = _spans(lines, len(every)) if lines.strip() else [(1, len(every))]
    if spans is None:
        return f"(`lines` is A-B, such as 1-80, not {lines[:40]!r}; there are {len(every):,} lines)"
    if not spans:
        return f"(there are no lines {lines[:40].strip()}: the original has {len(every):,})"
    if query.strip():
        return _matching(every, spans, query, most)
    return _whole(every, spans, most, asked=bool(lines.strip()))


def _spans(asked: str, count: int) -> list[tuple[int, int]] | None:
    """The ranges in `asked` that exist, in order; None when it is not about lines at all."""
    found = [m.groups() for m in _RANGE.finditer(asked[:200])]
    if not found:
        return None
    if len(found) == 2 and all(last is None and upto is None for _, last, upto in found):
        found = [(found[0][0], found[1][0], None)]  # "10, 20" is a range, too
    spans = []
    for first, last, upto in found:
        open_end = first is not None and last is None and not _lone(asked, first)
        start = int(first or 1)
        end = int(upto or last or (count if open_end else start))
        start, end = max(min(start, end), 1), min(max(start, end), count)
        if start <= end:
            spans.append((start, end))
    return _merged(spans)


def _lone(asked: str, first: str) -> bool:
    """Whether a number stands by itself: `7`, and not `7-`."""
    return re.search(rf"(?<!\d){first}\s*(?:-|–|:|\.\.)", asked) is None


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _whole(every: list[str], spans: list[tuple[int, int]], most: int, *, asked: bool) -> str:
    """The lines of `spans` one after the other, as many as fit."""
    out: list[str] = []
    left, rest = most, list(spans)
    while rest:
        start, end = rest[0]
        shown = start
        while shown <= end and (cost := estimate(every[shown - 1]) + 1) <= left:
            left -= cost
            shown += 1
        if shown > start:
            out.append(_block(every, start, shown - 1))
        if shown <= end:
            rest[0] = (shown, end)
            break
        rest.pop(0)
    if rest:
        of = "of those asked for, still to come" if asked else "still to come"
        out.append(f"({of}: lines {ranges_text(rest)}; ask with `lines`, or give `query`)")
    return "\n".join(out)


def _block(every: list[str], start: int, end: int) -> str:
    named = f"line {start}" if start == end else f"lines {start}-{end}"
    return "\n".join([f"[{named} of {len(every)}]", *every[start - 1 : end]])


def _matching(every: list[str], spans: list[tuple[int, int]], query: str, most: int) -> str:
    """The lines in `spans` that best answer `query`, each with its neighbours."""
    inside = [index for start, end in spans for index in range(start - 1, end)]
    fold = folding(sum(len(line) for line in every))
    wanted = terms(query)
    places = ranked([fold(every[i]) for i in inside], wanted, fold(query.strip()[:500]))
    hits = [inside[place] for place in places]
    if not hits:
        return (
            f"(nothing in the original matches {query[:80]!r}; it has {len(every):,} lines: "
            f"ask for some with `lines`, or use other words)"
        )
    around = next((n for count, n in _AROUND if len(hits) <= count), 0)
    keep: set[int] = set()
    left, shown = most, 0
    for hit in hits:
        near = range(max(hit - around, 0), min(hit + around + 1, len(every)))
        cost = sum(estimate(every[i]) + 1 for i in near if i not in keep) + 12
        if cost > min(left, most // 3):
            near = range(hit, hit + 1)
            cost = estimate(every[hit]) + 13 if hit not in keep else 0
            if cost > left:
                break
        left -= cost
        keep.update(near)
        shown += 1
    if _heads(every, hits[0]):
        keep.add(0)
    out = [_block(every, start, end) for start, end in _merged([(i + 1, i + 1) for i in keep])]
    if more := [hit + 1 for hit in hits[shown:] if hit not in keep]:
        out.append(_more(more))
    return "\n".join(out)


def _more(numbers: list[int]) -> str:
    where = _merged([(n, n) for n in numbers[:200]])
    dots = ", …" if len(where) > 8 or len(numbers) > 200 else ""
    lines = "1 more line matches" if len(numbers) == 1 else f"{len(numbers):,} more lines match"
    return f"({lines}: {ranges_text(where)}{dots}; ask with `lines`, or narrow `query`)"


def ranges_text(spans: Sequence[tuple[int, int]]) -> str:
    """`5, 9-12`: the first eight."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans[:8])


def _heads(every: list[str], hit: int) -> bool:
    """Whether the first line names the columns of the line at `hit`."""
    first, line = every[0], every[hit]
    return any(
        first.count(c) >= 2 and first.count(c) == line.count(c) and estimate(first) < 200
        for c in _COLUMNS
    )

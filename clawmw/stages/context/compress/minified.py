"""Text packed into huge lines (minified JavaScript and CSS, generated data, one-line dumps).

What it is and how large, its start, and the places where what is sought stands, with their
surroundings. Nobody reads the rest; it can be searched in the original.
"""

from __future__ import annotations

import re

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    failures,
    marker,
    room,
)

__all__ = ["MinifiedReducer"]

LINE = 1500
"""Characters of a line that nobody wrote by hand."""

AROUND = 120
"""Characters shown on either side of what is sought."""

MATCHES = 8
"""Places shown of what is sought."""

_STYLE = re.compile(r"[\w#.:\[\]>~+*, -]{1,80}\{[\w-]{2,30}:")
_SCRIPT = re.compile(r"function\b|=>|\bvar |\bconst |\blet |;return |window\.|exports\b|\}\)\(")
_MARKUP = re.compile(r"<(?:svg|path|g|\?xml|[a-z]+)\b")


class MinifiedReducer:
    """Most of the text stands in lines longer than `LINE` with few spaces."""

    name = "minified"
    version = 1

    def matches(self, text: str) -> bool:
        if len(text) < LINE:
            return False
        sample = text[:40_000]
        long = "".join(line for line in sample.split("\n") if len(line) > LINE)
        if len(long) < 0.6 * len(sample):
            return False
        return long.count(" ") < 0.1 * len(long) and long.count(",") < 0.25 * len(long)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return Reduced(text, "minified", True)
        size = room(tokens, brief.level)
        what = _what(text[:20_000])
        out: list[str] = []
        left = size
        lines = text.split("\n")
        failed = failures([line[:2000] for line in lines[:2000]])
        for index, line in enumerate(lines[:2000]):
            if len(line) <= LINE and (index < 3 or index >= len(lines) - 3 or index in failed):
                out.append(line)
                left -= estimate(line)
                continue
            spans = _places(line, brief.sought) if left > 0 and len(line) > LINE else []
            if not spans and len(line) <= LINE:
                continue
            shown = _shown(line, [(0, AROUND), *spans], left)
            left -= estimate(shown)
            out.append(shown)
            if left < 0:
                break
        body = "\n".join(out)
        size_said = f"{count(len(text), 'character')} in {count(len(lines), 'line')}"
        said = f"{what}, {size_said}, most left out"
        return Reduced(f"{marker(brief.ref, said)}\n{body}", "minified", False)


def _what(sample: str) -> str:
    if _SCRIPT.search(sample):
        return "minified script"
    if _STYLE.search(sample):
        return "minified style sheet"
    return "markup without line breaks" if _MARKUP.search(sample) else "data without line breaks"


def _places(line: str, sought: frozenset[str]) -> list[tuple[int, int]]:
    """Where the rarest sought words stand in a line, at most `MATCHES`."""
    lowered = line.lower()
    found: list[tuple[int, int]] = []
    for word in sorted(sought):
        if len(word) < 4:
            continue
        at = lowered.find(word)
        held: list[int] = []
        while at >= 0 and len(held) < 20:
            held.append(at)
            at = lowered.find(word, at + AROUND)
        if 0 < len(held) < 20:
            found.extend((len(held), place) for place in held[:3])
    return sorted((max(place - AROUND, 0), place + AROUND) for _, place in sorted(found)[:MATCHES])


def _shown(line: str, spans: list[tuple[int, int]], left: int) -> str:
    """The parts of a line within `spans`, and how much is between them."""
    out: list[str] = []
    at = 0
    for start, end in spans:
        if out and (start <= at or estimate("".join(out)) > left):
            if start <= at < end:
                out.append(line[at:end])
                at = min(end, len(line))
            continue
        if start > at:
            out.append(f" … {count(start - at, 'character')} … ")
        out.append(line[start:end])
        at = min(end, len(line))
    if at < len(line):
        out.append(f" … {count(len(line) - at, 'character')} …")
    return "".join(out)

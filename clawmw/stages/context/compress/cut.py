"""Results too large to be looked at line by line: their ends, and where it says that it failed.

The bound of every other kind: of a text longer than `MOST` characters (or lines) only the first
and the last part are read by its kind; from the middle come the first lines that hold a plain
word for failure, found by substring search. Deterministic, and about 200 MB a second.
"""

from __future__ import annotations

from collections.abc import Callable

from clawmw.stages.context.compress.lines import shorten
from clawmw.stages.context.compress.protocol import Brief, Reduced, count, marker

__all__ = ["CutReducer"]

Within = Callable[[str, Brief], str | None]
"""Reduces what is read."""

MOST = 2_000_000
"""Characters that kinds read in full."""

MOST_LINES = 40_000
"""Lines that kinds read in full."""

END = 200_000
"""Characters read of a longer text's start, and of its end."""

END_LINES = 8000
"""Lines read of each."""

FOUND = 40
"""Lines taken from the middle."""

_WORDS = ("ERROR", "Error:", "error:", "FATAL", "Traceback", "Exception", "panic", "FAILED", "错误")


class CutReducer:
    """Any text past the bound."""

    name = "cut"
    version = 1

    def __init__(self, within: Within) -> None:
        self._within = within

    def matches(self, text: str) -> bool:
        return len(text) > MOST or text.count("\n") > MOST_LINES

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        if brief.level not in ("balanced", "aggressive"):
            return Reduced(text, "cut", True)
        first = _start(text)
        last = max(_end(text), first)
        middle = _failures(text, first, last)
        note = f"… {count(last - first, 'character')} not read …"
        start = self._within(text[:first], brief) or _ends(text[:first])
        end = self._within(text[last:], brief) or _ends(text[last:])
        lines = text.count("\n") + 1
        said = (
            f"{count(lines, 'line')} of {count(len(text), 'character')}, "
            "only the ends are read and lines that name an error"
        )
        parts = [marker(brief.ref, said), start.rstrip("\n"), note, *middle, end]
        return Reduced("\n".join(parts), "cut", False)


def _start(text: str) -> int:
    """Where the part read of the start ends, if possible after a line."""
    lines = text[:END].split("\n", END_LINES)
    if len(lines) > END_LINES:
        return END - len(lines[-1]) if len(text) > END else len(text) - len(lines[-1])
    at = text.rfind("\n", 0, END) + 1
    return at if at > END // 2 else END


def _end(text: str) -> int:
    """Where the part read of the end begins, if possible at a line."""
    lines = text[-END:].rsplit("\n", END_LINES)
    if len(lines) > END_LINES:
        return max(len(text) - END, 0) + len(lines[0]) + 1
    at = text.find("\n", len(text) - END) + 1
    return at if 0 < at < len(text) - END // 2 else len(text) - END


def _ends(text: str) -> str:
    """Start and end of a text no kind wants, such as one endless line."""
    return text if len(text) <= 4000 else shorten(text, 2000)


def _failures(text: str, start: int, end: int) -> list[str]:
    """The first lines between two places that hold a word for failure, each cut short."""
    places: set[tuple[int, int]] = set()
    for word in _WORDS:
        at = text.find(word, start, end)
        taken = 0
        while at >= 0 and taken < FOUND:
            line = max(text.rfind("\n", max(start, at - 400), at) + 1, at - 400, start)
            stop = text.find("\n", at, min(at + 400, end))
            places.add((line, stop if stop >= 0 else min(at + 400, end)))
            taken += 1
            at = text.find(word, max(stop, at + 400), end)
    return [text[line:stop] for line, stop in sorted(places)[:FOUND]]

"""Logs: lines that differ only in times, numbers and ids are shown once and counted.

Kept verbatim and in order at every level: each line that says something went wrong, with a line
before and two after it; the first line of each form; the first line of each value of a field
that has few values (so that one `status=500` among thousands of `status=200` stays); the first
and last lines. Grouping lines by what is left when variable words are masked is the usual first
step of log parsing (Drain, He et al. 2017); no clustering follows, so the result does not depend
on thresholds of similarity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Level,
    Reduced,
    count,
    failures,
    marker,
)

__all__ = ["LogReducer", "keep_lines"]

SAMPLE = 300
"""Lines looked at to tell whether a text is a log."""

LINE_CHARS = 2000
"""A longer line keeps its start and end."""

FEW = 8
"""A field with at most this many values is a category."""

FIELD_CHARS = 12
"""A field is known by so many characters before its value, as `status=` or `took `."""

RARE = 10
"""Of a value that is rare (one line in a hundred) at most so many lines are kept for that."""


@dataclass(frozen=True, slots=True)
class _Keep:
    head: int
    tail: int
    fields: int
    """At most so many fields of one line form are looked at for rare values."""


_KEEP: dict[Level, _Keep] = {"balanced": _Keep(5, 10, 8), "aggressive": _Keep(2, 5, 4)}
_FLOOR: dict[Level, int] = {
    "balanced": LOSSY_FLOOR["balanced"] // 2,
    "aggressive": LOSSY_FLOOR["aggressive"],
}
"""Half the usual floor: what is folded here is by construction like a line that stays."""

_TIME = (
    r"\d{4}[-/]\d\d[-/]\d\d(?:[T ,]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
    r"|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
)
_VARIABLE = re.compile(rf"({_TIME})|((?<![\w.+-])[\w.+-]*\d[\w.+-]*)")
_STAMPED = re.compile(rf"^\W{{0,3}}(?:{_TIME}|\[ *\d+\.\d+\]|\d{{10}}(?:\.\d+|\d{{3}})?\b)")
_LEVEL = re.compile(
    r"^.{0,60}?(?:\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SEVERE)\b"
    r"|\[(?:trace|debug|info|notice|warn|warning|error|fatal|critical)\]|\blevel=\w+"
    r"|\b(?:npm|pip) (?:WARN|ERR)!?)"
)
_ACCESS = re.compile(r'"(?:GET|POST|PUT|DELETE|HEAD|PATCH|OPTIONS) [^"]*" \d{3}\b')
_QUOTED = re.compile(r'"[^"\n]{1,200}"|\'[^\'\n]{1,200}\'|(?<![\w/])(?:/[\w.%#@+-]+)+')


class LogReducer:
    """Lines of a program's output that mostly carry times or levels, or mostly repeat."""

    name = "log"
    version = 1

    def matches(self, text: str) -> bool:
        if text.count("\n") < 7:
            return False
        lines = [line for line in _sample(text) if line and not line.isspace()]
        if len(lines) < 8:
            return False
        logged = sum(
            1
            for line in lines
            if _STAMPED.match(line) or _LEVEL.match(line[:200]) or _ACCESS.search(line[:400])
        )
        if logged >= 0.3 * len(lines):
            return True
        return len(lines) >= 20 and len(set(lines)) <= 0.5 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced:
        whole = Reduced(text, "log", True)
        if brief.level not in _KEEP or estimate(text) < _FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        kept = keep_lines(lines, brief.level)
        if len(kept) > 0.9 * len(lines) and len(max(lines, key=len)) <= LINE_CHARS:
            return whole
        hidden = len(lines) - len(kept)
        said = (
            f"log, {hidden:,} of {count(len(lines), 'line')} left out, "
            "alike but for times, numbers and ids"
        )
        return Reduced(f"{marker(brief.ref, said)}\n{_render(lines, kept)}", "log", False)


def _sample(text: str) -> list[str]:
    """Up to `SAMPLE` lines, from the start and from the middle."""
    first = text[:40_000].split("\n")[: SAMPLE // 2]
    middle = text[len(text) // 2 : len(text) // 2 + 40_000].split("\n")[1 : SAMPLE // 2]
    return first + middle if len(text) > 40_000 else text[:40_000].split("\n")[:SAMPLE]


def keep_lines(lines: Sequence[str], level: Level) -> list[int]:
    """Indexes of the lines to show, ascending."""
    keep = _KEEP[level]
    total = len(lines)
    kept = {*range(min(keep.head, total)), *range(max(0, total - keep.tail), total)}
    forms: dict[str, int] = {}
    fields: dict[str, dict[str, list[int]]] = {}
    for index, line in enumerate(lines):
        parts = _VARIABLE.split(line[:LINE_CHARS])
        form = "#".join(parts[::3])
        if level == "aggressive":
            form = _QUOTED.sub("'#'", form)
        forms.setdefault(form, index)
        end = 3 * keep.fields
        for before, word in zip(parts[:end:3], parts[2:end:3], strict=False):
            if word is not None:
                fields.setdefault(before[-FIELD_CHARS:], {}).setdefault(word, []).append(index)
    failed = failures(lines)
    kept |= failed
    for first in forms.values():
        kept.add(first)
        if first in failed:
            kept.update(i for i in (first - 1, first + 1, first + 2) if 0 <= i < total)
    for values in fields.values():
        kept.update(_uncommon(values))
    return sorted(kept)


def _uncommon(values: dict[str, list[int]]) -> list[int]:
    """Where a field stands out: values it rarely has, numbers of a size it rarely has.

    `values` maps each value of one field to the lines it stands in. Of a category the first line
    of every value is kept too.
    """
    total = sum(map(len, values.values()))
    if total < 4:
        return []
    category = len(values) <= FEW and total >= 3 * len(values)
    if not category:
        sizes: dict[str, list[int]] = {}
        for word, found in values.items():
            sizes.setdefault(_size(word), []).extend(found)
        values = sizes
    most = total // 100
    kept: list[int] = []
    for found in values.values():
        if category or len(found) <= most:
            kept.append(found[0])
        if 1 < len(found) <= most:
            kept.extend(found[1:RARE])
    return kept


def _size(word: str) -> str:
    """How many digits a plain number (with or without unit) has before its point; else `word`."""
    digits = word.lstrip("+-")
    whole = len(digits) - len(digits.lstrip("0123456789"))
    return str(whole) if whole else "word"


def _render(lines: Sequence[str], kept: Sequence[int]) -> str:
    out: list[str] = []
    at = 0
    for index in [*kept, len(lines)]:
        if index - at == 1 and len(lines[at]) < 40:
            out.append(lines[at])
        elif index > at:
            out.append(f"… {count(index - at, 'similar line')} …")
        if index < len(lines):
            line = lines[index]
            if len(line) > LINE_CHARS:
                half = LINE_CHARS // 2
                line = f"{line[:half]} … {len(line) - 2 * half:,} characters … {line[-half:]}"
            out.append(line)
        at = index + 1
    return "\n".join(out)

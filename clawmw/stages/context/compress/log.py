"""Logs: lines that differ only in times, numbers and ids are shown once and summed up.

Kept verbatim and in order at every level: what says that something went wrong (each wording in
full for the first dozens, with a line before and two after the first of a form); the first line
of each form; what holds the words sought; the first line of each value of a field that has few
values (so that one `status=500` among thousands of `status=200` stays); the first and last lines.
After the first line of a form stands how many more there are, until when, and the values of its
fields, so that no line has to be fetched to know them. Grouping lines by what is left when
variable words are masked is the usual first step of log parsing (Drain, He et al. 2017); no
clustering follows, so the result does not depend on thresholds of similarity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import Picker, hits, shorten
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Level,
    Reduced,
    count,
    failures,
    marker,
    room,
)

__all__ = ["LogReducer", "logged"]

SAMPLE = 300
"""Lines looked at to tell whether a text is a log."""

LINE_CHARS = 2000
"""A longer line keeps its start and end; no more of it is looked at."""

FEW = 8
"""A field with at most this many values is a category."""

FIELD_CHARS = 12
"""A field is known by so many characters before its value, as `status=` or `took `."""

RARE = 10
"""Of a value that is rare (one line in a hundred) at most so many lines are kept for that."""

OVER = 0.25
"""First lines of forms may take so much more than the room."""

ROOM = 0.8
"""The share of the usual room for lines: fields are summed up beside them."""

MORE = 3
"""A form with at least so many further lines hidden gets a summary."""


@dataclass(frozen=True, slots=True)
class _Keep:
    head: int
    tail: int
    fields: int
    """At most so many fields of one line form are looked at for rare values."""
    wordings: int
    """Failures of one form that are shown, each wording once."""


_KEEP: dict[Level, _Keep] = {"balanced": _Keep(2, 3, 8, 40), "aggressive": _Keep(1, 2, 4, 15)}

_TIME = (
    r"\d{4}[-/]\d\d[-/]\d\d(?:[T ,]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
    r"|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
)
_VARIABLE = re.compile(rf"((?=[\dA-Z])(?:{_TIME}))|((?<![\w.+-])[\w.+-]*\d[\w.+-]*)")
_STAMPED = re.compile(rf"^\W{{0,3}}(?:{_TIME}|\[ *\d+\.\d+\]|\d{{10}}(?:\.\d+|\d{{3}})?\b)")
_LEVEL = re.compile(
    r"^.{0,60}?(?:\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SEVERE)\b"
    r"|\[(?:trace|debug|info|notice|warn|warning|error|fatal|critical)\]|\blevel=\w+"
    r"|\b(?:npm|pip) (?:WARN|ERR)!?)"
)
_ACCESS = re.compile(r'"(?:GET|POST|PUT|DELETE|HEAD|PATCH|OPTIONS) [^"]*" \d{3}\b')
_QUOTED = re.compile(r'"[^"\n]{1,200}"|\'[^\'\n]{1,200}\'|(?<![\w/])(?:/[\w.%#@+-]+)+')
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)([a-zA-Z%]{0,4})")


@dataclass(slots=True)
class _Form:
    """Lines alike but for times, numbers and ids."""

    names: list[str]
    """The text before each variable word."""
    lines: list[int] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    """The variable words of each line; None where a time stands."""
    latest: list[str | None] = field(default_factory=list)
    """Its last line, split."""

    def columns(self) -> list[tuple[str, tuple[str | None, ...]]]:
        """Each field with its value in every line; times are none."""
        columns = zip(self.names, zip(*self.rows, strict=True), strict=True)
        return [(name, column) for name, column in columns if None not in column]


class LogReducer:
    """Lines of a program's output that mostly carry times or levels, or mostly repeat."""

    name = "log"
    version = 2

    def matches(self, text: str) -> bool:
        if logged(text):
            return True
        lines = [line for line in _sample(text) if line and not line.isspace()]
        return len(lines) >= 20 and len(set(lines)) <= 0.5 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced:
        whole = Reduced(text, "log", True)
        tokens = estimate(text)
        if brief.level not in _KEEP or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        forms, rare = _read(lines, brief.level)
        picker = Picker(lines, ROOM * room(tokens, brief.level))
        _pick(picker, lines, (forms, rare), brief)
        if len(picker.kept) > 0.9 * len(lines) and len(max(lines, key=len)) <= LINE_CHARS:
            return whole
        hidden = len(lines) - len(picker.kept)
        said = f"log, {hidden:,} of {count(len(lines), 'line')} left out, summed up by form"
        return Reduced(
            f"{marker(brief.ref, said)}\n{_render(lines, picker.kept, forms)}", "log", False
        )


def logged(text: str) -> bool:
    """Whether lines mostly carry times or levels."""
    lines = [line for line in _sample(text) if line and not line.isspace()]
    if len(lines) < 3:
        return False
    told = sum(
        1
        for line in lines
        if _STAMPED.match(line) or _LEVEL.match(line[:200]) or _ACCESS.search(line[:400])
    )
    return told >= (0.3 if len(lines) >= 8 else 0.8) * len(lines)


def _sample(text: str) -> list[str]:
    """Up to `SAMPLE` lines, from the start and from the middle."""
    first = text[:40_000].split("\n")[: SAMPLE // 2]
    middle = text[len(text) // 2 : len(text) // 2 + 40_000].split("\n")[1 : SAMPLE // 2]
    return first + middle if len(text) > 40_000 else text[:40_000].split("\n")[:SAMPLE]


def _read(lines: Sequence[str], level: Level) -> tuple[list[_Form], list[int]]:
    """The forms in the order of their first lines, and the lines where a field stands out."""
    forms: dict[str, _Form] = {}
    end = 3 * _KEEP[level].fields
    for index, line in enumerate(lines):
        parts: list[str | None] = list(_VARIABLE.split(line[:LINE_CHARS]))
        key = "#".join(parts[::3])  # type: ignore[arg-type]
        form = forms.get(key)
        if form is None:
            form = forms[key] = _Form([str(part) for part in parts[: end - 2 : 3]])
            form.names = form.names[: len(parts) // 3]
        form.lines.append(index)
        form.rows.append(parts[2:end:3])
        form.latest = parts
    rare = _uncommon(list(forms.values()))
    if level == "aggressive":
        merged: dict[str, _Form] = {}
        for key, form in forms.items():
            first = merged.setdefault(_QUOTED.sub("'#'", key), form)
            if first is not form:
                first.lines = sorted([*first.lines, *form.lines])
                first.names, first.rows = [], []
        return list(merged.values()), rare
    return list(forms.values()), rare


def _pick(
    picker: Picker, lines: Sequence[str], told: tuple[list[_Form], list[int]], brief: Brief
) -> None:
    forms, rare = told
    keep = _KEEP[brief.level]
    size = picker.left
    total = len(lines)
    failed = failures(lines)
    for form in forms:
        wordings: dict[str, list[int]] = {}
        for i in form.lines:
            if i in failed:
                wordings.setdefault(lines[i], []).append(i)
        if not wordings:
            continue
        # Each wording once, then again.
        said = [found[0] for found in wordings.values()]
        said += [found[-1] for found in wordings.values() if len(found) > 1]
        for index in said[: keep.wordings]:
            picker.take([index], anyway=picker.left > -8 * size)
        at = next(i for i in form.lines if i in failed)
        picker.take([i for i in (at - 1, at + 1, at + 2) if 0 <= i < total])
    picker.left = max(picker.left, size)
    for form in sorted(forms, key=lambda f: -len(f.lines)):
        picker.take(form.lines[:1], anyway=picker.left > -OVER * size)
    picker.left = max(picker.left, size / 2)
    scores = hits(lines, brief.sought)
    sought = sorted((i for i in range(total) if scores[i] > 1), key=lambda i: (-scores[i], i))
    for index in sought[:40]:
        if picker.left < size / 4 or not picker.take([index]):
            break
    picker.take([*range(max(0, total - keep.tail), total)], anyway=True)
    picker.take([*range(min(keep.head, total))], anyway=True)
    for index in rare:
        if not picker.take([index]) and picker.left < 8:
            break


def _uncommon(forms: Sequence[_Form]) -> list[int]:
    """Where a field stands out: values it rarely has, numbers of a size it rarely has.

    A field is known across forms by the text before it. Of a category the first line of every
    value is kept too.
    """
    fields: dict[str, list[tuple[list[int], tuple[str | None, ...]]]] = {}
    for form in forms:
        for name, column in form.columns():
            fields.setdefault(name[-FIELD_CHARS:], []).append((form.lines, column))
    kept: list[int] = []
    for columns in fields.values():
        counts: Counter[str] = Counter()
        for _, column in columns:
            counts.update(column)  # type: ignore[arg-type]
        wanted = _standing_out(counts)
        found: dict[str, list[int]] = {}
        for lines, column in columns if wanted else ():
            for index, word in zip(lines, column, strict=True):
                if word in wanted:
                    found.setdefault(wanted[word], []).append(index)
        most = counts.total() // 100
        for held in found.values():
            kept.extend(sorted(held)[: RARE if len(held) <= most else 1])
    return kept


def _standing_out(counts: Counter[str]) -> dict[str, str]:
    """The values of a field that are worth a line, each with the group it is one of."""
    total = counts.total()
    if total < 4:
        return {}
    if len(counts) <= FEW and total >= 3 * len(counts):
        return {value: value for value in counts}
    sizes: Counter[str] = Counter()
    group = {value: _size(value) for value in counts}
    for value, number in counts.items():
        sizes[group[value]] += number
    return {value: size for value, size in group.items() if sizes[size] <= total // 100}


def _size(word: str) -> str:
    """How many digits a plain number (with or without unit) has before its point; else `word`."""
    digits = word.lstrip("+-")
    whole = len(digits) - len(digits.lstrip("0123456789"))
    return str(whole) if whole else "word"


def _summary(form: _Form, hidden: int) -> str:
    """`… 841 more like it, until 08:02:00Z; took 0ms to 3001ms; status 200 ×840, 503 ×1 …`."""
    said = []
    for name, column in form.columns()[:6]:
        label = re.split(r"[\s\"'\[\](){},;]", name.strip(" =:\"'[("))[-1] or "value"
        values: Counter[str] = Counter(column)  # type: ignore[arg-type]
        if len(values) == 1:
            continue
        if len(values) <= FEW and values.total() >= 3 * len(values):
            said.append(f"{label} " + ", ".join(f"{v} ×{n:,}" for v, n in values.most_common(FEW)))
            continue
        numbers = [_NUMBER.fullmatch(value) for value in values]
        units = {found[2] for found in numbers if found}
        if all(numbers) and len(units) == 1:
            known = sorted((float(found[1]), found[0]) for found in numbers if found)
            said.append(f"{label} {known[0][1]} to {known[-1][1]}")
        else:
            said.append(f"{label} {len(values):,} values")
    times = [part for part in form.latest[1::3] if part]
    until = f", until {times[0]}" if times else ""
    fields = f"; {'; '.join(said[:4])}" if said else ""
    return f"… {hidden:,} more like it{until}{fields} …"


def _render(lines: Sequence[str], kept: set[int], forms: Sequence[_Form]) -> str:
    summaries: dict[int, str] = {}
    summed: set[int] = set()
    for form in forms:
        hidden = sum(1 for i in form.lines if i not in kept)
        first = next((i for i in form.lines if i in kept), -1)
        if hidden >= MORE and first >= 0:
            summaries[first] = _summary(form, hidden)
            summed.update(i for i in form.lines if i > first)
    # What a summary counts needs no other note.
    out: list[str] = []
    at = 0
    for index in [*sorted(kept), len(lines)]:
        hidden = index - at
        if hidden == 1 and len(lines[at]) < 40:
            out.append(lines[at])
        elif not summed.issuperset(range(at, index)):
            out.append(f"… {count(hidden, 'line')} …")
        if index < len(lines):
            out.append(shorten(lines[index], LINE_CHARS))
            if index in summaries:
                out.append(summaries[index])
        at = index + 1
    return "\n".join(out)

"""Source code and configuration: its outline, and what was asked for as it stands.

Every line shown is exact, with its indentation and its number, so that an edit by exact string
works on it; what is hidden is counted in place with the identifiers that stand nowhere else.
Shown first: lines around the numbers asked for; the definitions whose name or body holds the
rare words asked for; the signatures, outermost first, with the first line of a docstring;
constants with their values. Imports fold to the names imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import (
    Picker,
    hits,
    names,
    numbers,
    places,
    render,
    words_of,
)
from clawmw.stages.context.compress.log import logged
from clawmw.stages.context.compress.outline import Block, Outline, indentation, scan
from clawmw.stages.context.compress.protocol import LOSSY_FLOOR, Brief, Reduced, count, marker, room
from clawmw.stages.context.compress.relevance import stems
from clawmw.stages.context.compress.squeeze import looks_like_code

__all__ = ["CodeReducer", "Listing", "listing"]

AROUND = 8
"""Lines shown before and after a line asked for by number."""

BLOCKS = 0.8
"""The share of the room that definitions shown whole may take."""

ASKED = 80
"""A range of up to so many lines that was asked for by its two ends is shown whole."""

NOTED = 14
"""One identifier of what is hidden for so many tokens of room."""

WHOLE = 400
"""Tokens up to which source is shown whole: who reads so small a file will most likely edit it,
and an edit needs the exact text."""

MODULES = 12
"""Imports named of one stretch of them."""

FOREIGN = 30
"""Lines around a listing (a tool's header, a prompt) kept as they are."""

_NUMBER = re.compile(r"(\s{0,8})(\d{1,7})(\t|→|:|\s?\|| {2}|-)")
_DOC = re.compile(r"\s*(?:[rRuUbB]?\"\"\"|'''|/\*\*?|///|//!|;;|\"\S|@doc|@moduledoc|--\s|#\s)")
_QUOTED = re.compile(r"[\"'<]([\w./:@-]{2,60})[\"'>]")
_MODULE = re.compile(r"\s*#?\s*\w+\s+(?:static\s+)?([\w./:@\\-]{2,60}?)(?:\.\*|;|\s|$)")
_COMMENT = re.compile(r"\s*(?:#(?!\w)|//|/?\*|--\s|;|%%|<!--)")
_WRAPPER = re.compile(
    r"\[File: |\(\d+ more lines |\(Open file|\(Current dir|bash-?\S*\$|\S*[$#>] |<file|</file|```"
    r"|(?:File|Path|Content|Contents|Output|Here)\b.{0,200}:$|=+ \S+ =+$|<(?:path|content|output)"
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A text as lines of source: `source` without numbers, `numbers` those that were shown."""

    lines: list[str]
    source: list[str]
    numbers: dict[int, int]
    """Line index to the number it carries; empty for a plain text."""
    foreign: list[int]
    """Lines that are not part of the source."""


class CodeReducer:
    """Anything `looks_like_code` says is source, with or without line numbers."""

    name = "code"
    version = 1

    def matches(self, text: str) -> bool:
        if _numbered(text[:20_000].split("\n")):
            return True
        return looks_like_code(text) and not logged(text)

    def reduce(self, text: str, brief: Brief) -> Reduced:
        whole = Reduced(text, "code", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        read = listing(text)
        if _asked_whole(read, brief.sought):
            return whole
        outline = scan(read.source)
        size = room(tokens, brief.level)
        if brief.level == "balanced" and _edited(read, outline):
            size = tokens if tokens <= WHOLE else size
        if size > 0.75 * tokens:
            return whole
        picker = Picker(read.lines, size)
        found = places(read.source, brief.sought)
        scores = hits(read.source, brief.sought, found)
        _pick(picker, read, outline, (found, scores), brief.sought)
        if len(picker.kept) > 0.85 * len(read.lines):
            return whole
        shown = render(read.lines, picker.kept, _Notes(read, outline, picker.kept, scores, size))
        hidden = count(len(read.lines) - len(picker.kept), "line")
        said = f"code, {hidden} of {len(read.lines):,} left out where … stands"
        return Reduced(f"{marker(brief.ref, said)}\n{shown}", "code", False)


def _edited(read: Listing, outline: Outline) -> bool:
    """Whether this is source that one edits, and no report that is merely indented."""
    return bool(outline.imports) or any(
        "(" in read.source[block.start][:200] for block in outline.blocks
    )


def _numbered(lines: Sequence[str]) -> list[int]:
    """Indexes of the lines that carry a rising number, if these are most of the text."""
    found: list[int] = []
    last = -1
    filled = 0
    for index, line in enumerate(lines):
        if index == 60 and len(found) < 0.3 * filled:
            return []
        filled += not (not line or line.isspace())
        match = _NUMBER.match(line)
        if match and last < int(match[2]) <= last + 1 + (last < 0) * 10**7:
            last = int(match[2])
            found.append(index)
    return found if len(found) >= 5 and len(found) > 0.6 * filled else []


def listing(text: str) -> Listing:
    """`text` split into lines, with line numbers told apart where a tool has put them."""
    lines = text.split("\n")
    source = list(lines)
    numbered: dict[int, int] = {}
    found = _numbered(lines)
    for index in found:
        match = _NUMBER.match(lines[index])
        if match:
            numbered[index] = int(match[2])
            source[index] = lines[index][match.end() :]
    if found:
        first, last = found[0], found[-1]
        foreign = [i for i in range(len(lines)) if i not in numbered and not first < i < last]
    else:
        foreign = _wrapper(lines)
    for index in foreign:
        source[index] = ""
    return Listing(lines, source, numbered, foreign)


def _wrapper(lines: Sequence[str]) -> list[int]:
    """Lines of a tool or a shell at the start and the end of a text, up to the first of source."""
    ends = [*range(min(6, len(lines))), *range(max(6, len(lines) - 5), len(lines))]
    return [i for i in ends if _WRAPPER.match(lines[i])]


def _asked_whole(read: Listing, sought: frozenset[str]) -> bool:
    """Whether just these lines were asked for, by the numbers of the first and the last."""
    asked = set(numbers(sought))
    if not asked:
        return False
    if read.numbers:
        ends = (min(read.numbers.values()), max(read.numbers.values()))
        total = ends[1] - ends[0] + 1
        return total <= ASKED and ends[0] in asked and (ends[1] in asked or total in asked)
    total = len(read.lines) - (not read.lines[-1])
    return total <= ASKED and any(start + total - 1 in asked for start in asked if start > 1)


def _pick(
    picker: Picker,
    read: Listing,
    outline: Outline,
    sought_at: tuple[Mapping[str, set[int]], Sequence[float]],
    sought: frozenset[str],
) -> None:
    found, scores = sought_at
    total = picker.left
    for index in read.foreign[:FOREIGN]:
        picker.take([index], anyway=True)
    picker.left = max(picker.left, total / 2)
    asked = set(numbers(sought))
    if read.numbers:
        for index, number in read.numbers.items():
            if number in asked:
                around = (AROUND, AROUND // 2, 1)
                any(picker.take(range(index - n, index + n + 1)) for n in around)
    _best_blocks(picker, outline.blocks, found, scores, sought)
    _signatures(picker, read.source, outline, scores)
    _best_lines(picker, scores)
    if len(outline.blocks) < 3 and len(picker.kept) < 5 + len(read.foreign):
        _ends(picker, read, total)


def _best_blocks(
    picker: Picker,
    blocks: Sequence[Block],
    found: Mapping[str, set[int]],
    scores: Sequence[float],
    sought: frozenset[str],
) -> None:
    """The definitions that hold most of what is sought: whole, or their best lines."""
    if not any(scores):
        return
    size = picker.left
    floor = size * (1 - BLOCKS)
    owner = [-1] * len(scores)
    for at, block in enumerate(blocks):
        owner[block.start : block.end] = [at] * (block.end - block.start)
    worth = [0.0] * len(blocks)
    named = set()
    for at, block in enumerate(blocks):
        name = stems(block.name.replace("_", " "))
        if name and name <= sought:
            worth[at] = 2.0 * len(name)
            named.add(at)
    for held in found.values():
        owners = {owner[i] for i in held} - {-1}
        for at in owners:
            head = any(i in held for i in range(blocks[at].start, blocks[at].body))
            worth[at] += log((len(blocks) + 1) / len(owners)) * (1 + head)
    top = max(worth, default=0.0)
    ranked = sorted(range(len(blocks)), key=lambda i: (-worth[i], blocks[i].start))
    for rank, at in enumerate(ranked[:12]):
        block = blocks[at]
        if worth[at] < 0.4 * top or worth[at] <= 1 or picker.left <= floor:
            break
        mine = [i for i in range(block.start, block.end) if owner[i] == at or i < block.body]
        price = picker.cost(mine)
        # What was asked for by its name is worth more than the usual room.
        if price <= (picker.left - floor if rank else size * (1.5 if at in named else 1)):
            picker.take(mine, anyway=True)
            continue
        picker.take(range(block.start, block.body))
        inside = sorted((i for i in mine if scores[i]), key=lambda i: (-scores[i], i))
        for index in inside[:6]:
            near = [i for i in range(index - 2, index + 3) if block.body <= i < block.end]
            if picker.cost(near) > picker.left - floor:
                break
            picker.take(near)
    picker.left = max(picker.left, floor)


def _signatures(
    picker: Picker, source: Sequence[str], outline: Outline, scores: Sequence[float]
) -> None:
    """Heads of definitions, outermost first; then constants."""
    top = min((indentation(source[i]) for i in outline.constants), default=0)
    for depth in range(4):
        for block in outline.blocks:
            if block.depth == depth:
                head = range(block.start, block.body)
                if not picker.take(head):
                    picker.take(head[:1])
        if depth == 0:
            flat = [i for i in outline.constants if indentation(source[i]) == top]
            for index in sorted(flat, key=lambda i: (-scores[i], not source[i][:1].isupper(), i)):
                picker.take([index])
    for block in outline.blocks:
        if block.body < block.end and block.depth < 2 and _DOC.match(source[block.body]):
            picker.take([block.body])


def _best_lines(picker: Picker, scores: Sequence[float]) -> None:
    ranked = sorted((i for i, s in enumerate(scores) if s > 1.5), key=lambda i: (-scores[i], i))
    for index in ranked[:40]:
        if not picker.take([index]):
            return


def _ends(picker: Picker, read: Listing, total: float) -> None:
    """Of a text without structure, its start and its end."""
    body = [i for i in range(len(read.lines)) if i not in set(read.foreign)]
    floor = 0.3 * total
    for index in body:
        if picker.left < floor or not picker.take([index]):
            break
    for index in reversed(body):
        if not picker.take([index]):
            break


class _Notes:
    """What stands for hidden lines: how many, and the identifiers among them."""

    def __init__(
        self, read: Listing, outline: Outline, kept: set[int], scores: Sequence[float], size: int
    ) -> None:
        self._source = read.source
        self._imports = set(outline.imports)
        self._blocks = {block.start: block.name for block in outline.blocks if block.name}
        self._scores = scores
        self._shown = words_of("\n".join(read.source[i] for i in sorted(kept)))
        self._left = max(size // NOTED, 12)

    def __call__(self, start: int, end: int) -> str:
        total = end - start
        hidden = self._source[start:end]
        scored = zip(hidden, self._scores[start:end], strict=True)
        most = min(self._left, 8, 1 + total // 5)
        defined = [self._blocks[i] for i in range(start, end) if i in self._blocks][: 2 * most]
        self._shown.update(defined)
        said = [line if score or not _COMMENT.match(line) else "" for line, score in scored]
        found = names(said, self._shown, most - len(defined), self._scores[start:end])
        imports = [self._source[i] for i in range(start, end) if i in self._imports]
        self._left -= len(found) + len(defined)
        found = [*defined, *self._modules(imports), *found]
        first = next((line for line in hidden if line.strip()), "")
        lead = first[: len(first) - len(first.lstrip(" \t"))][:16]
        noun = "import line" if len(imports) > total / 2 else "line"
        return f"{lead}… {count(total, noun)}{': ' if found else ''}{', '.join(found)} …"

    def _modules(self, lines: Sequence[str]) -> list[str]:
        """What is imported, as far as it is not shown."""
        found = []
        for line in lines[:MODULES]:
            module = _QUOTED.search(line) or _MODULE.match(line)
            if module and module[1] not in self._shown:
                self._shown.add(module[1])
                found.append(module[1])
        return found

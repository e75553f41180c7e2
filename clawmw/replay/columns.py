"""Finds the column a value stands in: CSV, bars, aligned columns, clawmw's tables.

In clawmw's notation a header names nested cells, `seat{row,no}` and `legs[]{from,to}`, and rows
hold them so: `{4,A}`, `[{x,y},{z,w}]`. A place is the index of its cell at each level of braces;
brackets repeat a level and do not count.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

__all__ = ["Columns", "below"]

_ROWS = re.compile(r"[\[{]\d+ (?:keyed )?rows: |\[\d+\]\{")
"""How a table of clawmw's begins, and one of headroom's: `[24]{id:int,name:string}`."""
_KIND = re.compile(r":\w+\Z")
_BREAK = re.compile(r"\n|\\n")
"""Also where a table stands inside a JSON string."""
_ANY_CELL = re.compile(r"[,;\t|{}\[\]]| {2,}|rows: ")
_WIDEST = 20_000
"""Characters; a longer line is no header."""
_SPACES = re.compile(r"(?: {2,}|\t+)")


class Columns:
    """A text's lines and braces, and which lines are headers."""

    def __init__(self, text: str, keys: Iterable[str] = ()) -> None:
        """`keys`: all that the records have, whichever of them."""
        self.text = text
        self.keys = frozenset(keys)
        self.starts = [0, *(match.end() for match in _BREAK.finditer(text))]
        self.braces = [match.start() for match in re.finditer(r"[\[\]{}]", text)]
        self._headers: dict[frozenset[str], list[int]] = {}
        self._cells: dict[int, list[tuple[str, str]]] | None = None

    def opened(self, at: int, reach: int) -> Iterator[int]:
        """Where the braces and brackets open that `at` is in, the innermost first.

        Not further than `reach` characters before it.
        """
        depth = 0
        for index in range(bisect_left(self.braces, at) - 1, -1, -1):
            place = self.braces[index]
            if place < at - reach:
                return
            if self.text[place] in "]}":
                depth += 1
            elif depth:
                depth -= 1
            else:
                yield place

    def closed(self, at: int, reach: int) -> int | None:
        """Where the braces around `at` close; None where they do not within `reach`."""
        depth = 0
        for index in range(bisect_left(self.braces, at), len(self.braces)):
            place = self.braces[index]
            if place > at + reach:
                return None
            character = self.text[place]
            if character in "[{":
                depth += 1
            elif depth:
                depth -= 1
            elif character == "}":
                return place
        return None

    def number(self, at: int) -> int:
        """The line that holds `at`, from 0."""
        return bisect_right(self.starts, at) - 1

    def line(self, number: int) -> tuple[int, int]:
        """Where a line begins and ends."""
        last = number + 1 == len(self.starts)
        end = len(self.text) if last else self.starts[number + 1] - 1
        return self.starts[number], end - (not last and self.text[end] != "\n")

    def header(self, number: int, keys: frozenset[str]) -> str | None:
        """The nearest line above `number` that names the keys: half of them, or nothing else."""
        found = self._headers.get(keys)
        if found is None:
            cells = self._all_cells().items()
            found = self._headers[keys] = [
                n for n, names in cells if _heads(names, keys, self.keys)
            ]
        index = bisect_right(found, number - 1) - 1
        return self.text[slice(*self.line(found[index]))] if index >= 0 else None

    def _all_cells(self) -> dict[int, list[tuple[str, str]]]:
        if self._cells is None:
            self._cells = {}
            for number in range(len(self.starts)):
                start, end = self.line(number)
                if end - start <= _WIDEST:
                    line = self.text[start:end]
                    named = _ROWS.search(line)
                    cells = _ANY_CELL.split(line[named.end() :] if named else line)
                    self._cells[number] = [_names(cell) for cell in cells if cell.strip()]
        return self._cells


def below(columns: Columns, at: int, key: str, keys: frozenset[str]) -> bool:
    """Whether the value at `at` stands in the column that a header above calls `key`.

    `keys`: those of the value's record.
    """
    number = columns.number(at)
    head = columns.header(number, keys)
    if head is None:
        return False
    start, end = columns.line(number)
    row = columns.text[start:end]
    named = _ROWS.search(head)
    if named is not None:
        wanted = {place for place, name, _ in _nested(head[named.end() :]) if key in _names(name)}
        return _place(_nested(row), at - start) in wanted
    delimiter = max(("|", "\t", ";", ",", "  "), key=lambda d: len(_split(head, d)))
    cells = [name for name, _ in _split(head, delimiter)]
    index = bisect_right([begin for _, begin in _split(row, delimiter)], at - start) - 1
    return len(cells) > max(index, 1) and key in _names(cells[index])


def _heads(names: Sequence[tuple[str, str]], keys: frozenset[str], every: frozenset[str]) -> bool:
    """Whether a line's cells are a header over records with these keys."""
    hits = sum(not keys.isdisjoint(name) for name in names)
    if hits >= min(2, len(keys)) and 2 * hits >= len(keys):
        return True
    return hits > 0 and len(names) > 1 and not any((keys | every).isdisjoint(n) for n in names)


def _names(cell: str) -> tuple[str, str]:
    """The name a header's cell gives: as it is, and without a type after it."""
    name = cell.strip().strip("\"'").strip()
    return name, _KIND.sub("", name)


def _split(line: str, delimiter: str) -> list[tuple[str, int]]:
    """Cells and where each begins; quoted cells may hold the delimiter."""
    if delimiter == "  ":
        cuts = [0, *(m.end() for m in _SPACES.finditer(line))]
        return [(line[a:b], a) for a, b in zip(cuts, [*cuts[1:], len(line)], strict=True)]
    cells, start, quoted = [], 0, False
    for place, character in enumerate(line):
        if character == '"' and delimiter != "|":
            quoted = not quoted
        elif character == delimiter and not quoted:
            cells.append((line[start:place], start))
            start = place + 1
    cells.append((line[start:], start))
    return cells


_Path: TypeAlias = "tuple[int, ...]"


def _nested(line: str) -> Iterator[tuple[_Path, str, int]]:
    """(place, text, where it begins) of every cell of a line in clawmw's notation."""
    path, kinds, start = [0], [""], 0
    quoted = skip = False
    for place, character in enumerate(line):
        if skip or (quoted and character not in '\\"'):
            skip = False
        elif character == "\\":
            skip = quoted
        elif character == '"':
            quoted = not quoted
        elif character in "{[":
            yield _levels(path, kinds), line[start:place], start
            path.append(0)
            kinds.append(character)
            start = place + 1
        elif character in "}]":
            yield _levels(path, kinds), line[start:place], start
            if len(path) == 1:
                return
            path.pop()
            kinds.pop()
            start = place + 1
        elif character == ",":
            yield _levels(path, kinds), line[start:place], start
            path[-1] += 1
            start = place + 1
    yield _levels(path, kinds), line[start:], start


def _levels(path: Sequence[int], kinds: Sequence[str]) -> _Path:
    return tuple(n for n, kind in zip(path, kinds, strict=True) if kind != "[")


def _place(cells: Iterator[tuple[_Path, str, int]], at: int) -> _Path | None:
    found = None
    for path, _, start in cells:
        if start > at:
            break
        found = path
    return found

"""The records in a structured tool result: JSON, JSON lines, CSV, Markdown and aligned tables.

A record is a list of (key, value) pairs as texts; a key of "" is one that has no name: a cell
of a row without header, or what a record is filed under. Numbers keep their source text.
Booleans and null are left out: they say nothing away from their key, and are found anywhere.
"""

from __future__ import annotations

import csv
import json
import re
from ast import literal_eval as read_literal
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

__all__ = ["Record", "records"]

Record: TypeAlias = "list[tuple[str, str]]"

_MAP = 40
"""An object of more plain values is a map: each pair is a record of its own."""
_LONGEST = 8_000_000
"""Characters; nothing longer is read."""
_COLUMNS = re.compile(r" {2,}|\t+")
_RULE = re.compile(r"[\s|:+=-]{3,}\Z")
_FIGURE = re.compile(r"[-\d.,:]+\Z")
_DELIMITERS = ",;\t|"


class _Number(str):
    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    __slots__ = ()


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
)


def records(text: str) -> list[Record]:
    """The records of a tool result; none where it is not structured."""
    if len(text) > _LONGEST:
        return []
    for read in (_of_json, _of_json_lines, _of_tuples, _of_table):
        found = read(text)
        if found:
            return found
    return []


def _of_json(text: str) -> list[Record]:
    start = re.search(r"(?:^|\n|[:=] ?)([{\[])", text[:2000])
    if start is None:
        return []
    try:
        value, end = _DECODER.raw_decode(text, start.start(1))
    except (ValueError, RecursionError):
        return []
    return list(_walked(value)) if len(text) - end <= 300 else []


def _of_json_lines(text: str) -> list[Record]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].lstrip().startswith(("{", "[")):
        return []
    found: list[Record] = []
    bad = 0
    for line in lines:
        try:
            found += _walked(_DECODER.decode(line))
        except (ValueError, RecursionError):
            bad += 1
    return found if bad <= len(lines) // 10 else []


def _of_tuples(text: str) -> list[Record]:
    """Rows as a database driver of Python prints them."""
    if not text.lstrip().startswith("[("):
        return []
    try:
        value = read_literal(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    rows = value if isinstance(value, list) else []
    found = [[("", str(v)) for v in row if _told(v)] for row in rows if isinstance(row, tuple)]
    return [row for row in found if row]


def _told(value: object) -> bool:
    return value is not None and not isinstance(value, bool)


def _walked(value: Any) -> Iterator[Record]:
    """Every object and every row of a JSON value, from the outside in."""
    stack: list[tuple[Any, str]] = [(value, "")]
    while stack:
        node, label = stack.pop()
        if isinstance(node, _Pairs):
            yield from _object(node, label)
            inner = [(k, v) for k, v in node if isinstance(v, list)]
            filed = len(node) > 1 and all(isinstance(v, _Pairs) for _, v in node)
            stack += [(v, k if filed else "") for k, v in reversed(inner)]
        elif isinstance(node, list):
            plain = [v for v in node if isinstance(v, str)]
            if plain and len(plain) == len(node) and label == "[":
                yield [("", v) for v in plain]
            stack += [(v, "[") for v in reversed(node) if isinstance(v, list)]


def _object(node: _Pairs, label: str) -> Iterator[Record]:
    pairs: Record = []
    for key, value in node:
        if isinstance(value, str):
            pairs.append((key, value))
        elif isinstance(value, list) and not isinstance(value, _Pairs):
            pairs += [(key, item) for item in value if isinstance(item, str)]
    if len(pairs) > _MAP and len({key for key, _ in pairs}) > _MAP:
        yield from ([pair] for pair in pairs)
    elif pairs:
        yield [("", label), *pairs] if label not in ("", "[") else pairs


def _of_table(text: str) -> list[Record]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 3:
        return []
    for rows in (_bars(lines), *(_delimited(lines, d) for d in _DELIMITERS), _aligned(lines)):
        if rows:
            header = [cell.strip() for cell in rows[0]]
            return [
                [(k, c.strip()) for k, c in zip(header, row, strict=False) if c.strip()]
                for row in rows[1:]
            ]
    return []


def _bars(lines: Sequence[str]) -> list[list[str]]:
    """A table drawn with bars: Markdown's, or a database client's."""
    drawn = [ln for ln in lines if "|" in ln and not _RULE.match(ln)]
    if len(drawn) < 3 or len(drawn) < 0.8 * sum(not _RULE.match(ln) for ln in lines):
        return []
    if not any(_RULE.match(line) for line in lines[:4]):
        return []
    return _even([line.strip().strip("|").split("|") for line in drawn], 2)


def _delimited(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if sum(delimiter in line for line in lines) < 0.9 * len(lines):
        return []
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return []
    return _even(rows, 2 if delimiter == "\t" else 3)


def _aligned(lines: Sequence[str]) -> list[list[str]]:
    drawn = [line for line in lines if not _RULE.match(line)]
    return _even([_COLUMNS.split(line.strip()) for line in drawn], 3)


def _even(rows: list[list[str]], least: int) -> list[list[str]]:
    """The rows as wide as the first, if nearly all are and it looks like a header."""
    if len(rows) < 3:
        return []
    head = [cell.strip() for cell in rows[0]]
    if len(head) < least or len(set(head)) < len(head):
        return []
    if any(cell.endswith(".") or cell.count(" ") > 2 or _FIGURE.match(cell) for cell in head):
        return []
    even = [row for row in rows if len(row) == len(head)]
    return even if len(even) >= 0.85 * len(rows) else []

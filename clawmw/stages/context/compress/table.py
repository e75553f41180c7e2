"""Tables as text: CSV, TSV, Markdown, and columns aligned by spaces.

Records stay whole lines, verbatim but for padding. Beyond the floor a table keeps its header,
its ends, its exceptional records and a key for every hidden one, as JSON arrays do.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import Encoder, Obj
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.prune import plan_of
from clawmw.stages.context.compress.relevance import hit, relevance
from clawmw.stages.context.compress.rows import (
    in_short,
    naming_columns,
    notable,
)

__all__ = ["TableReducer", "cut_rows", "cut_tables"]

MIN_ROWS = 6
_DELIMITERS = ",\t|;"
_RULE = re.compile(r"[\s|:+=-]{3,}\Z")
_COLUMNS = re.compile(r" {2,}|\t+")
_NAME = re.compile(r"[^\W\d][^\d]*\d?\Z|[%#]")
_FOOT = re.compile(r"\(\d+ rows?\)\s*\Z|\d+ rows? in set")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?\Z")
_BAR_PADDING = re.compile(r" *\| *")
_BLANK = frozenset(" \t")
_DASHES = re.compile(r"-{4,}")


@dataclass(frozen=True, slots=True)
class _Table:
    before: Sequence[str]
    """Lines above the first record, header included."""
    header: Sequence[str]
    lines: Sequence[str]
    cells: Sequence[Sequence[str]]
    after: Sequence[str]


class TableReducer:
    """A text that is one table, with at most a few lines around it."""

    name = "table"
    version = 1

    def matches(self, text: str) -> bool:
        if text.count("\n") < MIN_ROWS:
            return False
        return any(mark in text[:20_000] for mark in (*_DELIMITERS, "  "))

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        lines = text.split("\n")
        table = _bars(lines) or _delimited(lines) or _aligned(lines)
        if table is None:
            return None
        plain = "\n".join([*table.before, *table.lines, *table.after])
        whole = Reduced(plain, "table", True)
        tokens = estimate(plain)
        if tokens < LOSSY_FLOOR.get(brief.level, tokens + 1):
            return whole
        shown, missing = cut_rows(table.header, table.cells, table.lines, brief)
        if not missing:
            return whole
        said = f"table, {missing:,} of {len(table.lines):,} rows in short or left out"
        return Reduced(
            "\n".join([marker(brief.ref, said), *table.before, *shown, *table.after]),
            "table",
            False,
        )


def cut_rows(
    header: Sequence[str], cells: Sequence[Sequence[str]], lines: Sequence[str], brief: Brief
) -> tuple[list[str], int]:
    """(the records of `lines` to show, then the others in short; how many those are).

    All lines and 0 where so many are exceptional that cutting is not worth it.
    """
    records = [dict(zip(header, row, strict=False)) for row in cells]
    total = len(records)
    size = sum(map(len, lines))
    tokens = estimate("\n".join(lines))
    wide = size / max(tokens, 1)
    space = int(room(tokens, brief.level, named=True) * wide)
    asked = relevance(lines, brief.sought)
    kept = notable(records, plan_of(space, size // max(total, 1)), asked)
    if len(kept) > 0.8 * total:
        return list(lines), 0
    whole = set(kept)
    others = [record for index, record in enumerate(records) if index not in whole]
    columns, taken = naming_columns(others, brief.names)
    naming = int(keys_room(tokens, brief.level, taken=taken, found=hit(asked)) * wide)
    columns, short = in_short(others, columns, naming)
    shown = [lines[index] for index in kept]
    if short:
        encoder = Encoder()
        shown.append(f"… {count(len(others), 'more row')}, in short:")
        shown += [encoder.encode(Obj(zip(columns, row, strict=True))) for row in short]
    if len(short) < len(others):
        shown.append(f"… {count(len(others) - len(short), 'more row')} …")
    return shown, len(others)


def cut_tables(text: str, brief: Brief) -> tuple[str, set[str], int]:
    """`text` with each table between bars in it cut; the lines of those; the rows left out."""
    out: list[str] = []
    kept: set[str] = set()
    missing = 0
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        end = at
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        table = _bars(lines[at:end]) if end - at > MIN_ROWS else None
        if table is not None:
            shown, gone = cut_rows(table.header, table.cells, table.lines, brief)
            missing += gone
            out += [*table.before, *shown, *table.after]
            kept.update(out[-len(shown) - len(table.before) - len(table.after) :])
        else:
            end = max(end, at + 1)
            out += lines[at:end]
        at = end
    return "\n".join(out), kept, missing


def _bars(lines: Sequence[str]) -> _Table | None:
    """A Markdown or SQL client table: rows between bars, a rule below the header."""
    body = [i for i, line in enumerate(lines) if line.lstrip().startswith("|")]
    if (
        len(body) < MIN_ROWS
        or body[-1] - body[0] + 1 > len(body) + 3
        or len(lines) - len(body) > 12
    ):
        return None
    rows = [i for i in body if not _RULE.match(lines[i])]
    if len(rows) < MIN_ROWS:
        return None
    slim = {i: _BAR_PADDING.sub("|", lines[i].strip()) for i in rows}
    cells = {i: slim[i].removeprefix("|").removesuffix("|").split("|") for i in rows}
    width = len(cells[rows[0]])
    if width < 2 or sum(1 for i in rows if len(cells[i]) == width) < 0.95 * len(rows):
        return None
    first = rows[0]
    before = [*lines[: body[0]], slim[first], "|" + "-|" * width]
    before = [line for line in before if not (_RULE.match(line) and line.startswith("+"))]
    after = [line for line in lines[body[-1] + 1 :] if not _RULE.match(line)]
    return _Table(
        before, cells[first], [slim[i] for i in rows[1:]], [cells[i] for i in rows[1:]], after
    )


def _delimited(lines: Sequence[str]) -> _Table | None:
    """Comma, tab, bar or semicolon separated values with a header line."""
    body = list(lines)
    while body and not body[-1]:
        body.pop()
    if len(body) <= MIN_ROWS:
        return None
    for delimiter in _DELIMITERS:
        width = body[0].count(delimiter) + 1
        if width < 2 or len(body[0]) > 2000 or (width == 2 and delimiter == ","):
            continue
        if sum(line.count(delimiter) + 1 < width for line in body[: 10 * MIN_ROWS]) > 1:
            continue
        try:
            cells = list(csv.reader(body, delimiter=delimiter))
        except csv.Error:
            continue
        header = cells[0]
        ragged = sum(1 for row in cells if len(row) != len(header))
        if len(cells) != len(body) or ragged > len(cells) // 50:
            continue
        if len(set(header)) == len(header) and all(
            name and not _NUMBER.match(name) for name in header
        ):
            return _Table(body[:1], header, body[1:], cells[1:], [])
    return None


def _aligned(lines: Sequence[str]) -> _Table | None:
    """Columns padded with spaces below a header, as `ps`, `psql` or `kubectl get` print them.

    Cells are told by their place where the columns start below their names, else by the spaces
    between them. Rendered with bars, so that an empty cell stays one.
    """
    body = [line for line in lines if line.strip()]
    if len(body) <= MIN_ROWS or len(body[0]) > 2000:
        return None
    header = _COLUMNS.split(body[0].strip())
    if (
        len(header) < 3
        or len(set(header)) != len(header)
        or not all(len(name) < 30 and _NAME.match(name) for name in header)
    ):
        return None
    rows = [line for line in body[1:] if not _RULE.match(line)]
    after = rows[-1:] if _FOOT.match(rows[-1]) else []
    rows = rows[: len(rows) - len(after)]
    cells = _placed(body[0], header, rows) or _spaced(header, rows)
    if cells is None:
        return None
    return _Table(["|".join(header)], header, ["|".join(row) for row in cells], cells, after)


def _placed(head: str, header: Sequence[str], rows: Sequence[str]) -> list[list[str]] | None:
    """Cells by where their column's name starts, if nearly every row has a gap there."""
    starts, at = [], 0
    for name in header:
        at = head.index(name, at)
        starts.append(at)
        at += len(name)
    before = itemgetter(*[start - 1 for start in starts[1:]])
    clean = [row for row in rows if _BLANK.issuperset(before(row.ljust(starts[-1])))]
    if len(clean) < 0.98 * len(rows):
        return None
    parts = [*map(slice, starts, [*starts[1:], None])]
    return [[row[part].strip() for part in parts] for row in rows]


def _spaced(header: Sequence[str], rows: Sequence[str]) -> list[list[str]] | None:
    cells = [_COLUMNS.split(line.strip(), len(header) - 1) for line in rows]
    whole = sum(1 for row in cells if len(row) == len(header))
    return cells if cells and whole >= 0.95 * len(cells) else None

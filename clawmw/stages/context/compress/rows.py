"""Which records of a long list stay whole, and what the others look like in short."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from clawmw.stages.context.compress.notation import Node, Num, Obj
from clawmw.stages.context.compress.protocol import failures

__all__ = ["Plan", "flat", "gaps", "in_short", "key_columns", "naming_columns", "notable"]

Cells = Mapping[str, Any]
"""One record as scalars by column; `Plan` and the functions here read nothing else."""

FEW = 8
"""A column with at most this many distinct values is a category: each value is shown once."""

COLUMNS = 100
"""So many columns are looked at for what is odd in them."""

PER_COLUMN = 10
"""At most this many exceptional records are kept for one column."""

_ID_NAME = re.compile(
    r"(?:^|[_.\-])(?:id|ids|uid|pid|uuid|guid|key|code|sku|no|number|num|ref|slug|handle|sha|hash|ticket|email|path|file|url|uri)$"
    r"|\APID\Z|(?<=[a-z])(?:Id|ID|Key|Code|Number|No|Ref|Uuid|Url|Path|Name)$",
)
_LABEL_NAME = re.compile(
    r"(?:^|[_.\-])(?:name|title|label|subject|summary|login|user|username)$|Name$|Title$",
    re.IGNORECASE,
)
_CJK_ID = re.compile(r"编号|編號|号$|ID$|代码|代碼|コード|番号")
_CJK_LABEL = re.compile(r"名称|名稱|姓名|标题|標題|名前|이름")
_PLAINEST = frozenset(("id", "name", "path", "url", "key", "number", "code"))
"""Columns that a tool's parameter names more fully."""
_KEY_CHARS = 48
_NAMED_CHARS = 160
_ID = re.compile(r"(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[\w.:-]{8,48}\Z")
_COUNTER = re.compile(r"[0-9]{1,16}\Z")
_NUMBERS = re.compile(r"(?:-?\d++(?:\.\d++)?(?:[eE][-+]?\d++)?(?:\n|\Z))++")
"""One a line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many records stay: so many at the start, at the end, and exceptional ones at most."""

    head: int
    tail: int
    notable: int


def flat(record: Node) -> dict[str, Any]:
    """The scalar cells of a record, one nested level included under `outer.inner`.

    Inner lists are left out; a record that is a list has its cells named by position.
    """
    if not isinstance(record, list):
        return {"value": record}
    if not isinstance(record, Obj):
        named = enumerate(record, 1)
        return {f"column {n}": cell for n, cell in named if not isinstance(cell, list)}
    cells: dict[str, Any] = {}
    for key, value in record:
        if isinstance(value, Obj):
            for inner, scalar in value:
                if not isinstance(scalar, list):
                    cells[f"{key}.{inner}"] = scalar
        elif not isinstance(value, list):
            cells[key] = value
    return cells


ASKED = 1.3
"""A record is what was asked for if it holds a word that at most so many others do (log 4)."""


def notable(records: Sequence[Cells], plan: Plan, asked: Sequence[float] = ()) -> list[int]:
    """Indexes of the records to keep, ascending: ends, what was asked for, failures, odd ones.

    `asked` says how much each holds of what was asked for. Then come failures, records with a
    rare value or an unusual gap, the first of each category, the smallest and largest of each
    numeric column; `plan` caps the sum.
    """
    total = len(records)
    ends = [*range(min(plan.head, total)), *range(max(total - plan.tail, 0), total)]
    kept = dict.fromkeys(ends)
    best = max(asked, default=0.0)
    wanted = [i for i, held in enumerate(asked) if held >= max(ASKED, best / 2)]
    wanted.sort(key=lambda i: (-asked[i], i))
    failed = failures([_said(record) for record in records])
    wishes: list[list[int]] = [wanted, [], [], [], []]
    if len(failed) <= max(total // 3, PER_COLUMN):
        wishes[1] = sorted(failed)
    columns = dict.fromkeys(chain.from_iterable(records))
    for column in list(columns)[:COLUMNS]:
        for rank, found in enumerate(_column(records, column)):
            wishes[rank + 2].extend(found)
    space = plan.notable
    for index in (i for rank in wishes for i in rank):
        if space <= 0:
            break
        if index not in kept:
            kept[index] = None
            space -= 1
    return sorted(kept)


def naming_columns(records: Sequence[Cells], names: frozenset[str]) -> tuple[list[str], bool]:
    """The columns that show a record in short, the most important first; if a tool takes one.

    Columns of short values that the agent's tools take as a parameter, a key, a label; two at
    least, where there are two: a value that stands alone could be of any record.
    """
    if not records:
        return [], False
    taken = [c for c in records[0] if _taken(c, names) and _plain(records, c)][:2]
    more = [column for column in key_columns(records) if column not in taken]
    if taken and more and _counts(records, more[0]):
        del more[0]
    columns = [*taken, *more]
    if len(columns) == 1:
        others = [c for c in records[0] if c not in columns and _plain(records, c)]
        others = [c for c in others if not _counts(records, c)]
        columns += sorted(others, key=lambda column: (*_sparse(records, column), column))[:1]
    return columns, bool(taken) or (bool(columns) and _ids(records, columns[0]))


def _ids(records: Sequence[Cells], column: str) -> bool:
    """Whether a column holds ids, which cannot be guessed: letters and digits mixed, and long."""
    return all(_ID.match(str(record.get(column, ""))) for record in records[:50])


@lru_cache(4096)
def _taken(column: str, names: frozenset[str]) -> bool:
    """Whether tools take what a column holds: `PID` as `pid`, a record's `id` as `order_id`."""
    name = _bare(column.rpartition(".")[2])
    return any(
        name == known or (name in _PLAINEST and known.endswith(name)) for known in map(_bare, names)
    )


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _sparse(records: Sequence[Cells], column: str) -> tuple[int, int]:
    """(how often a column is not set, how long it is)."""
    cells = [record.get(column) for record in records]
    return cells.count(None) + cells.count(""), sum(map(len, map(str, cells)))


def _plain(records: Sequence[Cells], column: str) -> bool:
    """Whether a column holds short plain values, mostly set."""
    cells = [record.get(column) for record in records]
    given = len(cells) - cells.count(None) - cells.count("")
    return given > len(cells) // 2 and _short([c for c in cells if c is not None], _NAMED_CHARS)


def _short(cells: Sequence[Any], most: int) -> bool:
    """Whether all cells are texts of one line and at most so many characters."""
    if not all(issubclass(kind, str) for kind in set(map(type, cells))):
        return False
    return max(map(len, cells), default=0) <= most and "\n" not in "".join(cells)


def in_short(
    records: Sequence[Cells], columns: Sequence[str], space: int
) -> tuple[list[str], list[Sequence[Any]]]:
    """(columns, their cells for as many records as fit about `space` characters)."""
    chosen = list(columns)
    sizes = [[len(str(record.get(column))) for record in records] for column in chosen]
    while True:
        names = sum(len(c) + 2 for c in chosen if not c.startswith("column ")) + 1
        if len(chosen) <= 2 or sum(map(sum, sizes)) + names * len(records) <= space:
            break
        chosen.pop()
        sizes.pop()
    shown: list[Sequence[Any]] = []
    for record, size in zip(records, map(sum, zip(*sizes, strict=True)), strict=False):
        space -= size + names
        if space < 0:
            break
        shown.append([record.get(column) for column in chosen])
    return (chosen, shown) if chosen and shown else ([], [])


def _counts(records: Sequence[Cells], column: str) -> bool:
    """Whether a column only numbers the records."""
    return all(_COUNTER.fullmatch(str(record.get(column, ""))) for record in records[:50])


def _said(record: Cells) -> str:
    """What may say that something failed: texts, and other values that are set, by name."""
    found = []
    for key, value in record.items():
        if isinstance(value, str) and type(value) is not Num:
            found.append(value if len(value) <= 500 else value[:500])
        elif value not in (None, False) and value != "0":
            found.append(key if value is True else f"{key}={value}")
    return " ".join(found).replace("\n", " ")


def _column(records: Sequence[Cells], column: str) -> tuple[list[int], list[int], list[int]]:
    """(odd records, first of each category, extremes) of one column."""
    total = len(records)
    values = [record.get(column) for record in records]
    given = [i for i, value in enumerate(values) if value is not None and value != ""]
    odd: list[int] = []
    if len(given) <= total // 10:
        odd.extend(given[:PER_COLUMN])
    elif len(given) >= total - total // 10:
        present = set(given)
        odd.extend([i for i in range(total) if i not in present][:PER_COLUMN])
    told = [values[i] for i in given]
    counts = Counter(told)
    first: dict[Any, int] = {}
    category = len(counts) <= max(FEW, total // 10) and len(given) > 2 * len(counts)
    if category:
        first = dict(zip(reversed(told), reversed(given), strict=True))
        rare = max(1, total // 50)
        odd.extend([first[v] for v, n in counts.items() if n <= rare][:PER_COLUMN])
    firsts = sorted(first.values()) if category and len(counts) <= FEW else []
    return odd, firsts, _extremes(told, given)


def _extremes(values: Sequence[Any], given: Sequence[int]) -> list[int]:
    """Where the smallest and the largest number stand, unless the column only counts up or down."""
    if len(given) < 4 or not (isinstance(values[0], str) and _NUMBERS.fullmatch(values[0])):
        return []
    if not _short(values, 39) or not _NUMBERS.fullmatch("\n".join(values)):
        return []
    numbers = [*map(float, values)]
    if numbers == (rising := sorted(numbers)) or numbers == rising[::-1]:
        return []
    last = len(numbers) - 1 - numbers[::-1].index(rising[-1])
    return [given[numbers.index(rising[0])], given[last]]


def key_columns(records: Sequence[Cells]) -> list[str]:
    """The columns that tell records apart, to name hidden ones by: an id, then a label.

    An id is set, short and different in every record; id-like names win, then the first such
    column. Empty when there is none.
    """
    if not records:
        return []
    unique = [column for column in records[0] if _tells_apart(records, column)]
    if not unique:
        return []
    ids = [column for column in unique if _ID_NAME.search(column) or _CJK_ID.search(column)]
    key = min(ids or unique, key=lambda column: (column.count("."), unique.index(column)))
    labels = [
        column
        for column in unique
        if column != key and (_LABEL_NAME.search(column) or _CJK_LABEL.search(column))
    ]
    return [key, *labels[:1]]


def _tells_apart(records: Sequence[Cells], column: str) -> bool:
    values = [record.get(column) for record in records]
    if len(set(values)) < len(values) or "" in values:
        return False
    return _short(values, _KEY_CHARS)


def gaps(kept: Sequence[int], total: int) -> list[tuple[range, int | None]]:
    """(indexes hidden before it, index kept) for each kept one, and what is hidden at the end."""
    found: list[tuple[range, int | None]] = []
    at = 0
    for index in kept:
        found.append((range(at, index), index))
        at = index + 1
    if at < total:
        found.append((range(at, total), None))
    return found

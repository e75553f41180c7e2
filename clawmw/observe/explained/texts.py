"""What was said in a call, as plain lines, and how two texts differ.

Content is hostile: what could move a cursor or turn a text around is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, zip_longest

from clawmw.core.types import Json
from clawmw.observe.store.outlinestore import Said

__all__ = ["Row", "differences", "plain", "sides", "visible"]

_CONTEXT = 3
"""Unchanged lines around a change that are shown."""
_LONGEST = 4000
"""Lines of one text that are compared line by line; beyond, the whole is shown as changed."""
_BETWEEN = re.compile(r"(\},\s*)(?=\{)")
_BROKEN = 240
"""Characters of a line from which on it is broken between records."""
_WIDEST = 2000
"""Characters of one line that are shown."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a comparison."""

    kind: str
    """`same`, `gone` (asked, not sent), `new` (sent, not asked) or `skip`."""
    text: str
    """The line; for `skip`, how many lines are left out."""


def visible(text: str) -> str:
    """A line without what could move the cursor, colour the terminal or turn text around."""
    cut = text if len(text) <= _WIDEST else f"{text[:_WIDEST]}… ({len(text):,} characters)"
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in cut)


def plain(message: Json) -> list[str]:
    """A message as lines, its parts one after the other."""
    lines: list[str] = []
    for part in message.get("parts", ()) if isinstance(message, dict) else ():
        kind = part.get("type")
        if kind == "tool_call":
            asked = part.get("arguments")
            shown = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
            lines.append(f"{part.get('name')}({shown})")
            continue
        text = part.get("response") if kind == "tool_call_response" else part.get("content")
        lines += str(text if text is not None else "").splitlines() or [""]
    return [piece for line in lines for piece in _broken(line)]


def _broken(line: str) -> list[str]:
    """A line of many records, a record a line: to be compared record by record."""
    return _BETWEEN.sub(r"\1\n", line).split("\n") if len(line) > _BROKEN else [line]


def differences(one: Said) -> list[Row]:
    """How a message was sent against how it was asked; unchanged runs are left out."""
    before = plain(one.asked) if one.asked is not None else []
    if one.sent is not None:
        after = plain(one.sent)
    else:
        after = [] if one.place is not None and not one.sent_bytes else before
    return list(_rows(before, after))


def sides(rows: Sequence[Row]) -> list[tuple[Row | None, Row | None]]:
    """The rows side by side: what was asked, and what was sent; None where there is nothing."""
    pairs: list[tuple[Row | None, Row | None]] = []
    for changed, group in groupby(rows, key=lambda row: row.kind in ("gone", "new")):
        block = list(group)
        if changed:
            gone = [row for row in block if row.kind == "gone"]
            new = [row for row in block if row.kind == "new"]
            pairs += zip_longest(gone, new)
        else:
            pairs += [(row, row) for row in block]
    return pairs


def _rows(before: Sequence[str], after: Sequence[str]) -> Iterator[Row]:
    if max(len(before), len(after)) > _LONGEST:
        blocks: Sequence[tuple[str, int, int, int, int]]
        blocks = (("replace", 0, len(before), 0, len(after)),)
    else:
        blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for at, (kind, first, last, start, end) in enumerate(blocks):
        if kind == "equal":
            yield from _same(before[first:last], opening=at == 0, closing=at == len(blocks) - 1)
            continue
        yield from (Row("gone", visible(line)) for line in before[first:last])
        yield from (Row("new", visible(line)) for line in after[start:end])


def _same(lines: Sequence[str], *, opening: bool, closing: bool) -> Iterator[Row]:
    head = 0 if opening else _CONTEXT
    tail = 0 if closing else _CONTEXT
    hidden = len(lines) - head - tail
    if hidden <= 1:
        yield from (Row("same", visible(line)) for line in lines)
        return
    yield from (Row("same", visible(line)) for line in lines[:head])
    yield Row("skip", f"{hidden:,} lines alike")
    yield from (Row("same", visible(line)) for line in lines[len(lines) - tail :])

"""Record integrity: whether the values that stay in context still stand in their record.

A price apart from its ticket is worse than no price. So, of the values of a JSON, CSV or table
result that stay in the text sent for it, the share that still stand

- with their key: beside it (`"price": 12.50`, `price:12.50`, `price=12.50`), or in its column
  below a header line (CSV, Markdown, aligned columns, the tables of clawmw's notation); and
- in their record: with at least one other value of the same record inside the same braces, or
  else on the same line; or in a row whose other cells say that there is none.

Judged are values that stand once in the original, as a cell of their own and of at least 4
characters, so that it is certain which record they belong to; up to `SAMPLE` of a result,
evenly spread. A value that stands with its key but alone, as in a list of the keys of rows left
out, is not intact; `listed` says how many those are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Self, TypeAlias

from clawmw.core.types import Message
from clawmw.replay.columns import Columns, below
from clawmw.replay.provenance import forms
from clawmw.replay.tabular import Record, records

__all__ = ["SAMPLE", "Integrity", "Judge", "Kept", "kept", "paired", "standing"]

Kept: TypeAlias = Literal["intact", "listed", "apart", "gone"]

SAMPLE = 400
"""Values judged in one result, at most."""
_SHORTEST, _WIDEST = 4, 120
_BEFORE = " \t\n\r\"',:;[{(|>=…，：`"
_AFTER = " \t\n\r\"',:;]})|<…，`"
_REACH = 6000
"""Characters looked through on each side for the braces around a value."""
_EMPTY = re.compile(r"[\s\[({\"]*(?:(?:null)?[,;|\t])+(?:null)?[\s\])}\"]*")
"""What is around a cell whose row has nothing in its other columns."""
_TABLE = re.compile(r"[\[{]\d+ (?:keyed )?rows\b")


@dataclass(slots=True)
class Integrity:
    """Values that stayed, and how."""

    values: int = 0
    intact: int = 0
    listed: int = 0
    """With their key, but with no other value of their record."""

    def __iadd__(self, other: Integrity) -> Self:
        self.values += other.values
        self.intact += other.intact
        self.listed += other.listed
        return self


@dataclass(frozen=True, slots=True)
class _Value:
    key: str
    text: str
    record: Record


class Judge:
    """Judges each distinct pair of original and text sent once."""

    def __init__(self) -> None:
        self._values: dict[str, list[_Value]] = {}
        self._seen: set[tuple[str, str]] = set()

    def judge(self, original: str, sent: str) -> Integrity:
        """What stayed of `original` in `sent`; nothing for a pair seen before."""
        found = Integrity()
        if (original, sent) in self._seen:
            return found
        self._seen.add((original, sent))
        values = self._values.get(original)
        if values is None:
            values = self._values[original] = list(_certain(original))
        if original == sent:
            return Integrity(len(values), len(values))
        columns = Columns(sent, {key for value in values for key, _ in value.record if key})
        for value in values:
            how = kept(columns, value.key, value.text, value.record)
            found.values += how != "gone"
            found.intact += how == "intact"
            found.listed += how == "listed"
        return found


def kept(sent: Columns, key: str, text: str, record: Record) -> Kept:
    """How a value of a record is kept in the text sent, at the best of its places."""
    places = list(islice(standing(text, sent.text), 20))
    if not places:
        return "gone"
    value = _Value(key, text, record)
    found = {_kept(sent, at, value) for at in places}
    return "intact" if "intact" in found else "listed" if "listed" in found else "apart"


def paired(raw: Sequence[Message], sent: Sequence[Message]) -> list[tuple[str, str]]:
    """Each recorded tool result and what was sent for it, where something was.

    By call id; of results that share one, the last are taken to be the last.
    """
    there: dict[str, list[str]] = {}
    for message in sent:
        for part in message.tool_results:
            there.setdefault(part.call_id, []).append(part.text)
    parts = [part for message in raw for part in message.tool_results]
    pairs = [
        (part.text, there[part.call_id].pop())
        for part in reversed(parts)
        if there.get(part.call_id)
    ]
    return pairs[::-1]


def _certain(original: str) -> Iterator[_Value]:
    """The values to judge: each stands once, and not beside others that are the same."""
    every = [
        _Value(key, text, record)
        for record in records(original)
        for key, text in record
        if _SHORTEST <= len(text) <= _WIDEST and "\n" not in text
    ]
    step = max(1, len(every) // SAMPLE)
    for value in every[::step]:
        places = standing(value.text, original)
        if next(places, None) is not None and next(places, None) is None:
            yield value


def standing(text: str, within: str) -> Iterator[int]:
    """Where `text` stands as a cell of its own: between spaces, quotes, delimiters or braces."""
    for form in forms(text):
        at = within.find(form)
        while at >= 0:
            end = at + len(form)
            if (at == 0 or within[at - 1] in _BEFORE) and (
                end == len(within) or within[end] in _AFTER
            ):
                yield at
            at = within.find(form, end)


def _kept(sent: Columns, at: int, value: _Value) -> Kept:
    """How the value stands at `at`."""
    text = sent.text
    start, end = sent.line(sent.number(at))
    keys = frozenset(key for key, _ in value.record if key)
    if value.key and not (_beside(sent, at, value.key) or below(sent, at, value.key, keys)):
        return "listed" if f"{value.key}: " in text[start:at] else "apart"
    others = [other for _, other in value.record if other and other != value.text]
    if not others:
        return "intact"
    low, high = _braces(sent, at) or (start, end)
    around = text[low:at] + "\n" + text[at + len(value.text) : high]
    if any(_holds(around, other) for other in others[:30]):
        return "intact"
    alone = text[start:at] + text[at + len(value.text) : end]
    return "intact" if _EMPTY.fullmatch(alone) else "listed"


def _holds(text: str, other: str) -> bool:
    return next(standing(other, text), None) is not None


def _beside(sent: Columns, at: int, key: str) -> bool:
    """Whether the key stands directly before the value, or before the plain list it is in."""
    places = [at]
    around = next(sent.opened(at, _REACH), None)
    if around is not None and sent.text[around] == "[":
        places.append(around + 1)
    for form in forms(key):
        pattern = re.compile(rf"(?<!\w){re.escape(form)}[\"'`*]*\s*[:=]\s*[\"'`\[(*]*\Z")
        for place in places:
            if pattern.search(sent.text, max(0, place - len(form) - 16), place):
                return True
    return False


def _braces(sent: Columns, at: int) -> tuple[int, int] | None:
    """The innermost braces around `at`; None where a row of a table or plain text is closer.

    Where the text was cut inside the braces, what is left between the cut and the next brace.
    """
    start = None
    for place in sent.opened(at, _REACH):
        if _TABLE.match(sent.text, place):
            return None
        if sent.text[place] == "{":
            start = place
            break
    end = sent.closed(at, _REACH)
    if start is None and end is None:
        return None
    low = max(0, at - _REACH) if start is None else start
    return low, min(len(sent.text), at + _REACH) if end is None else end

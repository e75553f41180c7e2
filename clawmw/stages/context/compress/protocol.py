"""What every reducer shares: its shape, its result, and its words for what was cut.

A reducer is a pure function of (text, level, ref). It never reads a clock, never raises on any
text, and bounds its work by characters, lines and nodes, so the same call gives the same bytes
in any process.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

from clawmw.stages.context.compress.notation import is_notation

__all__ = [
    "LOSSY_FLOOR",
    "Brief",
    "Level",
    "Reduced",
    "Reducer",
    "barred",
    "count",
    "failures",
    "is_reduced",
    "keys_room",
    "marker",
    "room",
    "words",
]

Level = Literal["off", "lossless", "balanced", "aggressive"]

LOSSY_FLOOR: dict[Level, int] = {"balanced": 200, "aggressive": 80}
"""Estimated tokens below which nothing is cut away, only re-encoded: a marker is 20 of them."""

_SPARE: dict[Level, tuple[int, float]] = {"balanced": (40, 8.0), "aggressive": (30, 4.0)}


def room(tokens: int, level: Level, *, named: bool = False) -> int:
    """How many tokens of a result of `tokens` should stay: all of a small one, few of a large.

    What stays is paid for on every later call; what is hidden and needed after all costs one
    more call and brings back a slice of about 1,500. So the share that pays falls with size;
    the square root keeps half of 400 tokens, a third of 1,000, a tenth of 10,000. A quarter
    less where what is hidden is `named` besides (`keys_room`).
    """
    least, factor = _SPARE.get(level, (0, 0.0))
    factor *= 0.75 if named else 1.0
    return int(min(least + factor * tokens**0.5, tokens)) if factor else tokens


_KEYS: dict[Level, tuple[float, int]] = {"balanced": (0.1, 1200), "aggressive": (0.05, 400)}


def keys_room(tokens: int, level: Level, *, taken: bool = False, found: bool = False) -> int:
    """How many tokens more may name what is hidden: ids, paths, addresses.

    A name is 5 to 20 tokens; one that is needed and missing costs a whole call. So there is
    more room for names of the kind that the agent's tools take (`taken`), and less where just
    what was asked for was `found`.
    """
    share, most = _KEYS.get(level, (0.0, 0))
    if taken:
        share, most = 3 * share, most + most // 3
    return min(int(share * tokens), most) // (4 if found else 1)


BARS = 6
"""Lines from which rows between bars are a table."""

_OURS = "[clawmw"
_MARK = f"{_OURS}_expand "


@dataclass(frozen=True, slots=True)
class Brief:
    """What a reducer may know besides the text; all of it stood before the text did."""

    level: Level
    ref: str = ""
    """The reference that a marker names."""
    sought: frozenset[str] = frozenset()
    """The words, casefolded, of what was asked for: by the human, and by the call that led here."""
    names: frozenset[str] = frozenset()
    """What the agent's tools call their parameters: values so named are passed on."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """What the model sees instead of a tool result.

    `lossless` means the text still holds every value of the original (it was re-encoded, or
    repeats were replaced by their exact count), so nothing has to be asked for again.
    """

    text: str
    kind: str
    lossless: bool


class Reducer(Protocol):
    """One content kind. `version` changes whenever the same input may give other output."""

    name: str
    version: int

    def matches(self, text: str) -> bool:
        """Whether `text` looks like this kind, judged by content and never by the tool's name."""
        ...

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        """`text` made smaller, or None to leave it alone."""
        ...


def marker(ref: str, missing: str) -> str:
    """The one line that says what is missing and how to get it; it opens a result that was cut.

    It stands once a result and costs about 20 tokens, whatever the extent of the cut. In-place
    notes elsewhere are only `… 37 lines …`.
    """
    return f"{_MARK}{ref}: {missing}]"


def is_reduced(text: str) -> bool:
    """Whether `text` is itself the work of a stage, which must not be reduced again."""
    return text.startswith(_OURS) or is_notation(text)


def count(number: int, noun: str) -> str:
    """`1 line`, `1,200 lines`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def words(text: str) -> tuple[str, ...]:
    """The words of `text`; an underscore in one stands for a space."""
    return tuple([word.replace("_", " ") for word in text.split()])


def barred(text: str) -> bool:
    """Whether a table with bars stands in `text`, as Markdown writes them."""
    return text.count("\n|") >= BARS


_STEMS = words(
    "error fatal critical emerg alert panic exception traceback warn fail denied refused rejected "
    "forbidden unauthori timeout timed_out time_out time-out abort killed crash deadlock corrupt "
    "unhandled unexpected unable cannot could_not not_found no_such caused_by segfault "
    "segmentation_fault out_of_memory invalid undefined missing unreachable unavailable conflict "
    "fehler fehlgeschlagen erreur échec errore falha erro fallo ошибк предупреждение "
    "错误 錯誤 異常 异常 失败 失敗 警告 超时 逾時 拒绝 拒絕 崩溃 无法 エラー 例外 오류 실패 경고"
)
_ASCII_STEMS = tuple(stem for stem in _STEMS if stem.isascii())
_NOTHING_WRONG = re.compile(
    r"(?:\b(?:0|no|without|zero)\s+(?:\w+\s+)?)(?:errors?|warnings?|failures?|failed|exceptions?|conflicts?)\b"
    r"|\b(?:errors?|warnings?|failures?|failed|exceptions?|timeouts?|conflicts?)\w*[\"']?\s*[=:]\s*"
    r"[\"']?(?:0|no|none|null|false)\b(?!\.\d)",
    re.IGNORECASE,
)


def failures(lines: Sequence[str]) -> set[int]:
    """Indexes of the lines that say something went wrong, in the languages logs are written in.

    `0 errors` and `error=null` say the contrary and do not count. Such lines are kept at every
    level: what failed is what the agent must act on. Substring search first, since a regular
    expression of this size costs 160 ms a megabyte.
    """
    lowered = "\n".join(lines).lower()
    stems = [stem for stem in (_ASCII_STEMS if lowered.isascii() else _STEMS) if stem in lowered]
    if not stems:
        return set()
    said = lowered.split("\n")
    starts = [0, *accumulate([len(line) + 1 for line in said])]
    told: set[int] = set()
    for stem in stems:
        at = lowered.find(stem)
        while at >= 0:
            index = bisect_right(starts, at) - 1
            told.add(index)
            at = lowered.find(stem, starts[index + 1])
    found: set[int] = set()
    for index in told:
        rest = _NOTHING_WRONG.sub("", said[index])
        if len(rest) == len(said[index]) or any(stem in rest for stem in stems):
            found.add(index)
    return found

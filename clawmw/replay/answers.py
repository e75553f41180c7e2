"""Whether a run's known answer is at hand when it is due, with what stands around it.

Looked for in tool results alone: what the model said itself is no evidence. Answers of fewer
than 3 characters, `yes` and `no` are found anywhere and not judged, nor are those that the
recorded results do not hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, TypeAlias

from clawmw.core.types import Message, ToolResult
from clawmw.replay.columns import Columns
from clawmw.replay.integrity import kept
from clawmw.replay.provenance import occurs
from clawmw.replay.tabular import Record, records

__all__ = ["Answer", "results", "sought"]

Answer: TypeAlias = Literal["whole", "bare", "reachable", "lost"]
"""`whole`: in context, with the sentence or record around it; `bare`: in context without."""

_AROUND = 12
"""Words of its sentence on each side that count as its surroundings."""
_ENOUGH = 0.75
"""The share of them that must stand near it."""
_ENDS = re.compile(r"[.!?]\s|[。！？\n]")
_WORD = re.compile(r"[⺀-鿿가-힯]|\w+")


def results(messages: Sequence[Message]) -> list[str]:
    """The texts of the tool results."""
    return [p.text for m in messages for p in m.parts if isinstance(p, ToolResult)]


def sought(
    answers: Sequence[str], raw: Sequence[str], sent: Sequence[str], originals: Collection[str]
) -> Answer | None:
    """Where the answer is; None when it is not judged.

    `raw` and `sent` are tool results, `originals` what the model could still ask for.
    """
    told = [a for a in answers if len(a) >= 3 and a.casefold() not in ("yes", "no")]
    held = [(a, text) for a in told for text in raw if _in(a, text)]
    if not held:
        return None
    there = [text for text in sent if any(_in(a, text) for a, _ in held)]
    if any(_whole(a, text, there) for a, text in held):
        return "whole"
    if there:
        return "bare"
    return "reachable" if any(_in(a, text) for a, _ in held for text in originals) else "lost"


def _in(answer: str, text: str) -> bool:
    return occurs(answer, text) or occurs(answer.casefold(), text.casefold())


def _whole(answer: str, text: str, sent: Sequence[str]) -> bool:
    """Whether the answer stands in one of `sent` with its record or sentence of `text`."""
    if text in sent:
        return True
    for record in _records(answer, text):
        key = next(key for key, value in record if value == answer)
        if any(kept(Columns(other), key, answer, record) == "intact" for other in sent):
            return True
    near = [set(words) for other in sent for words in _surroundings(answer, other, 3 * _AROUND)]
    for words in _surroundings(answer, text, _AROUND):
        if any(sum(w in place for w in words) >= _ENOUGH * len(words) for place in near):
            return True
    return False


def _records(answer: str, text: str) -> Iterator[Record]:
    """The records that have it as a value."""
    yield from (r for r in records(text) if any(value == answer for _, value in r))


def _surroundings(answer: str, text: str, most: int) -> Iterator[list[str]]:
    """The words before and after each place, within its sentence or line."""
    folded, wanted = text.casefold(), answer.casefold()
    at = folded.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        before = _ENDS.split(folded[max(0, at - 600) : at])[-1]
        after = _ENDS.split(folded[end : end + 600])[0]
        yield [*_WORD.findall(before)[-most:], *_WORD.findall(after)[:most]]
        at = folded.find(wanted, end)

"""Bits of a prompt that are likely to differ next time: dates, clock times, ids.

Found by form, so a date that never changes is found too. Whoever acts on it may lose nothing
when that guess is wrong: a mark a block earlier, a coarser family.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from clawmw.core.types import Message, Role, Text

__all__ = ["Volatile", "family", "find", "stable_part"]

_FORMS = {
    "uuid": r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
    "id": r"\b(?i:session|request|trace|run|thread|conversation|message)[-_ ]?(?i:id)\s?[=:]\s?\S+",
    "date": (
        r"\b20\d\d-[01]\d-[0-3]\d\b"
        r"|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? \d{1,2},? 20\d\d\b"
        r"|\b\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? 20\d\d\b"
        r"|20\d\d年\d{1,2}月\d{1,2}日"
    ),
    "time": r"\b[0-2]?\d:[0-5]\d:[0-5]\d\b",
    "epoch": r"\b1[6-9]\d{8}(?:\d{3})?\b",
    "hex": r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{24,}\b",
}
_ANY = re.compile("|".join(f"(?P<{name}>{form})" for name, form in _FORMS.items()))
_LIKELY = re.compile(r"\d|[iI][dD]\s?[=:]")
"""What every form has in it; most lines of a prompt have none."""
_OPENING = 1024
"""Characters, about the 256 tokens by which OpenAI itself routes: a key made of more would part
prefixes that meet without one."""
_LEAST = 256
"""Characters before a volatile bit that tell a family; with less, all of the opening does."""


@dataclass(frozen=True, slots=True)
class Volatile:
    """One such bit: what it looks like, and at which character it begins. Never its text."""

    kind: str
    at: int


def find(text: str) -> Iterator[Volatile]:
    """The volatile bits of a text, in order. Linear in its length; none crosses a line's end."""
    likely, end = _LIKELY.search(text), 0
    while likely is not None:
        start = text.rfind("\n", end, likely.start()) + 1 or end
        end = text.find("\n", likely.end())
        end = len(text) if end < 0 else end
        for match in _ANY.finditer(text, start, end):
            yield Volatile(match.lastgroup or "", match.start())
        likely = _LIKELY.search(text, end)


@lru_cache(maxsize=32)
def _varies(text: str) -> bool:
    return next(find(text), None) is not None


def family(text: str) -> str:
    """A digest of how a system prompt opens, which does not change with its date or session."""
    return _family(text[:_OPENING])


@lru_cache(maxsize=256)
def _family(head: str) -> str:
    first = next(find(head), None)
    if first is not None and first.at >= _LEAST:
        head = head[: first.at]
    return hashlib.blake2b(head.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def stable_part(message: Message) -> int | None:
    """The last part of a system prompt in blocks that other sessions share; None: all of it.

    A trailing block with a date or an id in it is left behind the mark (OpenClaw, Claude Code).
    """
    if message.role is not Role.SYSTEM or len(message.parts) < 2:
        return None
    last = len(message.parts) - 1
    for index in range(last, 0, -1):
        part = message.parts[index]
        if not isinstance(part, Text) or not _varies(part.text):
            return None if index == last else index
    first = message.parts[0]
    return 0 if isinstance(first, Text) and first.text.strip() else None

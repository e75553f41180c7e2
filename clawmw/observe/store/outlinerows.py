"""Outlines of calls as rows: messages, calls and texts, without anything that makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Batch",
    "Outline",
    "PartOutline",
    "TextRow",
    "Turn",
    "decoded",
    "encoded",
    "line_of",
]


@dataclass(frozen=True, slots=True)
class PartOutline:
    """One part of a message: sizes in bytes of UTF-8."""

    kind: str
    """`text`, `call`, `result`, `image`, `thinking` or `other`."""
    name: str
    """Of the tool, where it is about one."""
    asked: int
    sent: int
    by: str
    """What changed it, with its version (`compress.json@1`); "": nothing did."""
    ref: bool = False
    """The model can ask for what was cut."""

    def to_json(self) -> list[Any]:
        """As JSON."""
        return [self.kind, self.name, self.asked, self.sent, self.by, int(self.ref)]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a history at its place, and what became of it."""

    line: int
    """The conversation."""
    digest: bytes
    """Of the history up to and with it."""
    epoch: str
    """"": as it was folded; else the epoch that gave it this form."""
    parent: bytes | None
    """Of the history before it."""
    place: int
    seen_ns: int
    role: str
    parts: tuple[PartOutline, ...]
    asked_bytes: int
    sent_bytes: int
    """0 where it is left out."""
    asked_tokens: int
    sent_tokens: int
    would_tokens: int
    asked_text: bytes | None = None
    """Digest of its text, where content is kept."""
    sent_text: bytes | None = None
    """The same where another text was sent; None: the same, or nothing."""


@dataclass(frozen=True, slots=True)
class Outline:
    """One call: where its history ends, and what is not in its messages."""

    exchange: str
    line: int
    tip: bytes | None
    """None: nothing is known of its messages."""
    epoch: str
    end_ns: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A message as text, by the digest of that."""

    line: int
    digest: bytes
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be written of one call."""

    outline: Outline
    turns: tuple[Turn, ...]
    texts: tuple[TextRow, ...] = ()


def line_of(scope: str) -> int:
    """The number of a conversation, from the scope of its session."""
    data = scope.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def encoded(parts: Sequence[PartOutline]) -> str:
    """Parts as they are stored."""
    return json.dumps([part.to_json() for part in parts], separators=(",", ":"))


def decoded(text: str) -> tuple[PartOutline, ...]:
    """The inverse of `encoded`."""
    return tuple(
        [PartOutline(k, n, a, s, by, bool(ref)) for k, n, a, s, by, ref in json.loads(text)]
    )

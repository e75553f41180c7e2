"""What clawmw itself put into a session, in one append-only list.

An entry is anchored to the digest of the agent's prefix it follows, so that it is put back
at the same place in every later call. When the agent's history diverges (compaction, edit,
fork), entries whose anchor is gone are left out; the list itself is never rewritten, and a
full one takes no more.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from clawmw.core.fold import History
from clawmw.core.render import message_tokens
from clawmw.core.types import Json, Message

__all__ = ["Entry", "Journal", "woven"]

LONGEST = 512
"""Entries kept a session. To drop the oldest for a new one would move the sent prefix."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Messages that follow the prefix `anchor`, put there by stage `by`; or an epoch.

    `id` makes adding idempotent; `wire` are the messages' exact JSON bytes. `epoch` is what
    an epoch says of itself (`clawmw.core.epoch`), None for messages.
    """

    anchor: str
    by: str
    id: str
    wire: tuple[bytes, ...]
    passing: bool = False
    """For this exchange alone: never written down."""
    epoch: Json = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Journal:
    """A session's entries, oldest first."""

    entries: tuple[Entry, ...] = ()

    def plus(self, entry: Entry) -> Journal:
        """The journal with one entry more; unchanged if its id is there already, or it is full."""
        if any(e.id == entry.id for e in self.entries) or (self.full and not entry.passing):
            return self
        return Journal((*self.entries, entry))

    @property
    def full(self) -> bool:
        """Whether no more can be kept."""
        return sum(not e.passing for e in self.entries) >= LONGEST

    def without(self, prefix: str) -> Journal:
        """The journal without the entries whose id begins so."""
        return Journal(tuple(e for e in self.entries if not e.id.startswith(prefix)))

    def to_json(self) -> Json:
        """The journal as JSON; message bytes as text where they are UTF-8."""
        rows: list[Json] = []
        for e in self.entries:
            if not e.passing:
                row = [e.anchor, e.by, e.id, [_text(w) for w in e.wire]]
                rows.append(row if e.epoch is None else [*row, e.epoch])
        return rows

    @classmethod
    def from_json(cls, value: Json | None) -> Journal:
        """The inverse of `to_json`; an unreadable journal is an empty one."""
        try:
            entries = tuple(
                Entry(str(anchor), str(by), str(id_), tuple(_bytes(w) for w in wire), False, *epoch)
                for anchor, by, id_, wire, *epoch in value or []
            )
            return cls(entries)
        except (TypeError, ValueError, LookupError):
            return cls()


def _text(wire: bytes) -> Json:
    try:
        return wire.decode()
    except UnicodeDecodeError:
        return {"b": base64.b64encode(wire).decode()}


def _bytes(value: Json) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["b"])


def woven(
    history: History, journal: Journal, decoded: dict[bytes, Message]
) -> tuple[tuple[Message, ...], int]:
    """The messages to send: each step's, with the journal's entries put in their places.

    What an epoch left out takes the entries that followed it along. `decoded` maps an
    entry's bytes to its message. Returns the messages and the estimated tokens of the
    entries among them.
    """
    if not journal.entries and history.epoch is None:
        return tuple([step.sent for step in history.steps]), 0
    places: dict[str, list[Message]] = {}
    for entry in journal.entries:
        places.setdefault(entry.anchor, []).extend(decoded[wire] for wire in entry.wire)
    messages: list[Message] = []
    added = 0
    for step in history.steps:
        if step.form is not None and step.form.whole is not None:
            if not step.form.omits:
                messages.append(step.sent)
            continue
        messages.append(step.sent)
        for message in places.get(step.digest, ()):
            messages.append(message)
            added += message_tokens(message)
    return tuple(messages), added

"""Outlines of calls: written into the trace store, and read back as one call's messages."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clawmw.core.types import Json
from clawmw.observe.store.outlinerows import (
    Batch,
    PartOutline,
    TextRow,
    Turn,
    decoded,
    encoded,
    line_of,
)
from clawmw.observe.store.outlinetables import forget_texts, named_in
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Inside", "Said", "forget_said", "inside", "write"]

_TURN = f"INSERT OR REPLACE INTO turns VALUES ({', '.join('?' * 15)})"  # noqa: S608
_OUTLINE = "INSERT OR REPLACE INTO outlines VALUES (?, ?, ?, ?, ?, ?)"
_TEXT = "INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?)"
_DEEPEST = 100_000
"""Messages of one history that are read."""
_WALK = """
WITH RECURSIVE walk (digest, depth) AS (
  SELECT ?2, 0 UNION
  SELECT parent, depth + 1 FROM turns JOIN walk USING (digest)
  WHERE line = ?1 AND parent IS NOT NULL AND depth < ?4
)
SELECT turns.* FROM turns JOIN walk USING (digest)
WHERE line = ?1 AND epoch IN ('', ?3) ORDER BY place, epoch = ?3
"""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a call, as it was asked and as it was sent."""

    place: int | None
    """Its place in what the agent asked; None: it is clawmw's own."""
    role: str
    parts: tuple[PartOutline, ...]
    asked_bytes: int
    sent_bytes: int
    asked_tokens: int
    sent_tokens: int
    digest: str = ""
    """Of the history up to and with it."""
    added_by: str = ""
    """The stage that put it there."""
    asked: Json = None
    """What was said, where that is kept still."""
    sent: Json = None
    """What was sent instead; None: the same, nothing, or not kept."""

    @property
    def changed(self) -> bool:
        """Whether it was sent otherwise than asked."""
        return bool(self.added_by) or any(part.by for part in self.parts)

    @property
    def by(self) -> tuple[str, ...]:
        """What changed it, each once."""
        return tuple(dict.fromkeys(part.by.partition("@")[0] for part in self.parts if part.by))


@dataclass(frozen=True, slots=True)
class Inside:
    """What happened inside one call."""

    facts: Mapping[str, Any]
    messages: tuple[Said, ...]
    """In the order they were sent in, those of clawmw among them."""
    answer: Json = None
    """What came back, where that is kept still."""
    kept: bool = False
    """Some of what was said is kept."""


def write(store: SpanStore, batches: Sequence[Batch], until_ns: int) -> None:
    """Write outlines in one transaction; their texts are kept until `until_ns`."""
    turns = [_turn(turn) for batch in batches for turn in batch.turns]
    outlines = [_outline(batch) for batch in batches]
    texts = _new(store, [text for batch in batches for text in batch.texts])
    rows = [
        (text.line, text.digest, until_ns, zlib.compress(text.text.encode("utf-8", "replace")))
        for text in texts
    ]

    def insert(connection: sqlite3.Connection) -> None:
        connection.executemany(_TURN, turns)
        connection.executemany(_OUTLINE, outlines)
        connection.executemany(_TEXT, rows)

    store.transact(insert)


def inside(store: SpanStore, exchange: str, now_ns: int) -> Inside | None:
    """What is known of one call's messages; None where nothing was written down."""
    found = store.query("SELECT * FROM outlines WHERE exchange = ?", (exchange,))
    if not found:
        return None
    row = found[0]
    facts = json.loads(row["facts"])
    turns = _walked(store, row["line"], row["tip"], row["epoch"])
    wanted = [d for turn in turns for d in (turn["asked_text"], turn["sent_text"]) if d]
    texts = _texts(store, row["line"], [*wanted, *named_in(facts)], now_ns)
    messages = _woven([_said(turn, texts) for turn in turns], facts, texts)
    answer = (facts.get("answer") or {}).get("text")
    return Inside(
        facts, messages, texts.get(bytes.fromhex(answer)) if answer else None, bool(texts)
    )


def forget_said(store: SpanStore, *, scope: str = "", tenant: str = "") -> int:
    """Forget the texts of one session (by its scope), or of a tenant; returns how many.

    What is known of sizes and digests stays: it is no content.
    """
    which, values = "line = ?", (line_of(scope),) if scope else (tenant,)
    if not scope:
        which = "line IN (SELECT line FROM outlines JOIN spans USING (exchange) WHERE tenant = ?)"
    gone = store.transact(lambda connection: forget_texts(connection, which, values))
    if gone:
        store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return gone


def _new(store: SpanStore, texts: Iterable[TextRow]) -> list[TextRow]:
    """Those that are not kept so far: compressing is dearer than asking."""
    wanted = {(text.line, text.digest): text for text in texts}
    return [
        text
        for key, text in wanted.items()
        if not store.query("SELECT 1 FROM texts WHERE line = ? AND digest = ?", key)
    ]


def _turn(turn: Turn) -> tuple[Any, ...]:
    return (
        turn.line,
        turn.digest,
        turn.epoch,
        turn.parent,
        turn.place,
        turn.seen_ns,
        turn.role,
        encoded(turn.parts),
        turn.asked_bytes,
        turn.sent_bytes,
        turn.asked_tokens,
        turn.sent_tokens,
        turn.would_tokens,
        turn.asked_text,
        turn.sent_text,
    )


def _outline(batch: Batch) -> tuple[Any, ...]:
    one = batch.outline
    facts = json.dumps(one.facts, separators=(",", ":"))
    return one.exchange, one.line, one.tip, one.epoch, one.end_ns, facts


def _walked(store: SpanStore, line: int, tip: bytes | None, epoch: str) -> list[sqlite3.Row]:
    """The messages that lead to a tip, each in the form that held in its epoch."""
    if tip is None:
        return []
    rows = store.query(_WALK, (line, tip, epoch, _DEEPEST))
    return list({row["place"]: row for row in rows}.values())  # an epoch's form comes last


def _said(row: sqlite3.Row, texts: Mapping[bytes, Json]) -> Said:
    return Said(
        row["place"],
        row["role"],
        decoded(row["parts"]),
        row["asked_bytes"],
        row["sent_bytes"],
        row["asked_tokens"],
        row["sent_tokens"],
        row["digest"].hex(),
        asked=texts.get(row["asked_text"]),
        sent=texts.get(row["sent_text"]),
    )


def _woven(
    said: Sequence[Said], facts: Mapping[str, Any], texts: Mapping[bytes, Json]
) -> tuple[Said, ...]:
    """The messages with those of clawmw in their places; where that is not known, at the end."""
    after: dict[int, list[Said]] = {}
    for place, by, role, size, tokens, text in facts.get("added") or ():
        known = texts.get(bytes.fromhex(text)) if text else None
        part = PartOutline("text", "", 0, size, by)
        ours = Said(None, role, (part,), 0, size, 0, tokens, added_by=by, sent=known)
        after.setdefault(len(said) - 1 if place is None else place, []).append(ours)
    found: list[Said] = []
    for index, one in enumerate(said):
        found += [one, *after.pop(index if one.place is None else one.place, ())]
    return (*found, *(one for rest in after.values() for one in rest))


def _texts(store: SpanStore, line: int, digests: Sequence[bytes], now_ns: int) -> dict[bytes, Json]:
    """The texts that are kept still, as they were written."""
    found: dict[bytes, Json] = {}
    for start in range(0, len(digests), 500):
        some = digests[start : start + 500]
        marks = ", ".join("?" * len(some))
        rows = store.query(
            f"SELECT digest, data FROM texts WHERE line = ? AND until_ns > ? "  # noqa: S608
            f"AND digest IN ({marks})",
            (line, now_ns, *some),
        )
        found |= {row["digest"]: json.loads(zlib.decompress(row["data"])) for row in rows}
    return found

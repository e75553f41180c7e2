"""The tables of outlines, and how their rows are let go of.

`turns` has one row a message ever (and one more for each form that an epoch gave it), `outlines`
one a call, `texts` what was said, only where a policy keeps content: compressed, each text once a
conversation, with the time by which it must be gone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["TABLES", "expire", "forget", "forget_texts", "named_in"]

TABLES = (
    (
        "CREATE TABLE turns (line INTEGER NOT NULL, digest BLOB NOT NULL, epoch TEXT NOT NULL,"
        " parent BLOB, place INTEGER NOT NULL, seen_ns INTEGER NOT NULL, role TEXT NOT NULL,"
        " parts TEXT NOT NULL, asked_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL,"
        " asked_tokens INTEGER NOT NULL, sent_tokens INTEGER NOT NULL,"
        " would_tokens INTEGER NOT NULL, asked_text BLOB, sent_text BLOB,"
        " PRIMARY KEY (line, digest, epoch)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE outlines (exchange TEXT PRIMARY KEY, line INTEGER NOT NULL, tip BLOB,"
        " epoch TEXT NOT NULL, end_ns INTEGER NOT NULL, facts TEXT NOT NULL)"
    ),
    "CREATE INDEX outlines_line ON outlines (line)",
    "CREATE INDEX outlines_end ON outlines (end_ns)",
    (
        "CREATE TABLE texts (line INTEGER NOT NULL, digest BLOB NOT NULL,"
        " until_ns INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (line, digest))"
    ),
    "CREATE INDEX texts_until ON texts (until_ns)",
)
_REACHED = """
WITH RECURSIVE reached (digest) AS (
  SELECT tip FROM outlines WHERE line = ?1 AND tip IS NOT NULL
  UNION
  SELECT parent FROM turns JOIN reached USING (digest) WHERE line = ?1 AND parent IS NOT NULL
)
DELETE FROM turns WHERE line = ?1 AND digest NOT IN (SELECT digest FROM reached)
"""
"""Each message of a conversation is walked over once, however many calls went on from it."""


def forget(
    connection: sqlite3.Connection, *, before_ns: int = 0, traces: Sequence[str] = ()
) -> None:
    """Drop the outlines of calls that ended before a time, or that belong to whole traces.

    With them go the messages and texts that no call which stays has. To be called in a
    transaction, before the spans of those calls are dropped: the spans say whose they are.
    """
    gone = "end_ns < ?"
    values: list[object] = [before_ns]
    if traces:
        marks = ", ".join("?" * len(traces))
        gone += f" OR exchange IN (SELECT exchange FROM spans WHERE trace_id IN ({marks}))"  # noqa: S608
        values += traces
    rows = connection.execute(f"DELETE FROM outlines WHERE {gone} RETURNING line", values)  # noqa: S608
    for line in {row[0] for row in rows.fetchall()}:
        connection.execute(_REACHED, (line,))
        _unname(connection, line)


def expire(connection: sqlite3.Connection, now_ns: int) -> int:
    """Drop the texts whose time is over; returns how many."""
    return forget_texts(connection, "until_ns <= ?", (now_ns,))


def forget_texts(connection: sqlite3.Connection, which: str, values: Sequence[object]) -> int:
    """Drop the texts for which a condition holds, overwriting their bytes; returns how many."""
    found = connection.execute(f"SELECT 1 FROM texts WHERE {which} LIMIT 1", values).fetchone()  # noqa: S608
    if found is None:
        return 0
    connection.execute("PRAGMA secure_delete = ON")
    return connection.execute(f"DELETE FROM texts WHERE {which}", values).rowcount  # noqa: S608


def _unname(connection: sqlite3.Connection, line: int) -> None:
    """Drop the texts of a conversation that nothing which is left of it names."""
    kept = connection.execute("SELECT digest FROM texts WHERE line = ?", (line,)).fetchall()
    if not kept:
        return
    named: set[bytes] = set()
    for row in connection.execute(
        "SELECT asked_text, sent_text FROM turns WHERE line = ?", (line,)
    ):
        named.update(digest for digest in row if digest is not None)
    for (facts,) in connection.execute("SELECT facts FROM outlines WHERE line = ?", (line,)):
        named.update(named_in(json.loads(facts)))
    for (digest,) in kept:
        if digest not in named:
            forget_texts(connection, "line = ? AND digest = ?", (line, digest))


def named_in(facts: Mapping[str, Any]) -> Iterator[bytes]:
    """The texts that a call names itself: those of its answer and of the messages of ours."""
    said = [(facts.get("answer") or {}).get("text"), *(row[-1] for row in facts.get("added") or ())]
    return (bytes.fromhex(digest) for digest in said if digest)

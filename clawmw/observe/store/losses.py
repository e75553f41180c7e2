"""What the store knows of spans that were lost, by destination and reason.

The processes that lost them are often gone when somebody looks at the traces.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from clawmw.observe.sending.counts import REASONS, Reason
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Loss", "losses", "note_losses", "told"]

_TABLE = (
    "CREATE TABLE IF NOT EXISTS losses (destination TEXT NOT NULL, reason TEXT NOT NULL,"
    " spans INTEGER NOT NULL, last_ns INTEGER NOT NULL,"
    " PRIMARY KEY (destination, reason)) WITHOUT ROWID"
)
_ADD = (
    "INSERT INTO losses VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "spans = spans + excluded.spans, last_ns = max(last_ns, excluded.last_ns)"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """Spans that did not reach a destination, of all processes."""

    destination: str
    reason: Reason
    spans: int
    last_ns: int
    """When the last of them was lost."""


def note_losses(store: SpanStore, lost: Mapping[tuple[str, Reason], int]) -> None:
    """Add spans that were lost, by (destination, reason). Raises `StoreError`."""
    now = time.time_ns()
    rows = [(destination, reason, n, now) for (destination, reason), n in lost.items()]

    def add(connection: sqlite3.Connection) -> None:
        connection.execute(_TABLE)  # most stores never need it
        connection.executemany(_ADD, rows)

    store.transact(add)


def losses(store: SpanStore, since_ns: int = 0) -> list[Loss]:
    """What was lost, where the last of it was since then; the most first."""
    if not store.query("SELECT 1 FROM sqlite_master WHERE name = 'losses'"):
        return []
    sql = "SELECT * FROM losses WHERE last_ns >= ? ORDER BY spans DESC"
    return [Loss(**dict(row)) for row in store.query(sql, (since_ns,))]


def told(found: list[Loss]) -> str:
    """One line about it; "" where nothing was lost."""
    where = {"store": "not stored", "otlp": "not exported"}
    parts = [
        f"{loss.spans:,} {where.get(loss.destination, loss.destination)}"
        f" ({REASONS.get(loss.reason, loss.reason)})"
        for loss in found
    ]
    return f"spans were lost: {', '.join(parts)}" if parts else ""

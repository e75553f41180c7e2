"""The ledger in a store's one SQLite file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from sqlite3 import Connection
from typing import Any

from clawmw.core.effects import Above, Charge, Near, Reserved
from clawmw.stores.base import Kept, Of, everyone
from clawmw.stores.counters import (
    CLOCK,
    HOLD,
    PEAK,
    Counter,
    Scope,
    added,
    amounts,
    ancestors,
    decide,
    drawn,
    upwards,
)
from clawmw.stores.disk_files import Database

__all__ = ["LEDGER_1", "LEDGER_2", "REMEMBER", "TIDY_EVERY", "DiskLedger"]

REMEMBER = 86400.0
"""Seconds an id is remembered after its last use: a crashed run may be resumed the next day."""

TIDY_EVERY = 64
"""Writes between two looks for ids to forget; the first write of a process looks too."""

LEDGER_1 = """
CREATE TABLE counters (
    scope TEXT, meter TEXT, total INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (scope, meter)
) WITHOUT ROWID;
CREATE TABLE leases (
    id TEXT PRIMARY KEY, answer TEXT NOT NULL, drawn TEXT NOT NULL, settled INTEGER NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX leases_until ON leases (until);
"""
LEDGER_2 = """
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY, parent TEXT NOT NULL, raised TEXT NOT NULL, noted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE holds (
    scope TEXT, id TEXT, amount INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (scope, id)
) WITHOUT ROWID;
ALTER TABLE leases ADD COLUMN up TEXT NOT NULL DEFAULT '';
"""
"""What the second version of the schema adds."""

_ADD_LEASE = "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?)"
_SET_TOTAL = (
    "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (scope, meter)"
    " DO UPDATE SET total = excluded.total, at = excluded.at"
)
_NOTE = "INSERT INTO scopes VALUES (?, '', '{}', 1) ON CONFLICT (scope) DO UPDATE SET noted = 1"

_text = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class DiskLedger:
    """Counters by (scope, meter), and the leases that may still correct them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes = TIDY_EVERY - 1

    def reserve(
        self,
        id: str,
        charges: Sequence[Charge],
        expires: float,
        now: float,
        above: Above | None = None,
    ) -> Reserved:
        """Draw all charges or none, in one atomic step; the same `id` answers as before.

        A refusal is remembered like a grant.
        """
        amounts(charges)  # before anything begins: it may raise
        with self._database.write(durable=True) as connection:
            known = connection.execute("SELECT answer FROM leases WHERE id = ?", (id,)).fetchone()
            if known is not None:
                return _answer(json.loads(known[0]))
            up = [] if above is None else _lineage(connection, above)
            if above is not None:
                charges = upwards(charges, above.scope, up)
            asked = amounts(charges)
            scopes = _scopes(connection, dict.fromkeys(charge.scope for charge in charges))
            answer = decide(charges, asked, _at(connection, asked, now), scopes)
            if answer.granted:
                _draw(connection, id, answer, asked, (expires, now))
            # A refused id has nothing to take back: settling it charges as given.
            taken = _counts(drawn(asked)) if answer.granted else "[]"
            until = max(now, expires) + REMEMBER
            above_it = _text(up) if up else ""
            connection.execute(_ADD_LEASE, (id, _answer_text(answer), taken, 0, until, above_it))
            self._tidy(connection, now)
        return answer

    def settle(
        self, id: str, charges: Sequence[Charge], now: float, above: Above | None = None
    ) -> None:
        """Replace the reservation by what was used; only the first settle of an `id` counts.

        It may come after the lease expired: the measured figure is the better one.
        """
        amounts(charges)
        # Most settlements lower the counters and need no sync; only the transaction can tell.
        if not self._settle(id, charges, now, above, durable=False):
            self._settle(id, charges, now, above, durable=True)

    def used(self, scope: str, now: float = 0.0) -> Mapping[str, int]:
        """Used plus reserved by meter; what time changes, as of `now`."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT meter FROM counters WHERE scope = ?", (scope,))
            keys = [(scope, meter) for (meter,) in rows.fetchall()]
            return {meter: n for (_, meter), n in _at(connection, keys, now).items()}

    def reserved(self, scope: str, now: float) -> Mapping[str, int]:
        """Of what is used, what calls under way have reserved, by meter."""
        found: dict[str, int] = {}
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT drawn FROM leases WHERE until > ? AND settled = 0", (now + REMEMBER,)
            )
            for (text,) in rows:
                for one, meter, amount in json.loads(text):
                    if one == scope and amount:
                        found[meter] = found.get(meter, 0) + amount
        return found

    def raised(self, scope: str) -> Mapping[str, int]:
        """What a scope's limits are raised by, by meter."""
        with self._database.read() as connection:
            kept = _scopes(connection, (scope,)).get(scope)
        return kept.raised if kept is not None else {}

    def parents(self, scope: str) -> Sequence[str]:
        """The scopes that a scope draws on besides its own, nearest first."""
        with self._database.read() as connection:
            return _ancestors(connection, scope)

    def raise_limit(self, scope: str, meter: str, by: int, now: float) -> int:
        """Raise a limit from now on; returns what it is raised by in all, never below 0."""
        with self._database.write(durable=True) as connection:
            kept = _scopes(connection, (scope,)).get(scope) or Scope()
            total = kept.raised[meter] = max(kept.raised.get(meter, 0) + by, 0)
            kept.noted = False
            _keep(connection, scope, kept)
        return total

    def reset(self, scope: str, meter: str | None, now: float) -> int:
        """Count a scope's meter (None: all) from zero again, its limit as the policy has it.

        Calls under way count when they settle. Returns how many counters there were.
        """
        with self._database.write(durable=True) as connection:
            rows = connection.execute("SELECT meter FROM counters WHERE scope = ?", (scope,))
            keys = {(scope, m) for (m,) in rows.fetchall() if meter in (None, m)}
            connection.executemany("DELETE FROM counters WHERE scope = ? AND meter = ?", keys)
            if (scope, HOLD) in keys:
                connection.execute("DELETE FROM holds WHERE scope = ?", (scope,))
            leases = connection.execute("SELECT id, drawn FROM leases WHERE settled = 0")
            for lease, text in leases.fetchall():
                counts = json.loads(text)
                left = [one for one in counts if (one[0], one[1]) not in keys]
                if len(left) < len(counts):
                    connection.execute(
                        "UPDATE leases SET drawn = ? WHERE id = ?", (_text(left), lease)
                    )
            kept = _scopes(connection, (scope,)).get(scope)
            if kept is not None:
                kept.noted = False
                kept.raised = {m: n for m, n in kept.raised.items() if meter not in (None, m)}
                _keep(connection, scope, kept)
        return len(keys)

    def kept(self) -> list[Kept]:
        """What there is, by scope; counters have no content."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT scope, count(*), 0, min(at), max(at) FROM counters"
                " GROUP BY scope ORDER BY scope"
            ).fetchall()
        return [Kept(*row) for row in rows]

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget counters untouched since `before`, limits and all; returns how many.

        Those that an unsettled lease may still correct stay.
        """
        with self._database.write(durable=True) as connection:
            held: set[Counter] = set()
            for (taken,) in connection.execute("SELECT drawn FROM leases WHERE settled = 0"):
                held.update((scope, meter) for scope, meter, _ in json.loads(taken))
            rows = connection.execute("SELECT scope, meter FROM counters WHERE at < ?", (before,))
            old = [one for one in rows.fetchall() if one not in held and of(one[0])]
            connection.executemany("DELETE FROM counters WHERE scope = ? AND meter = ?", old)
            for scope in {scope for scope, _ in old}:
                for table in ("scopes", "holds"):
                    connection.execute(
                        f"DELETE FROM {table} WHERE scope = ?1"  # noqa: S608  # ours
                        " AND NOT EXISTS (SELECT 1 FROM counters WHERE scope = ?1)",
                        (scope,),
                    )
        return len(old)

    def _settle(
        self,
        id: str,
        charges: Sequence[Charge],
        now: float,
        above: Above | None,
        *,
        durable: bool,
    ) -> bool:
        """Settle once; False, with nothing done, when it takes a durable transaction."""
        with self._database.write(durable=durable) as connection:
            row = connection.execute(
                "SELECT drawn, settled, up FROM leases WHERE id = ?", (id,)
            ).fetchone()
            if row is not None and row[1]:
                return True
            up: list[str] = []
            if above is not None:
                up = json.loads(row[2] or "[]") if row else _lineage(connection, above)
                charges = upwards(charges, above.scope, up)
            spent = {k: n for k, n in amounts(charges).items() if k[1] not in (HOLD, CLOCK)}
            taken = {} if row is None else {(s, m): n for s, m, n in json.loads(row[0])}
            if not durable and any(n > taken.get(k, 0) for k, n in spent.items() if k[1] != PEAK):
                return False
            for scope in [scope for scope, meter in taken if meter == HOLD]:
                connection.execute("DELETE FROM holds WHERE scope = ? AND id = ?", (scope, id))
                del taken[scope, HOLD]
            totals = _totals(connection, spent.keys() | taken.keys())
            new = {key: totals.get(key, 0) - n for key, n in taken.items()}
            for key, n in spent.items():
                new[key] = added(key[1], new.get(key, totals.get(key, 0)), n)
            _set_totals(connection, new, now)
            connection.execute(
                f"{_ADD_LEASE} ON CONFLICT (id)"
                " DO UPDATE SET drawn = '[]', settled = 1, until = excluded.until",
                (id, _SETTLED, "[]", 1, now + REMEMBER, ""),
            )
            self._tidy(connection, now)
        return True

    def _tidy(self, connection: Connection, now: float) -> None:
        self._writes += 1
        if self._writes % TIDY_EVERY == 0:
            connection.execute(
                "DELETE FROM leases WHERE id IN"
                " (SELECT id FROM leases WHERE until < ? ORDER BY until LIMIT 256)",
                (now,),
            )
            connection.execute("DELETE FROM holds WHERE until <= ?", (now,))


def _draw(
    connection: Connection,
    id: str,
    answer: Reserved,
    asked: Mapping[Counter, int],
    when: tuple[float, float],
) -> None:
    """Write down a granted reservation; `when` it expires, and is made."""
    expires, now = when
    totals = dict(answer.usage)
    for key, amount in asked.items():
        if key[1] == HOLD:
            connection.execute(
                "INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?)", (key[0], id, amount, expires)
            )
            totals[key] = 0
        elif key[1] == CLOCK:
            totals[key] = int(now * 1000) - totals[key]
    _set_totals(connection, totals, now)
    connection.executemany(_NOTE, [(near.scope,) for near in answer.near])


def _at(connection: Connection, keys: Iterable[Counter], now: float) -> dict[Counter, int]:
    """Where the counters stand at `now`; those never charged are left out."""
    found = _totals(connection, keys)
    for key, total in found.items():
        if key[1] == HOLD:
            found[key] = connection.execute(
                "SELECT coalesce(sum(amount), 0) FROM holds WHERE scope = ? AND until > ?",
                (key[0], now),
            ).fetchone()[0]
        elif key[1] == CLOCK:
            found[key] = max(int(now * 1000) - total, 0)
    return found


def _totals(connection: Connection, counters: Iterable[Counter]) -> dict[Counter, int]:
    asked = list(counters)
    found: dict[Counter, int] = {}
    for start in range(0, len(asked), 400):  # SQLite takes 999 parameters everywhere
        some = asked[start : start + 400]
        rows = connection.execute(_select_totals(len(some)), [p for key in some for p in key])
        found.update({(scope, meter): total for scope, meter, total in rows})
    return found


@cache
def _select_totals(count: int) -> str:
    marks = ",".join(["(?,?)"] * count)
    return f"SELECT scope, meter, total FROM counters WHERE (scope, meter) IN (VALUES {marks})"  # noqa: S608  # question marks, no values


@cache
def _select_scopes(count: int) -> str:
    marks = ",".join("?" * count)
    return f"SELECT scope, parent, raised, noted FROM scopes WHERE scope IN ({marks})"  # noqa: S608  # question marks, no values


def _scopes(connection: Connection, names: Iterable[str]) -> dict[str, Scope]:
    asked = list(names)
    rows = connection.execute(_select_scopes(len(asked)), asked)
    return {
        scope: Scope(parent, json.loads(raised), bool(noted))
        for scope, parent, raised, noted in rows
    }


def _keep(connection: Connection, scope: str, kept: Scope) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO scopes VALUES (?, ?, ?, ?)",
        (scope, kept.parent, _text(kept.raised), int(kept.noted)),
    )


def _lineage(connection: Connection, above: Above) -> list[str]:
    """Remember who started a scope, the first time it is said; the scopes above it."""
    found = _ancestors(connection, above.scope)
    if found or not above.parent or above.parent == above.scope:
        return found
    if above.scope in _ancestors(connection, above.parent):
        return found
    kept = _scopes(connection, (above.scope,)).get(above.scope) or Scope()
    kept.parent = above.parent
    _keep(connection, above.scope, kept)
    return _ancestors(connection, above.scope)


def _ancestors(connection: Connection, scope: str) -> list[str]:
    def parent(of: str) -> str:
        row = connection.execute("SELECT parent FROM scopes WHERE scope = ?", (of,)).fetchone()
        return row[0] if row is not None else ""

    return ancestors(scope, parent)


def _set_totals(connection: Connection, totals: Mapping[Counter, int], now: float) -> None:
    rows = [(scope, meter, total, now) for (scope, meter), total in totals.items()]
    connection.executemany(_SET_TOTAL, rows)


def _counts(counts: Mapping[Counter, int]) -> str:
    return _text([[scope, meter, n] for (scope, meter), n in counts.items()])


def _answer_text(answer: Reserved) -> str:
    usage = [[scope, meter, n] for (scope, meter), n in answer.usage.items()]
    binds = [answer.scope, answer.meter, answer.limit, answer.used]
    return _text([answer.granted, usage, *binds, answer.left, answer.near])


_SETTLED = _answer_text(Reserved(True, {}))


def _answer(parts: list[Any]) -> Reserved:
    granted, usage, scope, meter, limit, used, *more = parts
    left, near = more or ({}, ())  # written before there were these
    totals = {(scope, meter): n for scope, meter, n in usage}
    told = tuple(Near(*one) for one in near)
    return Reserved(granted, totals, scope, meter, limit, used, left, told)

"""State in this process: fast, never blocking, gone with the process.

Slots are copied in and out, as JSON would change them (a tuple comes back a list), so a
caller sees what a disk would have given back and nobody changes a slot behind the store's
back. One lock a store.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from clawmw.core.effects import Key, Note, Slot, Write
from clawmw.core.types import Json
from clawmw.errors import StoreError
from clawmw.stores.base import Kept, Of, Stores, everyone, summed
from clawmw.stores.memory_ledger import REMEMBER, MemoryLedger

__all__ = [
    "MemoryBlobs",
    "MemoryEvidence",
    "MemorySlots",
    "NoBlobs",
    "memory_stores",
]

_MOST = 50_000
"""Slots kept, of some 25,000 calls and 50 MB: memory must not grow with the calls of a long life.
Then the session written longest ago is forgotten, and folded anew should it go on."""
_ATOMS = frozenset({str, int, bool, type(None)})
_TEXT = frozenset({str})


def memory_stores(*, blob_bytes: int = 256 * 2**20, blob_age: float = 7 * 86400) -> Stores:
    """Four stores in memory. Blobs are kept `blob_age` seconds, `blob_bytes` in all."""
    return Stores(
        slots=MemorySlots(),
        ledger=MemoryLedger(),
        evidence=MemoryEvidence(),
        blobs=MemoryBlobs(blob_bytes, blob_age),
        blocking=False,
    )


def _copied(value: Json) -> Json:
    """A deep copy of plain JSON: a third of the time that text there and back takes."""
    if type(value) is dict:
        return {k: v if type(v) in _ATOMS else _copied(v) for k, v in value.items()}
    if type(value) is list:
        return [v if type(v) in _ATOMS else _copied(v) for v in value]
    return value


class _NotPlainError(ValueError):
    """JSON would change this value, or cannot hold it."""


def _taken(value: Json) -> Json:
    """A deep copy of what JSON gives back as it is, types and keys included."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            raise _NotPlainError
        return {k: v if type(v) in _ATOMS else _taken(v) for k, v in value.items()}
    if kind is list:
        return [v if type(v) in _ATOMS else _taken(v) for v in value]
    if kind in _ATOMS or (kind is float and math.isfinite(value)):
        return value
    raise _NotPlainError


def _stored(value: Json) -> Json:
    try:
        return _taken(value)
    except _NotPlainError:
        return json.loads(json.dumps(value, allow_nan=False))


class MemorySlots:
    """Slots as plain JSON values by key, each with its version and when it was written."""

    def __init__(self, most: int = _MOST) -> None:
        self._lock = Lock()
        self._most = most
        self._rows: dict[Key, tuple[Json, int, float]] = {}
        self._scopes: OrderedDict[str, set[Key]] = OrderedDict()
        """The keys of each scope, the one written last at the end."""

    def load(self, keys: Sequence[Key]) -> list[Slot]:
        """The slots of `keys`, in order; version 0 and value None where absent."""
        rows = self._rows
        with self._lock:
            found = [rows.get(key) for key in keys]
        return [Slot(None, 0) if row is None else Slot(_copied(row[0]), row[1]) for row in found]

    def commit(self, writes: Sequence[Write], now: float) -> bool:
        """Write all or none; False when any version is no longer what the writer saw.

        A value that is not JSON, or one key named twice, is a `StoreError`.
        """
        staged: dict[Key, tuple[Json, int, float]] = {}
        for write in writes:
            try:
                value = _stored(write.value)
            except (TypeError, ValueError, RecursionError) as error:
                raise StoreError(f"slot {write.key!r} is not JSON: {error}") from None
            staged[write.key] = (value, write.version + 1, now)
        if len(staged) != len(writes):
            raise StoreError("a commit names one slot twice; merge the writes first")
        rows = self._rows
        with self._lock:
            for key, (_, version, _) in staged.items():
                row = rows.get(key)
                if (0 if row is None else row[1]) != version - 1:
                    return False
            rows.update(staged)
            for key in staged:
                self._scopes.setdefault(key[0], set()).add(key)
                self._scopes.move_to_end(key[0])
            while len(rows) > self._most and len(self._scopes) > 1:
                for key in self._scopes.popitem(last=False)[1]:
                    del rows[key]
        return True

    def kept(self) -> list[Kept]:
        """What there is, by scope; the size is that of the JSON."""
        with self._lock:
            rows = [(key[0], len(json.dumps(row[0])), row[2]) for key, row in self._rows.items()]
        return summed(rows)

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget slots of such scopes last written before `before`; returns how many."""
        with self._lock:
            old = [key for key, row in self._rows.items() if row[2] < before and of(key[0])]
            for key in old:
                del self._rows[key]
                self._scopes[key[0]].discard(key)
        return len(old)


@dataclass(slots=True)
class _Pile:
    """The notes of one scope and the largest window anyone asked for."""

    notes: list[Note]
    widest: int = 0
    touched: float = 0.0


class MemoryEvidence:
    """The newest notes of each scope."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._piles: dict[str, _Pile] = {}
        self._ids: OrderedDict[tuple[str, str], float] = OrderedDict()

    def append(
        self, id: str, scope: str, notes: Sequence[Note], window: int, now: float
    ) -> tuple[Note, ...]:
        """Add notes atomically; returns the newest `window`, oldest first, ours included."""
        with self._lock:
            pile = self._piles.get(scope)
            if pile is None:
                pile = self._piles[scope] = _Pile([])
            pile.widest = max(pile.widest, window)
            held = pile.notes
            if (scope, id) not in self._ids:
                self._ids[scope, id] = now
                held.extend(notes)
                pile.touched = now
                self._forget(now)
                if len(held) > 2 * pile.widest + 64:  # trimmed in strides: cheap on average
                    del held[: len(held) - pile.widest]
            return tuple(held[-window:]) if window > 0 else ()

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        with self._lock:
            return summed(
                [
                    (scope, len(note.kind) + len(note.value), pile.touched)
                    for scope, pile in self._piles.items()
                    for note in pile.notes
                ]
            )

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget such scopes that nobody added to since `before`; returns how many."""
        with self._lock:
            old = [s for s, pile in self._piles.items() if pile.touched < before and of(s)]
            for scope in old:
                del self._piles[scope]
        return len(old)

    def _forget(self, now: float) -> None:
        """Drop old ids; they come in order of time, so the oldest is first."""
        ids = self._ids
        for _ in range(2):
            first = next(iter(ids))
            if ids[first] + REMEMBER > now:
                return
            del ids[first]


class MemoryBlobs:
    """Content by reference; the least recently used goes first when room is short."""

    def __init__(self, limit: int, age: float) -> None:
        self._lock = Lock()
        self._limit = limit
        self._age = age
        self._size = 0
        self._rows: OrderedDict[Key, tuple[bytes, float]] = OrderedDict()

    def put(self, scope: str, ref: str, data: bytes, now: float) -> None:
        """Keep `data`; the same reference again only refreshes its age.

        Data larger than the whole store is a `StoreError`.
        """
        if len(data) > self._limit:
            raise StoreError(
                f"blob of {len(data)} bytes exceeds the store's {self._limit}; raise its limit"
            )
        key = (scope, ref)
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                self._size += len(data)
                self._rows[key] = (bytes(data), now)
            else:
                self._rows[key] = (row[0], now)
                self._rows.move_to_end(key)
            while self._size > self._limit or self._oldest() + self._age < now:
                self._drop(next(iter(self._rows)))

    def get(self, scope: str, ref: str, now: float) -> bytes | None:
        """The bytes, or None when never kept, expired or purged."""
        key = (scope, ref)
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                return None
            if row[1] + self._age < now:
                self._drop(key)
                return None
            self._rows.move_to_end(key)
            return row[0]

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        with self._lock:
            return summed([(key[0], len(row[0]), row[1]) for key, row in self._rows.items()])

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget what such scopes put before `before`; returns how many."""
        with self._lock:
            old = [key for key, row in self._rows.items() if row[1] < before and of(key[0])]
            for key in old:
                self._drop(key)
        return len(old)

    def _oldest(self) -> float:
        """When the least recently used blob was put; it may be younger than another."""
        return next(iter(self._rows.values()))[1]

    def _drop(self, key: Key) -> None:
        data, _ = self._rows.pop(key)
        self._size -= len(data)


class NoBlobs:
    """Keeps no originals: nothing may be hidden."""

    def put(self, scope: str, ref: str, data: bytes, now: float) -> None:
        """Keep nothing."""

    def get(self, scope: str, ref: str, now: float) -> bytes | None:
        """Nothing."""
        return None

    def kept(self) -> list[Kept]:
        """Nothing."""
        return []

    def purge(self, before: float, of: Of = everyone) -> int:
        """Nothing to forget."""
        return 0

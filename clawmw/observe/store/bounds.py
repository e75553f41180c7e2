"""How the trace store stays within its age and size, and how a user makes it smaller.

By age, spans go when they are too old: that is a promise. By size, whole chains go, the one that
was active least recently first; only of a chain that fills the store by itself the beginning goes.
Rows are dropped some at a time, so that other processes get to write in between, and the file
gives back what it no longer needs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from clawmw.observe.store.outlinetables import forget

__all__ = ["Bounded", "Pruned", "drop_before", "keep_within", "prune", "used_bytes"]

T = TypeVar("T")
_ROOM = 0.9
"""The part of the size that is left in use once it was exceeded, so that this is seldom."""
_SPANS = 2000
"""Spans dropped in one transaction."""
_PAGES = 4096
_EMPTY = 65_536
"""What a store without any spans takes, about."""
_TABLES = (
    "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c"
    " WHERE m.type = 'table' AND c.name = 'trace_id' ORDER BY m.name"
)
_OLDEST = (
    "SELECT trace_id, max(end_ns) AS last_ns, count(*) AS spans FROM spans INDEXED BY spans_end"
    " GROUP BY trace_id ORDER BY last_ns, trace_id"
)
_BEGINNING = (
    "DELETE FROM spans WHERE (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans"
    " WHERE end_ns < ? ORDER BY end_ns LIMIT ?) RETURNING trace_id, span_id"
)
_FOREVER = 2**63 - 1


class Bounded(Protocol):
    """What is needed of a `SpanStore`."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a SELECT."""
        ...

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction."""
        ...


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped, or with a dry run would be."""

    chains: int
    spans: int
    first_ns: int | None
    """When the chain that was active least recently was so; None where nothing was dropped."""
    last_ns: int | None
    bytes_before: int
    bytes_after: int
    """Of a dry run estimated: by the number of spans."""


@dataclass(frozen=True, slots=True)
class _Chain:
    trace_id: str
    last_ns: int
    spans: int


def used_bytes(store: Bounded) -> int:
    """What the store's rows take; the write-ahead log (some MB) comes on top."""
    sizes = [store.query(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count")]
    page: int = store.query("PRAGMA page_size")[0][0]
    return int((sizes[0] - sizes[1]) * page)


def drop_before(store: Bounded, before_ns: int, most: int = _FOREVER) -> int:
    """Drop the spans that ended before a time, `most` at most; returns how many."""
    store.transact(lambda connection: forget(connection, before_ns=before_ns))
    total = _drop_beginning(store, before_ns, most)
    if total:
        _vacuum(store)
    return total


def keep_within(store: Bounded, size: int) -> int:
    """Drop the oldest chains where the store takes more than `size` bytes; returns how many
    spans."""
    if used_bytes(store) <= size:
        return 0
    _, spans = _shrink(store, int(size * _ROOM))
    _vacuum(store)
    return spans


def prune(
    store: Bounded, *, before_ns: int | None = None, size: int | None = None, dry_run: bool = False
) -> Pruned:
    """Drop the chains that were last active before a time, then the oldest until the store takes at
    most `size` bytes."""
    before = used_bytes(store)
    found = [_Chain(**dict(row)) for row in store.query(_OLDEST)]
    gone = [chain for chain in found if before_ns is not None and chain.last_ns < before_ns]
    after = _estimated(before, found, gone)
    if dry_run:
        for chain in found[len(gone) :]:
            if size is None or after <= size:
                break
            gone.append(chain)
            after = _estimated(before, found, gone)
        return _pruned(gone, before, after, sum(chain.spans for chain in gone))
    _drop(store, gone)
    spans = sum(chain.spans for chain in gone)
    if size is not None:
        more, number = _shrink(store, size)
        gone, spans = gone + more, spans + number
    if gone:
        _vacuum(store, whole=True)
    return _pruned(gone, before, used_bytes(store), spans)


def _pruned(gone: Sequence[_Chain], before: int, after: int, spans: int) -> Pruned:
    ends = [chain.last_ns for chain in gone]
    first, last = (min(ends), max(ends)) if ends else (None, None)
    return Pruned(len(gone), spans, first, last, before, after)


def _estimated(before: int, found: Sequence[_Chain], gone: Sequence[_Chain]) -> int:
    total = sum(chain.spans for chain in found)
    left = total - sum(chain.spans for chain in gone)
    return max(before * left // total, min(before, _EMPTY)) if total else before


def _shrink(store: Bounded, size: int) -> tuple[list[_Chain], int]:
    """Drop chains until the store takes at most `size`: which, and how many spans in all."""
    gone: list[_Chain] = []
    spans = 0
    while (over := used_bytes(store) - size) > 0:
        found = [_Chain(**dict(row)) for row in store.query(_OLDEST)]
        total = sum(chain.spans for chain in found)
        if len(found) < 2:  # one chain that fills the store, or nothing to drop
            dropped = _drop_beginning(store, _FOREVER, _share(total, over, size))
            spans += dropped
            if not dropped:
                break
            continue
        wanted = _share(total, over, size)
        some: list[_Chain] = []
        for chain in found[:-1]:  # the one that is at work stays as long as it can
            some.append(chain)
            wanted -= chain.spans
            if wanted <= 0:
                break
        _drop(store, some)
        gone += some
        spans += sum(chain.spans for chain in some)
    return gone, spans


def _share(spans: int, over: int, size: int) -> int:
    """How many spans take about so much; the rows of calls differ in size, so it is repeated."""
    return max(spans * over // (size + over), 1)


def _drop(store: Bounded, gone: Sequence[_Chain]) -> None:
    for some in _portions(gone):
        store.transact(lambda connection, some=some: _drop_chains(connection, some))  # type: ignore[misc]


def _portions(gone: Sequence[_Chain]) -> Iterator[list[str]]:
    """Traces of about `_SPANS` spans at a time."""
    some: list[str] = []
    spans = 0
    for chain in gone:
        some.append(chain.trace_id)
        spans += chain.spans
        if spans >= _SPANS or len(some) >= 500:
            yield some
            some, spans = [], 0
    if some:
        yield some


def _drop_chains(connection: sqlite3.Connection, traces: Sequence[str]) -> None:
    forget(connection, traces=traces)
    for (table,) in connection.execute(_TABLES).fetchall():
        connection.executemany(
            f"DELETE FROM {table} WHERE trace_id = ?",  # noqa: S608 a table of ours
            [(trace,) for trace in traces],
        )


def _drop_beginning(store: Bounded, before_ns: int, most: int) -> int:
    """Drop the oldest spans, `most` at most."""

    total = 0
    while total < most:
        number = min(_SPANS, most - total)
        dropped = store.transact(lambda connection, n=number: _drop_spans(connection, before_ns, n))  # type: ignore[misc]
        total += dropped
        if dropped < number:
            break
    return total


def _drop_spans(connection: sqlite3.Connection, before_ns: int, number: int) -> int:
    rows = connection.execute(_BEGINNING, (before_ns, number)).fetchall()
    gone = [tuple(row) for row in rows]
    connection.executemany("DELETE FROM details WHERE trace_id = ? AND span_id = ?", gone)
    return len(gone)


def _vacuum(store: Bounded, *, whole: bool = False) -> None:
    """Give the file's unused pages back, some at a time. `whole`: empty the log as well."""
    while store.query("PRAGMA freelist_count")[0][0]:
        before = store.query("PRAGMA page_count")[0][0]
        store.query(f"PRAGMA incremental_vacuum({_PAGES})")
        if store.query("PRAGMA page_count")[0][0] >= before:
            break  # of a store that was not made for it
    store.query(f"PRAGMA wal_checkpoint({'TRUNCATE' if whole else 'PASSIVE'})")

"""The local span store: one SQLite file, written by every process, read by `clawmw traces`.

Everything a table needs is a typed column; what only a close look needs is JSON in a second
table, so that summing up thousands of chains does not read it. Rows are clustered by trace.
Write-ahead logging with batched transactions: several processes write at once, and a killed
process loses at most the batch it had not handed over.

The file is 0600; a folder made for it is 0700. Spans older than `keep` are dropped when a
writer opens the store, and every few hours while it stays open; where the store outgrows `size`,
the oldest chains go (`clawmw.observe.store.bounds`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import compress
from pathlib import Path
from typing import Any, Self, TypeVar

from clawmw.errors import StoreError
from clawmw.observe.reading.doubles import INDEX, admitted, settle
from clawmw.observe.store.bounds import drop_before, keep_within
from clawmw.observe.store.outlinetables import TABLES, expire
from clawmw.observe.store.ownfile import make, which

__all__ = ["COLUMNS", "KEEP", "SIZE", "SpanRow", "SpanStore", "default_store_path"]

KEEP = 30 * 86400.0
"""Seconds spans are kept."""
SIZE = 1_000_000_000
"""Bytes the store may take."""
_PRUNE_EVERY = 6 * 3600.0
_MEASURE_EVERY = 32
"""Batches between two looks at the size."""
_AT_ONCE = 2000
"""Spans dropped while a store is opened, at most."""
_VERSION = 3
_BUSY_S = 5.0
_LARGEST = 2**63 - 1
_abandoned: list[sqlite3.Connection | None] = []
"""Connections of a parent process: a forked child must not even close them."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span as it is stored. None is unknown, never zero; times in ns since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    op: str
    """`invoke_workflow`, `invoke_agent`, `chat` or `execute_tool`."""
    name: str
    start_ns: int
    end_ns: int
    status: str
    """`ok`, `failed`, and for a model call also `halted`, `answered` or `cancelled`."""
    error_type: str | None = None
    tenant: str | None = None
    chain_id: str | None = None
    session_id: str | None = None
    agent: str | None = None
    hop: int | None = None
    seq: int | None = None
    mode: str | None = None
    requested_model: str | None = None
    """The model the agent asked for, when another one was called."""
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    usage_basis: str | None = None
    cost_nano: int | None = None
    """Nano-USD, as `baseline_nano`."""
    cost_basis: str | None = None
    baseline_nano: int | None = None
    raw_tokens: int | None = None
    sent_tokens: int | None = None
    would_tokens: int | None = None
    predicted_tokens: int | None = None
    """Tokens the provider was expected to read from its cache."""
    attempts: int | None = None
    overhead_us: int | None = None
    stopped: int | None = None
    """1 when a guard kept the call from the model."""
    kind: str | None = None
    """What the call was for, as the agent states it."""
    stopped_by: str | None = None
    """The rule that stopped it."""
    moved: str | None = None
    """The part of the prompt that moved when an expected cache hit did not come."""
    uncached_nano: int | None = None
    """What the same tokens cost where nothing is cached."""
    assumed_nano: int | None = None
    """What was charged at most for attempts of which nobody knows what they cost."""
    exchange: str | None = None
    """The id of a model call in clawmw's other stores."""
    source: str | None = None
    """The library that wrote it, where that was not clawmw."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    synthetic: bool = False
    """Never stored: inferred by the reader from the spans beneath it."""


_UNTYPED = ("attributes", "events", "synthetic")
COLUMNS = tuple(f.name for f in fields(SpanRow) if f.name not in _UNTYPED)
"""The typed columns, in the order of `SpanRow`."""

_REQUIRED = {"trace_id", "span_id", "op", "name", "start_ns", "end_ns", "status"}
_INTEGERS = {f.name for f in fields(SpanRow) if str(f.type).startswith("int")}
_SCHEMA = (
    "CREATE TABLE spans ("
    + ", ".join(
        f"{c} {'INTEGER' if c in _INTEGERS else 'TEXT'}{' NOT NULL' if c in _REQUIRED else ''}"
        for c in COLUMNS
    )
    + ", PRIMARY KEY (trace_id, span_id)) WITHOUT ROWID",
    "CREATE INDEX spans_end ON spans (end_ns)",
    INDEX,
    (
        "CREATE TABLE details (trace_id TEXT NOT NULL, span_id TEXT NOT NULL,"
        " attributes TEXT NOT NULL, events TEXT NOT NULL,"
        " PRIMARY KEY (trace_id, span_id))"  # rows too long for WITHOUT ROWID
    ),
    *TABLES,
    f"PRAGMA user_version = {_VERSION}",
)
_ADDED = {
    1: ("kind TEXT", "stopped_by TEXT", "moved TEXT", "uncached_nano INTEGER"),
    2: ("assumed_nano INTEGER", "exchange TEXT", "source TEXT"),
}
"""The columns that each version lacks and the next one has."""
# A span that is written twice is one that was taken up again (a flow resumed after it
# failed): it keeps its first start, and the later end decides how it went.
_INSERT = (
    f"INSERT INTO spans ({', '.join(COLUMNS)}) "  # noqa: S608 the names of columns
    f"VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (trace_id, span_id) DO UPDATE SET "
    "start_ns = min(start_ns, excluded.start_ns), "
    "status = iif(excluded.end_ns >= end_ns, excluded.status, status), "
    "error_type = iif(excluded.end_ns >= end_ns, excluded.error_type, error_type), "
    "end_ns = max(end_ns, excluded.end_ns)"
)
_DETAIL = "INSERT OR REPLACE INTO details VALUES (?, ?, ?, ?)"


def default_store_path() -> Path:
    """Where traces are kept: `CLAWMW_TRACES`, else the user's state folder (XDG)."""
    given = os.environ.get("CLAWMW_TRACES")
    if given:
        return Path(given).expanduser()
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local/state"
    return base / "clawmw" / "traces.sqlite"


class SpanStore:
    """An open store; safe to use from several threads, and from a forked child."""

    def __init__(
        self, path: Path, *, writable: bool, keep: float | None = None, size: int | None = None
    ) -> None:
        self.path = path
        self._writable = writable
        self._keep, self._size = keep, size
        self._pruned = 0.0
        self._batches = 0
        self._closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._renewed = 0

    @classmethod
    def open(cls, path: Path | str, *, keep: float | None = KEEP, size: int | None = SIZE) -> Self:
        """Open for writing, making file and folder where needed.

        What is too old is dropped at once where that is quick; the rest, and what is too much, when
        something is written. With None nothing is too old, or too much. StoreError when it cannot
        be made or is not a store, UnsafeStore when the file is a link or belongs to someone else.
        """
        store = cls(Path(path), writable=True, keep=keep, size=size)
        make(store.path)
        with store._closed_on_error():
            store._transaction(store._migrate)
            store.expire()
            limit = int((time.time() - (keep or 0)) * 1e9)
            if keep is not None and drop_before(store, limit, _AT_ONCE) < _AT_ONCE:
                store._pruned = time.time()  # else the rest goes with the first batch
        return store

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Open for reading only. StoreError when there is none or it cannot be read."""
        store = cls(Path(path), writable=False)
        if not store.path.is_file():
            raise StoreError(f"no trace store at {path}")
        with store._closed_on_error():
            version = store.query("PRAGMA user_version")[0][0]
            if version in _ADDED:  # of an earlier release
                cls.open(path, keep=None, size=None).close()
            elif version != _VERSION:
                raise StoreError(f"{path} is not a trace store of this version of clawmw")
        return store

    def write(self, batch: Sequence[SpanRow]) -> None:
        """Write spans in one transaction."""
        if not batch:
            return
        self.renew()
        rows = [_values(row) for row in batch]
        details = [_details(row) for row in batch]

        def insert(connection: sqlite3.Connection) -> None:
            wanted = admitted(connection, batch)
            connection.executemany(_INSERT, compress(rows, wanted))
            connection.executemany(_DETAIL, compress(details, wanted))
            settle(connection, {row.trace_id for row in batch})

        self._transaction(insert)
        self._batches += 1
        if time.time() - self._pruned > _PRUNE_EVERY or self._batches % _MEASURE_EVERY == 1:
            self.prune()

    def renew(self) -> int:
        """Where the file was deleted, or another one stands in its place: go on with a new one, as
        nobody would ever read the old. Returns how often that was so."""
        self._after_fork()
        with self._lock:
            if self._connection is None or which(self.path) == self._file:
                return self._renewed
            self._connection.close()
            self._connection = None
            self._renewed += 1
        make(self.path)
        self._transaction(self._migrate)
        return self._renewed

    def prune(self) -> int:
        """Drop spans that ended more than `keep` seconds ago, and the oldest chains where the store
        takes more than `size` bytes; returns how many spans."""
        dropped = 0
        if time.time() - self._pruned > _PRUNE_EVERY:
            self._pruned = time.time()
            if self._keep is not None:
                dropped = drop_before(self, int((self._pruned - self._keep) * 1e9))
            self.expire()
        if self._size is not None:
            dropped += keep_within(self, self._size)
        return dropped

    def expire(self) -> int:
        """Drop the texts whose time is over, from the write-ahead log too; returns how many."""
        gone = self._transaction(lambda connection: expire(connection, time.time_ns()))
        if gone:
            self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction: all of it, or nothing."""
        return self._transaction(work)

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a SELECT."""
        with self._use() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close; a later use is a StoreError."""
        self._after_fork()
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    # --- inside ----------------------------------------------------------------------

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """For the opening: who gets an error instead of a store has nothing to close."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _VERSION:
            return
        if version in _ADDED:
            for earlier in range(version, _VERSION):
                for column in _ADDED[earlier]:
                    connection.execute(f"ALTER TABLE spans ADD COLUMN {column}")
            connection.execute(INDEX)
            for statement in TABLES:  # of version 3
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            return
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version or tables:
            raise StoreError(f"{self.path} is not a trace store of this version of clawmw")
        for statement in _SCHEMA:
            connection.execute(statement)

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The connection, held by one thread at a time; SQLite's errors as StoreError."""
        self._after_fork()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
            except sqlite3.Error as error:
                raise StoreError(f"trace store {self.path}: {error}") from None

    def _after_fork(self) -> None:
        """A forked child has its own connection, and a lock that no lost thread holds."""
        if self._pid != os.getpid():
            _abandoned.append(self._connection)
            self._lock, self._connection, self._pid = threading.Lock(), None, os.getpid()

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"trace store {self.path} is closed")
        uri = f"{self.path.absolute().as_uri()}?mode={'rw' if self._writable else 'ro'}"
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        try:
            if self._writable:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
                _use_wal(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                self._file = which(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite does not wait by itself for the others here."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _values(row: SpanRow) -> tuple[Any, ...]:
    return tuple(_fitting(getattr(row, column)) for column in COLUMNS)


def _fitting(value: Any) -> Any:
    """None for an integer no column can hold: a wire may say anything."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    return value


def _details(row: SpanRow) -> tuple[str, str, str, str]:
    return (
        row.trace_id,
        row.span_id,
        json.dumps(dict(row.attributes), separators=(",", ":")),
        json.dumps([dict(e) for e in row.events], separators=(",", ":")),
    )

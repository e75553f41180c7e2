"""Blobs on disk: diskcache without pickle, without its eviction, private to the user.

diskcache as it comes unpickles what it finds, so whoever can write one row runs code in
our process; and it silently evicts at 1 GiB. Here only bytes under text keys go in, and
only those come out: anything else on disk is refused, not read (`UnsafeStore`). What is
forgotten is decided by age and size below, nothing else.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from diskcache import Cache, Disk, Timeout  # type: ignore[import-untyped]
from diskcache.core import (  # type: ignore[import-untyped]
    DBNAME,
    DEFAULT_SETTINGS,
    ENOVAL,
    METADATA,
    MODE_BINARY,
    MODE_RAW,
    UNKNOWN,
)

from clawmw.errors import StoreError, UnsafeStore
from clawmw.stores.base import Kept, Of, everyone, summed
from clawmw.stores.disk_files import connected, failure, private_file, private_folder

__all__ = ["DiskBlobs", "SafeDisk"]

_INLINE = 2**15
"""Bytes from which a blob is a file of its own and not a row."""

_PRUNE_EVERY = 32
"""Puts between two looks at age and size."""

_PRUNE_BATCH = 64
"""Blobs forgotten in one transaction, so that others get their turn."""

PATIENCE = 10.0

_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


class SafeDisk(Disk):  # type: ignore[misc]  # diskcache has no type hints
    """What diskcache may write and read: bytes under str or bytes keys, in files of its own."""

    written: str | None = None
    """The file behind the last `store`, for `undo`."""

    def put(self, key: Any) -> tuple[Any, bool]:
        """The key as a column; only str and bytes, never pickled."""
        if type(key) is str:
            return key, True
        if type(key) is bytes:
            return sqlite3.Binary(key), True
        raise UnsafeStore(f"blob key of type {type(key).__name__} would be pickled; use str")

    def get(self, key: Any, raw: Any) -> Any:
        """The key from its column; a pickled one is refused."""
        if raw != 1:
            raise UnsafeStore(f"pickled key in {self._directory}; move that folder away")
        return bytes(key) if isinstance(key, memoryview) else key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, Any, Any]:
        """Bytes as columns (size, mode, filename, value); nothing else is taken."""
        if read or type(value) is not bytes:
            raise UnsafeStore(f"blob of type {type(value).__name__} would be pickled; use bytes")
        self.written = None
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, sqlite3.Binary(value)
        name, path = self.filename(key, value)
        self._write(path, [value], "xb")  # diskcache would go line by line
        self.written = name
        return len(value), MODE_BINARY, name, None

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:
        """The bytes of a row; any mode or file name that we would not have written is refused."""
        if mode == MODE_RAW and filename is None and isinstance(value, bytes | memoryview):
            return bytes(value)
        if mode == MODE_BINARY and isinstance(filename, str) and _NAME.fullmatch(filename):
            path = Path(self._directory, filename)
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                return file.read()
        raise UnsafeStore(f"foreign blob (mode {mode!r}) in {self._directory}; move it away")

    def remove(self, file_path: str) -> None:
        """Delete a blob's file; a name that is not a blob's is left alone."""
        if _NAME.fullmatch(file_path):
            super().remove(file_path)

    def undo(self) -> None:
        """Delete the file of a `store` whose row could not be written."""
        if self.written is not None:
            self.remove(self.written)

    def _write(self, full_path: str, iterator: Any, mode: str, encoding: Any = None) -> int:
        """Write a new file at 0600 in folders at 0700, whatever the umask; none on failure."""
        path = Path(full_path)
        for attempt in range(10):
            for folder in (path.parent.parent, path.parent):
                with suppress(FileExistsError, FileNotFoundError):
                    folder.mkdir(mode=0o700)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileNotFoundError:  # another process removed the folder as empty
                if attempt == 9:
                    raise
        try:
            with os.fdopen(handle, "wb") as file:
                return sum(file.write(chunk) for chunk in iterator)
        except BaseException:
            path.unlink()
            raise


class _OneConnection(Cache):  # type: ignore[misc]  # diskcache has no type hints
    """A cache with one connection instead of one a thread that nobody closes.

    Its user holds a lock around every call. A forked child gets a connection of its own.
    """

    _one: sqlite3.Connection | None = None
    _owner = 0
    _orphans: tuple[sqlite3.Connection | None, ...] = ()

    def __init__(self, directory: str, **settings: Any) -> None:
        try:
            super().__init__(directory, **settings)
        except BaseException:  # nobody else can close what it opened
            self.close()
            raise

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Only settings that diskcache has: it makes each one found on disk an attribute."""
        if key not in DEFAULT_SETTINGS and key not in METADATA:
            raise ValueError(f"holds a foreign setting {key!r}")
        return super().reset(key, value, update)

    @property
    def _con(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            self._orphans += (self._one,)  # the parent's: neither used nor closed here
            self._one, self._owner = None, os.getpid()
        if self._one is None:
            path = Path(self._directory, DBNAME)
            self._one = connected(path, self._timeout, "synchronous=NORMAL")
        return self._one

    def close(self) -> None:
        """Close the connection; the next call would open another."""
        if self._one is not None and self._owner == os.getpid():
            self._one.close()
            self._one = None


class DiskBlobs:
    """Content by reference, forgotten by age, then the longest unused when room is short.

    By the caller's clock, the `tag` column holds when a blob was last put, and
    `access_count`, which diskcache leaves at 0 without an eviction policy, when it was
    last asked for, in seconds.
    """

    def __init__(self, folder: Path, limit: int, age: float) -> None:
        self._folder = private_folder(folder)
        if os.path.expandvars(self._folder) != str(self._folder):  # diskcache would
            raise StoreError(f"store {folder} holds the name of a variable; choose another name")
        private_file(self._folder / DBNAME)
        self._limit = limit
        self._age = age
        self._lock, self._owner = Lock(), os.getpid()
        self._puts = _PRUNE_EVERY - 1  # look at the first put: a process may never come to 32
        self._bytes = 0
        self._cache: Any = None
        with self._mapped():
            self._cache = self._opened()

    def put(self, scope: str, ref: str, data: bytes, now: float) -> None:
        """Keep `data`; the same reference again only refreshes its age.

        Data larger than the whole store is a `StoreError`.
        """
        if len(data) > self._limit:
            raise StoreError(
                f"blob of {len(data)} bytes exceeds the store's {self._limit}; raise its limit"
            )
        key = _key(scope, ref)
        with self._using() as cache:
            if not self._refresh(key, now):
                try:
                    cache.set(key, bytes(data), tag=float(now))
                except BaseException:
                    cache.disk.undo()
                    raise
                self._tidy(key, len(data), now)

    def get(self, scope: str, ref: str, now: float) -> bytes | None:
        """The bytes, or None when never kept, expired or purged."""
        key = _key(scope, ref)
        with self._using() as cache:
            data, at = cache.get(key, tag=True)
            if data is None or not isinstance(at, float) or at + self._age < now:
                return None
            with suppress(sqlite3.Error, Timeout):  # a disk that is full can still be read
                cache._sql(
                    "UPDATE Cache SET access_count = ? WHERE key = ? AND raw = 1", (int(now), key)
                )
        return bytes(data)

    def kept(self) -> list[Kept]:
        """What there is, by scope."""
        with self._using() as cache:
            rows = cache._sql(
                "SELECT key, coalesce(length(value), size), tag FROM Cache WHERE raw = 1"
            ).fetchall()
        found = [(_scope(key), size, at) for key, size, at in rows if isinstance(at, float)]
        return summed((scope, size, at) for scope, size, at in found if scope is not None)

    def purge(self, before: float, of: Of = everyone) -> int:
        """Forget what such scopes put before `before`; returns how many."""
        with self._using() as cache:
            rows = cache._sql(
                "SELECT rowid, key FROM Cache WHERE tag < ? AND raw = 1", (before,)
            ).fetchall()
            old = [rowid for rowid, key in rows if (s := _scope(key)) is not None and of(s)]
            count = 0
            for start in range(0, len(old), _PRUNE_BATCH):
                with cache._transact() as (sql, cleanup):
                    for rowid in old[start : start + _PRUNE_BATCH]:
                        gone = sql(
                            "SELECT filename FROM Cache WHERE rowid = ? AND tag < ?",
                            (rowid, before),
                        ).fetchall()
                        for (filename,) in gone:
                            sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                            cleanup(filename)
                            count += 1
        return count

    def close(self) -> None:
        """Close; whatever comes later is a `StoreError`."""
        with self._mine():
            cache, self._cache = self._cache, None
            if cache is not None:
                cache.close()

    def _opened(self) -> _OneConnection:
        return _OneConnection(
            str(self._folder),
            timeout=PATIENCE,
            disk=SafeDisk,
            eviction_policy="none",
            cull_limit=0,
            statistics=0,
            tag_index=1,
            disk_min_file_size=_INLINE,
            sqlite_journal_mode="wal",
            sqlite_synchronous=1,  # a power cut may cost the newest blobs: they are gone, no more
            sqlite_auto_vacuum=1,  # the file shrinks, so its size is what is kept
            sqlite_mmap_size=0,  # a full disk must be an error, not a SIGBUS
        )

    @contextmanager
    def _using(self) -> Iterator[Any]:
        with self._mine(), self._mapped():
            if self._cache is None:
                raise StoreError(f"store {self._folder} is closed; open it again")
            yield self._cache

    def _mine(self) -> Lock:
        """The lock; in a forked child a new one, which the parent's threads do not hold."""
        if self._owner != os.getpid():
            self._lock, self._owner = Lock(), os.getpid()
        return self._lock

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (Timeout, sqlite3.Error, OSError) as error:
            raise failure(self._folder / DBNAME, error) from None
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            # The Settings table holds names or values that diskcache never wrote.
            raise StoreError(f"store {self._folder / DBNAME}: {error}; move it away") from None

    def _refresh(self, key: str, now: float) -> bool:
        """Whether `key` is kept already; its age then begins anew."""
        sql = self._cache._sql
        row = sql("SELECT mode, filename FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
        if row is None or row[0] not in (MODE_RAW, MODE_BINARY):
            return False
        if row[1] is not None and not (self._folder / str(row[1])).is_file():
            return False
        done = sql("UPDATE Cache SET tag = ? WHERE key = ? AND raw = 1", (float(now), key))
        return bool(done.rowcount == 1)  # 0: another process forgot it meanwhile

    def _tidy(self, key: str, size: int, now: float) -> None:
        """Every so often, forget some of what is too old, then the oldest until there is room."""
        self._puts += 1
        self._bytes += size
        if self._puts < _PRUNE_EVERY and self._bytes < self._limit // 16:
            return
        self._puts = self._bytes = 0
        self._forget(key, older_than=now - self._age)
        while (volume := self._cache.volume()) > self._limit:
            # A little more than needed, so that not every put from here on has to look.
            if not self._forget(key, room=volume - self._limit + self._limit // 16):
                return

    def _forget(self, but: str, older_than: float = math.inf, room: float = math.inf) -> int:
        """Forget a batch, longest unused first, until `room` bytes are freed; returns how many."""
        with self._cache._transact() as (sql, cleanup):
            rows = sql(
                "SELECT rowid, filename, coalesce(length(value), size) FROM Cache"
                " WHERE tag < ? AND key != ? ORDER BY max(tag, access_count) LIMIT ?",
                (older_than, but, _PRUNE_BATCH),
            ).fetchall()
            freed = count = 0
            for rowid, filename, size in rows:
                if freed >= room:
                    break
                sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                cleanup(filename)
                freed += size
                count += 1
        return count


def _scope(key: object) -> str | None:
    """The scope of a key as `_key` writes it; None for any other."""
    try:
        scope, _ = json.loads(key) if isinstance(key, str) else (None, None)
    except ValueError:
        return None
    return scope if isinstance(scope, str) else None


def _key(scope: str, ref: str) -> str:
    return json.dumps([scope, ref])

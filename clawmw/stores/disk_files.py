"""Private folders and files, and one SQLite file shared by threads and processes.

What is refused follows OpenSSH's StrictModes: a folder or file that another user owns or
may write is not trusted, a symbolic link in its place neither. SQLite gives `-wal` and
`-shm` the mode of the main file, so that one is created first, at 0600.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from clawmw.errors import StoreError, UnsafeStore

__all__ = ["Database", "failure", "private_file", "private_folder"]

PATIENCE = 10.0
"""Seconds to wait for another process's write."""

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by another process; wait for it or stop it",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space",
    sqlite3.SQLITE_READONLY: "cannot be written; make it and its folder writable for you",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; make it and its folder writable for you",
    sqlite3.SQLITE_PERM: "cannot be opened; make it and its folder writable for you",
    sqlite3.SQLITE_NOTADB: "is not a store or is damaged; move it away to begin a new one",
    sqlite3.SQLITE_CORRUPT: "is damaged; move it away to begin a new one",
    sqlite3.SQLITE_IOERR: "cannot be read or written; see to its disk (full, quota, hardware)",
}


def failure(path: Path, error: BaseException) -> StoreError:
    """What went wrong at `path`, in one line: what, where, what to do."""
    cause: BaseException | None = error
    while cause is not None:  # a failed ROLLBACK, or diskcache's Timeout, hides the reason
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None and (advice := _ADVICE.get(code & 0xFF)):
            return StoreError(f"store {path} {advice}")
        cause = cause.__context__
    if isinstance(error, OSError) and error.errno is not None:
        return StoreError(
            f"store {path}: {os.strerror(error.errno).lower()}; "
            "check its permissions and free space, or choose another folder"
        )
    return StoreError(f"store {path}: {error}")


def private_folder(folder: Path) -> Path:
    """`folder`, made at 0700 with its parents where missing, as an absolute path.

    `UnsafeStore` for a symbolic link, another user's folder, or one others may write.
    """
    folder = Path(os.path.abspath(folder))
    try:
        _make(folder)
        state = os.lstat(folder)
    except OSError as error:
        raise failure(folder, error) from None
    if stat.S_ISLNK(state.st_mode):
        raise UnsafeStore(f"store {folder} is a symbolic link; name the folder itself")
    if not stat.S_ISDIR(state.st_mode):
        raise StoreError(f"store {folder} is not a folder; choose another name")
    _trust(folder, state)
    return folder


def private_file(path: Path) -> None:
    """Create `path` at 0600, or tighten it to that; `UnsafeStore` when not to be trusted."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path, flags, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise UnsafeStore(f"store {path} is a symbolic link; move it away") from None
        raise failure(path, error) from None
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise UnsafeStore(f"store {path} is not a plain file; move it away")
        _trust(path, state)
        if stat.S_IMODE(state.st_mode) != 0o600:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    """Like `mkdir -p`, but every folder made is 0700 under any umask."""
    if os.path.lexists(folder):
        return
    if not folder.parent.exists():
        _make(folder.parent)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:  # another process was first
        return


def _trust(path: Path, state: os.stat_result) -> None:
    if state.st_uid != os.geteuid():
        raise UnsafeStore(f"store {path} belongs to another user; choose a folder of your own")
    if state.st_mode & 0o022:
        raise UnsafeStore(f"store {path} may be written by other users; run: chmod go-w {path}")


class Database:
    """One SQLite file in WAL mode: a writer and a reader connection, each behind a lock.

    Threads queue at the lock, in which the busy handler's sleeps have no part; processes
    queue at SQLite's. A `durable` transaction is on the platter when it returns
    (synchronous=FULL); another survives the death of the process, not of the machine
    (NORMAL: the write-ahead log is synced at the next durable commit or checkpoint).
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._closed = False
        self._orphans: list[object] = []
        self._open()
        try:
            with self._mapped():
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close both connections; whatever comes later is a `StoreError`."""
        with self._writing, self._reading:
            self._closed = True
            for connection in (*self._writers.values(), *self._readers):
                connection.close()
            self._writers.clear()
            self._readers.clear()

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file's one write lock from its beginning."""
        self._mine()
        with self._writing, self._mapped():
            self._check()
            connection = self._writers.get(durable) or self._connect_writer(durable)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for single SELECTs; never waits for a writer."""
        self._mine()
        with self._reading, self._mapped():
            self._check()
            if not self._readers:
                self._readers.append(self._connect())
            yield self._readers[0]

    def _open(self) -> None:
        self._pid = os.getpid()
        self._writing = RLock()
        self._reading = RLock()
        self._writers: dict[bool, sqlite3.Connection] = {}
        self._readers: list[sqlite3.Connection] = []

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"store {self.path} is closed; open it again")

    def _mine(self) -> None:
        """In a forked child, begin anew.

        It must neither use nor close its parent's connections (sqlite.org/howtocorrupt.html,
        2.6), nor wait for locks that the parent's threads hold.
        """
        if self._pid != os.getpid():
            self._orphans += [self._writers, self._readers]
            self._open()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise failure(self.path, error) from None
        except (OverflowError, UnicodeEncodeError) as error:
            raise StoreError(f"store {self.path} cannot hold this value: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        # No statement is ever run by two threads at once: the locks see to that.
        connection = sqlite3.connect(
            self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    def _connect_writer(self, durable: bool) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._writers[durable] = connection
        return connection

    def _migrate(self) -> None:
        connection = self._connect_writer(True)
        _wal(connection)
        with self.write(durable=True):
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
            if "meta" in tables:
                self._check_version(connection)
                return
            if tables:
                raise StoreError(f"{self.path} is not a store; move it away or choose another")
            connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
            connection.execute("INSERT INTO meta VALUES ('schema', ?)", (self._version,))
            for statement in filter(str.strip, self._schema.split(";")):
                connection.execute(statement)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None or not isinstance(row[0], int):
            raise StoreError(f"{self.path} is not a store; move it away or choose another")
        if row[0] > self._version:
            raise StoreError(
                f"store {self.path} was written by a newer clawmw (schema {row[0]}, this one "
                f"knows {self._version}); upgrade clawmw or choose another folder"
            )


def _wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for its lock here; we do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)

"""Private folders and files, and one SQLite file shared by threads and processes.

What is refused follows OpenSSH's StrictModes: a folder or file that another user owns or
may write is not trusted, a symbolic link in its place neither. SQLite gives `-wal` and
`-shm` the mode of the main file, so that one is created first, at 0600.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, RLock, local

from clawmw.errors import StoreBusy, StoreError, UnsafeStore

__all__ = [
    "Database",
    "at_once",
    "connected",
    "failure",
    "opening",
    "private_file",
    "private_folder",
]

PATIENCE = 10.0
"""Seconds to wait for another process's write."""

_CREATING = Lock()


class _Hurry(local):
    on = False


_hurry = _Hurry()


@contextmanager
def at_once() -> Iterator[None]:
    """In this thread, meanwhile: whoever would have to wait for a lock gets `StoreBusy`.

    Nothing was done then. For an event loop, which must not wait.
    """
    _hurry.on = True
    try:
        yield
    finally:
        _hurry.on = False


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
    # A failed ROLLBACK, or diskcache's Timeout, hides the reason behind it.
    while cause is not None and not isinstance(cause, OSError):
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
    folder = folder.absolute()
    try:
        _make(folder)
        state = folder.lstat()
    except OSError as error:
        raise failure(folder, error) from None
    if stat.S_ISLNK(state.st_mode):
        raise UnsafeStore(f"store {folder} is a symbolic link; name the folder itself")
    if not stat.S_ISDIR(state.st_mode):
        raise StoreError(f"store {folder} is not a folder; choose another name")
    _trust(folder, state)
    return folder


def private_file(path: Path) -> None:
    """Create `path` at 0600, or tighten it to that; `UnsafeStore` when not to be trusted.

    A file that is there is not opened: closing it again would drop the locks that SQLite
    holds on it elsewhere in this process (sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        with _CREATING:
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                state = path.lstat()
            else:
                return
        if stat.S_ISLNK(state.st_mode):
            raise UnsafeStore(f"store {path} is a symbolic link; move it away")
        if not stat.S_ISREG(state.st_mode):
            raise UnsafeStore(f"store {path} is not a plain file; move it away")
        _trust(path, state)
        if stat.S_IMODE(state.st_mode) != 0o600:
            path.chmod(0o600)
    except OSError as error:
        raise failure(path, error) from None


def connected(path: Path, patience: float, *pragmas: str) -> sqlite3.Connection:
    """A connection with `pragmas` set, closed again when the file will not have them.

    Any thread may use it; that no two do so at once is for the caller to see to.
    """
    connection = sqlite3.connect(
        path, timeout=patience, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """One process at a time makes or opens the stores of `folder`."""
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _lock(handle)
        yield
    except OSError as error:
        raise failure(folder, error) from None
    finally:
        if handle != -1:
            os.close(handle)


def _lock(handle: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _make(folder: Path) -> None:
    """Like `mkdir -p`, but every folder made is 0700 under any umask."""
    if os.path.lexists(folder):
        return
    if not folder.parent.exists():
        _make(folder.parent)
    with suppress(FileExistsError):  # another process may be first
        folder.mkdir(mode=0o700)


def _trust(path: Path, state: os.stat_result) -> None:
    if state.st_uid != os.geteuid():
        raise UnsafeStore(f"store {path} belongs to another user; choose a folder of your own")
    if state.st_mode & 0o022:
        raise UnsafeStore(f"store {path} may be written by other users; run: chmod go-w {path}")


class Database:
    """One SQLite file in WAL mode: a writer and a reader connection, each behind a lock.

    Threads queue at the lock, in which the busy handler's sleeps have no part; processes
    queue at SQLite's. A `durable` transaction is synced when it returns
    (synchronous=FULL); another survives the death of the process, not of the machine
    (NORMAL: the write-ahead log is synced at the next durable commit or checkpoint).
    """

    def __init__(self, path: Path, schemas: Sequence[str]) -> None:
        """`schemas`: the statements of each version, one upon the other, from 1 on."""
        self.path = path
        self._schemas = schemas
        self._closed = False
        self._orphans: list[object] = []
        self._open()
        private_file(path)
        try:
            with self._mapped():
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; whatever comes later is a `StoreError`."""
        self._mine()
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
        with self._queue(), self._mapped():
            self._check()
            kind = durable, _hurry.on
            connection = self._writers.get(kind) or self._connect_writer(*kind)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                if connection.in_transaction:  # not rolled back by its user
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
                self._readers.append(connected(self.path, PATIENCE, "temp_store=MEMORY"))
            yield self._readers[0]

    @contextmanager
    def _queue(self) -> Iterator[None]:
        """Wait for the other threads, but no longer than each of them may wait for a process."""
        if _hurry.on:
            if not self._writing.acquire(blocking=False):
                raise StoreBusy(f"store {self.path} is being written")
        elif not self._writing.acquire(timeout=2 * PATIENCE):
            raise StoreError(f"store {self.path} {_ADVICE[sqlite3.SQLITE_BUSY]}")
        try:
            yield
        finally:
            self._writing.release()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._writing = RLock()
        self._reading = RLock()
        self._writers: dict[tuple[bool, bool], sqlite3.Connection] = {}
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
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if _hurry.on and code == sqlite3.SQLITE_BUSY:
                raise StoreBusy(f"store {self.path} is being written") from None
            raise failure(self.path, error) from None
        except (OverflowError, UnicodeEncodeError) as error:
            raise StoreError(f"store {self.path} cannot hold this value: {error}") from None

    def _connect_writer(self, durable: bool, hurry: bool = False) -> sqlite3.Connection:
        synchronous = f"synchronous={'FULL' if durable else 'NORMAL'}"
        patience = 0.0 if hurry else PATIENCE
        connection = connected(self.path, patience, "temp_store=MEMORY", synchronous)
        self._writers[durable, hurry] = connection
        return connection

    def _migrate(self) -> None:
        connection = self._connect_writer(True)
        connection.execute("PRAGMA journal_mode=WAL")
        with self.write(durable=True):
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
            if not tables:
                connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
                connection.execute("INSERT INTO meta VALUES ('schema', 0)")
            elif "meta" not in tables:
                raise StoreError(f"{self.path} is not a store; move it away or choose another")
            missing = self._schemas[self._known(connection) :]
            for schema in missing:
                for statement in filter(str.strip, schema.split(";")):
                    connection.execute(statement)
            if missing:
                version = (len(self._schemas),)
                connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", version)

    def _known(self, connection: sqlite3.Connection) -> int:
        """The version of the schema that the file has."""
        row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None or not isinstance(row[0], int):
            raise StoreError(f"{self.path} is not a store; move it away or choose another")
        if row[0] > len(self._schemas):
            raise StoreError(
                f"store {self.path} was written by a newer clawmw (schema {row[0]}, this one "
                f"knows {len(self._schemas)}); upgrade clawmw or choose another folder"
            )
        return row[0]

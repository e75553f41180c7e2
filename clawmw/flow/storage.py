"""The checkpoint file of flows: private, JSON only, one run at a time per thread.

What is read back decides what an agent does next, so nothing but JSON is ever read: a row
of any other kind (pickle, msgpack with its constructors) is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from clawmw.errors import Conflict, StoreError, UnsafeStore

__all__ = ["JsonSerializer", "default_path", "forget_steps", "hold", "open_file", "threads"]


def default_path() -> Path:
    """`$XDG_STATE_HOME/clawmw/flows.sqlite`, below `~/.local/state` where that is not set."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    home = state if state.is_absolute() else Path.home() / ".local" / "state"
    return home / "clawmw" / "flows.sqlite"


class JsonSerializer:
    """What a checkpoint saver needs: values to typed bytes and back, JSON and nothing else."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """JSON; of an exception only the type, since its text could carry content."""
        return "json", json.dumps(obj, default=_type_of).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value. Raises UnsafeStore for anything that is not JSON."""
        kind, raw = data
        if kind != "json":
            raise UnsafeStore(
                f"the checkpoint file holds a {kind!r} value; only JSON is read: use another file"
            )
        try:
            return json.loads(raw)
        except ValueError as e:
            raise UnsafeStore(f"the checkpoint file holds broken JSON: {e}") from None


@contextmanager
def open_file(path: Path) -> Iterator[sqlite3.Connection]:
    """The checkpoint file, made if need be: 0600, in a folder of 0700.

    Raises UnsafeStore if someone else could have written it, StoreError if it cannot be
    opened or used.
    """
    try:
        _prepare(path)
    except OSError as e:
        raise StoreError(f"cannot use the checkpoint file {path}: {e.strerror or e}") from None
    try:
        with closing(sqlite3.connect(path, timeout=30.0, check_same_thread=False)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            yield connection
    except sqlite3.Error as e:
        raise StoreError(f"cannot use the checkpoint file {path}: {e}") from None


@contextmanager
def hold(path: Path, thread: str) -> Iterator[None]:
    """Hold a thread: no other process runs it meanwhile. Raises Conflict if one does."""
    name = hashlib.blake2b(thread.encode(), digest_size=8).hexdigest()
    lock = path.with_name(f"{path.name}.{name}.lock")
    descriptor = _locked(lock)
    if descriptor is None:
        raise Conflict(f"thread {thread!r} is being run by another process; wait for it")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def threads(connection: sqlite3.Connection) -> list[str]:
    """The threads in the file, the newest first."""
    rows = connection.execute(
        "SELECT thread_id FROM checkpoints GROUP BY thread_id ORDER BY max(checkpoint_id) DESC"
    )
    return [str(row[0]) for row in rows]


def forget_steps(connection: sqlite3.Connection, thread: str) -> None:
    """Keep only the last checkpoint of a thread: each one holds the whole state."""
    with connection:
        newest = connection.execute(
            "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?", (thread,)
        ).fetchone()
        known = (thread, *newest)
        connection.execute("DELETE FROM writes WHERE thread_id = ? AND checkpoint_id < ?", known)
        connection.execute(
            "DELETE FROM checkpoints WHERE thread_id = ? AND checkpoint_id < ?", known
        )


def _prepare(path: Path) -> None:
    folder = path.parent
    for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
        missing.mkdir(mode=0o700)
    mode = folder.stat().st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise UnsafeStore(f"others can write to {folder}; run: chmod go-w {folder}")
    if path.is_symlink():
        raise UnsafeStore(f"{path} is a symbolic link; name the file itself")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Looked at by name: closing a descriptor of it would drop the locks that SQLite
        # holds on it elsewhere in this process.
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise UnsafeStore(f"{path} is not a file of this user; name another one") from None
        if facts.st_mode & 0o077:
            path.chmod(0o600)


def _locked(lock: Path) -> int | None:
    """A descriptor that holds the lock file exclusively; None if someone else does."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # its last holder removed it meanwhile
        os.close(descriptor)


def _type_of(value: Any) -> str:
    if isinstance(value, BaseException):
        return type(value).__name__
    raise TypeError(f"a flow's state holds JSON only, not {type(value).__name__}")

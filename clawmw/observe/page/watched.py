"""A trace store that may not be there yet, go away, or be another one the next moment."""

from __future__ import annotations

import threading
from pathlib import Path

from clawmw.errors import StoreError
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Watched"]


class Watched:
    """The store at a path, whatever is there now. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._store: SpanStore | None = None
        self._file: tuple[int, int] | None = None
        self._opened = 0

    def store(self) -> SpanStore | None:
        """The store; None where there is none. Raises `StoreError` for what is no trace store."""
        with self._lock:
            return self._current()

    def version(self) -> str:
        """A text that is another one after each change; costs no more than a look at the file."""
        with self._lock:
            store = self._current()
            if store is None:
                return "none"
            # SQLite's own count of what other connections wrote.
            ((changes,),) = store.query("PRAGMA data_version")
            return f"{self._opened}.{changes}"

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._forget()

    def _current(self) -> SpanStore | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._forget()
            return None
        except OSError as error:
            self._forget()
            raise StoreError(f"trace store {self.path} cannot be read: {error.strerror}") from None
        file = (found.st_dev, found.st_ino)
        if self._store is None or file != self._file:
            self._forget()
            if found.st_size == 0:  # somebody is just making it
                return None
            self._store = SpanStore.read(self.path)
            self._file, self._opened = file, self._opened + 1
        return self._store

    def _forget(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store, self._file = None, None

"""The file of a store: only its owner's, and still the one that was opened."""

from __future__ import annotations

import os
from pathlib import Path

from clawmw.errors import StoreError, UnsafeStore

__all__ = ["make", "which"]


def make(path: Path) -> None:
    """Make folder and file with their rights, before SQLite could make them wider."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        reason = "is a link" if path.is_symlink() else f"cannot be used: {error.strerror}"
        kind = UnsafeStore if path.is_symlink() else StoreError
        raise kind(f"trace store {path} {reason}") from None
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise UnsafeStore(f"trace store {path} belongs to another user")
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def which(path: Path) -> tuple[int, int] | None:
    """The file that stands there now; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

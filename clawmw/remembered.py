"""What makes a session's next call cheap: the last bodies and folded histories of a process.

Bounded, newest longest. Nothing depends on it but speed: what is forgotten is read and folded
again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeAlias

from clawmw.core.fold import History
from clawmw.core.types import Request

__all__ = ["HISTORIES", "REMEMBERED_BYTES", "Remembered"]

REMEMBERED_BYTES = 64 * 2**20
"""Bodies kept to recognise the next one by."""
HISTORIES = 256
"""Folded histories kept, of at most `REMEMBERED_BYTES` of bodies too: one takes about 3.5 bytes
for each byte of its body (messages as they came and as they are sent), and at most 12 MB for
what `dedupe` knows of it. A session that is no longer kept is folded again from its record."""
_HEAD = 64
"""Bytes by which bodies are grouped: hardly more than the model's name."""
_ALIKE = 64
"""Bodies of one group that are kept."""

Name: TypeAlias = tuple[str, str]
"""Policy digest and session scope."""


class Remembered:
    """See the module. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: OrderedDict[bytes, list[Request]] = OrderedDict()
        self._bytes = 0
        self._histories: OrderedDict[Name, tuple[History, int]] = OrderedDict()
        self._held = 0

    def alike(self, body: bytes) -> tuple[Request, ...]:
        """Earlier requests that `body` may go on from."""
        with self._lock:
            return tuple(self._bodies.get(body[:_HEAD], ()))

    def history(self, name: Name) -> History | None:
        """A session's folded history."""
        with self._lock:
            history, _ = self._histories.get(name, (None, 0))
            return history

    def keep(self, request: Request, name: Name, history: History | None) -> None:
        """Remember a call: its request, and its history if it was sent."""
        body = getattr(request.source, "body", b"")
        with self._lock:
            if history is not None:
                self._keep_history(name, history, len(body))
            if body:
                self._keep_body(body, request)

    def _keep_history(self, name: Name, history: History, size: int) -> None:
        kept = self._histories
        _, old = kept.pop(name, (None, 0))
        kept[name] = (history, size)
        self._held += size - old
        while len(kept) > 1 and (len(kept) > HISTORIES or self._held > REMEMBERED_BYTES):
            _, (_, gone) = kept.popitem(last=False)
            self._held -= gone

    def _keep_body(self, body: bytes, request: Request) -> None:
        kept = self._bodies.setdefault(body[:_HEAD], [])
        self._bodies.move_to_end(body[:_HEAD])
        first = request.messages
        for old in kept:
            # The one this body goes on from is no longer needed.
            shared = min(len(old.messages), len(first)) - 2
            if shared > 0 and old.messages[shared] is first[shared]:
                kept.remove(old)
                self._bytes -= _size(old)
                break
        kept.insert(0, request)
        self._bytes += len(body)
        while len(kept) > _ALIKE:
            self._bytes -= _size(kept.pop())
        while self._bytes > REMEMBERED_BYTES and len(self._bodies) > 1:
            _, gone = self._bodies.popitem(last=False)
            self._bytes -= sum(_size(r) for r in gone)


def _size(request: Request) -> int:
    return len(getattr(request.source, "body", b""))

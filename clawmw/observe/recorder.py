"""Writes outlines of calls into the trace store, in the background.

The call only hands itself over; a thread works out what is new in it and writes some calls at a
time. A killed process loses what waited (half a second's calls). When calls end faster than they
are written, the newest are left out and counted, never waited for.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.errors import StoreError
from clawmw.observe.base import Ended
from clawmw.observe.outlinerows import Batch
from clawmw.observe.outlines import Outliner
from clawmw.observe.outlinestore import write
from clawmw.observe.spanstore import SpanStore

__all__ = ["Content", "Recorder"]

_log = logging.getLogger(__name__)
_WAITING = 1024
"""Calls that may wait to be written."""
_WAITING_BYTES = 64 * 2**20
"""Bytes of their bodies."""
_DELAY_S = 0.5
_PATIENCE_S = 5.0
"""How long the end of a process waits for the last batch."""


@dataclass(frozen=True, slots=True)
class Content:
    """That what is said is kept, on this machine."""

    keep: float
    """Seconds."""
    longest: int
    """Bytes of one message."""


class Recorder:
    """Takes calls from any thread, and writes them down from one of its own. Never raises."""

    def __init__(self, store: SpanStore, content: Content | None = None) -> None:
        self._store = store
        self._content = content
        self.lost = 0
        """Calls that were not written down."""
        self._failing = False
        self._expires = 0.0
        self._start_anew()
        _renewed_after_fork(self)
        atexit.register(self.close)

    def ended(self, call: Ended) -> None:
        """Take a call that is over."""
        size = len(getattr(call.asked.source, "body", b""))
        if self._closed or len(self._calls) >= _WAITING or self._bytes > _WAITING_BYTES:
            self.lost += 1
            return
        self._bytes += size
        self._calls.append(call)
        if self._thread is None:
            self._begin()
        if not self._some.is_set():
            self._some.set()

    def flush(self, seconds: float = _PATIENCE_S) -> bool:
        """Write what waits; False when that was not done within `seconds`."""
        if not self._working.acquire(timeout=seconds):
            return False
        try:
            self._write()
        finally:
            self._working.release()
        return True

    def close(self) -> None:
        """Write what waits and take no more; the store stays open."""
        self._closed = True
        self._some.set()
        self.flush()
        atexit.unregister(self.close)

    # --- inside ----------------------------------------------------------------------

    def _start_anew(self) -> None:
        """What a process begins with; a forked child has none of its parent's calls or threads."""
        self._calls: deque[Ended] = deque()
        self._bytes = 0
        self._closed = False
        self._some = threading.Event()
        self._working, self._beginning = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._outliner = Outliner(self._content.longest if self._content else None)

    def _begin(self) -> None:
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="clawmw-outlines", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        while not self._closed:
            self._some.wait()
            if not self._closed:
                time.sleep(_DELAY_S)
            self._some.clear()
            self.flush()

    def _write(self) -> None:
        """Write all that waits, in one transaction."""
        self._bytes = 0  # about: what comes in meanwhile may be counted or not
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        batches = self._outlined(calls)
        if not batches:
            return
        now = time.time()
        keep = self._content.keep if self._content else 0.0
        try:
            write(self._store, batches, int((now + keep) * 1e9))
            if self._content is not None and now > self._expires:
                self._expires = now + max(min(keep / 10, 3600.0), 1.0)
                self._store.expire()
            self._failing = False
        except StoreError as error:
            self._outliner.forget()  # the next call writes its whole history
            self.lost += len(batches)
            if not self._failing:
                _log.warning("outlines of calls are being lost: %s", error)
            self._failing = True

    def _outlined(self, calls: Sequence[Ended]) -> list[Batch]:
        made = []
        for call in calls:
            try:
                made.append(self._outliner.outline(call))
            except Exception as error:  # noqa: BLE001 - a bug here must not end the thread
                self.lost += 1
                _log.debug("a call has no outline: %s", type(error).__name__)
        return made


def _renewed_after_fork(recorder: Recorder) -> None:
    alive = weakref.ref(recorder)

    def renew() -> None:
        found = alive()
        if found is not None:
            found._start_anew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)

"""Writes outlines of calls into the trace store, in the background.

The call only hands itself over; a thread works out what is new in it and writes some calls at a
time. A killed process loses what waited (half a second's calls). When calls end faster than they
are written, the oldest that wait are left out and counted, never waited for.
"""

from __future__ import annotations

import atexit
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.errors import StoreError
from clawmw.observe.base import Ended
from clawmw.observe.sending.counts import Count, Counts
from clawmw.observe.sending.forks import after_fork
from clawmw.observe.sending.outbox import Outbox, Outcome, Shape
from clawmw.observe.store.outlinerows import Batch
from clawmw.observe.store.outlines import Outliner
from clawmw.observe.store.outlinestore import write
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Content", "Recorder"]

_log = logging.getLogger(__name__)
_SHAPE = Shape(room=1024, batch=256)
_BYTES = 64 * 2**20
"""Bytes of the bodies that wait, at most."""
_PATIENCE_S = 2.0
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
        self._counts = Counts("outlines")
        self._outbox: Outbox[Ended] = Outbox(
            f"the outlines in {store.path}", self._deliver, self._counts, _SHAPE
        )
        self._expires = 0.0
        self._renewed = 0
        self._begin()
        after_fork(self._begin)
        atexit.register(self.close)  # after the store's own, so it is done before that

    def _begin(self) -> None:
        """Take nothing as written: at first, and in a forked child."""
        self._bytes = 0
        self._outliner = Outliner(self._content.longest if self._content else None)

    @property
    def counts(self) -> Count:
        """Calls handed over, written and lost."""
        return self._counts.now()

    def ended(self, call: Ended) -> None:
        """Take a call that is over."""
        self._counts.handed()
        if self._bytes > _BYTES:
            self._counts.lost("queue", 1)
            return
        self._bytes += len(getattr(call.asked.source, "body", b""))
        self._outbox.put(call)

    def flush(self, seconds: float = _PATIENCE_S) -> bool:
        """Write what waits; False when that was not done within `seconds`."""
        return self._outbox.flush(seconds)

    def close(self, seconds: float = _PATIENCE_S) -> None:
        """Write what waits and take no more; the store stays open."""
        atexit.unregister(self.close)
        self._outbox.close(seconds)

    # --- on the thread ---------------------------------------------------------------

    def _deliver(self, calls: Sequence[Ended]) -> Outcome[Ended]:
        """Write some calls in one transaction."""
        try:
            renewed = self._store.renew()
        except StoreError:
            renewed = self._renewed  # the same comes of the writing
        if renewed != self._renewed:  # another file: nothing is in it
            self._renewed = renewed
            self._outliner.forget()
        batches, failed = self._outlined(calls)
        now = time.time()
        keep = self._content.keep if self._content else 0.0
        try:
            write(self._store, batches, int((now + keep) * 1e9))
            if self._content is not None and now > self._expires:
                self._expires = now + max(min(keep / 10, 3600.0), 1.0)
                self._store.expire()
        except StoreError as error:
            self._outliner.forget()  # whatever comes next writes its whole history
            # Locked, full, read-only: that passes. Anything else will not.
            if isinstance(error.__context__, sqlite3.OperationalError):
                return Outcome(again=calls, why=str(error))
            return Outcome(refused=len(calls), why=str(error))
        self._bytes = 0  # about: what came in meanwhile is not counted
        return Outcome(refused=failed)

    def _outlined(self, calls: Sequence[Ended]) -> tuple[list[Batch], int]:
        """What is to be written, and of how many calls nothing can be."""
        made, failed = [], 0
        for call in calls:
            try:
                made.append(self._outliner.outline(call))
            except Exception as error:  # noqa: BLE001 - a bug here must not cost the others theirs
                failed += 1
                _log.debug("a call has no outline: %s", type(error).__name__)
        return made, failed

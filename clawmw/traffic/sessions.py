"""What this process knows of the tasks its sessions are at. Safe to share between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from clawmw.core.identity import Identity
from clawmw.core.tasks import Task, follow

__all__ = ["MOST", "Sessions"]

MOST = 8192
"""Sessions, and conversations in them, that are remembered: about 1 KB each."""


class Sessions:
    """See the module. Bounded: whoever sends a new id on every call displaces the oldest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()

    def begins(self, identity: Identity, now: float) -> tuple[Identity, bool]:
        """The identity with its chain, as far as is known here; True where nothing is.

        What another process knows is then looked up in the exchange, which may wait.
        """
        scope, above = identity.scope("session"), identity.parent_session
        with self._lock:
            own = self._tasks.get((scope, identity.opener)) or self._tasks.get((scope, ""))
            parent = None
            if own is None and above:
                parent = self._tasks.get((replace(identity, session=above).scope("session"), ""))
            identity = follow(identity, own, parent, now)
            self._keep(scope, Task.at(identity, now))
        return identity, own is None

    def ended(self, identity: Identity, began: float, now: float) -> None:
        """A call is over: the next message at machine speed is counted from here."""
        scope, task = identity.scope("session"), Task.at(identity, now)
        with self._lock:
            known = self._tasks.get((scope, identity.opener))
            if known is None or known.name == task.name or known.last <= began:
                self._keep(scope, task)

    def _keep(self, scope: str, task: Task) -> None:
        for key in ((scope, ""), (scope, task.opener)):
            self._tasks[key] = task
            self._tasks.move_to_end(key)
        while len(self._tasks) > MOST:
            self._tasks.popitem(last=False)

    def __len__(self) -> int:
        return len(self._tasks)

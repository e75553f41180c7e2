"""What this process knows of the tasks its sessions are at, and of the answers that their
providers hold. Safe to share between threads."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import replace

from clawmw.core.identity import Identity
from clawmw.core.tasks import Task, follow
from clawmw.core.types import Earlier, Response, ToolCall

__all__ = ["MOST", "Sessions"]

MOST = 8192
"""Sessions, and conversations in them, that are remembered: about 1 KB each."""

LONGEST = 1024
"""Characters of a call's arguments that are kept of an answer."""


class Sessions:
    """See the module. Bounded: whoever sends a new id on every call displaces the oldest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._answers: OrderedDict[tuple[str, str], Earlier] = OrderedDict()

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

    def answered(self, identity: Identity, answer: Response, shown: str | None) -> None:
        """An answer that later calls may go on from by its id, or by the one that was shown."""
        if not answer.id:
            return
        counted = answer.usage
        tokens = None
        if counted is not None and counted.input_tokens is not None:
            tokens = counted.input_tokens + (counted.output_tokens or 0)
        calls = tuple([_short(call) for call in answer.message.tool_calls])
        with self._lock:
            for name in {answer.id, shown or answer.id}:
                known = Earlier(answer.id, identity.session, calls, tokens)
                self._answers[identity.tenant, name] = known
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)

    def earlier(self, tenant: str, answer: str) -> Earlier | None:
        """What is known of an answer by its id."""
        with self._lock:
            return self._answers.get((tenant, answer))

    def _keep(self, scope: str, task: Task) -> None:
        for key in ((scope, ""), (scope, task.opener)):
            self._tasks[key] = task
            self._tasks.move_to_end(key)
        while len(self._tasks) > MOST:
            self._tasks.popitem(last=False)

    def __len__(self) -> int:
        return len(self._tasks)


def _short(call: ToolCall) -> ToolCall:
    """A call as far as it takes to tell it from others."""
    if len(call.arguments) <= LONGEST:
        return call
    digest = hashlib.blake2b(call.arguments.encode("utf-8", "surrogatepass"), digest_size=16)
    return ToolCall(call.id, call.name, f'"{digest.hexdigest()}"')

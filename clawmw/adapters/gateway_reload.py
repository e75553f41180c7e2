"""The policy of a running gateway, read again when its file changes.

A look at the file's time once a second costs less than a watcher, and sees what editors do
(write, rename, replace) on every file system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_upstream import Places
from clawmw.errors import ClawmwError
from clawmw.policy.models import Policy

__all__ = ["PolicyFile"]

EVERY = 1.0
"""Seconds between two looks."""
STILL = 0.1
"""Seconds that a changed file must be still before it is read: half of one says something else."""
_FIXED = ("store", "trace", "notify", "tenant")
"""What a process has opened when it began."""


class PolicyFile:
    """A gateway's policy file. `read` gives the policy in it, and raises `ClawmwError`.

    `say` takes one line about a file that cannot be used; the policy before it stays in force.
    """

    def __init__(
        self,
        gateway: Gateway,
        path: str,
        policy: Policy,
        read: Callable[[], Policy],
        say: Callable[[str], None],
    ) -> None:
        self.gateway, self.path, self.policy = gateway, path, policy
        self._read, self._say = read, say
        self.error = ""
        """Why the file as it is now is not in force; "": it is."""
        self._seen = self._stamp()

    def health(self) -> dict[str, Any]:
        """What there is to say of it."""
        return {"error": self.error} if self.error else {}

    async def watch(self) -> None:
        """Read the file again whenever it changes."""
        while True:
            await asyncio.sleep(EVERY)
            if (found := self._stamp()) != self._seen:
                await asyncio.sleep(STILL)
                if self._stamp() == found:  # whoever writes it is done
                    await self.again()

    async def again(self) -> None:
        """Read the file again. Calls under way end as they began."""
        self._seen = self._stamp()
        try:
            policy = await asyncio.to_thread(self._read)
            old = self.gateway.places
            places = Places(policy.models, old.upstream, old.key_env)
            self.gateway.runtime.reload(policy)
        except ClawmwError as error:
            lines = str(error).splitlines()
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            named = lines[0].startswith(f"{self.path}:")
            self.error = f"{'' if named else f'{self.path}: '}{lines[0]}{more}"
            self._say(f"{self.error}; the policy before it stays in force")
            return
        self.gateway.places, self.gateway.paths = places, policy.gateway.paths
        fixed = [name for name in _FIXED if getattr(policy, name) != getattr(self.policy, name)]
        self.error = f"{', '.join(fixed)}: in force from the next start" if fixed else ""
        digest = self.gateway.runtime.pipeline.digest
        self._say(f"{self.path}: read again, policy {digest}{'; ' * bool(fixed)}{self.error}")
        self.policy = policy.model_copy(update={n: getattr(self.policy, n) for n in fixed})

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = Path(self.path).stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino

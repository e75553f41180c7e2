"""What a policy's store keeps, for those who reach it outside a model call: a person, MCP.

A reference resolves as it does for a model: in the policy's tenant, for the session that
is named and those it descends from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from clawmw.core.effects import Append, Effect, GetBlob
from clawmw.core.identity import Identity
from clawmw.errors import InternalError, StoreError
from clawmw.policy import build
from clawmw.policy.models import Policy
from clawmw.stages.context.expand import GONE
from clawmw.stages.context.kinship import original
from clawmw.stages.context.slices import Asked, slice_of
from clawmw.stores.base import Kept, Stores

__all__ = ["Originals", "Purged", "Stock"]


@dataclass(frozen=True, slots=True)
class Stock:
    """What is kept for a tenant, by scope."""

    originals: tuple[Kept, ...]
    slots: tuple[Kept, ...]
    evidence: tuple[Kept, ...]
    counters: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Purged:
    """How much was forgotten."""

    originals: int = 0
    slots: int = 0
    evidence: int = 0
    counters: int = 0


class Originals:
    """The stores of a policy, for one tenant. Every method may raise `StoreError`."""

    def __init__(self, stores: Stores, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self._stores = stores
        self._tenant = tenant
        self._clock = clock
        self._reads = 0

    @classmethod
    def of(cls, policy: Policy) -> Originals:
        """Those on the policy's disk. `StoreError` when it has none, or nothing is there yet."""
        folder = build.store_folder(policy)
        if folder is None:
            raise StoreError(
                "the policy keeps its state in memory, where no other process sees it; "
                "write `store: {disk: FOLDER}`"
            )
        if not folder.exists():
            raise StoreError(f"store {folder} does not exist: no agent ran under this policy yet")
        return cls(build.stores(policy), policy.tenant)

    def session(self, name: str, *, parent: str | None = None) -> Identity:
        """Who asks; `parent` is the chain (or session) that started it."""
        return Identity(tenant=self._tenant, session=name, parent=parent)

    def answer(self, identity: Identity, asked: Asked) -> tuple[str, bool]:
        """What is asked for, or why there is nothing; True when there is."""
        text = self._performed(original(identity, asked.ref))
        if text is None:
            return GONE.format(asked.ref), False
        return slice_of(text, query=asked.query, lines=asked.lines, path=asked.path), True

    def whole(self, identity: Identity, ref: str) -> str | None:
        """The original itself."""
        return self._performed(original(identity, ref))

    def sessions_with(self, ref: str) -> list[str]:
        """The sessions that keep something under `ref`."""
        now, blobs = self._clock(), self._stores.blobs
        scopes = [kept.scope for kept in blobs.kept() if self._ours(kept.scope)]
        return [_names(s)[1] for s in scopes if blobs.get(s, ref, now) is not None]

    def stock(self) -> Stock:
        """What is kept for the tenant."""
        homes = (self._stores.blobs, self._stores.slots, self._stores.evidence, self._stores.ledger)
        found = [tuple(k for k in home.kept() if self._ours(k.scope)) for home in homes]
        return Stock(*found)

    def purge_session(self, name: str) -> Purged:
        """Forget a session and the chains named after it. Money that was spent stays spent."""
        own = self.session(name).scope("session")
        chain = Identity(tenant=self._tenant, chain=name).scope("chain")

        def meant(scope: str) -> bool:
            return scope in (own, chain) or scope.startswith((chain + "#", chain + "~"))

        return self._purge(meant)

    def purge_tenant(self) -> Purged:
        """Forget all that is known of the tenant's conversations; money stays spent."""
        return self._purge(self._ours)

    def purge_older(self, age: float) -> Purged:
        """Forget what was not used for `age` seconds: originals, idle sessions, counters."""
        before = self._clock() - age
        slots = self._stores.slots
        idle = {kept.scope for kept in slots.kept() if kept.newest < before}
        return Purged(
            self._stores.blobs.purge(before, self._ours),
            slots.purge(before, lambda scope: scope in idle and self._ours(scope)),
            self._stores.evidence.purge(before, self._ours),
            self._stores.ledger.purge(before, self._ours),
        )

    def close(self) -> None:
        """Let go of the stores."""
        self._stores.close()

    def _purge(self, meant: Callable[[str], bool]) -> Purged:
        return Purged(
            self._stores.blobs.purge(math.inf, meant),
            self._stores.slots.purge(math.inf, meant),
            self._stores.evidence.purge(math.inf, meant),
        )

    def _ours(self, scope: str) -> bool:
        return _names(scope)[0] == self._tenant

    def _performed(self, asking: Generator[Effect, Any, str | None]) -> str | None:
        """Perform what looking for an original asks of the stores."""
        now = self._clock()
        given: Any = None
        try:
            while True:
                effect = asking.send(given)
                if isinstance(effect, GetBlob):
                    given = self._stores.blobs.get(effect.scope, effect.ref, now)
                elif isinstance(effect, Append):
                    self._reads += 1
                    name = effect.id or f"read/{now}/{self._reads}"
                    given = self._stores.evidence.append(
                        name, effect.scope, effect.notes, effect.window, now
                    )
                else:
                    raise InternalError(f"looking for an original asked for {effect!r}")
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def _names(scope: str) -> tuple[str, str]:
    """Tenant and last name of a store key."""
    parts = scope.partition(":")[2].split("\x1f")
    return parts[0], parts[-1]

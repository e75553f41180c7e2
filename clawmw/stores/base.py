"""The four homes of state. Small protocols; one backend a file.

Every method may raise `StoreError`. `now` is seconds since the epoch, given by the caller.
All are safe to use from several threads; a disk or network backend from several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from clawmw.core.effects import Charge, Key, Note, Reserved, Slot, Write

__all__ = ["Blobs", "Evidence", "Ledger", "Slots", "Stores"]


class Slots(Protocol):
    """Small JSON values by compare-and-set. Never evicted, purged by age on request."""

    def load(self, keys: Sequence[Key]) -> list[Slot]:
        """The slots of `keys`, in order; version 0 and value None where absent."""
        ...

    def commit(self, writes: Sequence[Write], now: float) -> bool:
        """Write all or none; False when any version is no longer what the writer saw."""
        ...


class Ledger(Protocol):
    """What many callers share: money, calls, tokens."""

    def reserve(self, id: str, charges: Sequence[Charge], expires: float, now: float) -> Reserved:
        """Draw all charges or none, in one atomic step.

        For each charge with a limit: used + reserved + amount <= limit. A reservation that
        is not settled by `expires` counts as used, at its amount. The same `id` again
        draws nothing and answers as before.
        """
        ...

    def settle(self, id: str, charges: Sequence[Charge], now: float) -> None:
        """Replace the reservation by what was used, even beyond the limit.

        Scopes and meters not named are released. A second settle of one `id` changes
        nothing; an unknown `id` is charged as given.
        """
        ...

    def used(self, scope: str) -> Mapping[str, int]:
        """Used plus reserved by meter."""
        ...


class Evidence(Protocol):
    """What many callers add to: a bounded, ordered list a scope."""

    def append(
        self, id: str, scope: str, notes: Sequence[Note], window: int, now: float
    ) -> tuple[Note, ...]:
        """Add notes atomically; returns the newest `window`, oldest first, ours included.

        The same `id` again adds nothing. Notes beyond the largest window ever asked for
        may be forgotten.
        """
        ...


class Blobs(Protocol):
    """Content under a reference, bounded by age and size."""

    def put(self, scope: str, ref: str, data: bytes, now: float) -> None:
        """Keep `data`; the same reference again only refreshes its age."""
        ...

    def get(self, scope: str, ref: str, now: float) -> bytes | None:
        """The bytes, or None when never kept, expired or purged."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """The four together, as a backend gives them."""

    slots: Slots
    ledger: Ledger
    evidence: Evidence
    blobs: Blobs
    blocking: bool
    """True: may wait for a disk or a network; async callers use a thread."""
    close: Callable[[], None] = lambda: None

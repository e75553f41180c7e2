"""How long an upstream is waited for: for its first byte, and while it says nothing.

A server that sends nothing but comments, to be thought alive, is as silent as one that sends
nothing. The caller's own timeouts hold as well, where they are shorter; a slow reader's time is
its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

__all__ = ["Patience"]

T = TypeVar("T")


class Patience:
    """Of one attempt, in seconds. `late`: the exception raised when it is over."""

    def __init__(self, first_byte: float, idle: float, late: type[Exception]) -> None:
        self._idle, self._late = idle, late
        self._most, self._silent = first_byte, 0.0
        self._what = "no first byte"
        self._timeout: dict[str, Any] = {}

    def extension(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The client's timeouts, never longer than ours: for what waits in a blocking read."""
        self._timeout = dict(given or {})
        self._read(self._most)
        return self._timeout

    def begun(self) -> None:
        """The status is here: httpcore looks at the timeout anew when the body begins."""
        self._read(self._idle)

    def moved(self) -> None:
        """The answer got on."""
        self._most, self._silent, self._what = self._idle, 0.0, "nothing more"

    async def of(self, step: Awaitable[T]) -> T:
        """What `step` gives, within what is left."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(self._most - self._silent, 0)):
                return await step
        except TimeoutError:
            raise self._error() from None
        finally:
            self._silent += time.monotonic() - began

    def waited(self, seconds: float) -> None:
        """A blocking read took that long; raises when it was too long without the answer."""
        self._silent += seconds
        if self._silent > self._most:
            raise self._error()

    def _error(self) -> Exception:
        return self._late(f"{self._what} of the answer within {self._most:g} s")

    def _read(self, seconds: float) -> None:
        own = self._timeout.get("read")
        self._timeout["read"] = seconds if own is None else min(seconds, float(own))

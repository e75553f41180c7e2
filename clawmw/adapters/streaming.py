"""The caller's side of a stream. Reading it drives the exchange; closing it ends it.

When a stage answers a reply itself (an expansion), the next upstream stream goes on within
the same message: the reader sees one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any

from clawmw.adapters import wire
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.tap import Tap
from clawmw.errors import InternalError
from clawmw.runtime import Live

if TYPE_CHECKING:
    from clawmw.adapters.transport import Attempt

__all__ = ["AsyncReading", "Reading"]


class _Base:
    """What both twins know: the attempt being read, and how it ended."""

    def __init__(self, owner: Any, live: Live, request: Any, attempt: Attempt) -> None:
        self.owner, self.live, self.request, self.attempt = owner, live, request, attempt
        self.over = False

    @property
    def tap(self) -> Tap:
        """The tap on the stream being read."""
        if self.attempt.call.tap is None:
            raise InternalError("a stream is read that was not asked for")
        return self.attempt.call.tap

    def _ended(self, *, complete: bool, error: Exception | None = None) -> tuple[bytes, Called]:
        """Held-back bytes, and the answer as the engine wants to know it.

        A stream that broke before its reader got anything is a failed call, which may be made
        again; afterwards it is an incomplete answer, which may not.
        """
        if error is not None and not self.tap.forwarded:
            return b"", self.attempt.failed(error)
        rest, answer = self.tap.end(complete=complete)
        return rest, self.attempt.called(answer)

    def _finish(self, step: Call | Result | None) -> bytes:
        """What the reader is still owed once the exchange is over."""
        self.over = True
        if not isinstance(step, Result):
            return b""
        self.live.ended(step)
        return wire.ending(self.live, self.tap, step)

    def _leave(self) -> None:
        """The reader left: settle here and now, in whatever task this is.

        SDKs leave at the end of the message, before the connection is seen to end.
        """
        if self.over:
            return
        self.over = True
        _, called = self._ended(complete=self.tap.finished)
        self._finish(self.owner.go_on(self.live, called))


class Reading(_Base):
    """A sync stream."""

    def __iter__(self) -> Iterator[bytes]:
        """The bytes for the reader."""
        while True:
            error = yield from self._pass_on()
            self.attempt.response.close()
            rest, called = self._ended(complete=error is None, error=error)
            if rest:
                yield rest
            step = self.owner.go_on(self.live, called)
            if isinstance(step, Call):
                self.attempt, again = self.owner.call(self.request, self.live, step)
                if again is None:
                    continue
                error = self.attempt.error
                step = self.owner.go_on(self.live, again)
            last = self._finish(step)
            if error is not None:
                raise error
            if last:
                yield last
            return

    def _pass_on(self) -> Generator[bytes, None, Exception | None]:
        """Hand on what comes, until it ends; the exception that ended it is returned."""
        chunks = iter(self.attempt.response.iter_bytes())
        try:
            while not self.tap.cut:
                began = time.perf_counter()
                try:
                    chunk = next(chunks, None)
                finally:
                    self.live.called += time.perf_counter() - began
                if chunk is None:
                    break
                self.attempt.arrived()
                if given := self.tap.feed(chunk):
                    yield given
        except Exception as error:  # noqa: BLE001 - told to the engine, then raised
            return error
        return None

    def close(self) -> None:
        """The reader is done, or left."""
        try:
            self.attempt.response.close()
        finally:
            self._leave()


class AsyncReading(_Base):
    """An async stream."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes for the reader."""
        while True:
            error: Exception | None = None
            chunks = aiter(self.attempt.response.aiter_bytes())
            try:
                while not self.tap.cut:
                    began = time.perf_counter()
                    try:
                        chunk = await anext(chunks, None)
                    finally:
                        self.live.called += time.perf_counter() - began
                    if chunk is None:
                        break
                    self.attempt.arrived()
                    if given := self.tap.feed(chunk):
                        yield given
            except Exception as raised:  # noqa: BLE001 - told to the engine, then raised
                error = raised
            await self.attempt.response.aclose()
            rest, called = self._ended(complete=error is None, error=error)
            if rest:
                yield rest
            step = await self.owner.ago_on(self.live, called)
            if isinstance(step, Call):
                self.attempt, again = await self.owner.call(self.request, self.live, step)
                if again is None:
                    continue
                error = self.attempt.error
                step = await self.owner.ago_on(self.live, again)
            last = self._finish(step)
            if error is not None:
                raise error
            if last:
                yield last
            return

    async def aclose(self) -> None:
        """The reader is done, or left."""
        try:
            await self.attempt.response.aclose()
        finally:
            self._leave()

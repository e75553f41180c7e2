"""The caller's side of a stream. Reading it drives the exchange; closing it ends it.

When a stage answers a reply itself (an expansion), the next upstream stream goes on within
the same message: the reader sees one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clawmw.adapters import wire
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.tap import Tap
from clawmw.core.types import Failure
from clawmw.errors import InternalError
from clawmw.runtime import Live

if TYPE_CHECKING:
    from clawmw.adapters.attempt import Attempt

__all__ = ["AsyncReading", "Reading"]


class _Base:
    """What both twins know: the attempt being read, and how it ended."""

    def __init__(self, owner: Any, live: Live, request: Any, attempt: Attempt) -> None:
        self.owner, self.live, self.request, self.attempt = owner, live, request, attempt
        self.over = False
        self._chunks: Any = None
        """What is being read of, once for all who read: openai 3 reads the rest of a stream anew,
        after `[DONE]`, to have its connection back."""

    @property
    def tap(self) -> Tap:
        """The tap on the stream being read."""
        if self.attempt.call.tap is None:
            raise InternalError("a stream is read that was not asked for")
        return self.attempt.call.tap

    def _ended(self, error: Exception | None) -> tuple[bytes, Called]:
        """Held-back bytes, and the answer as the engine wants to know it.

        A stream that broke before its reader got anything is a failed call, which may be made
        again; afterwards it is an incomplete answer, which may not.
        """
        tap, attempt = self.tap, self.attempt
        if tap.fault is not None:
            headers = tuple(attempt.response.headers.multi_items())
            return b"", attempt.called(replace(tap.fault, headers=headers))
        if error is not None and not tap.forwarded:
            return b"", attempt.failed(error)
        rest, answer = tap.end(complete=error is None)
        if not (tap.forwarded or answer.complete):
            status = attempt.response.status_code
            return b"", attempt.called(Failure("protocol", "a stream of nothing", status))
        return rest, attempt.called(answer)

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
        _, answer = self.tap.end(complete=self.tap.finished)
        self._finish(self.owner.go_on(self.live, self.attempt.called(answer)))


class Reading(_Base):
    """A sync stream."""

    def __iter__(self) -> Iterator[bytes]:
        """The bytes for the reader."""
        while True:
            error = yield from self._pass_on()
            if self.over:  # another read it to its end
                return
            self._chunks = None
            self.attempt.response.close()
            rest, called = self._ended(error)
            if rest:
                yield rest
            step = self.owner.go_on(self.live, called)
            again: Called | None = called
            while isinstance(step, Call) and again is not None:
                self.attempt, again = self.owner.call(self.request, self.live, step)
                error = self.attempt.error
                step = step if again is None else self.owner.go_on(self.live, again)
            if again is None:
                continue
            last = self._finish(step)
            if error is not None:
                raise error
            if last:
                yield last
            return

    def _pass_on(self) -> Generator[bytes, None, Exception | None]:
        """Hand on what comes, until it ends; the exception that ended it is returned."""
        self._chunks = chunks = self._chunks or iter(self.attempt.response.iter_bytes())
        try:
            while not self.tap.over:
                began = time.perf_counter()
                try:
                    chunk = self.attempt.next(chunks)
                finally:
                    self.live.called += time.perf_counter() - began
                if chunk is None:
                    break
                given = self.tap.feed(chunk)
                if self.tap.moved:
                    self.attempt.arrived()
                if given:
                    yield given
        except Exception as error:  # noqa: BLE001 - told to the engine, then raised
            return error
        return None

    def close(self) -> None:
        """The reader is done, or left."""
        try:
            if self.attempt.response is not None:  # the last attempt got none
                self.attempt.response.close()
        finally:
            self._leave()


class AsyncReading(_Base):
    """An async stream."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes for the reader."""
        while True:
            error: Exception | None = None
            try:
                while (chunk := await self._next()) is not None:
                    given = self.tap.feed(chunk)
                    if self.tap.moved:
                        self.attempt.arrived()
                    if given:
                        yield given
            except Exception as raised:  # noqa: BLE001 - told to the engine, then raised
                error = raised
            if self.over:  # another read it to its end
                return
            self._chunks = None
            await self.attempt.response.aclose()
            rest, called = self._ended(error)
            if rest:
                yield rest
            step = await self.owner.ago_on(self.live, called)
            again: Called | None = called
            while isinstance(step, Call) and again is not None:
                self.attempt, again = await self.owner.call(self.request, self.live, step)
                error = self.attempt.error
                step = step if again is None else await self.owner.ago_on(self.live, again)
            if again is None:
                continue
            last = self._finish(step)
            if error is not None:
                raise error
            if last:
                yield last
            return

    async def _next(self) -> bytes | None:
        """What comes next; the time until then is the provider's. None: nothing is to come."""
        if self.tap.over:
            return None
        if self._chunks is None:
            self._chunks = aiter(self.attempt.response.aiter_bytes())
        began = time.perf_counter()
        try:
            return await self.attempt.anext(self._chunks)
        finally:
            self.live.called += time.perf_counter() - began

    async def aclose(self) -> None:
        """The reader is done, or left."""
        try:
            if self.attempt.response is not None:
                await self.attempt.response.aclose()
        finally:
            self._leave()

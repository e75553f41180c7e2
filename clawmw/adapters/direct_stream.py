"""One exchange whose answer an agent framework streams as objects of its own.

Each chunk is told to the policy as the chunk of a chat completion that it stands for. It is
handed on as the very object it came as, unless a stage changed what it says. After the first
chunk nothing is made again: a stream that broke is an incomplete answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Generic, Protocol, TypeVar

from clawmw.adapters import wire
from clawmw.adapters.direct import Asked, Body, Direct, _failure, _Going
from clawmw.codecs.openai_chat_stream import SseDecoder
from clawmw.core.decisions import Halt
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.identity import Identity
from clawmw.core.tap import Tap
from clawmw.core.types import Failure, Response
from clawmw.errors import ClawmwError, InternalError
from clawmw.ownership import claiming
from clawmw.runtime import Live

__all__ = ["Talk", "astreamed", "streamed"]

C = TypeVar("C")
S = TypeVar("S")


class Talk(Protocol[C]):
    """How one stream's chunks are read and made. Usage in a frame is that of all so far."""

    def frame(self, chunk: C) -> Body:
        """What a chunk says, as a `chat.completion.chunk`."""
        ...

    def begins(self, *, continuing: bool) -> None:
        """Another attempt is made; what it answers may go on from what was handed on before."""
        ...

    def last(self) -> Body:
        """The end of an attempt that did not say that it ended."""
        ...

    def made(self, frame: Body) -> Sequence[C]:
        """What the reader gets for a frame that a stage changed or made."""
        ...

    def passed(self, chunk: C) -> Sequence[C]:
        """What the reader gets for a chunk that says what it said."""
        ...

    def refused(self, halt: Halt) -> Sequence[C]:
        """What the reader is told of a stopped call; or raises."""
        ...


def streamed(
    direct: Direct,
    body: Body,
    send: Callable[[Asked], Iterator[C]],
    talk: Talk[C],
    identity: Identity | None = None,
) -> Generator[C, None, None]:
    """The chunks of one call. `body` asks for a stream. Raises what `send` raised last."""
    going = direct._begin(body, None, identity)
    if isinstance(going, Asked):
        yield from send(going)
        return
    live = going.live
    try:
        step: Call | Result | None = advance(live.run, live.perform, None)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
        direct.runtime.broke(live, error)
        yield from send(going.as_it_is())
        return
    reading = _Reading(going, talk)
    try:
        while isinstance(step, Call):
            chunks = reading.begins(step, send)
            yield from _read(reading, chunks)
            step = reading.go_on(reading.ended())
    except BaseException:
        reading.left()
        raise
    yield from reading.rest(step)


def _read(reading: _Reading[C], chunks: Callable[[], Iterator[C]]) -> Generator[C, None, None]:
    """One attempt's chunks; what it raised is kept with the reading."""
    opened: Iterator[C] | None = None
    try:
        while not reading.tap.over:
            with reading.waiting():
                opened = opened if opened is not None else iter(chunks())
                chunk = next(opened, None)
            if chunk is None:
                break
            yield from reading.feed(chunk)
        yield from reading.finish()
    except Exception as error:  # noqa: BLE001 - whatever it raises is an outcome
        reading.error = error
    finally:
        if isinstance(opened, Generator):
            opened.close()


async def astreamed(
    direct: Direct,
    body: Body,
    send: Callable[[Asked], AsyncIterator[C]],
    talk: Talk[C],
    identity: Identity | None = None,
) -> AsyncGenerator[C, None]:
    """`streamed`, awaiting."""
    going = direct._begin(body, None, identity)
    if isinstance(going, Asked):
        async for chunk in send(going):
            yield chunk
        return
    live = going.live
    try:
        step: Call | Result | None = await live.aadvance(None)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
        direct.runtime.broke(live, error)
        async for chunk in send(going.as_it_is()):
            yield chunk
        return
    reading = _Reading(going, talk)
    try:
        while isinstance(step, Call):
            async with aclosing(_aread(reading, reading.begins(step, send))) as chunks:
                async for chunk in chunks:
                    yield chunk
            step = await reading.ago_on(reading.ended())
    except BaseException:
        reading.left()
        raise
    for chunk in reading.rest(step):
        yield chunk


async def _aread(
    reading: _Reading[C], chunks: Callable[[], AsyncIterator[C]]
) -> AsyncGenerator[C, None]:
    """`_read`, awaiting."""
    opened: AsyncIterator[C] | None = None
    try:
        while not reading.tap.over:
            with reading.waiting():
                opened = opened if opened is not None else aiter(chunks())
                found = await anext(opened, None)
            if found is None:
                break
            for chunk in reading.feed(found):
                yield chunk
        for chunk in reading.finish():
            yield chunk
    except Exception as error:  # noqa: BLE001 - whatever it raises is an outcome
        reading.error = error
    finally:
        if isinstance(opened, AsyncGenerator):
            await opened.aclose()


class _Reading(Generic[C]):
    """One exchange's stream: the attempt being read, and how it ended."""

    def __init__(self, going: _Going, talk: Talk[C]) -> None:
        self.going, self.live, self.talk = going, going.live, talk
        self.call: Call | None = None
        self.error: Exception | None = None
        self._settled = True
        self._started = 0.0
        self._first: float | None = None
        self._clock = _Clock(self.live)

    @property
    def tap(self) -> Tap:
        """The tap on the attempt being read."""
        if self.call is None or self.call.tap is None:
            raise InternalError("a stream is read that was not asked for")
        return self.call.tap

    def begins(self, call: Call, send: Callable[[Asked], S]) -> Callable[[], S]:
        """A new attempt; what is given back opens it."""
        self.call, self.error, self._first, self._settled = call, None, None, False
        self.talk.begins(continuing=self.tap.continuing)
        asked = self.going.asked(call)
        self._started = self.going.runtime.clock()
        return lambda: send(asked)

    def waiting(self) -> AbstractContextManager[None]:
        """While the model is waited for: the time is its own.

        The request is made for the first chunk: then the call is claimed, too.
        """
        return self._asking() if self._first is None else self._clock

    @contextmanager
    def _asking(self) -> Iterator[None]:
        assert self.call is not None
        with self._clock, claiming(self.live.exchange, self.call.request):
            yield

    def feed(self, chunk: C) -> Sequence[C]:
        """What the reader gets for a chunk."""
        if self._first is None:
            self._first = self.going.runtime.clock()
        try:
            data = _data(self.talk.frame(chunk))
            given = self.tap.feed(data)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop a stream
            self.going.runtime.broke(self.live, error)
            return [chunk]
        return self.talk.passed(chunk) if given == data else self._made(given)

    def finish(self) -> Sequence[C]:
        """What was held back to the end of an attempt that did not say that it ended."""
        if self.tap.fold.reason is not None or self.tap.cut is not None:
            return []
        data = _data(self.talk.last())
        given = self.tap.feed(data)
        return [] if given == data else self._made(given)

    def ended(self) -> Called:
        """The attempt as the engine wants to know it.

        One that broke before the reader got anything is a failed call, which may be made again.
        """
        tap, error = self.tap, self.error
        outcome: Response | Failure
        if error is not None and not tap.forwarded:
            outcome = _failure(error)
        else:
            _, outcome = tap.end(complete=error is None)
            if not (tap.forwarded or outcome.complete):
                outcome = Failure("protocol", "a stream of nothing")
        return self._called(outcome)

    def _called(self, outcome: Response | Failure) -> Called:
        headers = outcome.headers if isinstance(outcome, Failure) else ()
        now = self.going.runtime.clock()
        return Called(outcome, self._started, now, self._first, headers)

    def go_on(self, called: Called) -> Call | Result | None:
        """The next step of the exchange; None when a bug of ours ended it."""
        self._settled = True
        try:
            return advance(self.live.run, self.live.perform, called)
        except Exception as error:  # noqa: BLE001 - the answer is there: it stays
            self.going.runtime.broke(self.live, error)
            return None

    async def ago_on(self, called: Called) -> Call | Result | None:
        """`go_on`, awaiting."""
        self._settled = True
        try:
            return await self.live.aadvance(called)
        except Exception as error:  # noqa: BLE001 - the answer is there: it stays
            self.going.runtime.broke(self.live, error)
            return None

    def left(self) -> None:
        """The reader left, or was cancelled: settle here and now."""
        if self._settled:
            return
        outcome: Response | Failure = Failure("cancelled", "interrupted")
        if self.tap.forwarded:
            _, outcome = self.tap.end(complete=self.tap.finished)
        step = self.go_on(self._called(outcome))
        if isinstance(step, Result):
            self.live.ended(step)

    def rest(self, step: Call | Result | None) -> Sequence[C]:
        """What the reader is still owed once the exchange is over; raises what `send` raised."""
        if not isinstance(step, Result):
            if self.error is not None:
                raise self.error
            return []
        self.live.ended(step)
        outcome = step.outcome
        if step.halt is not None:
            return self.talk.refused(step.halt)
        if self.error is not None and not (isinstance(outcome, Response) and outcome.complete):
            raise self.error
        if not isinstance(outcome, Response):
            if self.call is None:
                said = outcome.message if outcome is not None else "no answer"
                raise ClawmwError(f"the model's server failed the same call already: {said}")
            return []
        if self.call is not None and self.tap.forwarded:
            return self._made(wire.ending(self.live, self.tap, step))
        codec = self.live.codec
        return self._made(codec.opening(outcome) + codec.closing(outcome, outcome.usage))

    def _made(self, data: bytes) -> list[C]:
        frames = SseDecoder().feed(data)
        return [c for f in frames if isinstance(f.raw, dict) for c in self.talk.made(f.raw)]


class _Clock:
    """Counts what is waited for the model, which is not our time. Cheap: once a chunk."""

    __slots__ = ("_began", "_live")

    def __init__(self, live: Live) -> None:
        self._live, self._began = live, 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._live.called += time.perf_counter() - self._began


_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


def _data(frame: Body) -> bytes:
    return b"data: " + _encode(frame).encode() + b"\n\n"

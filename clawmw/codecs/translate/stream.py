"""A stream under translation: bytes split anywhere to events, through the steps, to bytes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from clawmw.codecs.sse import SseFrames
from clawmw.codecs.translate.base import CHAT, DONE, RESPONSES, Body, Events, encoded, reading
from clawmw.core.stream import Done, Frame, StreamEvent
from clawmw.core.types import Json
from clawmw.errors import CodecError

__all__ = ["Stream", "written"]

_ODD = "an event of the stream is not what its dialect says"


class _Frames(SseFrames):
    """Frames whose JSON is read by the steps."""

    def events(self, value: Json) -> list[StreamEvent]:
        return []

    def mark(self, data: bytes) -> tuple[StreamEvent, ...] | None:
        return (Done(),) if data.strip() == b"[DONE]" else None


class Stream:
    """One stream on its way to a caller of a dialect, through one step after another."""

    def __init__(self, caller: str, steps: Iterable[Events]) -> None:
        self._caller, self._steps = caller, tuple(steps)
        self._frames = _Frames()
        self._number = 0

    def feed(self, data: bytes) -> bytes:
        """The caller's bytes for some of the wire's. Comments come out as they came.

        Raises `CodecError` for an event that is not JSON, or has no end.
        """
        return b"".join([self._told(frame) for frame in self._frames.feed(data)])

    def end(self) -> bytes:
        """What the caller is owed at the end of the wire's stream; nothing if it broke off.

        Raises `CodecError`.
        """
        rest = b""
        with suppress(CodecError):  # half an event
            rest = self.feed(b"\n\n") if self._frames.held.strip() else b""
        with reading(CodecError, _ODD):
            for at, step in enumerate(self._steps):
                rest += self._written(self._through(step.end(), at))
        return rest

    def _told(self, frame: Frame) -> bytes:
        """The caller's bytes for one event."""
        if frame.raw is None and not frame.events:
            if b"data:" in frame.wire and frame.says:
                raise CodecError(_ODD)
            return b"" if frame.says else frame.wire
        event = DONE if frame.events else frame.raw
        with reading(CodecError, _ODD):
            return self._written(self._through([event] if isinstance(event, dict) else [], -1))

    def _through(self, events: Iterable[Body], at: int) -> list[Body]:
        """What becomes of events behind step `at`."""
        found = list(events)
        for step in self._steps[at + 1 :]:
            found = [given for event in found for given in step.feed(event)]
        return found

    def _written(self, events: Iterable[Body]) -> bytes:
        return b"".join([self._numbered(event) for event in events])

    def _numbered(self, event: Body) -> bytes:
        if self._caller == RESPONSES and event:
            event = {**event, "sequence_number": self._number}
            self._number += 1
        return written(self._caller, event)


def written(dialect: str, event: Body) -> bytes:
    """An event as its dialect writes it."""
    if event is DONE:
        return b"data: [DONE]\n\n" if dialect == CHAT else b""
    name = b"" if dialect == CHAT else b"event: " + str(event["type"]).encode() + b"\n"
    return name + b"data: " + encoded(event) + b"\n\n"

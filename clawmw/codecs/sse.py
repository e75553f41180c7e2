"""Server-sent events: bytes cut into frames, the same for every dialect that streams so."""

from __future__ import annotations

import json
import re

from clawmw.core.stream import Frame, StreamEvent
from clawmw.core.types import Json

__all__ = ["LONGEST_FRAME", "SseFrames"]

LONGEST_FRAME = 16 * 2**20
"""Bytes of one event held back at most; a longer one passes undecoded."""

_BLANK = re.compile(rb"\n\n|\r\n\r\n|\r\r")


class SseFrames:
    """Cuts server-sent events (WHATWG HTML, section 9.2) into frames.

    A frame is an event with its blank line, in the bytes it came as: LF, CRLF or CR. What a
    dialect reads in one is `events`.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0

    @property
    def held(self) -> bytes:
        """See `FrameDecoder.held`."""
        return bytes(self._held[:8])

    def feed(self, data: bytes) -> list[Frame]:
        """The frames complete with `data`."""
        held = self._held
        held += data
        frames, start = [], 0
        for blank in _BLANK.finditer(held, self._searched):
            frames.append(self._frame(bytes(held[start : blank.end()])))
            start = blank.end()
        del held[:start]
        if len(held) > LONGEST_FRAME:
            frames.append(Frame(bytes(held)))
            held.clear()
        self._searched = max(len(held) - 3, 0)
        return frames

    def flush(self) -> bytes:
        """What was held back."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def events(self, value: Json) -> list[StreamEvent]:
        """What a frame's JSON says, in the order a reader would take it.

        May raise `TypeError`, `LookupError` or `AttributeError`: the frame then passes as it came.
        """
        raise NotImplementedError

    def mark(self, data: bytes) -> tuple[StreamEvent, ...] | None:
        """What data that is no JSON says; None: nothing."""
        return None

    def _frame(self, wire: bytes) -> Frame:
        lines = [line[5:].lstrip(b" ") for line in wire.splitlines() if line.startswith(b"data:")]
        if not lines:
            return Frame(wire)
        data = b"\n".join(lines)
        marked = self.mark(data)
        if marked is not None:
            return Frame(wire, marked)
        try:
            value = json.loads(data)
            return Frame(wire, tuple(self.events(value)), value)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return Frame(wire)  # not what the dialect says: it passes as it came

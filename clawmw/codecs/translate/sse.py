"""Server-sent events, in and out: bytes split anywhere to events, events to bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress

from clawmw.codecs.translate.base import CHAT, DONE, Body, Events, encoded, reading
from clawmw.errors import CodecError

__all__ = ["Stream", "written"]

LONGEST = 64 * 2**20
"""Bytes of one event held back at most."""
_ODD = "an event of the stream is not what its dialect says"
_BLANK = re.compile(rb"\n\n|\r\n\r\n|\r\r")


class Stream:
    """A stream under translation, through one step after another."""

    def __init__(self, caller: str, steps: Iterable[Events]) -> None:
        self._caller, self._steps = caller, tuple(steps)
        self._held = bytearray()
        self._searched = 0
        self._number = 0

    def feed(self, data: bytes) -> bytes:
        """The caller's bytes for some of the wire's. Comments come out as they came.

        Raises `CodecError` for an event that is not JSON, or has no end.
        """
        held = self._held
        held += data
        given, start = [], 0
        for blank in _BLANK.finditer(held, self._searched):
            given.append(self._event(bytes(held[start : blank.end()])))
            start = blank.end()
        del held[:start]
        if len(held) > LONGEST:
            raise CodecError("an event of the stream is longer than 64 MiB")
        self._searched = max(len(held) - 3, 0)
        return b"".join(given)

    def end(self) -> bytes:
        """What the caller is owed at the end of the wire's stream; nothing if it broke off.

        Raises `CodecError`.
        """
        rest = b""
        with suppress(CodecError):  # half an event
            rest = self._event(bytes(self._held) + b"\n\n")
        self._held.clear()
        with reading(CodecError, _ODD):
            for at, step in enumerate(self._steps):
                rest += self._written(self._through(step.end(), at))
        return rest

    def _event(self, wire: bytes) -> bytes:
        lines = [line[5:].lstrip(b" ") for line in wire.splitlines() if line.startswith(b"data:")]
        if not lines:
            return wire if wire.lstrip().startswith(b":") else b""
        data = b"\n".join(lines)
        with reading(CodecError, _ODD):
            event = DONE if data.strip() == b"[DONE]" else json.loads(data)
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
        if self._caller == "openai.responses" and event:
            event = {**event, "sequence_number": self._number}
            self._number += 1
        return written(self._caller, event)


def written(dialect: str, event: Body) -> bytes:
    """An event as its dialect writes it."""
    if event is DONE:
        return b"data: [DONE]\n\n" if dialect == CHAT else b""
    name = b"" if dialect == CHAT else b"event: " + str(event["type"]).encode() + b"\n"
    return name + b"data: " + encoded(event) + b"\n\n"

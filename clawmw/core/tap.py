"""The tap on a stream: shows events to the stages, hands on bytes, folds the answer.

Pure: bytes in, bytes out. With no stage watching, bytes pass as they come and are only
read along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from clawmw.core.codec import Codec
from clawmw.core.stream import (
    Begin,
    Cut,
    Done,
    Fault,
    Finish,
    Frame,
    FrameDecoder,
    Streamer,
    StreamEvent,
    StreamFold,
    StreamWriter,
    UsageEvent,
)
from clawmw.core.types import Failure, Json, Response, Usage

__all__ = ["Tap", "add_usage"]

_EARLY = 64 * 1024
"""Bytes held back at most until the first event is whole."""


def add_usage(one: Usage | None, other: Usage | None) -> Usage | None:
    """Two calls' usage as one; what only one of them knows is taken from it."""
    if one is None or other is None:
        return one or other

    def plus(a: int | None, b: int | None) -> int | None:
        return b if a is None else a if b is None else a + b

    return Usage(
        plus(one.input_tokens, other.input_tokens),
        plus(one.output_tokens, other.output_tokens),
        plus(one.cache_read_tokens, other.cache_read_tokens),
        plus(one.cache_write_tokens, other.cache_write_tokens),
        plus(one.reasoning_tokens, other.reasoning_tokens),
        "measured" if one.basis == other.basis == "measured" else "estimated",
    )


@dataclass(slots=True)
class Tap:
    """One attempt's stream. `earlier`: what silent attempts before it used.

    A continuing stream (one that follows a silent attempt) begins no second message.
    """

    codec: Codec
    watchers: Sequence[tuple[str, Streamer]]
    failed: Callable[[str, Exception], None]
    writer: StreamWriter
    """What writes the answer, over all its attempts."""
    continuing: bool = False
    earlier: Usage | None = None
    holding: bool = False
    """Whether some of the answer may be kept from the reader."""
    begun: Callable[[], None] | None = None
    """Told when the first event has come."""
    fold: StreamFold = field(default_factory=StreamFold)
    finished: bool = False
    """The reader has been given the end of the message."""
    cut: str | None = None
    """Why a stage ended the stream, if one did."""
    fault: Failure | None = None
    """What the stream says instead of an answer, before anything else was handed on."""
    forwarded: bool = False
    """The reader was given more than comments: no other attempt's answer can follow."""
    moved: bool = False
    """Whether the last bytes brought the answer forward; comments do not."""
    _early: bytes = b""
    _decoder: FrameDecoder | None = None
    _states: dict[str, dict[str, Json]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """An attempt begins."""
        self.writer.begin(holding=self.holding)

    def feed(self, data: bytes) -> bytes:
        """What the reader gets for `data`: nothing before the first event is whole.

        It may be an error, after which the call can be made again.
        """
        if self._decoder is None:
            self._decoder = self.codec.decoder()
        frames = self._decoder.feed(data)
        whole = any(frame.says for frame in frames)
        self.moved = whole or self._decoder.held[:1] not in (b"", b":", b"\n", b"\r")
        if not self.forwarded and self._failed(frames):
            return b""
        given = b"".join([self._frame(frame) for frame in frames])
        if not self.watchers and not self.continuing:
            given = data  # untouched, even mid-frame
            if not self.forwarded:
                whole = whole or len(self._early) > _EARLY
                if self._decoder.held and not whole:
                    self._early += data
                    return b""
                given, self._early = self._early + data, b""
        if whole and not self.forwarded and self.begun is not None:
            self.begun()
        self.forwarded = self.forwarded or (whole and bool(given))
        return given

    def _failed(self, frames: Sequence[Frame]) -> bool:
        """Whether the stream begins with an error."""
        first = next((frame for frame in frames if frame.says), None)
        if first is not None and first.events and isinstance(first.events[0], Fault):
            status, body = first.events[0].status, json.dumps(first.raw).encode()
            self.fault = Failure("status", f"HTTP 200, then {status}", status, body)
        return self.fault is not None

    def end(self, *, complete: bool) -> tuple[bytes, Response]:
        """The stream is over: bytes held back, and the answer as far as it came."""
        rest = b""
        if self._decoder is not None and (self.watchers or self.continuing) and self.cut is None:
            rest = self._decoder.flush()
        over = complete and (self.fold.reason is not None or self.cut is not None)
        response = self.fold.response(complete=over)
        if over and (beside := self.fold.beside()) is not None:
            message = self.codec.enriched(response.message, *beside)
            response = replace(response, message=message)
        return rest, response

    @property
    def over(self) -> bool:
        """Whether nothing more of the stream is of use."""
        return self.cut is not None or self.fault is not None

    def close(self, response: Response) -> bytes:
        """The end of the message, if a stage kept it from the reader."""
        if self.finished:
            return b""
        self.finished = True
        return self.writer.closing(response, None)

    def _frame(self, frame: Frame) -> bytes:
        if self.cut is not None:
            return b""
        kept: list[StreamEvent] = []
        changed = False
        for event in frame.events:
            self.fold.feed(event)
            given = self._shown(event)
            changed = changed or len(given) != 1 or given[0] is not event
            kept.extend(given)
            if self._was_cut():
                break
        self.finished = self.finished or any(isinstance(e, Finish | Done) for e in kept)
        return self.writer.frame(frame, kept, changed=changed)

    def _was_cut(self) -> bool:
        return self.cut is not None

    def _shown(self, event: StreamEvent) -> Sequence[StreamEvent]:
        """What becomes of one event, stage by stage."""
        events: Sequence[StreamEvent] = (event,)
        if self.continuing and isinstance(event, Begin):
            return ()
        if self.earlier is not None and isinstance(event, UsageEvent):
            merged = add_usage(self.earlier, event.usage)
            events = (replace(event, usage=merged),) if merged else events
        for name, watcher in self.watchers:
            state = self._states.setdefault(name, {})
            shown: list[StreamEvent] = []
            for one in events:
                try:
                    given: Sequence[StreamEvent] | Cut = watcher.chunk(one, state)
                except Exception as error:  # noqa: BLE001 - a stage's bug must not break the stream
                    self.failed(name, error)
                    given = (one,)
                if isinstance(given, Sequence):
                    shown.extend(given)
                else:
                    shown.extend(given.events)
                    self.cut = given.reason
            events = shown
        return events

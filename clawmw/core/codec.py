"""What a codec must do: one dialect's wire, to core types and back, losing nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from clawmw.core.stream import Frame, FrameDecoder, StreamEvent, StreamWriter
from clawmw.core.types import Json, Message, Request, Response, ToolResult, ToolSpec, Usage

__all__ = ["Codec", "PlainWriter"]


class Codec(Protocol):
    """One dialect. Pure; every method may raise `CodecError`."""

    dialect: str
    hints: frozenset[str]
    """The fields for a prompt cache that its bodies may hold."""

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """A request from its body.

        `earlier` are requests decoded before that may share a prefix with it: messages
        that are the same bytes at the same place are then the same objects, and are not
        parsed again.
        """
        ...

    def encode(self, request: Request) -> bytes:
        """The body; what was not changed since `decode` is the original bytes."""
        ...

    def seal(self, message: Message) -> Message:
        """The message with its wire bytes made; unknown fields and key order kept."""
        ...

    def message(self, wire: bytes) -> Message:
        """A message from its wire bytes."""
        ...

    def enriched(self, message: Message, extra: Json, calls: Sequence[Json]) -> Message:
        """A streamed message with what came beside its text and (one entry each) its calls.

        As if the answer had come whole: a provider may want signatures back.
        """
        ...

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """A tool definition in this dialect."""
        ...

    def results(self, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        """The messages that answer the tool calls of one message."""
        ...

    def reporting(self, request: Request) -> Request:
        """The request as its stream says what was used; itself where it does already."""
        ...

    def response(self, body: bytes) -> Response:
        """A response from its body."""
        ...

    def fault(self, body: bytes) -> int | None:
        """Of a body that is no answer, the HTTP status of the error that it tells of.

        None: it is of another kind. Raises `CodecError` for one that is nothing: empty, a page.
        """
        ...

    def error(self, fields: Mapping[str, Json]) -> bytes:
        """The body of an error; `fields`: its `message`, its `type`, and what more is known."""
        ...

    def encode_response(self, response: Response) -> bytes:
        """The body of a response, made anew or changed from `response.body`."""
        ...

    def decoder(self) -> FrameDecoder:
        """A decoder for one stream."""
        ...

    def writer(self) -> StreamWriter:
        """What writes one answer's stream to its reader."""
        ...

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """The wire of a frame that is to say `events` instead of its own; b"" for none."""
        ...

    def opening(self, response: Response) -> bytes:
        """A whole answer as a stream, up to its end."""
        ...

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """The end of a stream: why it finished, the usage if given, the end mark."""
        ...


@dataclass(slots=True)
class PlainWriter:
    """The `StreamWriter` of a dialect whose frames stand each for itself."""

    codec: Codec
    shown: str | None = None

    def begin(self, *, holding: bool) -> None:
        """See `StreamWriter.begin`."""

    def frame(self, frame: Frame, events: Sequence[StreamEvent], *, changed: bool) -> bytes:
        """See `StreamWriter.frame`."""
        return self.codec.reframe(frame, events) if changed else frame.wire

    def more(self, response: Response) -> bytes:
        """See `StreamWriter.more`."""
        return self.codec.opening(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `StreamWriter.closing`."""
        return self.codec.closing(response, usage)

    def failing(self, body: bytes) -> bytes:
        """See `StreamWriter.failing`."""
        return b"data: " + b" ".join(body.splitlines()) + b"\n\n"

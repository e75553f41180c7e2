"""Decoded stream events, and the fold that makes them one response.

A codec turns the wire into frames; a frame keeps its exact bytes, so that what no stage
changed is forwarded as it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from clawmw.core.types import Json, Message, Part, Request, Response, Role, Text, ToolCall, Usage

__all__ = [
    "Begin",
    "Cut",
    "Done",
    "Finish",
    "Frame",
    "FrameDecoder",
    "StreamEvent",
    "StreamFold",
    "Streamer",
    "TextDelta",
    "ToolDelta",
    "UsageEvent",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """The answer begins: who answers, under which id."""

    model: str | None
    id: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of a tool call: `id` and `name` come with its first piece only."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """The tokens so far; a later one replaces an earlier one."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The stream says that it is over."""


StreamEvent: TypeAlias = Begin | TextDelta | ToolDelta | UsageEvent | Finish | Done


@dataclass(frozen=True, slots=True)
class Frame:
    """One wire frame and the events in it (none: a comment or what we do not read).

    `raw` is its decoded JSON, for the codec to change.
    """

    wire: bytes
    events: tuple[StreamEvent, ...] = ()
    raw: Json | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """End the stream here: the stages see what came so far as the answer."""

    reason: str
    events: tuple[StreamEvent, ...] = field(default=())


@runtime_checkable
class Streamer(Protocol):
    """A stage that looks at stream events. `state` is fresh for every attempt."""

    def watches(self, request: Request) -> bool:
        """Whether this request's stream must be shown to `chunk` at all."""
        ...

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """What the reader gets instead of `event`; pure but for `state`."""
        ...


class FrameDecoder(Protocol):
    """Cuts a byte stream into frames; holds an unfinished frame back."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames complete with `data`."""
        ...

    def flush(self) -> bytes:
        """What was held back, at the end."""
        ...


@dataclass(slots=True)
class StreamFold:
    """Folds events into a `Response`. Feed in order; ask `response` when it ended."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """id, name and the pieces of the arguments, by the call's index."""
    usage: Usage | None = None
    reason: str | None = None
    model: str | None = None
    id: str | None = None

    def feed(self, event: StreamEvent) -> None:
        """Take one event in."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case ToolDelta(index, call_id, name, arguments):
                call = self.calls.setdefault(index, ["", ""])
                call[0] = call[0] or call_id
                call[1] = call[1] or name
                call.append(arguments)
            case UsageEvent(usage):
                self.usage = usage
            case Finish(reason):
                self.reason = reason
            case Begin(model, id_):
                self.model = self.model or model
                self.id = self.id or id_
            case Done():
                pass

    def response(self, *, complete: bool) -> Response:
        """The answer as far as it came."""
        parts: list[Part] = []
        if self.text:
            parts.append(Text("".join(self.text)))
        for _, (call_id, name, *arguments) in sorted(self.calls.items()):
            parts.append(ToolCall(call_id, name, "".join(arguments)))
        return Response(
            Message(Role.ASSISTANT, tuple(parts)),
            self.usage,
            self.reason,
            self.model,
            self.id,
            None,
            complete,
        )

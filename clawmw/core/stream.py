"""Decoded stream events, and the fold that makes them one response.

A codec turns the wire into frames; a frame keeps its exact bytes, so that what no stage
changed is forwarded as it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from clawmw.core.types import Json, Message, Part, Request, Response, Role, Text, ToolCall, Usage

if TYPE_CHECKING:
    from clawmw.core.codec import Codec

__all__ = [
    "Begin",
    "Cut",
    "Done",
    "Extra",
    "Extras",
    "Fault",
    "Finish",
    "Frame",
    "FrameDecoder",
    "StreamEvent",
    "StreamFold",
    "StreamWriter",
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
    extra: Json = None
    """What else the provider says of the call (a signature), as it stands on the wire."""


@dataclass(frozen=True, slots=True)
class Extra:
    """What of a delta is not read here, reasoning and signatures among it, as it came."""

    delta: Json
    thought: str = ""
    """What of it the model thinks, where its server shows that."""


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


@dataclass(frozen=True, slots=True)
class Fault:
    """An error instead of an answer, and the HTTP status that it stands for."""

    status: int


StreamEvent: TypeAlias = Begin | TextDelta | ToolDelta | Extra | UsageEvent | Finish | Done | Fault


@dataclass(frozen=True, slots=True)
class Frame:
    """One wire frame and the events in it (none: a comment or what we do not read).

    `raw` is its decoded JSON, for the codec to change.
    """

    wire: bytes
    events: tuple[StreamEvent, ...] = ()
    raw: Json | None = None
    quiet: bool = False
    """It only says that the server is alive, as a comment does."""

    @property
    def says(self) -> bool:
        """Whether there is anything in it but comments, which servers send to be thought alive."""
        if self.quiet or self.raw is not None:
            return not self.quiet
        return any(line and line[:1] != b":" for line in self.wire.splitlines())


@dataclass(frozen=True, slots=True)
class Cut:
    """End the stream here: the stages see what came so far as the answer."""

    reason: str
    events: tuple[StreamEvent, ...] = field(default=())


@runtime_checkable
class Streamer(Protocol):
    """A stage that looks at stream events. `state` is fresh for every attempt."""

    def watches(self, request: Request, codec: Codec) -> bool:
        """Whether this request's stream must be shown to `chunk` at all."""
        ...

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """What the reader gets instead of `event`; pure but for `state`."""
        ...


class StreamWriter(Protocol):
    """Writes what the reader of one answer gets, over all the attempts that it takes.

    A dialect whose stream is numbered throughout, or ends with the whole answer, keeps here what
    was shown so far.
    """

    @property
    def shown(self) -> str | None:
        """The id of the answer that the reader was given, where it is not the last attempt's."""
        ...

    def begin(self, *, holding: bool) -> None:
        """An attempt's stream begins. `holding`: some of it may be kept from the reader."""
        ...

    def frame(self, frame: Frame, events: Sequence[StreamEvent], *, changed: bool) -> bytes:
        """The wire of a frame that is to say `events`; unless `changed`, those are its own."""
        ...

    def more(self, response: Response) -> bytes:
        """What `response` says, as a part of the answer that goes on or begins."""
        ...

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """The end of the answer."""
        ...

    def failing(self, body: bytes) -> bytes:
        """An error, as a body of the dialect has it, in the place of the rest of the answer."""
        ...


class FrameDecoder(Protocol):
    """Cuts a byte stream into frames; holds an unfinished frame back."""

    @property
    def held(self) -> bytes:
        """The beginning of what is held back, a few bytes at most; b"" for nothing."""
        ...

    def feed(self, data: bytes) -> list[Frame]:
        """The frames complete with `data`."""
        ...

    def flush(self) -> bytes:
        """What was held back, at the end."""
        ...


_WHOLE = frozenset({"type", "id", "index", "format", "name", "role"})
"""Texts that a later piece repeats or replaces; of any other it is the continuation."""
_DEEPEST = 16


@dataclass(slots=True)
class Extras:
    """Deltas merged into one value: texts joined, list items by their `index` or place."""

    leaves: dict[tuple[str | int, ...], list[str] | Json] = field(default_factory=dict)

    def feed(self, value: Json, path: tuple[str | int, ...] = ()) -> None:
        """Take one delta in."""
        if isinstance(value, dict) and len(path) < _DEEPEST:
            for key, item in value.items():
                self.feed(item, (*path, key))
        elif isinstance(value, list) and len(path) < _DEEPEST:
            for place, item in enumerate(value):
                index = item.get("index") if isinstance(item, dict) else None
                self.feed(item, (*path, index if isinstance(index, int) else place))
        elif isinstance(value, str) and path[-1] not in _WHOLE:
            held = self.leaves.setdefault(path, [])
            if isinstance(held, list):
                held.append(value)
        elif value is not None:
            self.leaves[path] = value

    def value(self) -> Json:
        """All of it as one; None when there was nothing."""
        root: dict[str | int, Json] = {}
        for path, leaf in self.leaves.items():
            at = root
            for key in path[:-1]:
                inner = at.setdefault(key, {})
                if not isinstance(inner, dict):  # a text first and an object later: the first
                    break
                at = inner
            else:
                at.setdefault(path[-1], "".join(leaf) if isinstance(leaf, list) else leaf)
        return _lists(root) if root else None


def _lists(value: Json) -> Json:
    """Mappings by place as the lists they were."""
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(key, int) for key in value):
        return [_lists(value[key]) for key in sorted(value)]
    return {key: _lists(item) for key, item in value.items()}


@dataclass(slots=True)
class StreamFold:
    """Folds events into a `Response`. Feed in order; ask `response` when it ended."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """id, name and the pieces of the arguments, by the call's index."""
    extras: Extras = field(default_factory=Extras)
    call_extras: dict[int, Extras] = field(default_factory=dict)
    usage: Usage | None = None
    reason: str | None = None
    model: str | None = None
    id: str | None = None

    def feed(self, event: StreamEvent) -> None:
        """Take one event in."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case ToolDelta(index, call_id, name, arguments, extra):
                if extra is not None:
                    self.call_extras.setdefault(index, Extras()).feed(extra)
                call = self.calls.setdefault(index, ["", ""])
                call[0] = call[0] or call_id
                call[1] = call[1] or name
                call.append(arguments)
            case Extra(delta):
                self.extras.feed(delta)
            case UsageEvent(usage):
                self.usage = usage
            case Finish(reason):
                self.reason = reason
            case Begin(model, id_):
                self.model = self.model or model
                self.id = self.id or id_
            case Done() | Fault():
                pass

    def beside(self) -> tuple[Json, list[Json]] | None:
        """What came beside text and calls: of the message, and of each call; None: nothing."""
        if not self.extras.leaves and not self.call_extras:
            return None
        none = Extras()
        calls = [self.call_extras.get(index, none).value() for index in sorted(self.calls)]
        return self.extras.value(), calls

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

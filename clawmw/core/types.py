"""What a model call is made of, in one vocabulary for all dialects.

Everything here is frozen. A value that came off the wire keeps the bytes it came as
(`wire`), so that what nobody changed is forwarded as it was; a changed value keeps the
bytes it was changed from (`origin`), so that unknown fields and key order survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

__all__ = [
    "OURS",
    "Earlier",
    "Failure",
    "Image",
    "Json",
    "Mark",
    "Message",
    "Opaque",
    "Outcome",
    "Part",
    "Request",
    "Response",
    "Role",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Usage",
]

OURS = "clawmw-"
"""How the ids of answers begin that no provider gave."""

Json: TypeAlias = Any
"""A JSON value as `json.loads` gives it; `Any` because the wire is not ours to type."""


class Role(StrEnum):
    """Who speaks. `developer` counts as system."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image, kept as the JSON it came as; never reduced, never stored."""

    raw: Json


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back. `call_id` may be missing, doubled or rewritten by clients."""

    call_id: str
    text: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning, possibly signed or encrypted; passed back untouched."""

    raw: Json


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part this version does not know; passed through untouched."""

    raw: Json


Part: TypeAlias = Text | Image | ToolCall | ToolResult | Thinking | Opaque


@dataclass(frozen=True, slots=True)
class Mark:
    """A cache mark to put on a message when its wire is made: `key` with `value`.

    `value` None puts none. `alone`: the marks the message came with are taken off first.
    """

    key: str
    value: Json = field(hash=False)
    part: int | None = None
    """The part whose block is marked; None: the last text block."""
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `parts` are in wire order; tool calls come after the text.

    `wire` is the message's exact JSON, or None when a stage changed or made it; then
    `origin` is the JSON it was changed from.
    """

    role: Role
    parts: tuple[Part, ...]
    wire: bytes | None = field(default=None, compare=False)
    origin: bytes | None = field(default=None, compare=False)
    mark: Mark | None = field(default=None, compare=False)
    marks: tuple[str | None, ...] = field(default=(), compare=False)
    """Lifetimes of the cache marks it came with, in order; None: the provider's default."""
    bare: bool = field(default=False, compare=False)
    """It has no block that a cache mark can be put on."""

    @property
    def text(self) -> str:
        """All readable text, parts joined by newlines."""
        return "\n".join(p.text for p in self.parts if isinstance(p, (Text, ToolResult)))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools the model asks for in this message."""
        return tuple(p for p in self.parts if isinstance(p, ToolCall))

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The tool results this message carries."""
        return tuple(p for p in self.parts if isinstance(p, ToolResult))

    def with_texts(self, texts: Mapping[int, str]) -> Message:
        """The same message with the text of some parts (by index) replaced."""
        parts = list(self.parts)
        for index, text in texts.items():
            part = parts[index]
            if not isinstance(part, (Text, ToolResult)):
                raise TypeError(f"part {index} of a {self.role} message has no text to replace")
            parts[index] = replace(part, text=text)
        origin = self.wire or self.origin
        return Message(self.role, tuple(parts), None, origin, marks=self.marks, bare=self.bare)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool offered to the model. `raw` is its JSON in the request's dialect.

    Made by `clawmw.core.canon.tool_spec`, which fills in `digest` and `tokens` once.
    """

    name: str
    raw: Json = field(hash=False)
    digest: str = ""
    tokens: int = 0
    """Estimated tokens of the definition."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known here of the answer that a request goes on from and that its provider holds."""

    id: str
    """By which the provider knows it; its reader may have been given another."""
    session: str
    calls: tuple[ToolCall, ...]
    """What it asked for: the request holds the results."""
    tokens: int | None
    """All that led to it, and it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One model call as an agent asks for it.

    `params` holds every other top-level field of the body (max_tokens, stream, ...).
    `source` is the decoded body with its spans; only the codec that made it looks inside.
    """

    dialect: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    params: Mapping[str, Json] = field(default_factory=dict, hash=False)
    source: object | None = field(default=None, compare=False, repr=False)
    target: str = ""
    """The policy's name of the model to send to, when a stage chose one."""
    reuse: Literal["", "may", "must"] = ""
    """Whether an earlier answer will do, even an old one; `must`: or none."""
    held: bool = False
    """The provider holds some of what is said (an earlier response, a conversation), or hands its
    answer over later: the call is guarded and accounted, and goes out in the caller's bytes."""
    earlier: Earlier | None = field(default=None, compare=False)
    """Of the answer that it goes on from, where that is known."""

    @property
    def stream(self) -> bool:
        """Whether the reply is asked for as a stream of events."""
        return self.params.get("stream") is True

    @property
    def previous(self) -> str:
        """The id of the answer that it goes on from, where the provider holds that."""
        value = self.params.get("previous_response_id")
        value = value or _inside(self.params.get("thread"), "previous_message_id")  # Anthropic
        return value if self.held and isinstance(value, str) else ""

    def going_on(self, earlier: Earlier | None) -> Request:
        """The request with what is known of the answer that it goes on from."""
        if earlier is None:
            return self
        params = self.params
        if earlier.id != self.previous:
            params = {**params, "previous_response_id": earlier.id}
        return replace(self, earlier=earlier, params=params)

    @property
    def kept(self) -> bool:
        """Whether its answer can be gone on from by its id: OpenAI keeps it unless told not to,
        Anthropic where it is to (`thread`)."""
        stored = self.dialect == "openai.responses" and self.params.get("store") is not False
        return stored or bool(self.params.get("thread"))

    @property
    def max_output(self) -> int | None:
        """The most output tokens asked for; None when the caller set no (usable) limit.

        Of several the largest: which one a provider heeds is its own affair.
        """
        names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
        values = [self.params.get(name) for name in names]
        return max((v for v in values if type(v) is int and v > 0), default=None)

    @property
    def thinking(self) -> int:
        """Tokens of the answer that are set apart for thinking: a limit on it must leave more."""
        value = _inside(self.params.get("thinking"), "budget_tokens")  # Anthropic
        return value if type(value) is int and value > 0 else 0

    @property
    def choices(self) -> int:
        """How many answers are asked for (`n`); 1 unless a sane number is given."""
        value = self.params.get("n", 1)
        return value if isinstance(value, int) and 1 <= value <= 1024 else 1

    @property
    def any_tool(self) -> bool:
        """Whether the model may call whichever tool it likes."""
        choice = self.params.get("tool_choice") or "auto"
        return (_inside(choice, "type") or choice) in ("auto", "required", "any")

    @property
    def structured(self) -> bool:
        """Whether the answer must have a form that a program reads, such as a JSON schema."""
        forms = (
            self.params.get("response_format"),  # chat completions
            _inside(self.params.get("text"), "format"),  # Responses
            _inside(self.params.get("output_config"), "format"),  # Anthropic, and what it was
            self.params.get("output_format"),
        )
        return any(_inside(form, "type") not in (None, "text") for form in forms)


def _inside(value: Json, key: str) -> Json:
    return value.get(key) if isinstance(value, Mapping) else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `None` is unknown, never zero.

    `input_tokens` includes what was read from and written to the provider's cache, in
    every dialect (OpenTelemetry GenAI conventions; Anthropic's wire excludes them).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    basis: Literal["measured", "estimated"] = "measured"


@dataclass(frozen=True, slots=True)
class Response:
    """What the model answered, decoded. `body` is the wire body when it came as one."""

    message: Message
    usage: Usage | None
    finish_reason: str | None = None
    model: str | None = None
    id: str | None = None
    body: bytes | None = field(default=None, compare=False, repr=False)
    complete: bool = True
    """False when a stream broke or its reader left before the end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call, as a value. `status` is None when no HTTP answer came.

    `unusable`: what answers there is of no use to us (a redirect, no trusted certificate, a form
    of answer that we do not know).
    `refused`: a stage stopped it before it was sent.
    """

    kind: Literal["status", "connect", "timeout", "protocol", "unusable", "cancelled", "refused"]
    message: str
    status: int | None = None
    body: bytes = field(default=b"", compare=False, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)


Outcome: TypeAlias = Response | Failure

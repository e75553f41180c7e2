"""Recorded runs as replay sees them: what was asked of the model, call by call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.core.types import Json
from clawmw.errors import CodecError

__all__ = ["Call", "Found", "Note", "Problem", "Run", "Skipped", "checked", "derived_tools", "dump"]

CODEC = OpenAIChat()


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded model call. The body is `head`, the messages with commas, `tail`."""

    step: int
    """Index of the assistant message that answered it; in captured requests, how many
    messages were sent."""
    head: bytes
    messages: Sequence[bytes]
    tail: bytes
    answer: bytes | None
    """The assistant message that followed, as JSON; None when it was not recorded."""
    reported: int | None = None
    """Input tokens by the provider's own usage, where the record has it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    counted: bool = True
    """False: made only to see whether the run's answer is at hand; in no other figure."""

    def body(self) -> bytes:
        """The request body."""
        return self.head + b",".join(self.messages) + self.tail


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded run: the calls of one session, in order."""

    source: str
    id: str
    where: str
    """File and line it was read from."""
    calls: Sequence[Call]
    world: str = ""
    """Runs of one world share stores and limits; "" is a world of its own."""
    chained: bool = False
    """Whether the chain is named by the requests' headers; else the run is one chain."""
    open_end: bool = False
    """The record ends before an answer: in a tool result or a user message."""
    answers: tuple[str, ...] = ()
    """What the run was to find out, in any of these wordings, where its labels say so."""
    answer_due: int = -1
    """The step at which it must be known."""
    bytes: int = 0
    """How much of its file it takes, for progress."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read; the rest goes on."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A call that is well formed but cannot be replayed, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a reader must know to judge the figures of a file."""

    where: str
    message: str


Found: TypeAlias = Run | Problem | Skipped | Note


def dump(value: Json) -> bytes:
    """Compact JSON in UTF-8; lone surrogates stay escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def checked(message: Json, index: int) -> bytes:
    """The JSON of one recorded chat message. `ValueError` says what is wrong with it.

    Arguments recorded as an object become the JSON text that the wire wants.
    """
    if isinstance(message, dict) and isinstance(message.get("tool_calls"), list):
        message = {**message, "tool_calls": [_texted(call) for call in message["tool_calls"]]}
    wire = dump(message)
    try:
        CODEC.message(wire)
    except (CodecError, TypeError, KeyError, AttributeError) as error:
        known = isinstance(error, CodecError) and isinstance(message, dict)
        what = f"role {message.get('role')!r} is none" if known else "it is no message"
        raise ValueError(f"messages[{index}]: {what} of the chat form") from None
    return wire


def _texted(call: Json) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str | None):
        return call
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def derived_tools(messages: Iterable[Json]) -> list[Json]:
    """Definitions of the tools that `messages` call, made from the arguments seen."""
    tools: dict[str, dict[str, Json]] = {}
    for message in messages:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                continue
            properties = tools.setdefault(function["name"], {})
            for key, value in _arguments(function.get("arguments")).items():
                properties.setdefault(key, {"type": _TYPES.get(type(value), "object")})
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": properties},
            },
        }
        for name, properties in tools.items()
    ]


def _arguments(raw: Json) -> Mapping[str, Json]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return {}
    return raw if isinstance(raw, dict) else {}

"""Messages as OpenTelemetry's GenAI conventions write them, without secrets and of bounded length.

Used only where somebody asked for content. What is cut is cut before it becomes JSON, one text at
a time, and says so: never in the middle of a structure. Images are named, never copied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from clawmw.core.redact import Redactor
from clawmw.core.types import (
    Image,
    Json,
    Message,
    Part,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

__all__ = ["Writer", "dumped"]

_LEAST = 64
"""Bytes of a part that are kept, however many parts a message has."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes messages down: secrets replaced first, then at most `longest` bytes of each."""

    redactor: Redactor
    longest: int

    def message(self, message: Message) -> dict[str, Json]:
        """One message: its role and its parts."""
        room = max(self.longest // max(len(message.parts), 1), _LEAST)
        left, parts = self.longest, []
        for part in message.parts:
            # A long part may use what short ones leave, but each keeps a share.
            written = self._part(part, max(room, left - room * (len(message.parts) - 1)))
            left -= len(dumped(written))
            parts.append(written)
        return {"role": str(message.role), "parts": parts}

    def instructions(self, message: Message) -> list[Json]:
        """`gen_ai.system_instructions`: the parts of a system's message."""
        parts: list[Json] = self.message(message)["parts"]
        return parts

    def output(self, response: Response) -> list[Json]:
        """`gen_ai.output.messages`."""
        finish = response.finish_reason or "unknown"
        return [self.message(response.message) | {"finish_reason": finish}]

    def definition(self, tool: ToolSpec) -> dict[str, Json]:
        """One of `gen_ai.tool.definitions`."""
        raw = tool.raw if isinstance(tool.raw, dict) else {}
        function = raw.get("function")
        inner = function if isinstance(function, dict) else raw
        said: dict[str, Json] = {"type": "function", "name": tool.name}
        description = inner.get("description")
        if isinstance(description, str):
            said["description"] = self._text(description, self.longest)
        takes = inner.get("parameters") or inner.get("input_schema")
        if takes is not None:
            said["parameters"] = self._json(takes, self.longest)
        return said

    def _part(self, part: Part, room: int) -> dict[str, Json]:
        match part:
            case Text(text):
                return {"type": "text", "content": self._text(text, room)}
            case ToolCall(call_id, name, arguments):
                asked = self._json(_loaded(arguments), room)
                return {"type": "tool_call", "id": call_id, "name": name, "arguments": asked}
            case ToolResult(call_id, text):
                result = self._text(text, room)
                return {"type": "tool_call_response", "id": call_id, "response": result}
            case Thinking(raw):
                return {"type": "reasoning", "content": self._text(_thought(raw), room)}
            case Image():
                return {"type": "image", "content": "[an image, not kept]"}
            case _:
                return {"type": "other", "content": self._text(dumped(part.raw), room)}

    def _text(self, text: str, room: int) -> str:
        text = self.redactor.text(text)
        if len(text) * 4 <= room:
            return text
        data = text.encode("utf-8", "replace")
        if len(data) <= room:
            return text
        kept = data[:room].decode("utf-8", "ignore")
        return f"{kept}… [cut here: the first {room:,} of {len(data):,} bytes]"

    def _json(self, value: Json, room: int) -> Json:
        """A value as it is where it fits, else its text, cut."""
        text = value if isinstance(value, str) else dumped(value)
        said = self._text(text, room)
        return value if said == text else said


def dumped(value: Json) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _loaded(arguments: str) -> Json:
    try:
        return json.loads(arguments) if arguments else {}
    except (ValueError, RecursionError):
        return arguments


def _thought(raw: Json) -> str:
    """What can be read of a thought; signed and encrypted ones cannot."""
    if isinstance(raw, str):
        return raw
    for key in ("thinking", "reasoning_content", "reasoning", "text", "summary"):
        said = raw.get(key) if isinstance(raw, dict) else None
        if said:
            return said if isinstance(said, str) else dumped(said)
    return "[a thought that cannot be read]"

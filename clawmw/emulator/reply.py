"""What a scripted brain answers, and the text it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Brain", "Reply", "ToolUse", "text_of"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The brain asks for a tool. `id` None: numbered by the emulator."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: text, tool calls, or both."""

    text: str | None = None
    tools: tuple[ToolUse, ...] = ()
    finish_reason: str | None = None
    """None: `tool_calls` when there are any, else `stop`."""
    reasoning: str | None = None
    """What it thinks first, for dialects that tell (Responses)."""


Brain: TypeAlias = Callable[[dict[str, Any]], Reply]
"""Decides from the request body alone; what is not in it, the brain does not know."""


def text_of(content: Any) -> str:
    """A message's content as text: a string, or its text parts joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(p["text"] for p in content if isinstance(p, dict) and "text" in p)

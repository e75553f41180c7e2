"""The brains the emulator knows by name, and how to make one's own.

A brain sees the request body and nothing else, so whatever a middleware removed from the
request, the brain has really lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clawmw.emulator.reply import Brain, Reply, ToolUse, text_of

__all__ = ["BRAINS", "echo", "last_text", "loop", "replies_from", "script", "turns"]

END = "(the script has ended)"


def echo() -> Brain:
    """Answers with the text of the last user message."""
    return lambda body: Reply(text=last_text(body, "user"))


def loop() -> Brain:
    """Asks for the first offered tool with the same arguments on every call, forever."""

    def brain(body: dict[str, Any]) -> Reply:
        tools = body.get("tools") or []
        names = [t["function"]["name"] for t in tools if isinstance(t.get("function"), dict)]
        own = [n for n in names if not n.startswith("clawmw_")]
        if not own:
            return Reply(text="I would go on forever, but no tool is offered.")
        return Reply(tools=(ToolUse(own[0], {"attempt": "again"}),))

    return brain


def script(replies: Iterable[Reply | str]) -> Brain:
    """Gives the replies in the order requests arrive, whatever they say."""
    rest = iter(_replies(replies))
    return lambda _body: next(rest, Reply(text=END))


def turns(replies: Iterable[Reply | str]) -> Brain:
    """Gives reply n to a request with n assistant messages, so a repeated call gets the same."""
    lines = _replies(replies)

    def brain(body: dict[str, Any]) -> Reply:
        turn = sum(1 for m in body["messages"] if m.get("role") == "assistant")
        return lines[turn] if turn < len(lines) else Reply(text=END)

    return brain


def last_text(body: Mapping[str, Any], role: str) -> str:
    """The text of the last message of a role; "" when there is none."""
    for message in reversed(body["messages"]):
        if message.get("role") == role:
            return text_of(message.get("content"))
    return ""


def replies_from(text: str) -> list[Reply]:
    """Replies from JSON lines: `"text"` or `{"text": ..., "tools": [{"name", "arguments"}]}`.

    Raises ValueError whose message says which line is wrong and how.
    """
    replies = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                replies.append(_reply(json.loads(line)))
            except ValueError as e:
                raise ValueError(f"line {number}: {e}") from None
    return replies


def _reply(raw: Any) -> Reply:
    if isinstance(raw, str):
        return Reply(text=raw)
    if not isinstance(raw, dict) or set(raw) - {"text", "tools", "finish_reason"}:
        raise ValueError('a reply is a string or {"text": ..., "tools": [...]}')
    tools = raw.get("tools") or []
    if not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in tools):
        raise ValueError('each of "tools" needs a "name"')
    uses = tuple(ToolUse(t["name"], t.get("arguments") or {}, t.get("id")) for t in tools)
    return Reply(raw.get("text"), uses, raw.get("finish_reason"))


def _trip() -> Brain:
    from clawmw.emulator.trip.brain import brain

    return brain


def _replies(replies: Iterable[Reply | str]) -> list[Reply]:
    return [Reply(text=r) if isinstance(r, str) else r for r in replies]


BRAINS: Mapping[str, Callable[[], Brain]] = {"echo": echo, "loop": loop, "trip": _trip}
"""Brains that need nothing but their name."""

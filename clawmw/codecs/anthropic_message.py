"""One message of Anthropic's Messages API: its JSON and its parts, in both directions.

One message on the wire is one here, also when it holds the results of several tools: each is
a part of its own. A message with a result in it is a tool's, whatever else the agent put there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from clawmw.codecs.body import dump
from clawmw.core.canon import MARKS, mark_ttl
from clawmw.core.types import (
    Image,
    Json,
    Mark,
    Message,
    Opaque,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from clawmw.errors import CodecError

__all__ = [
    "SIGNED",
    "Spot",
    "blocks",
    "changed",
    "content_of",
    "fresh",
    "mark",
    "merged",
    "parse",
    "spots",
]

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
SIGNED = ("thinking", "redacted_thinking")
"""Blocks that are given back as they came: a mark on one is refused."""

_BILLING = "x-anthropic-billing-header:"
"""How a block begins that Claude Code (2.1.36 and later) puts first in its system prompt. It is
another with each request and no part of the prompt, so all of them are one."""

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Spot(NamedTuple):
    """A part, the block of the content that it is in, and where its text stands."""

    part: Part
    block: Json
    """None: the content is a string."""
    holder: Json = None
    """The object with the text under `key`; None: there is none."""
    key: str = "text"


def parse(value: Json, wire: bytes | None, index: int) -> Message:
    """One message. Raises `CodecError`; other errors when it is of no known form."""
    if not isinstance(value, dict):
        raise CodecError(f"messages[{index}] is not an object")
    role = _ROLES.get(value.get("role", ""))
    if role is None:
        raise CodecError(f"messages[{index}] has no known role")
    parts = tuple([spot.part for spot in spots(value)])
    if role is Role.USER and any(isinstance(part, ToolResult) for part in parts):
        role = Role.TOOL
    content = value.get("content")
    marks = () if not isinstance(content, list) else tuple(map(mark_ttl, _marks(content)))
    return Message(role, parts, wire, marks=marks)


def spots(value: dict[str, Json]) -> Iterator[Spot]:
    """The parts of a message, in the order of the wire."""
    content = value.get("content")
    if isinstance(content, str):
        yield Spot(Text(content), None, value, "content")
    elif isinstance(content, list):
        for block in content:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "tool_result":
                yield from _result(block)
            else:
                yield _spot(block, kind, block)
    elif content is not None:
        yield Spot(Opaque(content), None)


def _spot(block: Json, kind: Json, outer: Json) -> Spot:
    """What one block is; `outer` is the block of the content that it stands in."""
    if kind == "text" and isinstance(block.get("text"), str):
        text = block["text"]
        if text.startswith(_BILLING) and "\n" not in text:
            return Spot(Opaque(_BILLING), outer)
        return Spot(Text(text), outer, block)
    if kind == "tool_use":
        given = block.get("input", {})
        arguments = given if isinstance(given, str) else _compact(given)
        return Spot(ToolCall(_str(block.get("id")), _str(block.get("name")), arguments), outer)
    if kind in SIGNED:
        return Spot(Thinking(block), outer)
    return Spot(Image(block) if kind == "image" else Opaque(block), outer)


def _result(block: dict[str, Json]) -> Iterator[Spot]:
    """A tool's result: its text, or the first of several, and then what else is in it."""
    call_id, content = _str(block.get("tool_use_id")), block.get("content")
    if isinstance(content, str):
        yield Spot(ToolResult(call_id, content), block, block, "content")
        return
    inner = content if isinstance(content, list) else []
    found = [_spot(b, b.get("type") if isinstance(b, dict) else None, block) for b in inner]
    first = next((spot for spot in found if isinstance(spot.part, Text)), None)
    text = first.part.text if first is not None and isinstance(first.part, Text) else ""
    yield Spot(ToolResult(call_id, text), block, first.holder if first else None)
    yield from (spot for spot in found if spot is not first)


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _marks(content: list[Json]) -> Iterator[Json]:
    """The cache marks in a content; a result's own comes after those inside it."""
    for block in content:
        if isinstance(block, dict):
            inner = block.get("content") if block.get("type") == "tool_result" else None
            if isinstance(inner, list):
                yield from _marks(inner)
            yield from (block[key] for key in MARKS & block.keys() if block[key])


def fresh(message: Message) -> dict[str, Json]:
    """The JSON of a message that never had one."""
    role = "user" if message.role is Role.TOOL else str(message.role)
    if len(message.parts) == 1 and isinstance(message.parts[0], Text):
        return {"role": role, "content": message.parts[0].text}
    return {"role": role, "content": content_of(message)}


def content_of(message: Message) -> list[Json]:
    """The blocks of a message that never had any: results first, as the API demands."""
    kept = [p for p in message.parts if not (isinstance(p, Text) and not p.text)]
    kept.sort(key=lambda part: not isinstance(part, ToolResult))
    return [_block(part) for part in kept or message.parts]


def _block(part: Part) -> Json:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case ToolCall(call_id, name, arguments):
            return {"type": "tool_use", "id": call_id, "name": name, "input": _input(arguments)}
        case ToolResult(call_id, text):
            return {"type": "tool_result", "tool_use_id": call_id, "content": text}
        case Image(raw) | Thinking(raw) | Opaque(raw):
            return raw


def _input(arguments: str) -> Json:
    """A call's arguments as the object that the wire wants."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {}  # the model was cut short: nobody can use it
    return value if isinstance(value, dict) else {}


def changed(message: Message) -> dict[str, Json]:
    """The JSON a message was changed from, with its texts replaced in place."""
    value: dict[str, Json] = json.loads(message.origin or b"{}")
    for spot, part in zip(list(spots(value)), message.parts, strict=False):
        if not isinstance(part, (Text, ToolResult)):
            continue
        if spot.holder is not None:
            spot.holder[spot.key] = part.text
        elif part.text:  # a result without a text
            inner = spot.block.get("content")
            more = inner if isinstance(inner, list) else []
            spot.block["content"] = [{"type": "text", "text": part.text}, *more]
    return value


def blocks(content: Json) -> list[Json]:
    """A message's content as blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []


def merged(one: bytes, other: bytes) -> bytes:
    """Two messages of the user's side, one after the other, as one."""
    value, more = json.loads(one), json.loads(other)
    value["content"] = [*blocks(value.get("content")), *blocks(more.get("content"))]
    return dump(value)


def mark(value: dict[str, Json], hint: Mark) -> None:
    """Put a cache mark on a block of a message, making the block if need be."""
    if hint.alone and isinstance(value.get("content"), list):
        _unmark(value["content"])
    if hint.value is None:
        return
    found = list(spots(value))
    if isinstance(value.get("content"), str):
        value["content"] = blocks(value["content"])
        chosen = value["content"]
    elif hint.part is not None:
        chosen = [spot.block for spot in found[hint.part : hint.part + 1]]
    else:
        chosen = blocks(value.get("content"))
    for block in reversed(chosen):
        if _markable(block):
            block[hint.key] = hint.value
            return


def _unmark(content: list[Json]) -> None:
    for block in content:
        if isinstance(block, dict):
            for key in MARKS & block.keys():
                del block[key]
            if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
                _unmark(block["content"])


def _markable(block: Json) -> bool:
    """Whether the API takes a mark on a block: not on an empty text, nor on thinking."""
    if not isinstance(block, dict) or block.get("type") in SIGNED:
        return False
    return block.get("type") != "text" or bool(_str(block.get("text")).strip())

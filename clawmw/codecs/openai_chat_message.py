"""One chat-completions message: its JSON and its parts, in both directions."""

from __future__ import annotations

import json

from clawmw.core.canon import MARKS, mark_ttl, without_marks
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

__all__ = ["as_they_came", "changed", "fresh", "mark", "parse"]

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


def parse(value: Json, wire: bytes | None, index: int) -> Message:
    """One message. Parts: the content's blocks in order, then calls, then reasoning."""
    if not isinstance(value, dict):
        raise CodecError(f"messages[{index}] is not an object")
    role = _ROLES.get(value.get("role", ""))
    if role is None:
        raise CodecError(f"messages[{index}] has no known role")
    content = value.get("content")
    parts: list[Part] = []
    if role is Role.TOOL:
        call_id, name = _str(value.get("tool_call_id")), value.get("name")
        blocks = content if isinstance(content, list) else [content]
        parts += [_tool_part(b, call_id, name, i) for i, b in enumerate(blocks)]
    elif isinstance(content, str):
        parts.append(Text(content))
    elif isinstance(content, list):
        parts += [_block(block) for block in content]
    elif content is not None:
        parts.append(Opaque(content))
    for call in value.get("tool_calls") or ():
        parts.append(_call(call))
    if isinstance(value.get("function_call"), dict):
        parts.append(_call({"function": value["function_call"]}))
    for key in ("reasoning_content", "reasoning", "reasoning_details"):
        if value.get(key):
            parts.append(Thinking(value[key]))
    return Message(role, tuple(parts), wire, marks=tuple(map(mark_ttl, _marks(value))))


def _marks(value: dict[str, Json]) -> list[Json]:
    """The cache marks on a message's blocks and on itself."""
    content = value.get("content")
    holders = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    return [h[key] for h in (*holders, value) for key in MARKS & h.keys() if h[key]]


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _block(block: Json) -> Part:
    kind = _str(block.get("type")) if isinstance(block, dict) else ""
    if kind == "text" and isinstance(block["text"], str):
        return Text(block["text"])
    if "image" in kind:
        return Image(block)
    return Opaque(block)


def _tool_part(block: Json, call_id: str, name: Json, index: int) -> Part:
    """A tool result's block: the first text is the result, later ones follow it."""
    part = Text(block) if isinstance(block, str) else Text("") if block is None else _block(block)
    if index == 0 and isinstance(part, Text):
        return ToolResult(call_id, part.text, name if isinstance(name, str) else None)
    return part


def _call(call: Json) -> Part:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return Opaque(call)
    return ToolCall(
        _str(call.get("id")), _str(function.get("name")), _str(function.get("arguments"))
    )


def fresh(message: Message) -> dict[str, Json]:
    """The JSON of a message that never had one."""
    value: dict[str, Json] = {"role": str(message.role)}
    results = message.tool_results
    if results:
        value["tool_call_id"] = results[0].call_id
        if results[0].name:
            value["name"] = results[0].name
    texts = [p.text for p in message.parts if isinstance(p, (Text, ToolResult))]
    value["content"] = "\n".join(texts) if texts or not message.tool_calls else None
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return value


def as_they_came(calls: list[Json], kept: Json) -> list[Json]:
    """Each of `calls` as it stands among `kept`, unknown fields and all, where it does."""
    known = {_call(raw): raw for raw in kept or () if isinstance(_call(raw), ToolCall)}
    return [known.get(_call(call), call) for call in calls]


def changed(message: Message) -> dict[str, Json]:
    """The JSON a message was changed from, with its texts replaced in place."""
    value: dict[str, Json] = json.loads(message.origin or b"{}")
    content = value.get("content")
    if isinstance(content, list):
        for block, part in zip(content, message.parts, strict=False):
            if isinstance(part, (Text, ToolResult)) and isinstance(block, dict):
                block["text"] = part.text
    elif isinstance(content, str):
        first = message.parts[0]
        value["content"] = first.text if isinstance(first, (Text, ToolResult)) else content
    return value


def mark(value: dict[str, Json], hint: Mark) -> None:
    """Put a cache mark on a message's text block, making the block if need be."""
    if hint.alone:
        for key in MARKS & value.keys():
            del value[key]
        if isinstance(value.get("content"), list):
            value["content"] = without_marks(value["content"])
    if hint.value is None:
        return
    content = value.get("content")
    if isinstance(content, str):
        content = value["content"] = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return
    chosen = content if hint.part is None else content[hint.part : hint.part + 1]
    for block in reversed(chosen):
        if isinstance(block, dict) and block.get("type") == "text":
            block[hint.key] = hint.value
            return

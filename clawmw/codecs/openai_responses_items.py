"""Items of the Responses API and core messages, in both directions.

How items group into messages:

- What a model gave in one go is one assistant message: every item of the model's own (an assistant
  `message`, `reasoning`, `function_call`, `custom_tool_call`, a built-in tool's call, an
  `item_reference`) up to the next one that is not. So a turn of reasoning and several calls is
  one message with its parts in the order of the wire, as in other dialects, and an agent that
  appends never changes an earlier message but the last, if that was the model's.
- Every other item is a message of its own: a message by its role, `function_call_output` and
  `custom_tool_call_output` a tool's result, other `*_output`s and `mcp_approval_response` a
  tool's message that is opaque.

A message's wire is its items, with the commas between them. The strings that `instructions` and
`input` may be are messages, too (`bare`): their wire is the JSON string. Ids and statuses of items
are no part of a prompt, so they tell no two messages apart, unless an id is all there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clawmw.codecs.body import dump
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

__all__ = ["CALLS", "bare", "changed", "fresh", "kind_of", "message_of", "own", "role_of"]

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items that ask for a tool of the agent's, and where they say with what."""
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_TEXTS = frozenset({"input_text", "output_text", "text"})
_PASSING = frozenset({"id", "status"})
"""Fields of an item that are no part of the prompt."""


def kind_of(item: Json) -> str:
    """An item's type; messages may come without one."""
    kind = item.get("type") if isinstance(item, dict) else None
    if isinstance(kind, str):
        return kind
    return "message" if isinstance(item, dict) and kind is None else ""


def role_of(item: Json, index: int = 0) -> Role:
    """Who speaks in an item. Raises `CodecError` for what is no item."""
    if not isinstance(item, dict):
        raise CodecError(f"input[{index}] is not an object")
    kind = kind_of(item)
    if kind == "message" or (kind not in CALLS and "role" in item):
        role = _ROLES.get(item.get("role", ""))
        if role is None:
            raise CodecError(f"input[{index}] has no known role")
        return role
    if kind.endswith("_output") and kind != "program_output":
        return Role.TOOL
    return Role.TOOL if kind == "mcp_approval_response" else Role.ASSISTANT


class _Place(NamedTuple):
    """A part, and the field of the JSON that holds its text, if it has one."""

    part: Part
    holder: dict[str, Json] | None = None
    key: str = ""


def message_of(items: Sequence[Json], role: Role, wire: bytes | None) -> Message:
    """The message that those items are."""
    parts = tuple([place.part for item in items for place in _places(item)])
    found = [mark_ttl(mark) for item in items for mark in _marks(item)]
    return Message(role, parts, wire, marks=tuple(found), bare=role is Role.ASSISTANT)


def bare(text: str, role: Role, wire: bytes) -> Message:
    """The message that a string stands for."""
    return Message(role, (Text(text),), wire, bare=role is Role.SYSTEM)


def _places(item: dict[str, Json]) -> Iterator[_Place]:
    kind = kind_of(item)
    if kind in CALLS:
        said = item.get(CALLS[kind])
        yield _Place(ToolCall(_str(item.get("call_id")), _str(item.get("name")), _str(said)))
    elif kind in _RESULTS:
        yield from _result(item)
    elif kind == "message":
        content = item.get("content")
        if isinstance(content, str):
            yield _Place(Text(content), item, "content")
        elif isinstance(content, list):
            yield from map(_block, content)
        elif content is not None:
            yield _Place(Opaque(content))
    elif kind == "reasoning":
        kept = item.get("encrypted_content") or item.get("content")
        yield _Place(Thinking({k: v for k, v in item.items() if not kept or k not in _PASSING}))
    else:
        yield _Place(Opaque(item))


def _block(block: Json) -> _Place:
    kind = _str(block.get("type")) if isinstance(block, dict) else ""
    if kind in _TEXTS and isinstance(block.get("text"), str):
        return _Place(Text(block["text"]), block, "text")
    if "image" in kind:
        return _Place(Image(block))
    return _Place(Opaque(block))


def _result(item: dict[str, Json]) -> Iterator[_Place]:
    """A result's blocks: the first text is the result; without one, it is empty."""
    call_id, name, output = _str(item.get("call_id")), item.get("name"), item.get("output")
    name = name if isinstance(name, str) else None
    if isinstance(output, str):
        yield _Place(ToolResult(call_id, output, name), item, "output")
        return
    told = False
    for place in map(_block, output if isinstance(output, list) else ()):
        if not told and isinstance(place.part, Text):
            told = True
            yield _Place(ToolResult(call_id, place.part.text, name), place.holder, place.key)
        else:
            yield place
    if not told:
        yield _Place(ToolResult(call_id, "", name))


def _marks(item: dict[str, Json]) -> Iterator[Json]:
    """The cache marks on an item's blocks."""
    for key in ("content", "output"):
        blocks = item.get(key)
        for block in blocks if isinstance(blocks, list) else ():
            if isinstance(block, dict):
                yield from (block[name] for name in MARKS & block.keys() if block[name])


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


# --- back to JSON ------------------------------------------------------------------------------


def own(items: Sequence[Json]) -> list[Json]:
    """A model's items as clawmw gives them back beside the agent's own copy of some of them.

    Without ids: a doubled one is refused, and so is one that the provider did not store. Reasoning
    that is nothing but an id is left out.
    """
    kept = []
    for item in items:
        if not isinstance(item, dict):
            continue
        if kind_of(item) == "reasoning" and not item.get("encrypted_content"):
            continue
        kept.append({k: v for k, v in item.items() if k not in _PASSING})
    return kept


def fresh(message: Message) -> list[Json]:
    """The items of a message that never had any."""
    if message.role is Role.TOOL:
        results = message.tool_results
        items = [
            {"type": "function_call_output", "call_id": r.call_id, "output": r.text}
            for r in results
        ]
        more = [p.text for p in message.parts if isinstance(p, Text)]
        if items and more:
            items[-1]["output"] = "\n".join([results[-1].text, *more])
        return items
    items = []
    if message.text or not message.tool_calls:
        items.append({"role": str(message.role), "content": message.text})
    for call in message.tool_calls:
        asked = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
        items.append({"type": "function_call", **asked})
    return items


def changed(message: Message) -> bytes:
    """The wire of a message that was changed from `origin`, with its texts and marks put in."""
    origin = message.origin or b""
    if origin[:1] == b'"':
        if message.mark is None or message.mark.value is None or message.bare:
            return dump(message.text)
        items: list[Json] = [{"role": str(message.role), "content": message.text}]
        _mark(items, message.mark)
        return dump(items)[1:-1]
    items = json.loads(b"[" + origin + b"]")
    places = [place for item in items for place in _places(item)]
    for place, part in zip(places, message.parts, strict=False):
        if place.holder is not None and isinstance(part, (Text, ToolResult)):
            place.holder[place.key] = part.text
    if message.mark is not None:
        _mark(items, message.mark)
    return b",".join(map(dump, items))


def _mark(items: list[Json], hint: Mark) -> None:
    """Put a cache mark on a text block of what is no answer, making the block if need be."""
    item = items[-1]
    key = "output" if kind_of(item) in _RESULTS else "content"
    blocks = item.get(key)
    if hint.alone and isinstance(blocks, list):
        blocks = item[key] = without_marks(blocks)
    if hint.value is None or role_of(item) is Role.ASSISTANT:
        return
    if isinstance(blocks, str):
        blocks = item[key] = [{"type": "input_text", "text": blocks}]
    if not isinstance(blocks, list):
        return
    chosen = blocks if hint.part is None else blocks[hint.part : hint.part + 1]
    for block in reversed(chosen):
        if isinstance(block, dict) and block.get("type") == "input_text":
            block[hint.key] = hint.value
            return

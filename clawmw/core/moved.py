"""What moved a prompt's prefix since the call before: the part, its index, the first byte.

Places and names of tools only; never content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clawmw.core.canon import canonical_json
from clawmw.core.fold import History
from clawmw.core.prefix import ROSTER, Warm, roster, shared, tools_digest
from clawmw.core.types import Message, Role, ToolSpec

__all__ = ["Moved", "MovedPart", "between", "first_difference", "since"]

MovedPart: TypeAlias = Literal["tools", "system", "message"]


@dataclass(frozen=True, slots=True)
class Moved:
    """The first part of a prompt that is not what it was."""

    part: MovedPart
    index: int
    """Of the message (system messages count), or of the tool."""
    byte: int | None = None
    """The first differing byte of its text (UTF-8; of a tool: its JSON with sorted keys); None
    where it is not known, or not text."""
    tool: str = ""

    def __str__(self) -> str:
        name = f" ({self.tool})" if self.tool else ""
        byte = "" if self.byte is None else f", byte {self.byte:,}"
        return f"{'tool' if self.part == 'tools' else self.part} {self.index}{name}{byte}"


def since(
    last: Warm, tools: tuple[ToolSpec, ...], history: History, earlier: Sequence[Message]
) -> Moved | None:
    """What moved since `last`, as far as the account tells; None: nothing but the last message.

    `earlier` are the messages of the call before, where this process still has them: without
    them the byte is unknown. Which message it is, the records of what was sent tell.
    """
    if tools_digest(tools) != last.tools:
        return _tools(last.roster, roster(tools), tools)
    if shared(history, last):
        return None
    index = next((i for i, step in enumerate(history.steps) if not step.recorded), None)
    if index is None or index >= last.size - 1:
        return None
    return _message(index, history.steps[index].raw, earlier)


def between(
    one: tuple[tuple[ToolSpec, ...], Sequence[Message]],
    other: tuple[tuple[ToolSpec, ...], Sequence[Message]],
    shared_messages: int,
) -> Moved | None:
    """What moved from one request to another, both at hand; None: the second goes on from it.

    `shared_messages`: how many leading messages are the same to a provider. A last message that
    was replaced is a move here, too.
    """
    if tools_digest(one[0]) != tools_digest(other[0]):
        whole = ["".join(tool.digest[:ROSTER] for tool in request[0]) for request in (one, other)]
        moved = _tools(whole[0], whole[1], other[0])
        both = (one[0][moved.index : moved.index + 1], other[0][moved.index : moved.index + 1])
        if all(both) and both[0][0].name == both[1][0].name:
            texts = [canonical_json(t[0].raw).encode("utf-8", "surrogatepass") for t in both]
            byte = first_difference(*texts)
            return Moved("tools", moved.index, byte, moved.tool)
        return moved
    if shared_messages >= min(len(one[1]), len(other[1])):
        return None
    return _message(shared_messages, other[1][shared_messages], one[1])


def _tools(before: str, now: str, tools: Sequence[ToolSpec]) -> Moved:
    index = first_difference(before.encode(), now.encode()) // ROSTER
    return Moved("tools", index, None, tools[index].name if index < len(tools) else "")


def _message(index: int, message: Message, earlier: Sequence[Message]) -> Moved:
    byte = None
    if index < len(earlier):
        texts = [m.text.encode("utf-8", "surrogatepass") for m in (earlier[index], message)]
        byte = first_difference(*texts) if texts[0] != texts[1] else None
    return Moved("system" if message.role is Role.SYSTEM else "message", index, byte)


def first_difference(one: bytes, other: bytes) -> int:
    """The first byte at which two strings differ; the shorter's length if it begins the other."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low

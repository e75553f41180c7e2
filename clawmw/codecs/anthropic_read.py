"""Reads a Messages body once, and remembers where everything lies in it.

`system` stands beside the messages on the wire; here it is the first of them. A request of a
`thread`, whose history the provider holds from its first call on, is `held`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from clawmw.codecs.anthropic_message import parse
from clawmw.codecs.body import Draft, Listing, Source, read_body
from clawmw.core.canon import tool_spec
from clawmw.core.types import Json, Message, Request, ToolSpec
from clawmw.errors import CodecError

__all__ = ["DIALECT", "head_wire", "read", "system_of"]

DIALECT = "anthropic.messages"

_BEFORE, _AFTER = b'{"role":"system","content":', b"}"


def head_wire(system: bytes) -> bytes:
    """The wire of the message that a top-level `system` stands for."""
    return _BEFORE + system + _AFTER


def system_of(wire: bytes) -> bytes:
    """The inverse of `head_wire`, also when the message was changed."""
    return wire[len(_BEFORE) : -len(_AFTER)]


class _Messages(Listing):
    """`messages`: one item is one message."""

    dialect: ClassVar[str] = DIALECT
    key: ClassVar[str] = "messages"

    def one(self, draft: Draft, value: Json, start: int, end: int) -> None:
        """See `Listing.one`."""
        draft.messages.append(_parsed(value, draft.body[start:end], len(draft.messages)))
        draft.ends.append(end)


def _parsed(value: Json, wire: bytes, index: int) -> Message:
    try:
        return parse(value, wire, index)
    except (TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
        raise CodecError(f"messages[{index}] is not a message") from error


def read(body: bytes, earlier: Sequence[Request]) -> Request:
    """The request in `body`; what it shares with an earlier one is taken from there."""
    draft, old = read_body(body, earlier, _Messages())
    if not draft.messages:
        raise CodecError("the body has no messages; send a list of at least one")
    values = draft.values
    model = values.get("model")
    if not isinstance(model, str):
        raise CodecError("the body names no model; send `model` as a string")
    raw_tools = values.get("tools")
    known = old is not None and raw_tools is old.values.get("tools")
    tools = old.tools if old is not None and known else _tools(raw_tools)
    head = _head(draft, old)
    params = {k: v for k, v in values.items() if k not in ("model", "tools", "system")}
    listed = tuple(draft.messages)
    messages = listed if head is None else (head, *listed)
    source = Source(body, listed, tools, values, draft.spans, tuple(draft.ends), head)
    held = bool(params.get("thread"))
    return Request(DIALECT, model, messages, tools, params, source, held=held)


def _head(draft: Draft, old: Source | None) -> Message | None:
    """The system prompt as a message; None: there is none."""
    system = draft.values.get("system")
    if not system:
        return None
    if not isinstance(system, str | list):
        raise CodecError("`system` is neither a text nor a list of blocks")
    if old is not None and system is old.values.get("system"):
        return old.head
    begin, end = draft.spans["system"]
    return _parsed({"role": "system", "content": system}, head_wire(draft.body[begin:end]), 0)


def _tools(raw: Json) -> tuple[ToolSpec, ...]:
    if not isinstance(raw, list):
        return ()
    specs = []
    for tool in raw:
        name = tool.get("name") if isinstance(tool, dict) else None
        specs.append(tool_spec(name if isinstance(name, str) else "", tool))
    return tuple(specs)

"""Reads a chat-completions body once, and remembers where everything lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from clawmw.codecs.body import Draft, Listing, Source, read_body
from clawmw.codecs.openai_chat_message import parse
from clawmw.core.canon import tool_spec
from clawmw.core.types import Json, Request, ToolSpec
from clawmw.errors import CodecError

__all__ = ["DIALECT", "read"]

DIALECT = "openai.chat"


class _Messages(Listing):
    """`messages`: one item is one message."""

    dialect: ClassVar[str] = DIALECT
    key: ClassVar[str] = "messages"

    def one(self, draft: Draft, value: Json, start: int, end: int) -> None:
        """See `Listing.one`."""
        index = len(draft.messages)
        try:
            draft.messages.append(parse(value, draft.body[start:end], index))
        except (TypeError, LookupError, AttributeError) as error:
            raise CodecError(f"messages[{index}] is not a chat message") from error
        draft.ends.append(end)


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
    params = {k: v for k, v in values.items() if k not in ("model", "tools")}
    messages = tuple(draft.messages)
    source = Source(body, messages, tools, values, draft.spans, tuple(draft.ends))
    return Request(DIALECT, model, messages, tools, params, source)


def _tools(raw: Json) -> tuple[ToolSpec, ...]:
    if not isinstance(raw, list):
        return ()
    specs = []
    for tool in raw:
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        specs.append(tool_spec(name if isinstance(name, str) else "", tool))
    return tuple(specs)

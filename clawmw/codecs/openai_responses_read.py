"""Reads a Responses body once, and remembers where everything lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from clawmw.codecs.body import Draft, Listing, Source, read_body
from clawmw.codecs.openai_responses_items import bare, kind_of, message_of, role_of
from clawmw.core.canon import tool_spec
from clawmw.core.types import OURS, Json, Message, Request, Role, ToolSpec
from clawmw.errors import CodecError

__all__ = ["DIALECT", "read"]

DIALECT = "openai.responses"
_APART = frozenset({"model", "tools", "input", "instructions"})
"""Top-level values that are not parameters."""
_PREVIOUS = "previous_response_id"
_HOLDING = (_PREVIOUS, "conversation", "background")


class _Input(Listing):
    """`input`: consecutive items of the model's are one message, each other item is one."""

    dialect: ClassVar[str] = DIALECT
    key: ClassVar[str] = "input"
    empty: ClassVar[bool] = True

    def __init__(self) -> None:
        self._count = 0
        self._turn: list[Json] = []
        self._start = self._end = 0
        self._before: Message | None = None
        self.refers: int | None = None
        """See `Source.refers`."""

    def one(self, draft: Draft, value: Json, start: int, end: int) -> None:
        """See `Listing.one`."""
        try:
            role = role_of(value, self._count)
            if role is Role.ASSISTANT:
                if not self._turn:
                    self._start = start
                self._turn.append(value)
                self._end = end
                if self.refers is None and kind_of(value) == "item_reference":
                    self.refers = len(draft.messages)
            else:
                self.over(draft)
                draft.messages.append(message_of([value], role, draft.body[start:end]))
                draft.ends.append(end)
        except (TypeError, LookupError, AttributeError) as error:
            raise CodecError(f"input[{self._count}] is not an item") from error
        self._count += 1

    def over(self, draft: Draft) -> None:
        """See `Listing.over`: whatever the model was saying is said."""
        if not self._turn:
            return
        wire = draft.body[self._start : self._end]
        before = self._before
        if before is None or before.wire != wire:
            before = message_of(self._turn, Role.ASSISTANT, wire)
        draft.messages.append(before)
        draft.ends.append(self._end)
        self._turn, self._before = [], None

    def kept(self, old: Source, count: int) -> int:
        """See `Listing.kept`: what follows may go on with a turn of the model's."""
        last = old.messages[count - 1]
        self._before = None
        if last.role is Role.ASSISTANT:
            self._before, count = last, count - 1
        self.refers = old.refers if old.refers is not None and old.refers < count else None
        return count


def read(body: bytes, earlier: Sequence[Request]) -> Request:
    """The request in `body`; what it shares with an earlier one is taken from there."""
    listing = _Input()
    draft, old = read_body(body, earlier, listing)
    values = draft.values
    model = values.get("model") or ""
    if not isinstance(model, str) or not (model or "prompt" in values):
        raise CodecError("the body names no model; send `model` as a string")
    raw_tools = values.get("tools")
    known = old is not None and raw_tools is old.values.get("tools")
    tools = old.tools if old is not None and known else _tools(raw_tools)
    params = {k: v for k, v in values.items() if k not in _APART}
    if str(params.get(_PREVIOUS)).startswith(OURS):
        params[_PREVIOUS] = None  # a refusal: its provider knows of none, and would not go on
    head = _text(draft, old, "instructions", Role.SYSTEM)
    said = _text(draft, old, "input", Role.USER)
    listed = tuple(draft.messages) if said is None else (said,)
    messages = listed if head is None else (head, *listed)
    ends = tuple(draft.ends)
    source = Source(body, listed, tools, values, draft.spans, ends, head, listing.refers)
    held = any(params.get(key) for key in _HOLDING) or listing.refers is not None or not messages
    if not messages and not any(values.get(key) for key in (*_HOLDING, "prompt")):
        raise CodecError("the body has no input; send a text or a list of items")
    return Request(DIALECT, model, messages, tools, params, source, held=held)


def _text(draft: Draft, old: Source | None, key: str, role: Role) -> Message | None:
    """The message that a top-level string is; the earlier one where it is the same."""
    text = draft.values.get(key)
    if not isinstance(text, str) or not text:
        return None
    if old is not None and old.head is not None and text is old.values.get(key):
        return old.head
    return bare(text, role, draft.body[slice(*draft.spans[key])])


def _tools(raw: Json) -> tuple[ToolSpec, ...]:
    if not isinstance(raw, list):
        return ()
    specs = []
    for tool in raw:
        given = tool if isinstance(tool, dict) else {}
        # Built-in tools have no name, MCP servers a label.
        names = [given.get(key) for key in ("name", "server_label", "type")]
        specs.append(tool_spec(next((n for n in names if isinstance(n, str) and n), ""), tool))
    return tuple(specs)

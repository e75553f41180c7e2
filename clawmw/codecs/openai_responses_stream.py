"""Responses as server-sent events: frames in.

Items are numbered (`output_index`), events counted (`sequence_number`), and the end of the stream
is the whole answer once more. What is read here: text and arguments by their deltas, and each
item as it was done, in which reasoning, signatures and ids come back to the provider.
"""

from __future__ import annotations

from dataclasses import replace

from clawmw.codecs import openai_responses_answer as answers
from clawmw.codecs.body import dump
from clawmw.codecs.openai_responses_items import CALLS, kind_of
from clawmw.codecs.sse import SseFrames
from clawmw.core.stream import (
    Begin,
    Extra,
    Fault,
    Finish,
    Frame,
    StreamEvent,
    TextDelta,
    ToolDelta,
    UsageEvent,
)
from clawmw.core.types import Json, Message, Role, ToolCall

__all__ = ["ENDS", "FAILED", "Decoder"]

ENDS = frozenset({"response.completed", "response.incomplete"})
"""Events that are the whole answer."""
FAILED = frozenset({"response.failed", "error"})
_ARGUMENTS = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)
_THOUGHTS = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})


class Decoder(SseFrames):
    """Decodes a Responses stream."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, int] = {}
        """The ordinal of each call by its output index."""
        self._told: set[int] = set()
        """Output indices of which text or arguments came."""

    def _frame(self, wire: bytes) -> Frame:
        frame = super()._frame(wire)
        alive = isinstance(frame.raw, dict) and frame.raw.get("type") == "keepalive"
        return replace(frame, quiet=True) if alive else frame

    def events(self, value: Json) -> list[StreamEvent]:
        """See `SseFrames.events`."""
        kind = value["type"]
        if kind in ENDS:
            return self._end(value["response"])
        if kind in FAILED:
            return [Fault(answers.error_status(value) or 502)]
        if kind == "response.created":
            said = value["response"]
            return [Begin(said.get("model"), said.get("id"))]
        index = value.get("output_index")
        if not isinstance(index, int):
            return []
        if kind == "response.output_text.delta":
            return [TextDelta(self._piece(index, value["delta"]))]
        if kind in _ARGUMENTS:
            return [ToolDelta(self._calls[index], "", "", self._piece(index, value["delta"]))]
        if kind in _THOUGHTS:
            thought = self._piece(-1, value["delta"])
            return [Extra({}, thought)]
        if kind == "response.output_item.added":
            return self._added(index, value["item"])
        if kind == "response.output_item.done":
            return self._done(index, value["item"])
        return []

    def _piece(self, index: int, text: Json) -> str:
        if not isinstance(text, str):
            raise TypeError("a delta is a text")
        if text:
            self._told.add(index)
        return text

    def _added(self, index: int, item: Json) -> list[StreamEvent]:
        if kind_of(item) not in CALLS:
            return []
        ordinal = self._calls.setdefault(index, len(self._calls))
        call_id, name = str(item.get("call_id") or ""), str(item.get("name") or "")
        return [ToolDelta(ordinal, call_id, name, self._said(index, item))]

    def _done(self, index: int, item: Json) -> list[StreamEvent]:
        """The item as it is; and what of it no delta has said."""
        events: list[StreamEvent] = []
        if index not in self._told:
            kind = kind_of(item)
            if kind in CALLS and index in self._calls and (said := self._said(index, item)):
                events.append(ToolDelta(self._calls[index], "", "", said))
            elif kind == "message" and (text := _text(item)):
                events.append(TextDelta(text))
        # As a text: a fold of deltas would lose what is empty in it.
        return [*events, Extra({"items": {str(index): dump(item).decode()}})]

    def _said(self, index: int, item: Json) -> str:
        return self._piece(index, item.get(CALLS[kind_of(item)]) or "")

    def _end(self, response: Json) -> list[StreamEvent]:
        calls = tuple(ToolCall("", "", "") for _ in self._calls)
        finish = Finish(answers.reason(response, Message(Role.ASSISTANT, calls)))
        counted = answers.usage(response.get("usage"))
        return [finish] if counted is None else [UsageEvent(counted), finish]


def _text(item: Json) -> str:
    blocks = [block for block in item.get("content") or () if isinstance(block, dict)]
    return "".join([b["text"] for b in blocks if isinstance(b.get("text"), str)])

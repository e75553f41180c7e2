"""pydantic-ai's stream events as the chunks of a chat completion, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.usage import RequestUsage

from clawmw.adapters.direct import Body
from clawmw.adapters.pydantic_ai_messages import answer_of, usage_of, used
from clawmw.core.decisions import Halt
from clawmw.core.types import Json

__all__ = ["End", "Event", "Events", "Signed"]


@dataclass(frozen=True, slots=True)
class End:
    """One attempt's stream is over, and this is its whole answer."""

    response: ModelResponse


Signed: TypeAlias = Literal["no", "item", "answer"]
"""How thoughts must come back to their provider: in no certain way; each before the item that it
led to (OpenAI's Responses); as one answer had them, with none of another (Anthropic)."""
Event: TypeAlias = ModelResponseStreamEvent | End


@dataclass(slots=True)
class Events:
    """See `direct_stream.Talk`. Parts are numbered anew: an attempt may follow another."""

    refusal: Callable[[Halt], str]
    """What is told of a stopped call; may raise."""
    signed: Signed = "no"
    """Thoughts that are signed wait until it is sure that their attempt is the reader's."""
    usage: RequestUsage = field(default_factory=RequestUsage)
    """Of all attempts, once the stream is over."""
    stopped: Halt | None = None
    _next: int = 0
    _numbers: dict[int, int] = field(default_factory=dict)
    """The number a part was given, by its number in the attempt."""
    _held: dict[int, list[Any]] = field(default_factory=dict)
    """Events of parts that may be ours to answer."""
    _ids: dict[str, int] = field(default_factory=dict)
    _now: int | None = None
    _begun: bool = False
    _thoughts: list[Any] = field(default_factory=list)
    _thought: bool = False
    _closed: bool = False
    _text: int | None = None

    def begins(self, *, continuing: bool) -> None:
        """Another attempt."""
        self._numbers, self._held, self._ids, self._begun = {}, {}, {}, continuing
        self._thoughts, self._closed = [], self._thought and self.signed == "answer"

    def frame(self, chunk: Event) -> Body:
        """What an event says."""
        if isinstance(chunk, End):
            self._now = None
            answer = answer_of(chunk.response)
            reason = answer["choices"][0]["finish_reason"]
            choice: Body = {"index": 0, "delta": {}, "finish_reason": reason}
            value: Body = {"object": "chat.completion.chunk", "choices": [choice]}
            return {**value, "usage": used(chunk.response.usage)}
        delta: Body = {}
        if not self._begun:
            self._begun, delta["role"] = True, "assistant"
        if isinstance(chunk, PartStartEvent | PartDeltaEvent):
            self._now = chunk.index
            said = chunk.part if isinstance(chunk, PartStartEvent) else chunk.delta
            delta |= self._delta(chunk, said)
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return {"object": "chat.completion.chunk", "choices": [choice]}

    def _delta(self, chunk: Any, said: Any) -> Body:
        if isinstance(said, TextPart):
            return {"content": said.content}
        if isinstance(said, TextPartDelta):
            return {"content": said.content_delta}
        if isinstance(said, ThinkingPart):
            return {"reasoning_content": said.content}
        if isinstance(said, ThinkingPartDelta):
            return {"reasoning_content": said.content_delta or ""}
        if not isinstance(said, ToolCallPart | ToolCallPartDelta):
            return {}
        self._held.setdefault(chunk.index, []).append(chunk)
        if isinstance(said, ToolCallPart):
            self._ids[said.tool_call_id] = chunk.index
            function = {"name": said.tool_name, "arguments": _args(said.args)}
            call = {"index": chunk.index, "id": said.tool_call_id, "type": "function"}
            return {"tool_calls": [{**call, "function": function}]}
        function = {"name": said.tool_name_delta or "", "arguments": _args(said.args_delta)}
        return {"tool_calls": [{"index": chunk.index, "function": function}]}

    def last(self) -> Body:
        """An end; an attempt always says its own."""
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return {"object": "chat.completion.chunk", "choices": [choice]}

    def passed(self, chunk: Event) -> Sequence[Event]:
        """An event that says what it said, under its own number."""
        if isinstance(chunk, End):
            self.usage = chunk.response.usage
            return self._released()
        if not isinstance(chunk, PartStartEvent | PartDeltaEvent):
            return [chunk]
        said = chunk.part if isinstance(chunk, PartStartEvent) else chunk.delta
        if self.signed != "no" and isinstance(said, ThinkingPart | ThinkingPartDelta):
            if not self._closed:
                self._thoughts.append(chunk)
            return []
        given = self._held.pop(chunk.index, [chunk])
        return [*self._released(), *self._given(chunk.index, given)]

    def _released(self) -> list[Event]:
        """The thoughts that waited."""
        found, self._thoughts = self._thoughts, []
        self._thought = self._thought or bool(found)
        return [event for chunk in found for event in self._given(chunk.index, [chunk])]

    def _given(self, part: int, events: Sequence[Any]) -> list[Event]:
        if part not in self._numbers:
            self._numbers[part] = self._next
            self._next += 1
        number = self._numbers[part]
        return [e if e.index == number else replace(e, index=number) for e in events]

    def made(self, frame: Body) -> Sequence[Event]:
        """Events for what a stage changed: held parts that are let go, and texts of ours."""
        if (usage := frame.get("usage")) is not None:
            self.usage = usage_of(usage)
        choices = frame.get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        found: list[Event] = []
        if text := delta.get("content"):
            found += self._said(text)
        for call in delta.get("tool_calls") or ():
            found += self._called(call)
        return found

    def _called(self, call: Json) -> list[Event]:
        id_ = call.get("id")
        part = self._ids.get(id_) if id_ else self._now
        if part is not None and (held := self._held.pop(part, None)):
            return [*self._released(), *self._given(part, held)]
        if not id_ or part is not None:
            return []
        function = call.get("function") or {}
        made = ToolCallPart(function.get("name", ""), function.get("arguments"), tool_call_id=id_)
        self._next += 1
        return [PartStartEvent(index=self._next - 1, part=made)]

    def _said(self, text: str) -> list[Event]:
        if self._text is not None:
            return [PartDeltaEvent(index=self._text, delta=TextPartDelta(text))]
        self._text, self._next = self._next, self._next + 1
        return [PartStartEvent(index=self._text, part=TextPart(text))]

    def refused(self, halt: Halt) -> Sequence[Event]:
        """What the reader is told of a stopped call."""
        text = self.refusal(halt)
        self.stopped = halt
        return self._said(text)


def _args(args: Any) -> str:
    return args if isinstance(args, str) else json.dumps(args) if args else ""

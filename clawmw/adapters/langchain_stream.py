"""LangChain's chunks as those of a chat completion, and back, for one stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_usage, subtract_usage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from clawmw.adapters.direct import Body
from clawmw.adapters.langchain_messages import (
    KEPT,
    kept_of,
    reason_of,
    usage_metadata,
    usage_of,
)
from clawmw.core.decisions import Halt
from clawmw.core.types import Json

__all__ = ["Chunks", "Signed"]

Signed: TypeAlias = Literal["no", "item", "answer"]
"""How thoughts must come back to their provider: in no certain way; each before the item that it
led to (OpenAI's Responses); as one answer had them, with none of another (Anthropic)."""


class Chunks:
    """See `direct_stream.Talk`.

    LangChain adds up the usage of chunks, a chat completion says it once for all: `_used` is what
    this attempt said so far, `_given` what the reader has been given.

    Thoughts that are signed wait until it is sure that their attempt is the reader's.
    """

    def __init__(self, refused: Callable[[Halt], AIMessageChunk], *, signed: Signed) -> None:
        self._refused = refused
        self._signed = signed
        self._used: Any = None
        self._given: Any = None
        self._begun = self._called = False
        self._thoughts: list[ChatGenerationChunk] = []
        self._thought = self._closed = False
        self._top = self._shift = -1

    def begins(self, *, continuing: bool) -> None:
        """Another attempt."""
        self._used, self._begun, self._called = None, continuing, False
        self._thoughts, self._closed = [], self._thought and self._signed == "answer"
        self._shift = self._top

    def frame(self, chunk: ChatGenerationChunk) -> Body:
        """What a chunk says."""
        message = chunk.message
        said = {**message.response_metadata, **(chunk.generation_info or {})}
        delta: Body = {}
        if not self._begun:
            self._begun, delta["role"] = True, "assistant"
        if text := message.text:
            delta["content"] = text
        if isinstance(message, AIMessageChunk):
            if calls := [_call(call) for call in message.tool_call_chunks]:
                self._called, delta["tool_calls"] = True, calls
            if message.usage_metadata:
                self._used = add_usage(self._used, message.usage_metadata)
        if kept := kept_of(message):
            delta[KEPT] = kept
        choice = {"index": 0, "delta": delta, "finish_reason": reason_of(said)}
        value: Body = {"id": message.id, "object": "chat.completion.chunk", "choices": [choice]}
        value["model"] = said.get("model_name") or said.get("model")
        if isinstance(message, AIMessageChunk) and message.usage_metadata:
            value["usage"] = usage_of(self._used)
        return value

    def last(self) -> Body:
        """An end, for models that say none."""
        reason = "tool_calls" if self._called else "stop"
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        return {"object": "chat.completion.chunk", "choices": [choice]}

    def made(self, frame: Body) -> list[ChatGenerationChunk]:
        """A chunk that says what `frame` says."""
        choice = (frame.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        usage = usage_metadata(frame.get("usage"))
        if usage is not None:
            usage, self._given = subtract_usage(usage, self._given), usage
        content: Any = delta.get("content") or ""
        if kept := delta.get(KEPT):
            content = [*kept, *([{"type": "text", "text": content}] if content else [])]
        message = AIMessageChunk(
            content=content,
            tool_call_chunks=[_chunk(call) for call in delta.get("tool_calls") or ()],
            usage_metadata=usage,
        )
        reason = choice.get("finish_reason")
        info = {"finish_reason": reason} if reason else None
        chunk = ChatGenerationChunk(message=message, generation_info=info)
        return [*(self._released() if message.tool_call_chunks else ()), chunk]

    def passed(self, chunk: ChatGenerationChunk) -> list[ChatGenerationChunk]:
        """A chunk as it came; one that only thinks may wait."""
        message = chunk.message
        calls = getattr(message, "tool_call_chunks", ())
        if self._signed != "no" and kept_of(message) and not message.text and not calls:
            if not self._closed:
                self._thoughts.append(chunk)
            return []
        if isinstance(message, AIMessageChunk) and message.usage_metadata:
            self._given = add_usage(self._given, message.usage_metadata)
        ends = reason_of({**message.response_metadata, **(chunk.generation_info or {})})
        before = self._released() if message.text or calls or ends else []
        return [*before, self._placed(chunk)]

    def _released(self) -> list[ChatGenerationChunk]:
        """The thoughts that waited."""
        found, self._thoughts = self._thoughts, []
        self._thought = self._thought or bool(found)
        return [self._placed(chunk) for chunk in found]

    def _placed(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """A chunk whose blocks are numbered after those of the attempts before."""
        content: Any = chunk.message.content
        past = self._shift + 1
        if not isinstance(content, list):
            return chunk
        numbers = [b["index"] for b in content if _numbered(b)]
        self._top = max([self._top, *(past + number for number in numbers)])
        if not past or not numbers:
            return chunk
        moved = [{**b, "index": past + b["index"]} if _numbered(b) else b for b in content]
        message = chunk.message.model_copy(update={"content": moved})
        return ChatGenerationChunk(message=message, generation_info=chunk.generation_info)

    def refused(self, halt: Halt) -> list[ChatGenerationChunk]:
        """What the reader is told of a stopped call."""
        message = self._refused(halt)
        return [ChatGenerationChunk(message=message, generation_info={"finish_reason": "stop"})]


def _numbered(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("index"), int)


def _call(call: Any) -> Json:
    function = {"name": call.get("name"), "arguments": call.get("args") or ""}
    value: Body = {"function": {k: v for k, v in function.items() if v is not None}}
    if isinstance(call.get("index"), int):
        value["index"] = call["index"]
    if call.get("id"):
        value |= {"id": call["id"], "type": "function"}
    return value


def _chunk(call: Json) -> Any:
    function = call.get("function") or {}
    return tool_call_chunk(
        name=function.get("name"),
        args=function.get("arguments"),
        id=call.get("id"),
        index=call.get("index"),
    )

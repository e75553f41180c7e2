"""A model's stream under ADK as that of a chat completion, and back.

ADK's streams are fragments of text, then the whole answer once more: a fragment is a chunk, and
of the whole only what no fragment told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clawmw.adapters.adk_answers import parts_of, reason_of, said, usage_of
from clawmw.adapters.direct import Body
from clawmw.core.decisions import Halt
from clawmw.core.types import Json
from clawmw.stages.context.expand import NAME

__all__ = ["Fragments"]


class Fragments:
    """See `direct_stream.Talk`."""

    def __init__(self, refused: Callable[[Halt], Any]) -> None:
        self._refused = refused
        self._told = ""
        """Text in the fragments of this attempt, since its last whole answer."""
        self._shown = ""
        """Text that the reader has, of all attempts."""
        self._earlier = ""
        """Text of the attempts before."""
        self._calls: dict[int, Json] = {}
        self._usage: Any = None
        self._called = False
        self._asked = ""
        """The tool that the last fragment of a call named."""

    def begins(self, *, continuing: bool) -> None:
        """Another attempt."""
        self._told, self._calls, self._called = "", {}, False
        self._earlier = self._shown if continuing else ""

    def frame(self, chunk: Any) -> Body:
        """What a chunk says."""
        text, calls = said(chunk)
        value: Body = {"object": "chat.completion.chunk", "model": chunk.model_version}
        if chunk.partial:
            self._told += text
            return {**value, "choices": [_choice({"content": text} if text else {})]}
        delta: Body = {}
        if rest := text.removeprefix(self._told):
            delta["content"] = rest
        if calls:
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
            self._called = True
        self._told = ""
        self._usage = chunk.usage_metadata or self._usage
        value["choices"] = [_choice(delta, reason_of(chunk))]
        usage = usage_of(chunk)
        return {**value, "usage": usage} if usage else value

    def last(self) -> Body:
        """An end, for models that say none."""
        reason = "tool_calls" if self._called else "stop"
        return {"object": "chat.completion.chunk", "choices": [_choice({}, reason)]}

    def passed(self, chunk: Any) -> Sequence[Any]:
        """A chunk as it came; the whole has all that the reader was told."""
        text, _ = said(chunk)
        if chunk.partial:
            self._shown += text
            return [] if self._ours(chunk) else [chunk]
        if not self._earlier:
            self._shown = text
            return [chunk]
        first = parts_of({"content": self._earlier})
        content = chunk.content.model_copy(update={"parts": [*first, *chunk.content.parts]})
        return [chunk.model_copy(update={"content": content})]

    def made(self, frame: Body) -> Sequence[Any]:
        """A fragment; at the end the whole answer."""
        from google.adk.models.llm_response import LlmResponse
        from google.genai import types

        choice = (frame.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        self._shown += text
        for call in delta.get("tool_calls") or ():
            self._add(call)
        if not choice.get("finish_reason"):
            content = types.Content(role="model", parts=[types.Part(text=text)])
            return [LlmResponse(content=content, partial=True)] if text else []
        calls = [call for _, call in sorted(self._calls.items())]
        parts = parts_of({"content": self._shown, "tool_calls": calls})
        content = types.Content(role="model", parts=parts)
        cut = choice["finish_reason"] == "length"
        whole = LlmResponse(
            content=content,
            partial=False,
            finish_reason=types.FinishReason.MAX_TOKENS if cut else types.FinishReason.STOP,
            usage_metadata=self._usage,
        )
        return [whole]

    def refused(self, halt: Halt) -> Sequence[Any]:
        """What the reader is told of a stopped call."""
        return [self._refused(halt)]

    def _ours(self, chunk: Any) -> bool:
        """Whether it is a fragment of a call that never reaches the agent."""
        for part in (chunk.content.parts if chunk.content else None) or ():
            if part.function_call is not None and part.function_call.name:
                self._asked = part.function_call.name
            if part.function_call is not None and self._asked == NAME:
                return True
        return False

    def _add(self, call: Json) -> None:
        known = self._calls.setdefault(call.get("index", 0), {"id": "", "function": {}})
        known["id"] = call.get("id") or known["id"]
        function, more = known["function"], call.get("function") or {}
        function["name"] = more.get("name") or function.get("name", "")
        function["arguments"] = function.get("arguments", "") + (more.get("arguments") or "")


def _choice(delta: Body, reason: str | None = None) -> Body:
    return {"index": 0, "delta": delta, "finish_reason": reason}

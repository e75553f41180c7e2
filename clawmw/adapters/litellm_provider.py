"""The policy as a provider of litellm's: `clawmw/auto` and `clawmw/NAME`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from clawmw.adapters.litellm import PROVIDER, acompletion, completion
from clawmw.core.identity import Identity
from clawmw.runtime import Runtime

__all__ = ["provider"]


def provider(litellm: Any, runtime: Runtime, identity: Identity | None) -> Any:
    """A custom handler as litellm wants one."""
    kind = type("Provider", (_Provider, litellm.CustomLLM), {})
    return kind(runtime, identity)


class _Provider:
    """What litellm calls. Its own logging counts the call once: that of the model below is off."""

    def __init__(self, runtime: Runtime, identity: Identity | None) -> None:
        self.runtime = runtime
        self.identity = identity

    def completion(self, model: str, messages: list[Any], **rest: Any) -> Any:
        """A whole answer."""
        return completion(**self._call(model, messages, rest))

    async def acompletion(self, model: str, messages: list[Any], **rest: Any) -> Any:
        """A whole answer."""
        return await acompletion(**self._call(model, messages, rest))

    def streaming(self, model: str, messages: list[Any], **rest: Any) -> Iterator[Any]:
        """Chunks as they come; the last says how it ended and what was used."""
        end = _End()
        chunks = completion(**self._call(model, messages, rest), **_STREAM)
        try:
            for chunk in chunks:
                if end.passes(chunk):
                    yield chunk
        finally:
            chunks.close()
        yield end.chunk()

    async def astreaming(self, model: str, messages: list[Any], **rest: Any) -> AsyncIterator[Any]:
        """The async twin."""
        end = _End()
        chunks = await acompletion(**self._call(model, messages, rest), **_STREAM)
        try:
            async for chunk in chunks:
                if end.passes(chunk):
                    yield chunk
        finally:
            await chunks.aclose()
        yield end.chunk()

    def _call(self, model: str, messages: list[Any], rest: dict[str, Any]) -> dict[str, Any]:
        given = dict(rest.get("optional_params") or {})
        extra = given.pop("extra_body", None) or {}
        for name in ("stream", "stream_options", "max_retries"):
            given.pop(name, None)
        return {
            **given,
            **extra,
            "model": f"{PROVIDER}/{model}",
            "messages": messages,
            "headers": rest.get("headers"),
            "timeout": rest.get("timeout"),
            "no-log": True,
            "policy": self.runtime,
            "identity": self.identity,
        }


_STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


class _End:
    """The end of a stream: litellm wants its reason and its usage in one, at the last."""

    def __init__(self) -> None:
        self._reason = "stop"
        self._usage: Any = None

    def passes(self, chunk: Any) -> bool:
        """Whether a chunk is handed on; what it says of the end is kept."""
        self._usage = getattr(chunk, "usage", None) or self._usage
        for choice in chunk.choices:
            self._reason = choice.finish_reason or self._reason
            choice.finish_reason = None
        if hasattr(chunk, "usage"):
            del chunk.usage
        return any(choice.delta.model_dump(exclude_none=True) for choice in chunk.choices)

    def chunk(self) -> dict[str, Any]:
        """litellm's GenericStreamingChunk."""
        usage = self._usage.model_dump(exclude_none=True) if self._usage is not None else None
        return {
            "text": "",
            "tool_use": None,
            "is_finished": True,
            "finish_reason": self._reason,
            "usage": usage,
            "index": 0,
        }

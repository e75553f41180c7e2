"""pydantic-ai's messages as chat completions, and back.

One of its requests is several chat messages, one a part; one of its responses is one. What the
policy left alone is handed on as the very part, and the very message, that it came as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from clawmw.adapters.direct import Body
from clawmw.core.types import Json

__all__ = [
    "answer_of",
    "changed_part",
    "changed_response",
    "is_of",
    "made",
    "response_of",
    "texts_of",
    "usage_of",
    "used",
    "value_of",
    "value_of_response",
]

_REASONS: Mapping[str, str] = {"tool_call": "tool_calls"}


# --- to chat completions ---------------------------------------------------------------------


def value_of(part: Any) -> Body:
    if isinstance(part, SystemPromptPart):
        return {"role": "system", "content": part.content}
    if isinstance(part, ToolReturnPart):
        text = part.model_response_str()
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}
    if isinstance(part, RetryPromptPart):
        if part.tool_name is None:
            return {"role": "user", "content": part.model_response()}
        text = part.model_response()
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": text}
    content = getattr(part, "content", "")
    if isinstance(content, str):
        return {"role": "user", "content": content}
    return {"role": "user", "content": [_item(item) for item in content]}


def _item(item: Any) -> Json:
    if isinstance(item, str):
        return {"type": "text", "text": item}
    text = getattr(item, "content", None)
    if isinstance(text, str):
        return {"type": "text", "text": text}
    kind = str(getattr(item, "kind", type(item).__name__))
    return {"type": kind, "url": getattr(item, "url", None) or getattr(item, "identifier", None)}


def value_of_response(message: ModelResponse) -> Body:
    texts = [part.content for part in message.parts if isinstance(part, TextPart)]
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCallPart)]
    thoughts = [part.content for part in message.parts if isinstance(part, ThinkingPart)]
    value: Body = {"role": "assistant", "content": texts[0] if len(texts) == 1 else None}
    if len(texts) > 1:
        value["content"] = [{"type": "text", "text": text} for text in texts]
    if calls:
        value["tool_calls"] = calls
    if any(thoughts):
        value["reasoning_content"] = "\n".join(thoughts)
    return value


def _call(part: ToolCallPart) -> Json:
    function = {"name": part.tool_name, "arguments": part.args_as_json_str()}
    return {"id": part.tool_call_id, "type": "function", "function": function}


def answer_of(response: ModelResponse) -> Body:
    """A model's answer as a chat completion."""
    reason = response.finish_reason
    calls = any(isinstance(part, ToolCallPart) for part in response.parts)
    said = _REASONS.get(reason, reason) if reason else "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": value_of_response(response), "finish_reason": said}
    value: Body = {"id": response.provider_response_id, "model": response.model_name}
    return {
        **value,
        "object": "chat.completion",
        "choices": [choice],
        "usage": used(response.usage),
    }


def used(usage: RequestUsage) -> Json:
    """Usage on the wire; pydantic-ai counts cached tokens in, as the dialect does."""
    if not usage.has_values():
        return None
    value: Body = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }
    if usage.cache_write_tokens:
        value["cache_creation_input_tokens"] = usage.cache_write_tokens
    if reasoned := usage.details.get("reasoning_tokens"):
        value["completion_tokens_details"] = {"reasoning_tokens": reasoned}
    return value


# --- from chat completions -------------------------------------------------------------------


def is_of(own: Body, value: Body) -> bool:
    """Whether `value` can be what became of a message."""
    if own["role"] != value["role"] or own.get("tool_call_id") != value.get("tool_call_id"):
        return False
    return _ids(own) == _ids(value)


def _ids(value: Body) -> list[str]:
    return [call.get("id") for call in value.get("tool_calls") or ()]


def changed_part(part: Any, value: Body) -> Any:
    """A part with the text of `value`."""
    content = value.get("content")
    texts = texts_of(content)
    own = part.content
    if isinstance(part, UserPromptPart) and not isinstance(own, str):
        blocks = content if isinstance(content, list) else []
        if len(blocks) != len(own):
            return replace(part, content="\n".join(texts))
        items = [
            block["text"] if isinstance(item, str) and "text" in block else item
            for item, block in zip(own, blocks, strict=True)
        ]
        return part if items == list(own) else replace(part, content=items)
    text = "\n".join(texts)
    return part if text == value_of(part)["content"] else replace(part, content=text)


def changed_response(own: ModelResponse, value: Body) -> ModelResponse:
    texts = iter(texts_of(value.get("content")))
    calls = {call["id"]: call["function"] for call in value.get("tool_calls") or ()}
    thought = value.get("reasoning_content") == value_of_response(own).get("reasoning_content")
    parts: list[Any] = []
    for part in own.parts:
        if isinstance(part, TextPart):
            parts.append(replace(part, content=next(texts, "")))
        elif isinstance(part, ToolCallPart) and part.tool_call_id in calls:
            args = calls[part.tool_call_id]["arguments"]
            parts.append(part if args == part.args_as_json_str() else replace(part, args=args))
        elif thought or not isinstance(part, ThinkingPart):
            parts.append(part)
    return own if parts == list(own.parts) else replace(own, parts=parts)


def texts_of(content: Json) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [b["text"] for b in content or () if isinstance(b, dict) and "text" in b]


def made(value: Body, came: Sequence[ModelResponse]) -> ModelMessage:
    """A message that the caller does not have; an answer of this exchange as it came."""
    text = "\n".join(texts_of(value.get("content")))
    if value["role"] == "assistant":
        ids = _ids(value)
        for response in came:
            if ids and _ids(value_of_response(response)) == ids:
                return response
        return ModelResponse(parts=_parts(value))
    if value["role"] == "tool":
        name = value.get("name") or _EXPAND
        id_ = value.get("tool_call_id") or ""
        return ModelRequest(parts=[ToolReturnPart(name, text, tool_call_id=id_)])
    if value["role"] in ("system", "developer"):
        return ModelRequest(parts=[SystemPromptPart(text)])
    return ModelRequest(parts=[UserPromptPart(text)])


_EXPAND = "clawmw_expand"
"""The only tool that is answered here."""


def _parts(value: Body) -> list[Any]:
    text = "\n".join(texts_of(value.get("content")))
    parts: list[Any] = [TextPart(text)] if text else []
    for call in value.get("tool_calls") or ():
        function = call.get("function") or {}
        name, args = function.get("name") or "", function.get("arguments") or "{}"
        parts.append(ToolCallPart(name, args, tool_call_id=call.get("id") or ""))
    return parts


def response_of(body: Body, own: ModelResponse | None) -> ModelResponse:
    """An answer as its caller gets it; `own`: the model's last, whose facts are kept."""
    value = body["choices"][0]["message"]
    usage = usage_of(body.get("usage"))
    if own is None:
        return ModelResponse(parts=_parts(value), usage=usage, model_name=body.get("model"))
    ids = set(_ids(value))
    text = "\n".join(texts_of(value.get("content")))
    kept = [p for p in own.parts if not isinstance(p, ToolCallPart) or p.tool_call_id in ids]
    if text != "\n".join(texts_of(value_of_response(own).get("content"))):
        kept = [part for part in kept if not isinstance(part, TextPart)]
        at = next((i for i, part in enumerate(kept) if isinstance(part, ToolCallPart)), len(kept))
        kept.insert(at, TextPart(text))
    return replace(own, parts=kept, usage=usage)


def usage_of(usage: Json) -> RequestUsage:
    """Usage off the wire."""
    if not isinstance(usage, dict):
        return RequestUsage()
    details = usage.get("prompt_tokens_details") or {}
    return RequestUsage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cache_read_tokens=details.get("cached_tokens") or 0,
        cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
    )

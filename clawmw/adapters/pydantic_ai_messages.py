"""pydantic-ai's messages as chat completions, and back.

One of its requests is several chat messages, one a part; one of its responses is one. What the
policy left alone is handed on as the very part, and the very message, that it came as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

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
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from clawmw.adapters.direct import Asked, Body
from clawmw.core.canon import MARKS
from clawmw.core.types import Json

__all__ = ["Ask", "answer_of", "response_of", "usage_of", "used"]

Place: TypeAlias = tuple[int, int]
"""A message, and the part of it; part -1: the whole message, or its instructions."""
How: TypeAlias = tuple[ModelSettings | None, ModelRequestParameters]

_REASONS: Mapping[str, str] = {"tool_call": "tool_calls"}
_SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as its caller made it."""

    messages: Sequence[ModelMessage]
    settings: ModelSettings | None
    params: ModelRequestParameters
    places: Sequence[Place]
    body: Body
    textual: bool
    """Whether the answer may be a text for people."""

    @classmethod
    def of(
        cls, model: str, messages: Sequence[ModelMessage], own: How, resolved: How, *, stream: bool
    ) -> Ask:
        """A request with the body that the policy sees.

        `own`: settings and parameters as given; `resolved`: as the model understands them.
        """
        settings, params = resolved
        placed = _placed(messages, params)
        body: Body = {"model": model, "messages": [value for _, value in placed]}
        tools = [*params.function_tools, *params.output_tools]
        if tools:
            body["tools"] = [_tool(tool) for tool in tools]
        given: Mapping[str, Any] = settings or {}
        body.update({k: given[k] for k in _SETTINGS if given.get(k) is not None})
        if params.output_tools and not params.allow_text_output:
            body["tool_choice"] = "required"
        if params.output_mode == "native" and params.output_object is not None:
            schema = {"name": params.output_object.name or "answer"}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        textual = params.allow_text_output and params.output_mode in ("text", "tool")
        return cls(messages, *own, [place for place, _ in placed], body, textual)

    def to(
        self, asked: Asked, came: Sequence[ModelResponse]
    ) -> tuple[list[ModelMessage], ModelSettings | None, ModelRequestParameters]:
        """What the policy wants asked. `came`: answers of this very exchange."""
        messages, params = self._messages(asked, came), self._params(asked)
        if self.places and self.places[0] == (0, -1) and asked.messages[0][0] is None:
            messages, params = self._instructed(asked.messages[0][1], messages, params)
        return messages, self._settings(asked), params

    def _instructed(
        self, value: Body, messages: list[ModelMessage], params: ModelRequestParameters
    ) -> tuple[list[ModelMessage], ModelRequestParameters]:
        """Instructions that were changed: they stand in two places."""
        text = "\n\n".join(_texts(value.get("content")))
        if value["role"] != "system" or text == self.body["messages"][0]["content"]:
            return messages, params  # no more than marked
        if params.instruction_parts:
            first = replace(params.instruction_parts[0], content=text)
            params = replace(params, instruction_parts=[first])
        return [
            replace(m, instructions=text) if isinstance(m, ModelRequest) and m.instructions else m
            for m in messages
        ], params

    def _messages(self, asked: Asked, came: Sequence[ModelResponse]) -> list[ModelMessage]:
        named = {at for at, _ in asked.messages if at is not None}
        rest = [at for at in range(len(self.places)) if at not in named]
        found: list[ModelMessage] = []
        open_, parts = -1, list[Any]()

        def close() -> None:
            if open_ >= 0:
                found.append(self._whole(open_, parts))

        for at, value in asked.messages:
            source, changed = at, at is None
            if source is None:
                source = next((i for i in rest if _is(self.body["messages"][i], value)), None)
            if source is None:
                close()
                open_, parts = -1, []
                found.append(_made(value, came))
                continue
            if changed:
                rest.remove(source)
            message, part = self.places[source]
            if message != open_:
                close()
                open_, parts = message, []
            parts.append(self._part(message, part, value if changed else None))
        close()
        return found

    def _part(self, message: int, part: int, value: Json | None) -> Any:
        """A part as it is to be sent; of a response, the whole of it; None: instructions."""
        own = self.messages[message]
        if isinstance(own, ModelResponse):
            return own if value is None else _changed_response(own, value)
        if part < 0:
            return None
        return own.parts[part] if value is None else _changed(own.parts[part], value)

    def _whole(self, at: int, parts: Sequence[Any]) -> ModelMessage:
        own = self.messages[at]
        if isinstance(own, ModelResponse):
            whole: ModelMessage = parts[0]
            return whole
        kept = [part for part in parts if part is not None]
        if len(kept) == len(own.parts) and all(a is b for a, b in zip(kept, own.parts)):  # noqa: B905
            return own
        return replace(own, parts=kept)

    def _settings(self, asked: Asked) -> ModelSettings | None:
        changed: dict[str, Any] = {
            name: asked.body[name]
            for name in _SETTINGS
            if name in asked.body and asked.body[name] != self.body.get(name)
        }
        limit = asked.body.get("max_completion_tokens")
        if limit is not None:
            changed["max_tokens"] = limit
        if "prompt_cache_key" in asked.body:
            changed["openai_prompt_cache_key"] = asked.body["prompt_cache_key"]
        changed |= _marked(asked)
        own: Mapping[str, Any] = self.settings or {}
        changed = {k: v for k, v in changed.items() if k in _SETTINGS or k not in own}
        if not changed:
            return self.settings
        return {**own, **changed}  # type: ignore[return-value]

    def _params(self, asked: Asked) -> ModelRequestParameters:
        own = {tool.name for tool in (*self.params.function_tools, *self.params.output_tools)}
        functions = [tool.get("function") or {} for tool in asked.body.get("tools") or ()]
        names = {function.get("name") for function in functions}
        added = [
            ToolDefinition(
                name=function["name"],
                description=function.get("description"),
                parameters_json_schema=function.get("parameters") or {"type": "object"},
            )
            for function in functions
            if function.get("name") not in own
        ]
        kept = [tool for tool in self.params.function_tools if tool.name in names]
        if not added and len(kept) == len(self.params.function_tools):
            return self.params
        return replace(self.params, function_tools=[*kept, *added])


# --- to chat completions ---------------------------------------------------------------------


def _placed(
    messages: Sequence[ModelMessage], params: ModelRequestParameters
) -> list[tuple[Place, Body]]:
    placed: list[tuple[Place, Body]] = []
    if text := _instructions(messages, params):
        placed.append(((0, -1), {"role": "system", "content": text}))
    for at, message in enumerate(messages):
        if isinstance(message, ModelResponse):
            placed.append(((at, -1), _response(message)))
        else:
            placed += [((at, i), _value(part)) for i, part in enumerate(message.parts)]
    return placed


def _instructions(messages: Sequence[ModelMessage], params: ModelRequestParameters) -> str:
    if params.instruction_parts:
        return "\n\n".join(part.content for part in params.instruction_parts)
    last = next((m for m in reversed(messages) if isinstance(m, ModelRequest)), None)
    return (last.instructions if last is not None else None) or ""


def _value(part: Any) -> Body:
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


def _response(message: ModelResponse) -> Body:
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


def _tool(tool: ToolDefinition) -> Json:
    function = {"name": tool.name, "parameters": tool.parameters_json_schema}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def answer_of(response: ModelResponse) -> Body:
    """A model's answer as a chat completion."""
    reason = response.finish_reason
    calls = any(isinstance(part, ToolCallPart) for part in response.parts)
    said = _REASONS.get(reason, reason) if reason else "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": _response(response), "finish_reason": said}
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


def _is(own: Body, value: Body) -> bool:
    """Whether `value` can be what became of a message."""
    if own["role"] != value["role"] or own.get("tool_call_id") != value.get("tool_call_id"):
        return False
    return _ids(own) == _ids(value)


def _ids(value: Body) -> list[str]:
    return [call.get("id") for call in value.get("tool_calls") or ()]


def _changed(part: Any, value: Body) -> Any:
    """A part with the text of `value`."""
    content = value.get("content")
    texts = _texts(content)
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
    return part if text == _value(part)["content"] else replace(part, content=text)


def _changed_response(own: ModelResponse, value: Body) -> ModelResponse:
    texts = iter(_texts(value.get("content")))
    calls = {call["id"]: call["function"] for call in value.get("tool_calls") or ()}
    thought = value.get("reasoning_content") == _response(own).get("reasoning_content")
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


def _texts(content: Json) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [b["text"] for b in content or () if isinstance(b, dict) and "text" in b]


def _made(value: Body, came: Sequence[ModelResponse]) -> ModelMessage:
    """A message that the caller does not have; an answer of this exchange as it came."""
    text = "\n".join(_texts(value.get("content")))
    if value["role"] == "assistant":
        ids = _ids(value)
        for response in came:
            if ids and _ids(_response(response)) == ids:
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
    text = "\n".join(_texts(value.get("content")))
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
    text = "\n".join(_texts(value.get("content")))
    kept = [p for p in own.parts if not isinstance(p, ToolCallPart) or p.tool_call_id in ids]
    if text != "\n".join(_texts(_response(own).get("content"))):
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


def _marked(asked: Asked) -> dict[str, Any]:
    """Cache marks as the settings that put them, for Anthropic's models; others ignore them."""
    settings: dict[str, Any] = {}
    for value in asked.body["messages"]:
        blocks = value.get("content")
        if isinstance(blocks, list) and any(
            MARKS & b.keys() for b in blocks if isinstance(b, dict)
        ):
            system = value["role"] in ("system", "developer")
            settings["anthropic_cache_instructions" if system else "anthropic_cache_messages"] = (
                True
            )
    if any(MARKS & tool.keys() for tool in asked.body.get("tools") or ()):
        settings["anthropic_cache_tool_definitions"] = True
    return settings

"""One request of a pydantic-ai model: what the policy is told of it, and what is then asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import Any, TypeAlias

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from clawmw.adapters.direct import Asked, Body
from clawmw.adapters.pydantic_ai_messages import (
    changed_part,
    changed_response,
    is_of,
    made,
    texts_of,
    value_of,
    value_of_response,
)
from clawmw.core.canon import MARKS
from clawmw.core.types import Json

__all__ = ["Ask"]

Place: TypeAlias = tuple[int, int]
"""A message, and the part of it; part -1: the whole of it; message -1: the instructions."""
_INSTRUCTIONS: Place = (-1, -1)
How: TypeAlias = tuple[ModelSettings | None, ModelRequestParameters]

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
        self, asked: Asked, came: Sequence[ModelResponse], *, once: bool
    ) -> tuple[list[ModelMessage], ModelSettings | None, ModelRequestParameters]:
        """What the policy wants asked. `came`: answers of this very exchange.

        `once`: without the SDK's own retries, where pydantic-ai hands that on.
        """
        messages, params = self._messages(asked, came), self._params(asked)
        if self.places and self.places[0] == _INSTRUCTIONS and asked.messages[0][0] is None:
            messages, params = self._instructed(asked.messages[0][1], messages, params)
        return messages, self._settings(asked, once=once), params

    def _instructed(
        self, value: Body, messages: list[ModelMessage], params: ModelRequestParameters
    ) -> tuple[list[ModelMessage], ModelRequestParameters]:
        """Instructions that were changed: they stand in two places."""
        text = "\n\n".join(texts_of(value.get("content")))
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
                source = next((i for i in rest if is_of(self.body["messages"][i], value)), None)
            if source is None:
                close()
                open_, parts = -1, []
                found.append(made(value, came))
                continue
            if changed:
                rest.remove(source)
            message, part = self.places[source]
            if (message, part) == _INSTRUCTIONS:
                continue
            if message != open_:
                close()
                open_, parts = message, []
            parts.append(self._part(message, part, value if changed else None))
        close()
        return found

    def _part(self, message: int, part: int, value: Json | None) -> Any:
        """A part as it is to be sent; of a response, the whole of it."""
        own = self.messages[message]
        if isinstance(own, ModelResponse):
            return own if value is None else changed_response(own, value)
        return own.parts[part] if value is None else changed_part(own.parts[part], value)

    def _whole(self, at: int, parts: Sequence[Any]) -> ModelMessage:
        own = self.messages[at]
        if isinstance(own, ModelResponse):
            whole: ModelMessage = parts[0]
            return whole
        same = len(parts) == len(own.parts) and all(map(is_, parts, own.parts))
        return own if same else replace(own, parts=list(parts))

    def _settings(self, asked: Asked, *, once: bool) -> ModelSettings | None:
        changed: dict[str, Any] = {"max_retries": 0} if once else {}
        changed |= {
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


# --- what is said of a request ---------------------------------------------------------------


def _placed(
    messages: Sequence[ModelMessage], params: ModelRequestParameters
) -> list[tuple[Place, Body]]:
    placed: list[tuple[Place, Body]] = []
    if text := _instructions(messages, params):
        placed.append((_INSTRUCTIONS, {"role": "system", "content": text}))
    for at, message in enumerate(messages):
        if isinstance(message, ModelResponse):
            placed.append(((at, -1), value_of_response(message)))
        else:
            placed += [((at, i), value_of(part)) for i, part in enumerate(message.parts)]
    return placed


def _instructions(messages: Sequence[ModelMessage], params: ModelRequestParameters) -> str:
    if params.instruction_parts:
        return "\n\n".join(part.content for part in params.instruction_parts)
    last = next((m for m in reversed(messages) if isinstance(m, ModelRequest)), None)
    return (last.instructions if last is not None else None) or ""


def _tool(tool: ToolDefinition) -> Json:
    function = {"name": tool.name, "parameters": tool.parameters_json_schema}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


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

"""A request in chat completions, as one of the Responses API.

Nothing is stored (`store: false`) unless the caller says so: that is chat's default, not theirs.
"""

from __future__ import annotations

from typing import Any

from clawmw.codecs.translate.base import Body, Fields, items_of, refuse, text_of
from clawmw.codecs.translate.parts import item_from_part, parts_of

__all__ = ["responses_request"]

_CHAT = "ask a model whose dialect is openai.chat"
_NONE = ("the Responses API has none", _CHAT)
_NO = {
    "n": ("the Responses API gives one answer a call", "make several calls"),
    "audio": ("the Responses API carries no audio", _CHAT),
    "functions": ("deprecated, and without a counterpart", "offer `tools`"),
    "function_call": ("deprecated, and without a counterpart", "use `tool_choice`"),
    "stop": _NONE,
    "logit_bias": _NONE,
    "logprobs": ("the answer could not carry them", _CHAT),
    "top_logprobs": ("the answer could not carry them", _CHAT),
    "web_search_options": ("a search of chat completions' own", _CHAT),
}
_SAME = (
    "model",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream",
    "temperature",
    "top_p",
    "user",
)
_LEAST = 16
"""`max_output_tokens` may not be less."""


def responses_request(body: Body, dropped: list[str]) -> Body:
    """See the module. Raises `TranslationError` for what has no counterpart."""
    fields = Fields(body, dropped)
    if fields.take("n", 1) != 1:
        refuse("n", *_NO["n"])
    if "audio" in (fields.take("modalities") or ()):
        refuse("modalities", *_NO["audio"])
    fields.refuse(_NO)
    out: Body = {"model": body["model"]}
    fields.move(out, *_SAME)
    out["store"] = bool(fields.take("store", False))
    items: list[Body] = []
    for index, message in enumerate(items_of(fields.take("messages"))):
        items += _items(message, f"messages[{index}]", fields)
    out["input"] = items
    _tools(fields, out)
    limits = [fields.take(name) for name in ("max_completion_tokens", "max_tokens")]
    if most := next((limit for limit in limits if limit), None):
        out["max_output_tokens"] = max(most, _LEAST)
    if effort := fields.take("reasoning_effort"):
        out["reasoning"] = {"effort": effort}
    text: Body = {}
    form = fields.take("response_format") or {}
    if form.get("type") == "json_schema":
        text["format"] = {"type": "json_schema", **form["json_schema"]}
    elif form.get("type") == "json_object":
        text["format"] = {"type": "json_object"}
    fields.move(text, "verbosity")
    if text:
        out["text"] = text
    fields.take("stream_options")
    fields.rest()
    return out


def _items(message: Body, where: str, fields: Fields) -> list[Body]:
    role = message["role"]
    for name in ("cache_control", "name", "reasoning_content", "reasoning", "thinking_blocks"):
        if message.get(name):
            fields.drop(f"messages.{name}")
    content: Any = message.get("content") or ""
    if role == "tool":
        output = content if isinstance(content, str) else _output(content, where)
        call_id = message["tool_call_id"]
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    if role not in ("system", "developer", "user", "assistant"):
        refuse(f"{where}.role", f"{role!r} has no counterpart", "use user or tool")
    out = role == "assistant"
    if message.get("audio"):
        refuse(f"{where}.audio", *_NO["audio"])
    parts = [
        item
        for place, part in enumerate(parts_of(content))
        for item in item_from_part(part, f"{where}.content[{place}]", output=out)
    ]
    if out and message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    found: list[Body] = []
    if out and parts and all(part["type"] == "output_text" for part in parts):
        found = [{"type": "message", "role": role, "content": text_of(parts)}]
    elif parts:
        found = [{"type": "message", "role": role, "content": parts}]
    for place, call in enumerate(items_of(message.get("tool_calls"))):
        if call.get("type", "function") != "function":
            at = f"{where}.tool_calls[{place}].type"
            refuse(at, f"{call['type']!r} has no counterpart", "offer it as a function")
        function = call["function"]
        named = {"name": function["name"], "arguments": function.get("arguments") or "{}"}
        found.append({"type": "function_call", "call_id": call["id"], **named})
    return found


def _output(content: Any, where: str) -> Any:
    """A result in parts: its text, or the items where there is more than text."""
    parts = parts_of(content)
    if all(part.get("type") == "text" for part in parts):
        return text_of(parts)
    return [item for part in parts for item in item_from_part(part, where)]


def _tools(fields: Fields, out: Body) -> None:
    tools = []
    for index, tool in enumerate(items_of(fields.take("tools"))):
        if tool.get("type") != "function":
            refuse(
                f"tools[{index}].type",
                f"{tool.get('type')!r} has no counterpart here",
                "offer it as a function",
            )
        function = {"parameters": {}, "strict": False, **tool["function"]}
        if tool.get("cache_control") or function.pop("cache_control", None):
            fields.drop("cache_control")
        tools.append({"type": "function", **function})
    choice = fields.take("tool_choice")
    if not tools:
        out.pop("parallel_tool_calls", None)
        return
    out["tools"] = tools
    match choice:
        case None:
            return
        case str():
            out["tool_choice"] = choice
        case {"type": "function", "function": {"name": name}}:
            out["tool_choice"] = {"type": "function", "name": name}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}:
            names = [{"type": "function", "name": t["function"]["name"]} for t in allowed]
            out["tool_choice"] = {"type": "allowed_tools", "mode": mode, "tools": names}
        case _:
            refuse("tool_choice", "it has no counterpart", "name a function")

"""A request in Anthropic's messages, as one in chat completions.

Thinking in the history is left out: it is signed for the provider that made it, and another
one can do nothing with it. Cache marks are left out too: who caches by prefix needs none.
"""

from __future__ import annotations

from typing import Any

from clawmw.codecs.translate import facts
from clawmw.codecs.translate.base import Body, Fields, Names, encoded, items_of, refuse
from clawmw.codecs.translate.parts import part_from_block, parts_of

__all__ = ["FAILED", "chat_request"]

FAILED = "[tool error] "
"""What a failed tool's result begins with: chat completions have no `is_error`."""
_NO = ("Anthropic's own servers act on it", "leave it out, or name a model of anthropic.messages")
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict"})
_THINKING = ("thinking", "redacted_thinking")


def chat_request(body: Body, names: Names, dropped: list[str]) -> Body:
    """See the module. Raises `TranslationError` for what has no counterpart."""
    fields = Fields(body, dropped)
    model = fields.take("model")
    said = _system(fields)
    for index, message in enumerate(items_of(fields.take("messages"))):
        said += _messages(message, f"messages[{index}]", names, fields)
    out: Body = {"model": model, "messages": said}
    fields.refuse({"container": _NO, "mcp_servers": _NO, "inference_geo": _NO})
    _limits(fields, out, model)
    _tools(fields, out, names)
    _thinking(fields, out, model)
    if fields.take("stream"):
        out |= {"stream": True, "stream_options": {"include_usage": True}}
    fields.rest()
    return out


def _system(fields: Fields) -> list[Body]:
    """The system prompt, its blocks as one text."""
    texts = []
    for block in parts_of(fields.take("system") or ""):
        if block.get("cache_control"):
            fields.drop("cache_control")
        texts.append(block.get("text") or "")
    text = "\n\n".join(filter(None, texts))
    return [{"role": "system", "content": text}] if text else []


def _limits(fields: Fields, out: Body, model: str) -> None:
    reasons = facts.openai_reasons(model)
    most = fields.take("max_tokens")
    if most is not None:
        out["max_completion_tokens" if reasons else "max_tokens"] = most
    if stop := fields.take("stop_sequences"):
        out["stop"] = stop
    for name in ("temperature", "top_p"):
        value = fields.take(name)
        if value is not None and reasons:
            fields.drop(name)
        elif value is not None:
            out[name] = value


def _messages(message: Body, where: str, names: Names, fields: Fields) -> list[Body]:
    blocks = parts_of(message["content"])
    match message["role"]:
        case "assistant":
            return _assistant(blocks, where, names, fields)
        case "system":
            return [{"role": "system", "content": "\n\n".join(b.get("text") or "" for b in blocks)}]
    results: list[Body] = []
    parts: list[Body] = []
    for place, block in enumerate(blocks):
        at = f"{where}.content[{place}]"
        _hints(block, fields)
        if block.get("type") == "tool_result":
            result, beside = _result(block, at)
            results.append(result)
            parts += beside
        else:
            parts += part_from_block(block, at)
    return results + ([{"role": "user", "content": _content(parts)}] if parts else [])


def _hints(block: Body, fields: Fields) -> None:
    """What is said of a block besides its content."""
    for name in ("cache_control", "citations", "context", "transformations"):
        if block.get(name):
            fields.drop(name)


def _content(parts: list[Body]) -> Any:
    """Parts, or the text where there is but one."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _assistant(blocks: list[Body], where: str, names: Names, fields: Fields) -> list[Body]:
    texts, calls = [], []
    for place, block in enumerate(blocks):
        _hints(block, fields)
        match block.get("type"):
            case "tool_use" if not block.get("toolset_name"):
                function = {
                    "name": names.out(block["name"]),
                    "arguments": encoded(block.get("input") or {}).decode(),
                }
                calls.append({"id": block["id"], "type": "function", "function": function})
            case kind if kind in _THINKING:
                fields.drop(f"messages.{kind}")
            case _:
                for part in part_from_block(block, f"{where}.content[{place}]"):
                    if part["type"] == "text":
                        texts.append(part["text"])
                    else:  # no assistant says more than text and calls in chat completions
                        fields.drop(f"messages.{part['type']}")
    content = "\n\n".join(texts) or None
    if not (content or calls):
        return []
    return [{"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {})]


def _result(block: Body, where: str) -> tuple[Body, list[Body]]:
    """A tool's result, and what of it only a user's message can carry: images, files."""
    texts, beside = [], []
    for place, inner in enumerate(parts_of(block.get("content") or "")):
        for part in part_from_block(inner, f"{where}.content[{place}]"):
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                beside.append(part)
    text = "\n".join(texts) or ("(see the next message)" if beside else "")
    if block.get("is_error"):
        text = FAILED + text
    message = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
    if beside:
        beside.insert(0, {"type": "text", "text": f"From the tool call {block['tool_use_id']}:"})
    return message, beside


def _tools(fields: Fields, out: Body, names: Names) -> None:
    tools = []
    for index, tool in enumerate(items_of(fields.take("tools"))):
        kind = tool.get("type") or "custom"
        if kind != "custom":
            refuse(
                f"tools[{index}].type",
                f"{kind!r} is a tool of Anthropic's own",
                "offer a tool with an input_schema instead",
            )
        for name in sorted(set(tool) - _TOOL):
            fields.drop(name if name == "cache_control" else f"tools.{name}")
        function = {"name": names.out(tool["name"]), "parameters": tool["input_schema"]}
        for name in ("description", "strict"):
            if tool.get(name) is not None:
                function[name] = tool[name]
        tools.append({"type": "function", "function": function})
    choice = fields.take("tool_choice") or {}
    if not tools:
        return
    out["tools"] = tools
    match choice.get("type"):
        case "auto" | "none" as kind:
            out["tool_choice"] = kind
        case "any":
            out["tool_choice"] = "required"
        case "tool":
            named = {"name": names.out(choice["name"])}
            out["tool_choice"] = {"type": "function", "function": named}
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = False


def _thinking(fields: Fields, out: Body, model: str) -> None:
    """Effort and output format.

    Thinking without an effort is the other provider's default; that it shall not think can
    only be asked for where that is understood, so it is a hint.
    """
    config = fields.take("output_config") or {}
    thinking = fields.take("thinking") or {}
    effort = config.get("effort")
    if effort is None and thinking.get("type") == "enabled":
        effort = facts.effort_of(thinking.get("budget_tokens") or 0)
    if effort is not None and facts.takes_effort(model):
        out["reasoning_effort"] = effort
    elif thinking or effort:
        fields.drop("thinking")
    form = config.get("format") or fields.take("output_format")
    if form:
        schema = {"name": "answer", "schema": form["schema"], "strict": _strict(form["schema"])}
        out["response_format"] = {"type": "json_schema", "json_schema": schema}


def _strict(schema: Any) -> bool:
    """Whether OpenAI takes a schema as strict: every property required, no others allowed."""
    if isinstance(schema, list):
        return all(map(_strict, schema))
    if not isinstance(schema, dict):
        return True
    known = schema.get("properties")
    if isinstance(known, dict):
        closed = schema.get("additionalProperties") is False
        if not closed or set(known) != set(schema.get("required") or ()):
            return False
    return all(map(_strict, schema.values()))

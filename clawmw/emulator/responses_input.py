"""What a Responses request says: what is refused of it, and how it reads as chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clawmw.emulator.wire import BadRequest

__all__ = ["Known", "as_chat", "validate"]

_NAMES = """
background context_management conversation include input instructions max_output_tokens
max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt
prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier
service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
truncation user
"""
FIELDS = frozenset(_NAMES.split())
"""What the provider knows; anything else it refuses."""
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "stream": bool,
    "background": bool,
    "store": bool,
    "stream_options": dict,
    "tools": list,
    "include": list,
    "max_output_tokens": int,
    "instructions": str,
    "input": (str, list),
    "text": dict,
    "previous_response_id": str,
}
CALLS = {
    "function_call": ("function_call_output", "arguments", "function call"),
    "custom_tool_call": ("custom_tool_call_output", "input", "custom tool call"),
}
RESULTS = {result: call for call, (result, _, _) in CALLS.items()}
BLOCKS = frozenset({"input_text", "input_image", "input_file", "output_text", "refusal"})
MARK = "prompt_cache_breakpoint"


@dataclass(slots=True)
class Known:
    """What is stored."""

    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Items by the id of the response they end with, or of a conversation."""
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    """The id of the reasoning that an item was made with, by the item's."""

    def keep(self, body: Mapping[str, Any], name: str, output: Sequence[dict[str, Any]]) -> None:
        """Store a response and what led to it."""
        history = [*self.before(body), *given(body, self), *output]
        self.histories[name] = history
        if body.get("conversation"):
            self.histories[conversation(body)] = history
        thought = None
        for item in output:
            self.items[item["id"]] = item
            if item["type"] == "reasoning":
                thought = item["id"]
            elif thought is not None:
                self.needs[item["id"]] = thought

    def before(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a request goes on from."""
        name = str(body.get("previous_response_id") or conversation(body))
        return self.histories.get(name, [])


def conversation(body: Mapping[str, Any]) -> str:
    """The conversation that a request belongs to."""
    said = body.get("conversation") or ""
    return str(said.get("id") if isinstance(said, Mapping) else said)


def given(body: Mapping[str, Any], known: Known) -> list[dict[str, Any]]:
    """The items of a request, references resolved."""
    said = body.get("input") or []
    items = [{"role": "user", "content": said}] if isinstance(said, str) else said
    return [known.items[i["id"]] if i.get("type") == "item_reference" else i for i in items]


def validate(raw: bytes, known: Known) -> dict[str, Any]:
    """The request body, decoded; raises BadRequest with the reason the provider would give."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of the request must be a JSON object.")
    _check_names(body)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequest("Missing required parameter: 'model'.", "model")
    for name, kind in TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise BadRequest(f"Invalid type for '{name}'.", name, "invalid_type")
    previous = body.get("previous_response_id")
    if previous is not None and previous not in known.histories:
        message = f"Previous response with id '{previous}' not found."
        raise BadRequest(message, "previous_response_id", "previous_response_not_found")
    if body.get("input") is None and not previous and not body.get("prompt"):
        raise BadRequest("Missing required parameter: 'input'.", "input")
    _check_tools(body.get("tools") or [])
    if isinstance(body.get("input"), list):
        for index, item in enumerate(body["input"]):
            _check_item(item, f"input[{index}]", known)
    _check_order(known.before(body), given(body, known), known)
    return body


def _check_names(body: Mapping[str, Any]) -> None:
    options = body.get("stream_options")
    inner = [f"stream_options.{name}" for name in (options if isinstance(options, dict) else ())]
    known = FIELDS | {"stream_options.include_obfuscation"}
    for name in (*body, *inner):
        if name not in known:
            raise BadRequest(f"Unknown parameter: '{name}'.", name, "unknown_parameter")


def _check_tools(tools: list[Any]) -> None:
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise BadRequest(f"Missing required parameter: 'tools[{index}].type'.", "tools")
        if kind in ("function", "custom") and not isinstance(tool.get("name"), str):
            raise BadRequest(f"Missing required parameter: 'tools[{index}].name'.", "tools")


def _check_item(item: Any, at: str, known: Known) -> None:
    if not isinstance(item, dict):
        raise BadRequest(f"Invalid type for '{at}': expected an object.", at, "invalid_type")
    kind = item.get("type", "message")
    if kind == "message":
        if item.get("role") not in ("user", "assistant", "system", "developer"):
            raise BadRequest(f"Invalid value for '{at}.role'.", f"{at}.role")
        _check_blocks(item.get("content"), f"{at}.content")
    elif kind in CALLS:
        for name in ("call_id", "name", CALLS[kind][1]):
            if not isinstance(item.get(name), str):
                raise BadRequest(f"Missing required parameter: '{at}.{name}'.", f"{at}.{name}")
    elif kind in RESULTS:
        if not isinstance(item.get("call_id"), str):
            raise BadRequest(f"Missing required parameter: '{at}.call_id'.", f"{at}.call_id")
        _check_blocks(item.get("output"), f"{at}.output")
    own = item.get("id")
    stored = kind != "reasoning" or item.get("encrypted_content") or own in known.items
    if (kind == "item_reference" and own not in known.items) or (own and not stored):
        why = "Items are not persisted when `store` is set to false."
        raise BadRequest(f"Item with id '{own}' not found. {why}", "input", None, 404)


def _check_blocks(blocks: Any, at: str) -> None:
    if isinstance(blocks, str):
        return
    if not isinstance(blocks, list):
        raise BadRequest(f"Invalid type for '{at}'.", at, "invalid_type")
    for index, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in BLOCKS:
            raise BadRequest(f"Invalid value: {kind!r}.", f"{at}[{index}].type", "invalid_value")
        if kind in ("input_text", "output_text") and not isinstance(block.get("text"), str):
            raise BadRequest(f"Missing required parameter: '{at}[{index}].text'.", at)


def _check_order(before: Sequence[Any], items: Sequence[Any], known: Known) -> None:
    """Calls and results belong together, and so do reasoning and what it led to."""
    seen: set[str] = set()
    waiting = _waiting(before)
    for index, item in enumerate(items):
        kind, name = str(item.get("type", "message")), str(item.get("id") or "")
        if name and name in seen:
            raise BadRequest(f"Duplicate item found with id {name}.", "input")
        seen.add(name)
        if kind in CALLS:
            waiting[item["call_id"]] = kind
        elif kind in RESULTS:
            call_id = str(item["call_id"])
            if waiting.pop(call_id, "") != RESULTS[kind]:
                label = CALLS[RESULTS[kind]][2]
                raise BadRequest(
                    f"No tool call found for {label} output with call_id {call_id}.", "input"
                )
        elif waiting and kind == "message" and item["role"] != "assistant":
            raise BadRequest(_unanswered(waiting), "input")
        if kind == "reasoning" and name and _alone(items[index + 1 :]):
            raise BadRequest(
                f"Item '{name}' of type 'reasoning' was provided without its required following "
                "item.",
                "input",
            )
        needed = known.needs.get(name)
        if needed is not None and needed not in seen:
            raise BadRequest(
                f"Item '{name}' of type '{kind}' was provided without its required 'reasoning' "
                f"item: '{needed}'.",
                "input",
            )
    if waiting:
        raise BadRequest(_unanswered(waiting), "input")


def _waiting(items: Sequence[Any]) -> dict[str, str]:
    """The stored calls that have no result."""
    waiting: dict[str, str] = {}
    for item in items:
        if item.get("type") in CALLS:
            waiting[item["call_id"]] = item["type"]
        elif item.get("type") in RESULTS:
            waiting.pop(item["call_id"], None)
    return waiting


def _alone(rest: Sequence[Any]) -> bool:
    """Whether what follows reasoning is nothing that it can have led to."""
    if not rest:
        return True
    kind = rest[0].get("type", "message")
    return kind in RESULTS or (kind == "message" and rest[0].get("role") != "assistant")


def _unanswered(waiting: Mapping[str, str]) -> str:
    call_id, kind = next(iter(waiting.items()))
    return f"No tool output found for {CALLS[kind][2]} {call_id}."


# --- as chat completions -----------------------------------------------------------------------


def as_chat(body: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """The whole conversation, for brains and for the bill."""
    items = [*known.before(body), *given(body, known)]
    head = body.get("instructions")
    system = [{"role": "system", "content": head}] if head else []
    rest = {k: v for k, v in body.items() if k not in ("input", "instructions", "tools")}
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    messages = [*system, *_messages(items)]
    return {**rest, "messages": messages, **({"tools": tools} if tools else {})}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return tool
    function = {k: v for k, v in tool.items() if k not in ("type", MARK)}
    marked = {MARK: tool[MARK]} if MARK in tool else {}
    return {"type": "function", "function": function, **marked}


def _messages(items: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One message a turn of the model's, and one for every other item."""
    turn: dict[str, Any] | None = None
    for item in items:
        kind = item.get("type", "message")
        if kind in RESULTS or (kind == "message" and item["role"] != "assistant"):
            if turn is not None:
                yield turn
                turn = None
            yield _message(kind, item)
            continue
        turn = turn or {"role": "assistant", "content": None}
        if kind in CALLS:
            function = {"name": item["name"], "arguments": item[CALLS[kind][1]]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            turn["tool_calls"] = [*turn.get("tool_calls", ()), call]
        else:
            said = _blocks(item["content"]) if kind == "message" else [_bare(item)]
            turn["content"] = [*(turn["content"] or ()), *said]
    if turn is not None:
        yield turn


def _message(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    if kind == "message":
        content = item["content"]
        blocks = content if isinstance(content, str) else _blocks(content)
        return {"role": item["role"], "content": blocks}
    output = item["output"]
    blocks = output if isinstance(output, str) else _blocks(output)
    return {"role": "tool", "tool_call_id": item["call_id"], "content": blocks}


def _blocks(blocks: Any) -> list[dict[str, Any]]:
    if isinstance(blocks, str):
        return [{"type": "text", "text": blocks}]
    return [_block(block) for block in blocks]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] not in ("input_text", "output_text"):
        return block
    kept = {MARK: block[MARK]} if MARK in block else {}
    return {"type": "text", "text": block["text"], **kept}


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what is no part of a prompt."""
    return {k: v for k, v in item.items() if k not in ("id", "status")}

"""What a Messages request says: what is refused of it, and how it reads as chat completions.

Refusals are those of Anthropic's API, in its words as far as they are known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from clawmw.emulator.wire import BadRequest

__all__ = ["Threads", "as_chat", "signature", "validate"]

_NAMES = """
billing_policy cache_control compaction container context_management diagnostics
fallback_credit_token fallbacks inference_geo max_tokens mcp_servers messages metadata model
output_config output_format service_tier speed stop_sequences stream system temperature thinking
thread tool_choice tools top_k top_p user_profile_id workspace_id
"""
FIELDS = frozenset(_NAMES.split())
"""What the provider knows; anything else it refuses."""
MARK = "cache_control"
MOST_MARKS = 4
LEAST_THINKING = 1024
SIGNED = ("thinking", "redacted_thinking")


def signature(thinking: str) -> str:
    """What the emulator signs its thinking with."""
    return "emu-" + hashlib.blake2b(thinking.encode(), digest_size=16).hexdigest()


Threads: TypeAlias = dict[str, list[dict[str, Any]]]
"""What is held of conversations: their messages, by the id of the answer that they end with."""


def validate(
    raw: bytes, threads: Threads | None = None, *, counting: bool = False
) -> dict[str, Any]:
    """The request body, decoded, with what is held before it among its messages.

    Raises BadRequest with the reason the provider would give. `counting`: for
    `/v1/messages/count_tokens`, which makes no answer.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("Input should be a valid dictionary")
    for name in body:
        if name not in FIELDS:
            raise BadRequest(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", *(() if counting else ("max_tokens",))):
        if body.get(name) is None:
            raise BadRequest(f"{name}: Field required")
    if not isinstance(body["model"], str) or not body["model"]:
        raise BadRequest("model: String should have at least 1 character")
    limit = body.get("max_tokens", 1)
    if type(limit) is not int or limit < 1:
        raise BadRequest("max_tokens: Input should be greater than or equal to 1")
    _listed(body["messages"], "messages")
    if body.get("thread"):
        body["messages"] = [*_held(body, threads or {}), *body["messages"]]
    _check_tools(body)
    _check_system(body.get("system"))
    _check_messages(body["messages"])
    _check_thinking(body)
    _check_marks(body)
    return body


def _held(body: Mapping[str, Any], threads: Threads) -> list[dict[str, Any]]:
    """What a thread goes on from."""
    if MARK in json.dumps(body):
        raise BadRequest("thread: cache_control is not supported with threads")
    thread = body["thread"]
    if thread.get("type") == "create":
        return []
    name = str(thread.get("previous_message_id"))
    if name not in threads:
        raise BadRequest(f"thread: no thread ends with {name}", status=404)
    return threads[name]


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise BadRequest("tools: Input should be a valid list")
    names = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise BadRequest(f"tools.{index}: Input should be a valid dictionary")
        if tool.get("type", "custom") == "custom":
            if not isinstance(tool.get("name"), str):
                raise BadRequest(f"tools.{index}.custom.name: Field required")
            if not isinstance(tool.get("input_schema"), dict):
                raise BadRequest(f"tools.{index}.custom.input_schema: Field required")
        names.append(tool.get("name"))
    if len({*names}) < len(names):
        raise BadRequest("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, dict):
        raise BadRequest("tool_choice: Input should be a valid dictionary")
    if choice and not tools:
        raise BadRequest("tool_choice: may only be specified while providing tools")


def _check_system(system: Any) -> None:
    if system is not None and not isinstance(system, str):
        for index, block in enumerate(_listed(system, "system")):
            _check_block(block, f"system.{index}", ("text",))


def _listed(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{at}: Input should be a valid list")
    return value


def _check_block(block: Any, at: str, kinds: Sequence[str] = ()) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or (kinds and kind not in kinds):
        raise BadRequest(f"{at}: Input tag {kind!r} does not match any of the expected tags")
    if kind == "text":
        if not isinstance(block.get("text"), str):
            raise BadRequest(f"{at}.text: Field required")
        if not block["text"]:
            raise BadRequest("messages: text content blocks must be non-empty")
        if MARK in block and not block["text"].strip():
            raise BadRequest(f"{at}.cache_control: cannot be set for empty text blocks")
    if kind == "tool_use" and not isinstance(block.get("input"), dict):
        raise BadRequest(f"{at}.tool_use.input: Input should be a valid dictionary")
    if kind in SIGNED:
        if block.get(MARK):
            raise BadRequest(f"{at}.thinking.cache_control: Extra inputs are not permitted")
        said = str(block.get("signature", ""))
        if said.startswith("emu-") and said != signature(str(block.get("thinking"))):
            raise BadRequest(f"{at}: Invalid `signature` in `thinking` block")
    if kind == "tool_result" and not isinstance(block.get("content", ""), str):
        for index, inner in enumerate(_listed(block["content"], f"{at}.tool_result.content")):
            _check_block(inner, f"{at}.tool_result.content.{index}")


def _check_messages(messages: Any) -> None:
    if not _listed(messages, "messages"):
        raise BadRequest("messages: at least one message is required")
    used: set[str] = set()
    waiting: list[str] = []
    for index, message in enumerate(messages):
        at = f"messages.{index}"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise BadRequest(f"{at}.role: Input should be 'user' or 'assistant'")
        if not index and role != "user":
            raise BadRequest('messages: first message must use the "user" role')
        content = message.get("content")
        last = index == len(messages) - 1 and role == "assistant"
        if not content and not last:
            raise BadRequest(f"{at}: all messages must have non-empty content")
        blocks = [] if isinstance(content, str) else _listed(content, f"{at}.content")
        for place, block in enumerate(blocks):
            _check_block(block, f"{at}.content.{place}")
        _check_results(blocks, waiting, at, index)
        waiting = [b["id"] for b in blocks if b["type"] == "tool_use"]
        if used.intersection(waiting) or len({*waiting}) < len(waiting):
            raise BadRequest("messages: `tool_use` ids must be unique")
        used.update(waiting)
    if waiting:
        raise BadRequest(_unanswered(waiting, len(messages) - 1))


def _check_results(blocks: Sequence[Any], waiting: list[str], at: str, index: int) -> None:
    """The results of the calls in the message before, all of them, before anything else."""
    results = [b.get("tool_use_id") for b in blocks if b["type"] == "tool_result"]
    for place, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        if block.get("tool_use_id") not in waiting:
            raise BadRequest(
                f"{at}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block.get('tool_use_id')}. Each `tool_result` block must have a corresponding "
                "`tool_use` block in the previous message."
            )
    first = [b["type"] == "tool_result" for b in blocks[: len(results)]]
    missing = [one for one in waiting if one not in results]
    if missing or not all(first):
        raise BadRequest(_unanswered(missing or waiting, index - 1))
    if len({*results}) < len(results):
        raise BadRequest(f"{at}: each tool_use must have a single result")


def _unanswered(missing: Sequence[str], index: int) -> str:
    return (
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding "
        "`tool_result` block in the next message."
    )


def _check_thinking(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return
    tokens = thinking.get("budget_tokens")
    if type(tokens) is not int or tokens < LEAST_THINKING:
        raise BadRequest("thinking.enabled.budget_tokens: Input should be at least 1024")
    if tokens >= body.get("max_tokens", tokens + 1):
        raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`")
    messages = body["messages"]
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
    if last is None or isinstance(messages[last]["content"], str):
        return
    kinds = [block["type"] for block in messages[last]["content"]]
    if "tool_use" in kinds and kinds[0] not in SIGNED:
        raise BadRequest(
            f"messages.{last}.content.0.type: Expected `thinking` or `redacted_thinking`, but "
            f"found `{kinds[0]}`. When `thinking` is enabled, a final `assistant` message must "
            "start with a thinking block."
        )


def _marks(body: Mapping[str, Any]) -> Iterator[Any]:
    """The cache marks in the order in which the prompt is read."""
    system = body.get("system")
    contents = [body.get("tools") or [], system, *(m["content"] for m in body["messages"])]
    for content in contents:
        for block in content if isinstance(content, list) else ():
            inner = block.get("content") if block.get("type") == "tool_result" else None
            yield from (b[MARK] for b in inner or () if isinstance(b, dict) and b.get(MARK))
            if block.get(MARK):
                yield block[MARK]
    if body.get(MARK):
        yield body[MARK]


def _check_marks(body: Mapping[str, Any]) -> None:
    found = list(_marks(body))
    if len(found) > MOST_MARKS:
        raise BadRequest(
            f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. "
            f"Found {len(found)}."
        )
    hours = [isinstance(mark, dict) and mark.get("ttl") == "1h" for mark in found]
    if any(later and not earlier for earlier, later in pairwise(hours)):
        raise BadRequest(
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
            "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
        )


# --- as chat completions -----------------------------------------------------------------------


def as_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The request in the words of chat completions, marks at their places.

    Turns of one side are one message: so the provider reads them.
    """
    system = body.get("system")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for role, blocks in _turns(body["messages"]):
        messages += _answered(blocks) if role == "assistant" else _asked(role, blocks)
    if body.get(MARK) and messages:
        messages[-1] = {**messages[-1], MARK: body[MARK]}
    # A change of these loses what was cached of the messages.
    settings = {k: body[k] for k in ("tool_choice", "thinking") if body.get(k)}
    if settings:
        first = 1 if system else 0
        messages[first] = {**messages[first], "settings": settings}
    told = {"model": body["model"], "messages": messages}
    if body.get("tools"):
        told["tools"] = [_tool(tool) for tool in body["tools"]]
    return told


def _turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    role, blocks = "", list[Any]()
    for message in messages:
        content = message["content"]
        more = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if message["role"] == role:
            blocks += more
            continue
        if role:
            yield role, blocks
        role, blocks = message["role"], more
    yield role, blocks


def _asked(role: str, blocks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the user's side says: the results of tools, and the rest."""
    for block in blocks:
        if block["type"] == "tool_result":
            kept = {k: v for k, v in block.items() if k not in ("type", "tool_use_id", "content")}
            told = {"tool_call_id": block["tool_use_id"], "content": block.get("content", "")}
            yield {"role": "tool", **told, **kept}
    rest = [block for block in blocks if block["type"] != "tool_result"]
    if rest:
        plain = len(rest) == 1 and {*rest[0]} == {"type", "text"}
        yield {"role": role, "content": rest[0]["text"] if plain else rest}


def _answered(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model said."""
    calls = []
    for block in blocks:
        if block["type"] == "tool_use":
            arguments = json.dumps(block["input"], ensure_ascii=False)
            call = {"id": block["id"], "type": "function"}
            mark = {MARK: block[MARK]} if MARK in block else {}
            function = {"name": block["name"], "arguments": arguments}
            calls.append({**call, "function": function, **mark})
    rest = [block for block in blocks if block["type"] != "tool_use"]
    message: dict[str, Any] = {"role": "assistant", "content": rest or None}
    return [{**message, "tool_calls": calls} if calls else message]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "input_schema" not in tool:
        return {"type": "function", "function": dict(tool)}
    function = {"name": tool["name"], "description": tool.get("description", "")}
    mark = {MARK: tool[MARK]} if MARK in tool else {}
    return {
        "type": "function",
        "function": {**function, "parameters": tool["input_schema"]},
        **mark,
    }

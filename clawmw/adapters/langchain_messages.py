"""LangChain's messages as chat completions, and back.

What the policy left alone is handed on as the very object it came as. A changed message is a
copy with another content: ids, names, `additional_kwargs` and tool calls stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call

from clawmw.core.canon import MARKS
from clawmw.core.types import Json

__all__ = [
    "KEPT",
    "answer_of",
    "answered_message",
    "handed_on",
    "kept_of",
    "reason_of",
    "usage_metadata",
    "usage_of",
    "value_of",
]

Value: TypeAlias = dict[str, Json]

KEPT = "langchain"
"""The field of an answer with what no chat completion says: reasoning and its signatures."""
_CALLS = frozenset(
    {"tool_use", "tool_call", "function_call", "input_json_delta", "tool_call_chunk"}
)
"""Blocks that say again what `tool_calls` says."""
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
}
"""Reasons to stop as Anthropic names them."""


# --- to chat completions ---------------------------------------------------------------------


def value_of(message: BaseMessage) -> Value:
    """A message as a chat completion has it."""
    role = _ROLES.get(message.type.removesuffix("MessageChunk").lower(), "user")
    if isinstance(message, AIMessage):
        role = "assistant"
    elif isinstance(message, ChatMessage):
        role = message.role if message.role in _ROLES.values() else "user"
    elif isinstance(message, SystemMessage):
        role = message.additional_kwargs.get("__openai_role__", "system")
    value: Value = {"role": role, "content": _content_of(message.content)}
    if message.name:
        value["name"] = message.name
    if isinstance(message, ToolMessage):
        value["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage) and (calls := calls_of(message)):
        value["tool_calls"] = calls
        value["content"] = value["content"] or None
    return value


def _content_of(content: str | list[Any]) -> Json:
    return content if isinstance(content, str) else [_block(b) for b in content if _shown(b)]


def _shown(block: Any) -> bool:
    return not (isinstance(block, dict) and block.get("type") in _CALLS)


def _block(block: Any) -> Json:
    return {"type": "text", "text": block} if isinstance(block, str) else block


def calls_of(message: AIMessage) -> list[Json]:
    """The tools a message asks for; those with arguments that are no JSON, too."""
    said: list[tuple[str | None, str | None, str]]
    said = [(c["id"], c["name"], _json(c["args"])) for c in message.tool_calls]
    said += [(c["id"], c["name"], c["args"] or "") for c in message.invalid_tool_calls]
    return [
        {"id": id_ or "", "type": "function", "function": {"name": name or "", "arguments": text}}
        for id_, name, text in said
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def answer_of(message: AIMessage, info: Mapping[str, Any] | None = None) -> Value:
    """A model's answer as a chat completion. `info`: the generation's."""
    said = {**message.response_metadata, **(info or {})}
    calls = calls_of(message)
    told: Value = {"role": "assistant", "content": message.text or None}
    if calls:
        told["tool_calls"] = calls
    if kept := kept_of(message):
        told[KEPT] = kept
    choice = {"index": 0, "message": told, "finish_reason": reason_of(said, calls) or "stop"}
    model = said.get("model_name") or said.get("model")
    value: Value = {"id": message.id, "object": "chat.completion", "model": model}
    return {**value, "choices": [choice], "usage": usage_of(message.usage_metadata)}


def kept_of(message: BaseMessage) -> list[Json]:
    """What of an answer is neither text nor a call."""
    if isinstance(message.content, str):
        return []
    blocks = [b for b in message.content if isinstance(b, dict) and _shown(b)]
    return [b for b in blocks if b.get("type") != "text"]


def reason_of(said: Mapping[str, Any], calls: Sequence[Json] = ()) -> str | None:
    """Why an answer ended, in the dialect's words; None: not said."""
    reason = said.get("finish_reason") or said.get("stop_reason")
    if isinstance(reason, str) and reason:
        return _REASONS.get(reason, reason)
    return "tool_calls" if calls else None


def usage_of(usage: Any) -> Json:
    """`usage_metadata` on the wire. LangChain counts cached tokens in, as the dialect does."""
    if not usage:
        return None
    read, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    value: Value = {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
    }
    if read.get("cache_read") is not None:
        value["prompt_tokens_details"] = {"cached_tokens": read["cache_read"]}
    parts = [read.get(f"ephemeral_{age}_input_tokens") for age in ("5m", "1h")]
    written = sum(part or 0 for part in parts) or read.get("cache_creation")
    if written is not None:
        value["cache_creation_input_tokens"] = written
    if out.get("reasoning") is not None:
        value["completion_tokens_details"] = {"reasoning_tokens": out["reasoning"]}
    return value


# --- from chat completions -------------------------------------------------------------------


def handed_on(
    placed: Iterable[tuple[int | None, Value]], own: Sequence[BaseMessage], *, marks: bool
) -> list[BaseMessage]:
    """The messages to send: the caller's own where they are unchanged.

    `marks`: whether the model's class takes cache marks on blocks of content.
    """
    pairs = list(placed)
    named = {at for at, _ in pairs if at is not None}
    rest = [at for at in range(len(own)) if at not in named]
    found: list[BaseMessage] = []
    for at, value in pairs:
        if at is not None:
            found.append(own[at])
            continue
        shown = value if marks else _unmarked(value)
        source = next((i for i in rest if _is(own[i], shown)), None)
        if source is None:
            found.append(message_of(_first_here(shown, own) if KEPT in shown else shown))
        else:
            rest.remove(source)
            found.append(_changed(own[source], shown))
    return found


def _first_here(value: Value, own: Sequence[BaseMessage]) -> Value:
    """An answer of ours without the items that its reader has, too: OpenAI takes each once."""
    contents = [m.content for m in own if isinstance(m.content, list)]
    theirs = {b.get("id") for c in contents for b in c if isinstance(b, dict)}
    return {**value, KEPT: [b for b in value[KEPT] if b.get("id") is None or b["id"] not in theirs]}


def _is(message: BaseMessage, value: Value) -> bool:
    """Whether `value` can be what became of a message."""
    own = value_of(message)
    if own["role"] != value["role"] or own.get("tool_call_id") != value.get("tool_call_id"):
        return False
    return _ids(own) == _ids(value)


def _ids(value: Value) -> list[str]:
    return [call.get("id") for call in value.get("tool_calls") or ()]


def _unmarked(value: Value) -> Value:
    content = value.get("content")
    if not isinstance(content, list):
        return value
    blocks = [_bare(block) for block in content]
    if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}:
        return {**value, "content": blocks[0]["text"]}
    return {**value, "content": blocks}


def _bare(block: Json) -> Json:
    if not isinstance(block, dict):
        return block
    return {k: v for k, v in block.items() if k not in MARKS}


def _changed(message: BaseMessage, value: Value) -> BaseMessage:
    """A copy that says what `value` says; blocks that no chat completion has stay."""
    content, own = value.get("content") or "", message.content
    update: Value = {}
    hidden: list[Any] = [b for b in own if not _shown(b)] if isinstance(own, list) else []
    if isinstance(message, AIMessage) and value.get("tool_calls", []) != calls_of(message):
        update["tool_calls"], update["invalid_tool_calls"] = _read_calls(value["tool_calls"])
        extra = message.additional_kwargs
        update["additional_kwargs"] = {k: v for k, v in extra.items() if not k.endswith("_call")}
        update["additional_kwargs"].pop("tool_calls", None)
        hidden = []  # they say what the calls said before
    if isinstance(own, list) and isinstance(content, list):
        shown = [block for block in own if _shown(block)]
        content = [*content, *hidden]
        if len(shown) + len(hidden) == len(content) and hidden:
            places = iter(content)
            content = [next(places) if _shown(block) else block for block in own]
    elif isinstance(own, list) and isinstance(content, str) and hidden:
        content = [{"type": "text", "text": content}, *hidden]
    return message.model_copy(update={**update, "content": content})


def message_of(value: Value) -> BaseMessage:
    """A message that the caller does not have."""
    content = value.get("content") or ""
    match value.get("role"):
        case "assistant":
            if kept := value.get(KEPT):
                text = [{"type": "text", "text": content}] if isinstance(content, str) else content
                content = [*kept, *(text if content else [])]
            good, bad = _read_calls(value.get("tool_calls") or ())
            return AIMessage(content=content, tool_calls=good, invalid_tool_calls=bad)
        case "tool":
            name = value.get("name")
            return ToolMessage(content, tool_call_id=value.get("tool_call_id", ""), name=name)
        case "system" | "developer":
            return SystemMessage(content)
    return HumanMessage(content)


def answered_message(body: Value, own: AIMessage | None) -> AIMessage:
    """An answer as its caller gets it; `own`: the model's last, whose facts are kept."""
    choice = body["choices"][0]
    value = choice["message"]
    good, bad = _read_calls(value.get("tool_calls") or ())
    said = {**(own.response_metadata if own else {}), "finish_reason": choice.get("finish_reason")}
    update: Value = {
        "content": value.get("content") or "",
        "tool_calls": good,
        "invalid_tool_calls": bad,
        "usage_metadata": usage_metadata(body.get("usage")),
        "response_metadata": said,
    }
    if own is None:
        return AIMessage(id=body.get("id"), **update)
    if isinstance(own.content, list):
        text = [{"type": "text", "text": update["content"]}] if update["content"] else []
        ids = {call["id"] for call in (*good, *bad)}
        calls = [b for b in own.content if isinstance(b, dict) and not _shown(b)]
        calls = [b for b in calls if b.get("id") in ids]
        update["content"] = [*kept_of(own), *text, *calls]
    return own.model_copy(update=update)


def _read_calls(calls: Iterable[Json]) -> tuple[list[Any], list[Any]]:
    """Tool calls off the wire as LangChain has them: those it can read, and the others."""
    good, bad = [], []
    for call in calls:
        function = call.get("function") or {}
        name, text = function.get("name") or "", function.get("arguments") or ""
        try:
            args = json.loads(text or "{}")
        except ValueError:
            args = None
        if isinstance(args, dict):
            good.append(tool_call(name=name, args=args, id=call.get("id")))
        else:
            error = "the arguments are no JSON object"
            bad.append(invalid_tool_call(name=name, args=text, id=call.get("id"), error=error))
    return good, bad


def usage_metadata(usage: Json) -> Any:
    """Usage off the wire as LangChain has it; None: unknown."""
    if not isinstance(usage, dict) or usage.get("prompt_tokens") is None:
        return None
    read, out = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    into: Value = {}
    details = usage.get("prompt_tokens_details") or {}
    if details.get("cached_tokens") is not None:
        into["cache_read"] = details["cached_tokens"]
    if usage.get("cache_creation_input_tokens") is not None:
        into["cache_creation"] = usage["cache_creation_input_tokens"]
    found: Value = {"input_tokens": read, "output_tokens": out, "total_tokens": read + out}
    if into:
        found["input_token_details"] = into
    reasoned = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if reasoned is not None:
        found["output_token_details"] = {"reasoning": reasoned}
    return found

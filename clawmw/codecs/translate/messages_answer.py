"""Whole answers of messages and chat completions, each as the other; usage and reasons too.

Usage: Anthropic's `input_tokens` excludes what the cache gave and took, OpenAI's includes it.
"""

from __future__ import annotations

from typing import Any

from clawmw.codecs.translate import facts
from clawmw.codecs.translate.base import Body, Names, arguments_of, encoded, items_of, text_of

__all__ = [
    "chat_answer",
    "chat_usage",
    "finish_reason",
    "messages_answer",
    "messages_usage",
    "stop_reason",
    "thinking_of",
]

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_BACK = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def finish_reason(stop: str | None) -> str:
    """Why an answer ended, in OpenAI's words."""
    return _REASONS.get(stop or "", "stop")


def stop_reason(finish: str | None, *, called: bool) -> str:
    """Why an answer ended, in Anthropic's; servers that call tools may say `stop`."""
    reason = _BACK.get(finish or "", "end_turn")
    return "tool_use" if called and reason == "end_turn" else reason


def chat_usage(usage: Any) -> Body | None:
    """Anthropic's usage as OpenAI counts it; None where it says nothing."""
    if not isinstance(usage, dict) or usage.get("input_tokens") is None:
        return None
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    prompt = usage["input_tokens"] + (read or 0) + (written or 0)
    output = usage.get("output_tokens") or 0
    out: Body = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    }
    cached = {"cached_tokens": read, "cache_write_tokens": written}
    if known := {name: count for name, count in cached.items() if count is not None}:
        out["prompt_tokens_details"] = known
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
    if thought is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": thought}
    return out


def messages_usage(usage: Any) -> Body:
    """OpenAI's usage as Anthropic counts it; its SDKs require both counts."""
    given = usage if isinstance(usage, dict) else {}
    details = given.get("prompt_tokens_details") or {}
    read = details.get("cached_tokens")
    written = details.get("cache_write_tokens", given.get("cache_creation_input_tokens"))
    fresh = (given.get("prompt_tokens") or 0) - (read or 0) - (written or 0)
    out: Body = {
        "input_tokens": max(fresh, 0),
        "cache_creation_input_tokens": written or 0,
        "cache_read_input_tokens": read or 0,
        "output_tokens": given.get("completion_tokens") or 0,
    }
    thought = (given.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if thought:
        out["output_tokens_details"] = {"thinking_tokens": thought}
    return out


def thinking_of(blocks: list[Body], model: str) -> Body:
    """Thinking as a chat message carries it: for readers, and Claude's signed blocks for Claude."""
    found = [b for b in blocks if b.get("type") in ("thinking", "redacted_thinking")]
    out: Body = {}
    if text := "".join(b.get("thinking") or "" for b in found):
        out["reasoning_content"] = text
    if found and facts.by_claude(model):
        out["thinking_blocks"] = found
    return out


def chat_answer(body: Body, names: Names) -> Body:
    """An answer in messages as a chat completion."""
    blocks = items_of(body["content"])
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {
                "name": names.back(block["name"]),
                "arguments": encoded(block.get("input") or {}).decode(),
            },
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    text = "".join(b["text"] for b in blocks if b.get("type") == "text")
    message: Body = {"role": "assistant", "content": text or None, "refusal": None}
    message |= thinking_of(blocks, body.get("model") or "")
    if calls:
        message["tool_calls"] = calls
    finish = finish_reason(body.get("stop_reason"))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {
        "id": body["id"],
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model") or "",
        "choices": [choice],
        "usage": chat_usage(body.get("usage")),
    }


def messages_answer(body: Body, names: Names) -> Body:
    """A chat completion as an answer in messages. Another provider's reasoning is left out:
    its reader would send it back as thinking, and Anthropic refuses what it did not sign."""
    choice = body["choices"][0]
    message = choice["message"]
    text = text_of(message.get("content") or message.get("refusal") or "")
    blocks: list[Body] = [{"type": "text", "text": text}] if text else []
    for index, call in enumerate(items_of(message.get("tool_calls"))):
        function = call["function"]
        use = {
            "type": "tool_use",
            "id": call.get("id") or f"call_{index}",
            "name": names.back(function["name"]),
            "input": arguments_of(function.get("arguments")),
        }
        blocks.append(use)
    called = bool(message.get("tool_calls"))
    return {
        "id": body.get("id") or "msg_clawmw",
        "type": "message",
        "role": "assistant",
        "model": body.get("model") or "",
        "content": blocks,
        "stop_reason": stop_reason(choice.get("finish_reason"), called=called),
        "stop_sequence": None,
        "usage": messages_usage(body.get("usage")),
    }

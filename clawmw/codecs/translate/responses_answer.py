"""Whole answers of Responses and chat completions, each as the other, with their usage."""

from __future__ import annotations

from typing import Any

from clawmw.codecs.translate.base import Body, items_of, refuse, text_of
from clawmw.codecs.translate.responses_custom import as_item, customs

__all__ = ["chat_answer", "chat_usage", "responses_answer", "responses_head", "responses_usage"]

_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
"""What a response repeats of its request."""


def chat_usage(usage: Any) -> Body | None:
    """Usage of Responses as chat completions name it; the counts mean the same."""
    if not isinstance(usage, dict) or usage.get("input_tokens") is None:
        return None
    read, out = usage["input_tokens"], usage.get("output_tokens") or 0
    found: Body = {"prompt_tokens": read, "completion_tokens": out, "total_tokens": read + out}
    for name, said in (("prompt", "input"), ("completion", "output")):
        if details := usage.get(f"{said}_tokens_details"):
            found[f"{name}_tokens_details"] = details
    return found


def responses_usage(usage: Any) -> Body | None:
    """Usage of chat completions as Responses name it; None where nothing is known."""
    if not isinstance(usage, dict) or usage.get("prompt_tokens") is None:
        return None
    prompt, output = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    details = usage.get("prompt_tokens_details") or {}
    written = details.get("cache_write_tokens", usage.get("cache_creation_input_tokens"))
    cached = {
        "cached_tokens": details.get("cached_tokens") or 0,
        "cache_write_tokens": written or 0,
    }
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": cached,
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + output,
    }


def chat_answer(body: Body) -> Body:
    """A response as a chat completion. Raises `TranslationError` for one that goes on elsewhere."""
    texts, refusals, thoughts = [], [], []
    calls: list[Body] = []
    for item in items_of(body["output"]):
        match item.get("type"):
            case "message":
                content = items_of(item["content"])
                texts += [p["text"] for p in content if p.get("type") == "output_text"]
                refusals += [p["refusal"] for p in content if p.get("type") == "refusal"]
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                calls.append({"id": item["call_id"], "type": "function", "function": function})
            case "reasoning":
                thoughts.append(text_of(item.get("summary") or item.get("content") or []))
            case kind:
                refuse("output", f"{kind!r} has no counterpart", "do not offer the tool it is of")
    message: Body = {"role": "assistant", "content": "".join(texts) or None}
    message["refusal"] = "".join(refusals) or None
    if thought := "\n\n".join(filter(None, thoughts)):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    finish = finish_of(body, called=bool(calls))
    return {
        "id": body["id"],
        "object": "chat.completion",
        "created": int(body.get("created_at") or 0),
        "model": body.get("model") or "",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": chat_usage(body.get("usage")),
    }


def finish_of(body: Body, *, called: bool) -> str:
    """Why a response ended, in the words of chat completions."""
    if body.get("status") == "incomplete":
        reason = (body.get("incomplete_details") or {}).get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if called else "stop"


def responses_head(request: Body, answer: Body) -> Body:
    """A response that has just begun."""
    said = {name: request[name] for name in _ECHOED if request.get(name) is not None}
    return {
        "id": answer.get("id") or "resp_clawmw",
        "object": "response",
        "created_at": answer.get("created") or 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.get("model") or "",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
        **said,
        "store": False,
    }


def responses_answer(body: Body, request: Body) -> Body:
    """A chat completion as a response. Another provider's reasoning is left out: its reader
    would send it back as an item that OpenAI does not know."""
    choice = body["choices"][0]
    message = choice["message"]
    head = responses_head(request, body)
    output: list[Body] = []
    content: list[Body] = []
    if text := text_of(message.get("content") or ""):
        content.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if message.get("refusal"):
        content.append({"type": "refusal", "refusal": message["refusal"]})
    if content:
        said = {"role": "assistant", "status": "completed", "content": content}
        output.append({"type": "message", "id": f"msg_{head['id']}", **said})
    known = customs(request.get("tools"))
    for index, call in enumerate(items_of(message.get("tool_calls"))):
        item = call_item(call, index, head["id"])
        output.append(as_item(item) if item["name"] in known else item)
    return {**head, "output": output, **ending(choice.get("finish_reason"), body.get("usage"))}


def call_item(call: Body, index: int, response_id: str) -> Body:
    """A call of a tool as an output item."""
    function = call["function"]
    return {
        "type": "function_call",
        "id": f"fc_{response_id}_{index}",
        "call_id": call.get("id") or f"call_{index}",
        "name": function["name"],
        "arguments": function.get("arguments") or "",
        "status": "completed",
    }


def ending(finish: str | None, usage: Any) -> Body:
    """How a response ended: its status, why it is incomplete, its usage."""
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish or "")
    return {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": responses_usage(usage),
    }

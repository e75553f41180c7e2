"""What a Responses answer says: as one body, and event by event."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clawmw.core.types import Usage
from clawmw.emulator.reply import Reply
from clawmw.emulator.wire import pieces

__all__ = ["answer", "events", "items_of", "sse"]


def sse(event: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    text = json.dumps(event, ensure_ascii=False)
    return f"event: {event['type']}\ndata: {text}\n\n".encode()


def items_of(reply: Reply, body: Mapping[str, Any], number: str) -> list[dict[str, Any]]:
    """The items of an answer: reasoning, a message, calls."""
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        asked = body.get("reasoning") or {}
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        item = {"id": f"rs_{number}", "type": "reasoning"}
        item |= {"summary": summary if asked.get("summary") else []}  # type: ignore[dict-item]
        if "reasoning.encrypted_content" in (body.get("include") or ()):
            item["encrypted_content"] = base64.b64encode(reply.reasoning.encode()).decode()
        items.append(item)
    if reply.text is not None or not reply.tools:
        text = {"type": "output_text", "text": reply.text or "", "annotations": [], "logprobs": []}
        head = {"id": f"msg_{number}", "type": "message", "status": "completed"}
        items.append({**head, "role": "assistant", "content": [text]})
    for index, use in enumerate(reply.tools):
        custom = _custom(body, use.name)
        said = {"input" if custom else "arguments": _arguments(use.arguments, custom=custom)}
        kind = "custom_tool_call" if custom else "function_call"
        head = {"id": f"fc_{number}_{index}", "type": kind, "status": "completed"}
        call_id = use.id or f"call_{number}_{index}"
        items.append({**head, "call_id": call_id, "name": use.name, **said})
    return items


def _custom(body: Mapping[str, Any], name: str) -> bool:
    tools = body.get("tools") or ()
    return any(tool["type"] == "custom" and tool["name"] == name for tool in tools)


def _arguments(arguments: Mapping[str, Any], *, custom: bool) -> str:
    if custom and isinstance(arguments.get("input"), str):
        return str(arguments["input"])
    return json.dumps(arguments, ensure_ascii=False)


def answer(
    reply: Reply, items: Sequence[dict[str, Any]], body: Mapping[str, Any], usage: Usage | None
) -> dict[str, Any]:
    """The response object, without its id."""
    cut = reply.finish_reason == "length"
    said = body.get("conversation")
    conversation = said if isinstance(said, Mapping) or not said else {"id": said}
    return {
        "object": "response",
        "status": "incomplete" if cut else "completed",
        "background": bool(body.get("background")),
        "conversation": conversation,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": list(items),
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "store": body.get("store") is not False,
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def _usage(usage: Usage) -> dict[str, Any]:
    total, output = usage.input_tokens or 0, usage.output_tokens or 0
    details = {"cached_tokens": usage.cache_read_tokens or 0}
    details["cache_write_tokens"] = usage.cache_write_tokens or 0
    return {
        "input_tokens": total,
        "input_tokens_details": details,
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": total + output,
    }


def events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer as events, numbered."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")
    ]
    for index, item in enumerate(whole["output"]):
        told += [{**event, "output_index": index} for event in _item(item)]
    told.append({"type": f"response.{whole['status']}", "response": dict(whole)})
    for number, event in enumerate(told):
        yield {"type": event.pop("type"), "sequence_number": number, **event}


def _item(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    at = {"item_id": item["id"]}
    yield {"type": "response.output_item.added", "item": _begun(item)}
    if item["type"] == "message":
        for index, part in enumerate(item["content"]):
            here = {**at, "content_index": index}
            yield {"type": "response.content_part.added", **here, "part": {**part, "text": ""}}
            for piece in pieces(part["text"]):
                yield {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": []}
            end = {"text": part["text"], "logprobs": []}
            yield {"type": "response.output_text.done", **here, **end}
            yield {"type": "response.content_part.done", **here, "part": part}
    elif item["type"] == "reasoning":
        yield from _thought(item, at)
    else:
        custom = item["type"] == "custom_tool_call"
        event = "custom_tool_call_input" if custom else "function_call_arguments"
        said = "input" if custom else "arguments"
        for piece in pieces(item[said]):
            yield {"type": f"response.{event}.delta", **at, "delta": piece}
        end = {said: item[said], "name": item["name"]}
        yield {"type": f"response.{event}.done", **at, **end}
    yield {"type": "response.output_item.done", "item": item}


def _thought(item: Mapping[str, Any], at: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for index, part in enumerate(item["summary"]):
        here, event = {**at, "summary_index": index}, "response.reasoning_summary"
        yield {"type": f"{event}_part.added", **here, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield {"type": f"{event}_text.delta", **here, "delta": piece}
        yield {"type": f"{event}_text.done", **here, "text": part["text"]}
        yield {"type": f"{event}_part.done", **here, "part": part}


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of which nothing was said so far."""
    empty: dict[str, Any] = {"status": "in_progress"} if item["type"] != "reasoning" else {}
    fields: dict[str, Any] = {"content": [], "arguments": "", "input": "", "summary": []}
    return {**item, **{k: v for k, v in fields.items() if k in item}, **empty}

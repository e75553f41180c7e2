"""A Responses answer: the object that is the body of one, and the end of its stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clawmw.codecs.openai_chat_stream import count
from clawmw.codecs.openai_chat_stream import error_status as chat_error_status
from clawmw.codecs.openai_responses_items import CALLS, kind_of
from clawmw.core.types import Json, Message, Response, Text, ToolCall, Usage

__all__ = [
    "call_item",
    "error_in",
    "error_status",
    "object_of",
    "reason",
    "text_item",
    "text_part",
    "usage",
    "usage_json",
    "written",
]

_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why an answer is not whole, in the words that finish reasons have elsewhere."""
_STATUS: Mapping[str, int] = {"vector_store_timeout": 504, "server_error": 500}


def usage(value: Json) -> Usage | None:
    """Usage off the wire: present but zero is zero, absent is None.

    `input_tokens` includes cached tokens.
    """
    if not isinstance(value, dict):
        return None
    details, out = (
        found if isinstance(found := value.get(f"{kind}_tokens_details"), dict) else {}
        for kind in ("input", "output")
    )
    return Usage(
        count(value.get("input_tokens")),
        count(value.get("output_tokens")),
        count(details.get("cached_tokens")),
        count(details.get("cache_write_tokens")),
        count(out.get("reasoning_tokens")),
    )


def usage_json(counted: Usage, before: Json = None) -> dict[str, Json]:
    """Usage as this dialect says it; what else `before` said is kept."""
    value: dict[str, Json] = dict(before) if isinstance(before, dict) else {}
    read, out = counted.input_tokens, counted.output_tokens
    value |= {"input_tokens": read, "output_tokens": out}
    if read is not None and out is not None:
        value["total_tokens"] = read + out
    told: tuple[tuple[str, str, int | None], ...] = (
        ("input_tokens_details", "cached_tokens", counted.cache_read_tokens),
        ("input_tokens_details", "cache_write_tokens", counted.cache_write_tokens),
        ("output_tokens_details", "reasoning_tokens", counted.reasoning_tokens),
    )
    nothing = not (read or out)  # then none of it was anything
    for key, name, number in told:
        if number is not None or nothing:
            value[key] = {**(value.get(key) or {}), name: number or 0}
    return value


def reason(value: Mapping[str, Json], message: Message) -> str:
    """Why an answer ended; the status of one that has not."""
    status = value.get("status")
    if status == "incomplete":
        details = value.get("incomplete_details")
        why = details.get("reason") if isinstance(details, dict) else None
        return _INCOMPLETE.get(str(why), "length")
    if status in ("completed", None):
        return "tool_calls" if message.tool_calls else "stop"
    return str(status)


def error_status(value: Json) -> int | None:
    """The HTTP status of an error that came as an answer, or in a stream; None: it is none.

    What a response fails of is said by a code; all but a few of these are about its input.
    """
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("response"), dict):
        value = value["response"]
    if value.get("type") == "error" and not value.get("error"):
        value = {"error": value}
    error = value.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and value.get("object") == "response":
        known = chat_error_status({"error": {"code": code}})
        return _STATUS.get(code, 400 if known == 502 else known)
    return chat_error_status(value)


def error_in(body: bytes) -> dict[str, Json]:
    """The error that a body tells of, in OpenAI's shape."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    error = value.get("error") if isinstance(value, dict) else None
    told = error if isinstance(error, dict) else {"message": str(error or "upstream error")}
    return {"message": "", "type": "server_error", "param": None, "code": None, **told}


# --- made anew ---------------------------------------------------------------------------------


def object_of(response: Response, output: Sequence[Json], base: Json = None) -> dict[str, Json]:
    """The response object that says so, made from `base` (another one) if given."""
    value: dict[str, Any] = dict(base) if isinstance(base, dict) else {}
    value.setdefault("id", response.id or "resp_clawmw")
    value.setdefault("object", "response")
    value.setdefault("created_at", 0)
    cut = {there: here for here, there in _INCOMPLETE.items()}.get(response.finish_reason or "")
    value["status"] = "incomplete" if cut else "completed"
    value["incomplete_details"] = {"reason": cut} if cut else None
    for key in ("error", "instructions", "temperature", "top_p"):
        value.setdefault(key, None)
    value.setdefault("model", response.model or "clawmw")
    value["output"] = list(output)
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    for key, default in rest.items():
        value.setdefault(key, default)
    if response.usage is not None:
        value["usage"] = usage_json(response.usage, value.get("usage"))
    value.setdefault("usage", None)
    return value


def text_part(text: str) -> dict[str, Json]:
    """A text in an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def text_item(answer: Json, number: int, text: str | None) -> dict[str, Json]:
    """A message, item `number` of the response of that id; None: it has no text yet."""
    content = [] if text is None else [text_part(text)]
    head = {"type": "message", "id": _item_id("msg", answer, number), "status": "completed"}
    return {**head, "role": "assistant", "content": content}


def call_item(answer: Json, number: int, call: ToolCall) -> dict[str, Json]:
    """A tool call, item `number` of the response of that id."""
    head = {"type": "function_call", "id": _item_id("fc", answer, number), "status": "completed"}
    return {**head, "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _item_id(kind: str, answer: Json, number: int) -> str:
    """No two in a conversation are the same: the provider refuses those, and long ones."""
    said = f"{answer}/{number}".encode("utf-8", "surrogatepass")
    return f"{kind}_{hashlib.blake2b(said, digest_size=12).hexdigest()}"


def written(response: Response) -> dict[str, Json]:
    """The body of a response, made anew or changed from `response.body`."""
    base: dict[str, Json] = json.loads(response.body) if response.body else {}
    came = base.get("output") or []
    output = list(_kept(came, response.message))
    for part in _missed(came, response.message):
        at = (response.id, len(output))
        output.append(text_item(*at, part) if isinstance(part, str) else call_item(*at, part))
    return object_of(response, output, base)


def _texts(items: Sequence[Json]) -> list[str]:
    blocks = [b for i in items if kind_of(i) == "message" for b in i.get("content") or ()]
    return [b["text"] for b in blocks if isinstance(b, dict) and isinstance(b.get("text"), str)]


def _said(message: Message) -> list[str]:
    return [part.text for part in message.parts if isinstance(part, Text)]


def _kept(came: Sequence[Json], message: Message) -> Iterator[Json]:
    """The items that are still in the answer, as they came; messages only if none was changed."""
    before, said = _texts(came), _said(message)
    told, calls = said[: len(before)] == before, {call.id for call in message.tool_calls}
    for item in came:
        kind = kind_of(item)
        if kind in CALLS and item.get("call_id") not in calls:
            continue
        if kind != "message" or told:
            yield item


def _missed(came: Sequence[Json], message: Message) -> Iterator[str | ToolCall]:
    """What is in the answer and in none of the items."""
    before, said = _texts(came), _said(message)
    yield from said[len(before) :] if said[: len(before)] == before else said
    known = {item.get("call_id") for item in came if kind_of(item) in CALLS}
    yield from [call for call in message.tool_calls if call.id not in known]

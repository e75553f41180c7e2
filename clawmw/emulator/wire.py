"""Chat completions on the wire: what is refused, and how a reply is written.

Refusals are those of OpenAI's API, in its error shape, because a middleware is tested by
what the provider would have refused: above all calls and results that lost each other.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from clawmw.core.money import Profile
from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.emulator.reply import Reply, ToolUse

__all__ = [
    "BadRequest",
    "chunks",
    "completion",
    "cut",
    "error_body",
    "output_tokens",
    "pieces",
    "sse",
    "usage_body",
    "validate",
]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
TYPES = {
    "stream": bool,
    "stream_options": dict,
    "tools": list,
    "n": int,
    "max_tokens": int,
    "max_completion_tokens": int,
}
MAX_CHOICES = 128
PIECES = 24
"""A text is streamed in at most about this many chunks."""
PIECE = 24
"""Characters in a streamed piece of a short text, and of tool-call arguments."""
CALL_TOKENS = 8
"""What a tool call's name, id and frame cost."""


class BadRequest(Exception):
    """The body is not one a provider would take; becomes a 400 or `status`."""

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def error_body(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> Any:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def validate(raw: bytes) -> dict[str, Any]:
    """The request body, decoded; raises BadRequest with the reason a provider would give."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body of the request must be a JSON object.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequest("you must provide a model parameter", "model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be an array with at least one message.", "messages")
    for name, kind in TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise BadRequest(f"Invalid type for '{name}'.", name)
    if not 1 <= (1 if body.get("n") is None else body["n"]) <= MAX_CHOICES:
        raise BadRequest(f"'n' must be from 1 to {MAX_CHOICES}.", "n")
    _check_messages(messages)
    _check_tools(body.get("tools") or [])
    return body


def _check_messages(messages: list[Any]) -> None:
    waiting: list[str] = []
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequest(f"Invalid type for '{at}': expected an object.", at)
        role = message.get("role")
        if role not in ROLES:
            raise BadRequest(f"Invalid value for '{at}.role': {role!r}.", f"{at}.role")
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                raise BadRequest(
                    "messages with role 'tool' must be a response to a preceding message "
                    f"with 'tool_calls' ('{at}').",
                    at,
                )
            waiting.remove(message["tool_call_id"])
        elif waiting:
            raise BadRequest(_unanswered(waiting), at)
        _check_content(message, at)
        if role == "assistant":
            waiting = _call_ids(message.get("tool_calls") or [], at)
    if waiting:
        raise BadRequest(_unanswered(waiting), f"messages[{len(messages) - 1}]")


def _unanswered(waiting: list[str]) -> str:
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding "
        f"to each 'tool_call_id'. These tool_call_ids did not have response messages: "
        f"{', '.join(waiting)}"
    )


def _check_content(message: Mapping[str, Any], at: str) -> None:
    content = message.get("content")
    if content is None:
        if message["role"] != "assistant":
            raise BadRequest(f"Missing required parameter: '{at}.content'.", f"{at}.content")
        return
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise BadRequest(f"Invalid value for '{at}.content'.", f"{at}.content")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise BadRequest(f"Invalid type for '{at}.content'.", f"{at}.content")


def _call_ids(calls: Any, at: str) -> list[str]:
    if not isinstance(calls, list):
        raise BadRequest(f"Invalid type for '{at}.tool_calls'.", f"{at}.tool_calls")
    ids = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if (
            not isinstance(function, dict)
            or not isinstance(call.get("id"), str)
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("arguments"), str)
        ):
            raise BadRequest(f"Invalid value for '{at}.tool_calls'.", f"{at}.tool_calls")
        ids.append(call["id"])
    return ids


def _check_tools(tools: list[Any]) -> None:
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest(
                f"Missing required parameter: 'tools[{index}].function.name'.", "tools"
            )


def output_tokens(reply: Reply) -> int:
    """Estimated tokens of an answer: its text, and its calls with their frames."""
    return estimate(reply.text or "") + sum(map(_call_tokens, reply.tools))


def cut(reply: Reply, limit: int | None) -> Reply:
    """The reply within `limit` output tokens; what is cut ends with finish reason `length`.

    Text is cut where the limit is reached. A call that does not fit is left out with all
    that follow: providers break off in its arguments, which nobody can use.
    """
    if limit is None or output_tokens(reply) <= limit:
        return reply
    text = reply.text or ""
    if estimate(text) > limit:
        # The estimate grows with every character, so the longest prefix can be bisected.
        kept = bisect_right(range(1, len(text)), limit, key=lambda size: estimate(text[:size]))
        return replace(reply, text=text[:kept], tools=(), finish_reason="length")
    used, calls = estimate(text), []
    for use in reply.tools:
        used += _call_tokens(use)
        if used > limit:
            break
        calls.append(use)
    told = reply.text if calls else text
    return replace(reply, text=told, tools=tuple(calls), finish_reason="length")


def _call_tokens(use: ToolUse) -> int:
    return estimate(json.dumps(use.arguments, ensure_ascii=False)) + CALL_TOKENS


def usage_body(usage: Usage, profile: Profile) -> dict[str, Any]:
    """`usage` as the chosen provider writes it in an OpenAI-shaped answer.

    The prompt count includes cached tokens. Writes are told where the provider bills them:
    OpenAI (5.6+) beside the cached count, Anthropic as its gateways and litellm pass it on.
    """
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    total, output = usage.input_tokens or 0, usage.output_tokens or 0
    details = {"cached_tokens": read}
    body: dict[str, Any] = {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": details,
    }
    if profile.cache.bills_writes and profile.cache.style == "breakpoints":
        details["cache_write_tokens"] = written
    elif profile.cache.bills_writes:
        body["cache_creation_input_tokens"] = written
        body["cache_read_input_tokens"] = read
    if profile.family == "deepseek":
        body["prompt_cache_hit_tokens"] = read
        body["prompt_cache_miss_tokens"] = total - read
    return body


def completion(reply: Reply, head: Mapping[str, Any], usage: Any, n: int = 1) -> dict[str, Any]:
    """The whole answer as one body."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tools:
        message["tool_calls"] = _calls(reply, head)
    choice = {"message": message, "logprobs": None, "finish_reason": _finish(reply)}
    body = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": i, **choice} for i in range(n)],
    }
    if usage is not None:
        body["usage"] = usage
    return body


def chunks(
    reply: Reply, head: Mapping[str, Any], usage: Any, n: int = 1
) -> Iterator[dict[str, Any]]:
    """The answer as stream chunks: role, text in pieces, calls in pieces, finish, usage.

    `usage` None: not asked for, no usage chunk. Where it is, the other chunks carry a null.
    """
    base = {**head, "object": "chat.completion.chunk"}
    if usage is not None:
        base["usage"] = None
    for index in range(n):
        for delta, finish in _deltas(reply, head):
            yield {
                **base,
                "choices": [
                    {
                        "index": index,
                        "delta": delta,
                        "logprobs": None,
                        "finish_reason": finish,
                    }
                ],
            }
    if usage is not None:
        yield {**base, "choices": [], "usage": usage}


def sse(data: Any) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def _deltas(reply: Reply, head: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    yield {"role": "assistant", "content": "" if reply.text is not None else None}, None
    for piece in pieces(reply.text or ""):
        yield {"content": piece}, None
    for index, call in enumerate(_calls(reply, head)):
        arguments = call["function"]["arguments"]
        opening = {**call["function"], "arguments": ""}
        yield {"tool_calls": [{"index": index, **call, "function": opening}]}, None
        for piece in pieces(arguments):
            part = {"index": index, "function": {"arguments": piece}}
            yield {"tool_calls": [part]}, None
    yield {}, _finish(reply)


def pieces(text: str) -> Iterator[str]:
    size = max(PIECE, -(-len(text) // PIECES))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _calls(reply: Reply, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    number = str(head["id"]).rpartition("-")[2]
    return [
        {
            "id": use.id or f"call_{number}_{index}",
            "type": "function",
            "function": {
                "name": use.name,
                "arguments": json.dumps(use.arguments, ensure_ascii=False),
            },
        }
        for index, use in enumerate(reply.tools)
    ]


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tools else "stop")

"""Anthropic's Messages API, as the emulator answers it, its errors in Anthropic's shape.

Brains and the bill see the conversation as chat completions. Where thinking is asked for, a
signed thought comes first, and is refused when it comes back altered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.emulator.app import ERRORS, Call, World, arrived, asked, half, sent, shaped
from clawmw.emulator.bill import input_tokens
from clawmw.emulator.messages_input import Threads, as_chat, signature, validate
from clawmw.emulator.reply import Reply
from clawmw.emulator.wire import BadRequest, pieces

__all__ = ["routes"]

KINDS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ENDS: Mapping[str, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def routes(world: World) -> list[Route]:
    """What the emulator answers of this API."""
    threads: Threads = {}

    async def create(request: Request) -> Response:
        call = await arrived(world, request, lambda raw: _checked(request, raw, threads))
        if isinstance(call, Response):
            return _reshaped(call, world)
        return _reshaped(await _create(world, request, call, threads), world)

    async def count(request: Request) -> Response:
        try:
            body = _checked(request, await request.body(), threads, counting=True)
        except BadRequest as e:
            return JSONResponse(_error(str(e), e.status), e.status)
        return JSONResponse({"input_tokens": input_tokens(as_chat(body))})

    return [
        Route(f"{prefix}/messages{path}", handler, methods=["POST"])
        for prefix in ("/v1", "")
        for path, handler in (("", create), ("/count_tokens", count))
    ]


def _checked(
    request: Request, raw: bytes, threads: Threads, *, counting: bool = False
) -> dict[str, Any]:
    """The body, if its headers are those that the provider wants."""
    if not (request.headers.get("x-api-key") or request.headers.get("authorization")):
        raise BadRequest("x-api-key header is required", status=401)
    if not request.headers.get("anthropic-version"):
        raise BadRequest("anthropic-version: header is required")
    return validate(raw, threads, counting=counting)


async def _create(world: World, request: Request, call: Call, threads: Threads) -> Response:
    body, fault = call.body, call.fault
    answered = await asked(world, request, call, as_chat(body), body["max_tokens"])
    if isinstance(answered, Response):
        return answered
    reply, usage = _thinking(body, *answered)
    call.received.usage = usage
    whole = _message(reply, body, f"{call.number:06d}", None if fault.no_usage else usage)
    if body.get("thread"):
        said = {"role": "assistant", "content": whole["content"]}
        threads[whole["id"]] = [*body["messages"], said]
    if body.get("stream"):
        events = [_sse(event) for event in _events(whole)]
        if fault.error:
            events = [_sse(_error(ERRORS[529][0], 529))]
        return sent(world, request, call, shaped(events, replace(fault, error=False)))
    call.received.finished = True
    return half(world, request, call, whole)


def _error(message: str, status: int) -> dict[str, Any]:
    error = {"type": KINDS.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": "req_emulator"}


def _reshaped(response: Response, world: World) -> Response:
    """An answer with its error, if it is one, in this API's shape."""
    response.headers["request-id"] = f"req_emu_{len(world.requests):06d}"
    kind = response.headers.get("content-type", "")
    body = getattr(response, "body", None)
    if not isinstance(body, bytes) or not body or "json" not in kind:
        return response
    told: dict[str, Any] = json.loads(body)
    error = told.get("error")
    if not isinstance(error, dict) or told.get("type") == "error":
        return response
    status = response.status_code
    code = str(error.get("code"))
    shaped = _error(str(error.get("message")), int(code) if status == 200 else status)
    kept = {k: v for k, v in response.headers.items() if k in ("retry-after", "request-id")}
    return JSONResponse(shaped, status, kept)


def _thinking(body: Mapping[str, Any], reply: Reply, usage: Usage) -> tuple[Reply, Usage]:
    """The reply with its reasoning, where the model is asked to think; that is paid for, too."""
    settings = body.get("thinking")
    wanted = isinstance(settings, dict) and settings.get("type") not in (None, "disabled")
    thought = (reply.reasoning or "Let me think.") if wanted else None
    tokens = estimate(thought or "")
    output = (usage.output_tokens or 0) + tokens
    counted = replace(usage, output_tokens=output, reasoning_tokens=tokens if wanted else None)
    return replace(reply, reasoning=thought), counted


def _message(
    reply: Reply, body: Mapping[str, Any], number: str, usage: Usage | None
) -> dict[str, Any]:
    """The whole answer."""
    content: list[dict[str, Any]] = []
    if reply.reasoning is not None:
        signed = signature(reply.reasoning)
        content.append({"type": "thinking", "thinking": reply.reasoning, "signature": signed})
    if reply.text:
        content.append({"type": "text", "text": reply.text})
    for index, use in enumerate(reply.tools):
        name = use.id or f"toolu_{number}_{index}"
        call = {"type": "tool_use", "id": name, "name": use.name, "input": dict(use.arguments)}
        content.append(call)
    ended = reply.finish_reason or ("tool_calls" if reply.tools else "stop")
    message: dict[str, Any] = {
        "id": f"msg_emu_{number}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": ENDS.get(ended, ended),
        "stop_sequence": None,
    }
    return message if usage is None else {**message, "usage": _usage(usage)}


def _usage(usage: Usage) -> dict[str, Any]:
    """`usage` with what the cache took and gave apart."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    told: dict[str, Any] = {
        "input_tokens": (usage.input_tokens or 0) - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens or 0,
        "service_tier": "standard",
    }
    if usage.reasoning_tokens is not None:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told


def _sse(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def _events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer as a stream."""
    usage = whole.get("usage")
    begun = {**whole, "content": [], "stop_reason": None}
    if usage is not None:
        begun["usage"] = {**usage, "output_tokens": 1}
        begun["usage"].pop("output_tokens_details", None)
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(whole["content"]):
        empty, deltas = _parts(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    end = {"type": "message_delta", "delta": delta}
    kept = {k: v for k, v in (usage or {}).items() if k != "service_tier"}
    yield end if usage is None else {**end, "usage": kept}
    yield {"type": "message_stop"}


def _parts(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what comes of it bit by bit."""
    match block["type"]:
        case "text":
            said = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            return {**block, "text": ""}, said
        case "thinking":
            thought = [
                {"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])
            ]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thought, signed]
        case _:
            text = json.dumps(block["input"], ensure_ascii=False)
            told = [{"type": "input_json_delta", "partial_json": p} for p in ("", *pieces(text))]
            return {**block, "input": {}}, told

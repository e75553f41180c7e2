"""OpenAI's Responses API, as the emulator answers it.

It remembers what it stored (`previous_response_id`, `conversation`, `item_reference`), answers in
the background, and refuses what the provider refuses: results and calls that lost each other,
reasoning without what followed it, items it never stored. Brains and the bill see the whole
conversation as chat completions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.emulator.app import ERRORS, Call, World, arrived, asked, half, sent, shaped
from clawmw.emulator.bill import input_tokens
from clawmw.emulator.reply import Reply
from clawmw.emulator.responses_input import Known, as_chat, validate
from clawmw.emulator.responses_output import answer, events, items_of, sse
from clawmw.emulator.wire import error_body

__all__ = ["routes"]


@dataclass(slots=True)
class _Memory:
    """What was stored: conversations by their own id, and by that of each response."""

    known: Known = field(default_factory=Known)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)


def routes(world: World) -> list[Route]:
    """What the emulator answers of this API."""
    memory = _Memory()

    async def create(request: Request) -> Response:
        call = await arrived(world, request, lambda raw: validate(raw, memory.known))
        if isinstance(call, Response):
            return call
        return await _create(world, memory, request, call)

    async def retrieve(request: Request) -> Response:
        found = memory.answers.get(request.path_params["id"])
        if found is None:
            message = f"Response with id '{request.path_params['id']}' not found."
            return JSONResponse(error_body(message, "invalid_request_error"), 404)
        if request.query_params.get("stream") == "true":
            after = int(request.query_params.get("starting_after", -1))
            told = [sse(e) for e in events(found) if e["sequence_number"] > after]
            return Response(b"".join(told), media_type="text/event-stream")
        return JSONResponse(found)

    async def count(request: Request) -> Response:
        body = validate(await request.body(), memory.known)
        tokens = input_tokens(as_chat(body, memory.known))
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})

    return [
        Route(f"{prefix}/responses{path}", handler, methods=[method])
        for prefix in ("/v1", "")
        for path, handler, method in (
            ("", create, "POST"),
            ("/input_tokens", count, "POST"),
            ("/{id}", retrieve, "GET"),
        )
    ]


async def _create(world: World, memory: _Memory, request: Request, call: Call) -> Response:
    body, fault = call.body, call.fault
    seen = as_chat(body, memory.known)
    answered = await asked(world, request, call, seen, body.get("max_output_tokens"))
    if isinstance(answered, Response):
        return answered
    reply, usage = _thinking(body, *answered)
    call.received.usage = usage
    items = items_of(reply, body, f"{call.number:06d}")
    told = answer(reply, items, body, None if fault.no_usage else usage)
    whole = {**told, "id": f"resp_emu_{call.number:06d}", "created_at": int(time.time())}
    if body.get("store") is not False:
        memory.known.keep(body, whole["id"], items)
        memory.answers[whole["id"]] = whole
    if body.get("background"):
        call.received.finished = True
        queued = {**whole, "status": "queued", "output": [], "usage": None}
        return JSONResponse(queued)
    if body.get("stream"):
        stream = [sse(event) for event in events(whole)]
        if fault.error:
            stream = [sse(_failure())]
        return sent(world, request, call, shaped(stream, replace(fault, error=False)))
    call.received.finished = True
    return half(world, request, call, whole)


def _thinking(body: Mapping[str, Any], reply: Reply, usage: Usage) -> tuple[Reply, Usage]:
    """The reply with its reasoning, where the model is asked to think; that is paid for, too."""
    thought = reply.reasoning or ("Let me think." if body.get("reasoning") else None)
    tokens = estimate(thought or "")
    output = (usage.output_tokens or 0) + tokens
    counted = replace(usage, output_tokens=output, reasoning_tokens=tokens)
    return replace(reply, reasoning=thought), counted


def _failure() -> dict[str, Any]:
    message, kind, _ = ERRORS[503]
    error = {"type": kind, "code": "server_is_overloaded", "message": message, "param": None}
    return {"type": "error", "sequence_number": 0, "error": error}

"""The emulator as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from clawmw.core.money import Profile
from clawmw.core.types import Usage
from clawmw.emulator.bill import PrefixCache, marks
from clawmw.emulator.faults import BadDirective, Fault, Faults
from clawmw.emulator.reply import Brain, Reply
from clawmw.emulator.wire import (
    BadRequest,
    chunks,
    completion,
    cut,
    error_body,
    output_tokens,
    sse,
    usage_body,
    validate,
)
from clawmw.providers.load import load_profiles, profile_for

__all__ = ["Call", "Received", "World", "application", "arrived", "asked", "half", "sent", "shaped"]

SECRET_WORDS = (
    "authorization",
    "api-key",
    "apikey",
    "token",
    "secret",
    "cookie",
    "password",
)
HTML = "<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
ERRORS = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached.", "requests", "rate_limit_exceeded"),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
    529: ("Overloaded", "overloaded_error", None),
}  # fmt: skip


@dataclass(slots=True)
class Received:
    """One request as it came in, secrets masked, and what became of it."""

    time: str
    path: str
    headers: dict[str, str]
    body: Any
    status: int | None = None
    usage: Usage | None = None
    reply: Reply | None = None
    finished: bool = False
    """The whole answer was handed to the connection; False when the reader left early."""


@dataclass(slots=True)
class World:
    """Everything one emulator knows. `clock` (seconds) decides what the cache still holds."""

    brain: Brain
    bill: str | None = None
    clock: Callable[[], float] = time.monotonic
    log: Path | None = None
    cache: PrefixCache = field(default_factory=PrefixCache)
    faults: Faults = field(default_factory=Faults)
    requests: list[Received] = field(default_factory=list)
    reset: Callable[[Any], None] = lambda _client: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def profile(self, model: str) -> Profile:
        """Whose bill a model is on: the chosen provider's, or the model's own."""
        return profile_for(self.bill or model)

    def note(self, received: Received) -> int:
        """Remember a request, append it to the log, and number it."""
        with self.lock:
            self.requests.append(received)
            if self.log is not None:
                row = {k: getattr(received, k) for k in ("time", "path", "headers", "body")}
                line = json.dumps(row, ensure_ascii=False)
                with self.log.open("a", encoding="utf-8", errors="surrogatepass") as file:
                    file.write(line + "\n")
            return len(self.requests)


def application(world: World, *more: Route) -> Starlette:
    """The application that serves one world. `more`: what else it answers."""

    async def chat(request: Request) -> Response:
        return await _chat(world, request)

    async def models(request: Request) -> Response:
        names = sorted(load_profiles())
        row = {"object": "model", "created": 0, "owned_by": "clawmw-emulator"}
        return JSONResponse({"object": "list", "data": [{"id": n, **row} for n in names]})

    async def not_found(request: Request, exc: Exception) -> Response:
        status = getattr(exc, "status_code", 404)
        message = f"Invalid URL ({request.method} {request.url.path})"
        return JSONResponse(error_body(message, "invalid_request_error"), status)

    routes = [
        Route(f"{prefix}{path}", handler, methods=[method])
        for prefix in ("/v1", "")
        for path, handler, method in (
            ("/chat/completions", chat, "POST"),
            ("/models", models, "GET"),
        )
    ]
    return Starlette(routes=[*routes, *more], exception_handlers={404: not_found, 405: not_found})


async def _chat(world: World, request: Request) -> Response:
    call = await arrived(world, request, validate)
    return call if isinstance(call, Response) else await _answer(world, request, call)


async def arrived(
    world: World, request: Request, read: Callable[[bytes], dict[str, Any]]
) -> Call | Response:
    """A request that will be answered, or what it is refused or fails with.

    `read` decodes a body, and raises BadRequest for one that the provider would not take.
    """
    raw = await request.body()
    received = Received(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        path=request.url.path,
        headers=masked(request.headers),
        body=_readable(raw),
    )
    number = world.note(received)
    try:
        body = read(raw)
        model, _, wish = body["model"].partition("?")
        body["model"] = model
        fault = world.faults.take(request.headers.get("x-emulate") or wish or None)
        profile = world.profile(model)
        _check_marks(body, profile)
    except RecursionError:
        received.status = 400
        message = "The body of the request is nested too deeply."
        return JSONResponse(error_body(message, "invalid_request_error"), 400)
    except BadRequest as e:
        received.status = e.status
        told = error_body(str(e), "invalid_request_error", param=e.param, code=e.code)
        return JSONResponse(told, e.status)
    except BadDirective as e:
        received.status = 400
        return JSONResponse(error_body(str(e), "invalid_request_error", param="x-emulate"), 400)
    await asyncio.sleep(fault.delay)
    if fault.reset_after == 0:
        world.reset(request.client)
        return Response(status_code=500)
    broken = _broken(fault, stream=bool(body.get("stream")))
    if broken is not None:
        received.status, received.finished = broken.status_code, True
        return broken
    return Call(received, number, raw, body, profile, fault)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that will be answered."""

    received: Received
    number: int
    raw: bytes
    body: dict[str, Any]
    profile: Profile
    fault: Fault


async def asked(
    world: World, request: Request, call: Call, seen: dict[str, Any], limit: int | None
) -> tuple[Reply, Usage] | Response:
    """What the brain answers to `seen` (a chat-completions body), and what that costs."""
    received = call.received
    try:
        # A copy: a brain that edits what it was given must not change what is billed.
        reply = await run_in_threadpool(world.brain, json.loads(json.dumps(seen)))
    except Exception as e:  # noqa: BLE001 - a brain is the user's code; the server goes on
        received.status = 500
        message = f"the emulator's brain failed: {type(e).__name__}: {e}"
        return JSONResponse(error_body(message, "server_error"), 500)
    reply = cut(reply, limit)
    usage = world.cache.bill(
        seen,
        call.profile,
        tenant=request.headers.get("authorization") or request.headers.get("x-api-key") or "",
        now=world.clock(),
        output=output_tokens(reply),
    )
    received.status, received.usage, received.reply = 200, usage, reply
    return reply, usage


async def _answer(world: World, request: Request, call: Call) -> Response:
    body, fault, received = call.body, call.fault, call.received
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    answered = await asked(world, request, call, body, limit)
    if isinstance(answered, Response):
        return answered
    reply, usage = answered
    told = None if fault.no_usage else usage_body(usage, call.profile)
    head = {
        "id": f"chatcmpl-emu-{call.number:06d}",
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": "fp_emulator",
    }
    if body.get("stream"):
        if not (body.get("stream_options") or {}).get("include_usage"):
            told = None
        events = [sse(c) for c in chunks(reply, head, told, body.get("n") or 1)]
        return sent(world, request, call, shaped([*events, sse("[DONE]")], fault))
    received.finished = True
    return half(world, request, call, completion(reply, head, told, body.get("n") or 1))


def sent(world: World, request: Request, call: Call, events: list[bytes]) -> Response:
    """A stream of events, broken off where the fault says."""
    stream = _stream(world, request, call.received, call.fault, events)
    kind = "text/plain" if call.fault.mislabel else "text/event-stream"
    return StreamingResponse(stream, media_type=kind)


def half(world: World, request: Request, call: Call, answer: Any) -> Response:
    """A whole answer, or as much of it as the fault lets through."""
    fault = call.fault
    if fault.reset_after is None and fault.truncate_after is None:
        return JSONResponse(answer)
    raw = json.dumps(answer).encode()
    pieces = [raw[i : i + 200] for i in range(0, len(raw), 200)]
    stream = _stream(world, request, call.received, fault, pieces)
    return StreamingResponse(stream, media_type="application/json")


def shaped(events: list[bytes], fault: Fault) -> list[bytes]:
    """The stream as the fault wants it on the wire."""
    if fault.error:
        message, kind, _ = ERRORS[503]
        events = [sse({"error": {"message": message, "type": kind, "code": 503}})]
    if fault.big:
        events = [sse({"choices": [], "padding": "x" * fault.big}), *events]
    if fault.crlf:
        events = [event.replace(b"\n", b"\r\n") for event in events]
    events = [b": still thinking\n\n"] * fault.comments + events
    if fault.pieces:
        whole, size = b"".join(events), fault.pieces
        events = [whole[at : at + size] for at in range(0, len(whole), size)]
    return events


async def _stream(
    world: World,
    request: Request,
    received: Received,
    fault: Fault,
    events: list[bytes],
) -> AsyncIterator[bytes]:
    received.finished = False
    for sent, event in enumerate(events):
        if sent == fault.reset_after:
            await asyncio.sleep(0)  # what was written leaves first
            world.reset(request.client)
            return
        if sent == fault.truncate_after:
            return
        if sent == fault.stall_after:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return
        if fault.chunk_delay:
            await asyncio.sleep(fault.chunk_delay)
        yield event
    received.finished = True


def _broken(fault: Fault, *, stream: bool) -> Response | None:
    """The answer of a request that is to fail before any brain is asked; None to go on."""
    headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
    if fault.status is not None:
        message, kind, code = ERRORS.get(
            fault.status, ("The emulator was told to fail.", "server_error", None)
        )
        return JSONResponse(error_body(message, kind, code=code), fault.status, headers)
    if fault.error and not stream:
        message, kind, _ = ERRORS[503]
        return JSONResponse(error_body(message, kind, code="503"), 200, headers)
    if fault.html:
        return Response(HTML, 200, headers, media_type="text/html")
    if fault.empty:
        return Response(b"", 200, headers, media_type="application/json")
    return None


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with the values of secrets replaced; an Authorization scheme stays."""
    return {
        name: _masked(value) if any(word in name.lower() for word in SECRET_WORDS) else value
        for name, value in headers.items()
    }


def _masked(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return f"{scheme} ***" if rest else "***"


def _check_marks(body: Mapping[str, Any], profile: Profile) -> None:
    found = marks(body) if "messages" in body else 0
    allowed = profile.cache.max_marks
    if profile.cache.style == "marks" and found > allowed > 0:
        raise BadRequest(
            f"A maximum of {allowed} blocks with cache_control may be provided. Found {found}.",
            "messages",
        )


def _readable(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")

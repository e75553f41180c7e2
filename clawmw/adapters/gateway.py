"""`clawmw serve`: the gateway. Agents in any language call it, it calls the models.

The exchange itself is the HTTP transport's (`clawmw.adapters.http`): this file maps ASGI to
an `httpx` request and the answer back, chunk by chunk, and says what went wrong in OpenAI's
error shape.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clawmw.adapters import wire
from clawmw.adapters.failures import ANSWERS
from clawmw.adapters.gateway_aiohttp import TlsError
from clawmw.adapters.gateway_guard import (
    MAX_BODY,
    GatewayError,
    Receive,
    Scope,
    Send,
    header,
    read_body,
)
from clawmw.adapters.gateway_relay import refused, relay
from clawmw.adapters.gateway_upstream import (
    CALLER,
    Caller,
    Place,
    Places,
    RedirectError,
    Upstream,
    forwarded,
)
from clawmw.adapters.http import make_async_transport
from clawmw.adapters.leading import lead
from clawmw.adapters.translating import translated
from clawmw.core.identity import Identity
from clawmw.core.types import Request
from clawmw.errors import CodecError, TranslationError
from clawmw.ownership import HEADER, Tokens
from clawmw.runtime import Runtime, switched_off

__all__ = ["Gateway"]

CHAT = "/chat/completions"
DIALECT = "openai.chat"
MODELS_SECONDS = 5.0
"""How long an upstream may take to say which models it has."""


@dataclass(slots=True)
class Counts:
    """What the gateway did since it started."""

    calls: int = 0
    owned_elsewhere: int = 0
    """Calls that another process's clawmw had decided about; they passed as they were."""
    in_flight: int = 0


class Gateway:
    """The gateway of one runtime; `app` is what a web server serves, behind a `Guard`.

    `identity` holds what configuration says about all callers, such as their tenant.
    """

    def __init__(
        self,
        runtime: Runtime,
        places: Places,
        *,
        identity: Identity | None = None,
        tokens: Tokens | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        self.runtime = runtime
        self.places = places
        self.tokens = tokens
        self.max_body = max_body
        self.counts = Counts()
        self.upstream = Upstream()
        self.deciding = make_async_transport(runtime, inner=self.upstream, identity=identity)
        routes = [
            Route("/v1" + CHAT, _Chat(self), methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such})
        self.app.router.redirect_slashes = False

    async def aclose(self) -> None:
        """Close the connections to the models."""
        await self.deciding.aclose()

    # --- a model call ----------------------------------------------------------------------

    async def call(self, scope: Scope, body: bytes, caller: Caller) -> httpx.Response:
        """Make a call as the policy says. Raises `GatewayError`, and what httpx raises."""
        asked, place = self._read(body)
        sent = body if asked is None else self.runtime.codecs[DIALECT].encode(asked)
        raw = asked is None or switched_off() or self._owned(scope, body)
        request = _request(place, scope, sent, caller)
        if asked is None or raw:
            return await self._raw(request, asked, place)
        request.extensions[wire.DECODED] = asked  # parsed once
        request.extensions[ANSWERS] = True
        return cast("httpx.Response", await self.deciding.handle_async_request(request))

    async def _raw(
        self, request: httpx.Request, asked: Request | None, place: Place
    ) -> httpx.Response:
        """Send a request as it is; to a place that speaks another dialect, in that one."""
        if asked is None or place.entry is None:
            return await self.upstream.handle_async_request(request)
        given = [(n, v) for n, v in request.headers.multi_items() if n != "content-length"]
        codec, url = self.runtime.codecs[asked.dialect], str(request.url)
        try:
            to = lead(None, place.entry, codec, asked, url, given)
        except TranslationError as error:
            raise GatewayError(400, str(error), "untranslatable", x_should_retry="false") from None
        sent = httpx.Request(
            "POST", to.url, headers=to.headers, content=to.body, extensions=request.extensions
        )
        answer = await self.upstream.handle_async_request(sent)
        return cast("httpx.Response", translated(httpx, answer, to.translator))

    def _read(self, body: bytes) -> tuple[Request | None, Place]:
        """The request, under the model id its place knows; None for one to pass unread."""
        default = self.places.upstream
        if switched_off() and default is not None and not self.places.models:
            return None, Place(default, "")
        try:
            asked = self.runtime.decode(DIALECT, body)
        except CodecError as error:
            if switched_off() and default is not None:
                return None, Place(default, "")
            raise GatewayError(400, f"the request body: {error}", "invalid_body") from None
        place = self.places.of(asked.model)
        if place.model != asked.model:
            asked = replace(asked, model=place.model)
        return asked, place

    def _owned(self, scope: Scope, body: bytes) -> bool:
        """Whether clawmw in another process of this user decided about this very request."""
        value = header(scope, HEADER.encode())
        if value is None or self.tokens is None:
            return False
        if self.tokens.take(value.decode("latin-1"), body) is None:
            return False
        self.counts.owned_elsewhere += 1
        return True

    # --- the rest --------------------------------------------------------------------------

    async def _health(self, _request: WebRequest) -> Response:
        counts = self.counts
        return JSONResponse(
            {
                "status": "ok",
                "calls": counts.calls,
                "in_flight": counts.in_flight,
                "owned_elsewhere": counts.owned_elsewhere,
            }
        )

    async def _models(self, request: WebRequest) -> Response:
        """The upstream's list if it gives one, else the policy's names."""
        url = self.places.upstream
        if url is not None:
            sent = httpx.Request(
                "GET",
                f"{url}/models",
                headers=forwarded(request.scope["headers"]),
                extensions={CALLER: Caller()},
            )
            try:
                async with asyncio.timeout(MODELS_SECONDS):
                    found = await self.upstream.handle_async_request(sent)
                    body = await found.aread()
                    await found.aclose()
                if found.status_code == 200 and isinstance(json.loads(body), dict):
                    return Response(body, media_type="application/json")
            except (httpx.HTTPError, RedirectError, TlsError, TimeoutError, ValueError):
                pass  # it does not answer; say what we know
        row = {"object": "model", "created": 0, "owned_by": "clawmw"}
        names = [{"id": name, **row} for name in self.places.models]
        return JSONResponse({"object": "list", "data": names})


def _request(place: Place, scope: Scope, body: bytes, caller: Caller) -> httpx.Request:
    url = place.base_url + CHAT
    headers: Any = forwarded(scope["headers"])
    extensions: dict[str, Any] = {CALLER: caller, wire.ENTRY: place.entry}
    if place.own_key:
        texts = [(name.decode(), value.decode()) for name, value in headers]
        extensions[wire.CALLER] = dict(texts)
        _, headers = wire.elsewhere(place.base_url, place.key_env, url, texts)
    query = scope["query_string"]
    target = _parsed(url)
    return httpx.Request(
        "POST",
        target.copy_with(query=query) if query else target,
        headers=headers,
        content=body,
        extensions=extensions,
    )


_parsed = lru_cache(maxsize=64)(httpx.URL)


async def _no_such(request: WebRequest, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    message = (
        f"{request.method} {request.url.path[:200]}: this gateway answers POST /v1{CHAT}, "
        "GET /v1/models and GET /healthz; the base URL of an SDK ends in /v1"
    )
    body = wire.error_body(message, "invalid_request_error", "unknown_url")
    return Response(body, status, media_type="application/json")


class _Chat:
    """The endpoint of model calls: one request, from its first byte to its last."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts = self.gateway.counts
        counts.calls += 1
        counts.in_flight += 1
        try:
            body = await read_body(scope, receive, self.gateway.max_body)
            if body is not None:
                await self._answer(scope, body, receive, send)
        except GatewayError as refusal:
            await refusal.answer(send)
        finally:
            counts.in_flight -= 1

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        caller = Caller()
        watch = asyncio.create_task(caller.watch(receive))
        try:
            try:
                response = await self.gateway.call(scope, body, caller)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                raise refused(error, caller) from None
            await relay(response, send)
        except asyncio.CancelledError:
            if not caller.gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            watch.cancel()

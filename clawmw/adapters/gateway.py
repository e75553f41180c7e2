"""`clawmw serve`: the gateway. Agents in any language call it, it calls the models.

The exchange itself is the transport's (`clawmw.adapters.transport`): this file maps ASGI to a
request of plain values and the answer back, chunk by chunk, and says what went wrong in the
error shape of the caller's dialect. Pure ASGI; knows no web framework.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from clawmw.adapters import gateway_http, wire
from clawmw.adapters.bodies import take
from clawmw.adapters.failures import ANSWERS
from clawmw.adapters.gateway_guard import (
    MAX_BODY,
    GatewayError,
    Receive,
    Scope,
    Send,
    header,
    read_body,
)
from clawmw.adapters.gateway_http import Request, Response
from clawmw.adapters.gateway_relay import refused, relay, tell
from clawmw.adapters.gateway_upstream import (
    CALLER,
    Caller,
    Place,
    Places,
    Upstream,
    forwarded,
    held,
)
from clawmw.adapters.gateway_views import Views
from clawmw.adapters.leading import lead
from clawmw.adapters.streaming import AsyncReading
from clawmw.adapters.translating import translated
from clawmw.adapters.transport import AsyncTransport
from clawmw.core import types
from clawmw.core.identity import Identity
from clawmw.errors import TranslationError
from clawmw.ownership import HEADER, Tokens
from clawmw.runtime import Runtime, switched_off

__all__ = ["Counts", "Gateway"]

BASE = "/v1"
_PLAIN = re.compile(r"(/[\w.:@~-]+)+", re.ASCII)
_QUERY = ("api-version", "beta", "after", "before", "include", "limit", "order", "stream")
"""What a query may say where the key is ours; anything else could be a key of the caller's."""


@dataclass(slots=True)
class Counts:
    """What the gateway did since it started."""

    calls: int = 0
    owned_elsewhere: int = 0
    """Calls that another process's clawmw had decided about; they passed as they were."""
    in_flight: int = 0


class _Reading(AsyncReading, gateway_http.AsyncByteStream):
    """The caller's side of a stream."""


class _Deciding(AsyncTransport):
    """The transport, on plain values."""

    module: ClassVar[ModuleType] = gateway_http
    reading: ClassVar[Any] = _Reading


class Gateway:
    """The gateway of one runtime; `app` is what a web server serves, behind a `Guard`.

    `identity` holds what configuration says about all callers, such as their tenant; `paths` the
    paths below the base URL that are handed on as they are, `*` for anything.
    """

    def __init__(
        self,
        runtime: Runtime,
        places: Places,
        *,
        identity: Identity | None = None,
        tokens: Tokens | None = None,
        max_body: int = MAX_BODY,
        paths: Sequence[str] = (),
    ) -> None:
        self.runtime = runtime
        self.places = places
        self.tokens = tokens
        self.max_body = max_body
        self.paths = tuple(paths)
        self.counts = Counts()
        self.upstream = Upstream()
        self.deciding = _Deciding(runtime, self.upstream, identity)
        self.views = Views(self)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. See `Guard` for who is let through to here."""
        try:
            answered = await self.views.answer(scope, send)
            if not answered:
                end = self._leads_to(scope["method"], scope["path"])
                await self._serve(end, scope, receive, send)
        except GatewayError as refusal:
            dialect = wire.dialect_of("POST", scope["path"])
            if not dialect and header(scope, b"anthropic-version") is not None:
                dialect = "anthropic.messages"
            await tell(refusal, self.runtime.codecs.get(dialect), send)

    async def aclose(self) -> None:
        """Close the connections to the models."""
        await self.upstream.aclose()

    def calls(self, end: str) -> bool:
        """Whether `end`, a path below the base URL, is that of a model call."""
        return wire.endpoints().get(end) in self.runtime.codecs

    def _leads_to(self, method: str, path: str) -> str:
        """The path below the base URL, for what is served. Raises `GatewayError` for the rest."""
        end = path.removeprefix(BASE) if path.startswith(BASE + "/") else ""
        if self.calls(end):
            if method != "POST":
                raise GatewayError(405, f"{path[:200]} takes POST", "method", allow="POST")
            return end
        plain = _PLAIN.fullmatch(end) and not {".", ".."} & set(end.split("/"))
        if plain and any(fnmatchcase(end, f"/{given.lstrip('/')}") for given in self.paths):
            return end
        served = [BASE + end for end in wire.endpoints() if self.calls(end)]
        raise GatewayError(
            404,
            f"{method} {path[:200]}: this gateway answers POST {', '.join(served)}, GET "
            "/v1/models, /healthz and /metrics; the base URL of an SDK ends in /v1 (Anthropic's "
            "does not). The policy can have it hand on more (`gateway: {paths: [...]}`)",
            "unknown_url",
        )

    async def _serve(self, end: str, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its first byte to its last."""
        counts = self.counts
        counts.calls += 1
        counts.in_flight += 1
        try:
            body: bytes | None = b""
            if scope["method"] not in ("GET", "DELETE"):
                body = await read_body(scope, receive, self.max_body)
            if body is not None:
                await self._answer(end, scope, body, receive, send)
        finally:
            counts.in_flight -= 1

    async def _answer(
        self, end: str, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        caller = Caller()
        watch = asyncio.create_task(caller.watch(receive))
        try:
            try:
                response = await self.call(end, scope, body, caller)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                raise refused(error, caller) from None
            await relay(response, send, self.runtime.codecs.get(wire.endpoints().get(end, "")))
        except asyncio.CancelledError:
            if not caller.gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            watch.cancel()

    # --- a model call ----------------------------------------------------------------------

    async def call(self, end: str, scope: Scope, body: bytes, caller: Caller) -> Response:
        """Make a call as the policy says. Raises `GatewayError`, and what httpx raises."""
        headers = forwarded(scope)
        if not self.calls(end):
            return await self._raw(self.places.default(), end, scope, headers, body, caller)
        if switched_off() and self.places.simple:
            return await self._raw(self.places.default(), end, scope, headers, body, caller)
        taken = take(self.runtime, wire.endpoints()[end], body, dict(headers))
        asked = taken.request
        place = self.places.of(asked.model)
        sent, asked = self._named(place, asked, body)
        request = _request(place, end, scope, headers, sent, caller)
        if switched_off() or self._owned(scope, body):
            return await self._as_it_is(place, request, asked)
        request.extensions[wire.DECODED] = taken._replace(request=asked)  # parsed once
        request.extensions[ANSWERS] = True
        response: Response = await self.deciding.handle_async_request(request)
        return response

    async def _raw(self, place: Place, end: str, scope: Scope, *rest: Any) -> Response:
        """Hand a request on as it is, but for configured secrets."""
        return await self._as_it_is(place, _request(place, end, scope, *rest))

    async def _as_it_is(
        self, place: Place, request: Request, asked: types.Request | None = None
    ) -> Response:
        """`_raw`; to a place that speaks another dialect in that one, where it is known."""
        through = None
        if not switched_off():
            request.content = self.runtime.redactor.data(request.content)
        if asked is not None and place.entry is not None:
            given = request.headers.multi_items()
            codec = self.runtime.codecs[asked.dialect]
            try:
                to = lead(None, place.entry, codec, asked, request.url, given)
            except TranslationError as error:
                message = str(error)
                raise GatewayError(400, message, "untranslatable", x_should_retry="false") from None
            extensions, through = request.extensions, to.translator
            request = Request(
                request.method, to.url, headers=to.headers, content=to.body, extensions=extensions
            )
        answer = await self.upstream.handle_async_request(request)
        response: Response = translated(gateway_http, answer, through)
        return response

    def _named(
        self, place: Place, asked: types.Request, body: bytes
    ) -> tuple[bytes, types.Request]:
        """Body and request under the model id that the place knows."""
        if place.model == asked.model:
            return body, asked
        asked = replace(asked, model=place.model)
        return self.runtime.codecs[asked.dialect].encode(asked), asked

    def _owned(self, scope: Scope, body: bytes) -> bool:
        """Whether clawmw in another process of this user decided about this very request."""
        value = header(scope, HEADER.encode())
        if value is None or self.tokens is None:
            return False
        if self.tokens.take(value.decode("latin-1"), body) is None:
            return False
        self.counts.owned_elsewhere += 1
        return True


def _request(
    place: Place, end: str, scope: Scope, headers: wire.Headers, body: bytes, caller: Caller
) -> Request:
    url, query = place.base_url + end, scope["query_string"].decode("latin-1")
    extensions: dict[str, Any] = {CALLER: caller, wire.ENTRY: place.entry}
    if place.own_key:
        extensions[wire.CALLER] = dict(headers)
        headers = held(place, url, headers)
        query = urlencode([pair for pair in parse_qsl(query) if pair[0] in _QUERY])
    return Request(
        scope["method"],
        f"{url}?{query}" if query else url,
        headers=headers,
        content=body,
        extensions=extensions,
    )

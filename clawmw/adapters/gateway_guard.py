"""Who may use the gateway, and what a request may look like, before anything else sees it.

Listening on loopback is no authentication: every web page the user opens can reach it. So
the Host must be one of ours (a rebound DNS name is not), a foreign Origin is refused, no
CORS header is ever sent, and a body must say that it is JSON, which a page cannot do
without asking first. Pure ASGI; knows no web framework.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

from clawmw.adapters import wire
from clawmw.adapters.inflate import ENCODINGS, BadEncoding, TooLarge, inflate

__all__ = [
    "MAX_BODY",
    "App",
    "GatewayError",
    "Guard",
    "Host",
    "Receive",
    "Scope",
    "Send",
    "answer",
    "header",
    "is_loopback",
    "known_hosts",
    "read_body",
    "receive_body",
]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
Host: TypeAlias = tuple[str, int]

MAX_BODY = 64 * 2**20
"""The largest request body, bytes."""
BODY_SECONDS = 60.0
"""How long a body may take to arrive; the caller is on this machine."""
DISCARD_SECONDS = 5.0
"""How long the rest of a body that is too large is read, to be thrown away."""
TOKEN_HEADER = b"x-clawmw-token"
"""Takes the gateway's token where `Authorization` must carry the provider's key."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class GatewayError(Exception):
    """A request the gateway does not take; the message is the one line its sender reads."""

    def __init__(self, status: int, message: str, code: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = [(k.replace("_", "-"), v) for k, v in headers.items()]

    @property
    def kind(self) -> str:
        """OpenAI's `type` for it."""
        if self.status >= 500:
            return "upstream_error" if self.status in (502, 504) else "server_error"
        return "authentication_error" if self.status == 401 else "invalid_request_error"

    async def answer(self, send: Send) -> None:
        """Send it, in OpenAI's error shape."""
        headers = [("content-type", "application/json"), *self.headers]
        encoded = [(k.encode(), v.encode()) for k, v in headers]
        body = wire.error_body(str(self), self.kind, self.code)
        await answer(send, self.status, encoded, body)


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    kept = [(k, v) for k, v in headers if k.lower() != b"content-length"]
    await send({"type": "http.response.start", "status": status, "headers": [*kept, length]})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header; its name in lower case, as ASGI has them."""
    return next((value for key, value in scope["headers"] if key == name), None)


def is_loopback(address: str) -> bool:
    """Whether an address cannot be reached from another machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def known_hosts(bound: str, port: int, more: Iterable[str] = ()) -> frozenset[Host]:
    """The Host headers to accept: the loopback names and what it is bound to, with its port."""
    return frozenset((_host_name(name), port) for name in (*_LOOPBACK, bound, *more))


def _host_name(name: str) -> str:
    """A host in one spelling: lower case, no final dot, IPv6 compressed."""
    name = name.strip("[]").lower().removesuffix(".")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


def _host(value: str) -> Host | None:
    """`name:port` or `[v6]:port` as a pair; None for anything else."""
    name, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        name, port = value, "80"
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        return None
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        return None
    return _host_name(name), int(port)


class Guard:
    """Lets through who may ask. `token`: what every request must present, if set; `what` it
    guards is named in refusals."""

    def __init__(
        self, app: App, hosts: frozenset[Host], token: str | None = None, *, what: str = "gateway"
    ) -> None:
        self.app = app
        self.what = what
        self.hosts = hosts
        self.token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the module."""
        if scope["type"] != "http":
            return
        try:
            self._check_host(scope)
            self._check_site(scope)
            scope = self._without_token(scope)
        except GatewayError as refusal:
            await refusal.answer(send)
            return
        await self.app(scope, receive, send)

    def _known(self, scope: Scope, value: str) -> bool:
        host = _host(value)
        if host is None:
            return False
        # The address a connection came in on, written as an address, cannot be rebound.
        server = scope.get("server") or ("", 0)
        return host in self.hosts or host == (_host_name(str(server[0])), server[1])

    def _check_host(self, scope: Scope) -> None:
        values = [value for key, value in scope["headers"] if key == b"host"]
        if len(values) != 1 or not self._known(scope, values[0].decode("latin-1")):
            shown = values[0][:100].decode("ascii", "replace") if values else ""
            raise GatewayError(
                403,
                f"Host {shown!r} is not this {self.what}'s; use its loopback address, or start it "
                "with --allow-host NAME",
                "host_not_allowed",
            )

    def _check_site(self, scope: Scope) -> None:
        origin = header(scope, b"origin")
        if origin is not None:
            scheme, _, host = origin.decode("latin-1").partition("://")
            if scheme not in ("http", "https") or not self._known(scope, host):
                raise GatewayError(403, "calls from web pages are refused", "origin_not_allowed")
        site = header(scope, b"sec-fetch-site")
        if site is not None and site not in (b"same-origin", b"none"):
            raise GatewayError(403, "calls from web pages are refused", "origin_not_allowed")

    def _without_token(self, scope: Scope) -> Scope:
        """The request without the token it presented, which is nobody else's business."""
        if self.token is None:
            return scope
        for name in (TOKEN_HEADER, b"authorization"):
            given = header(scope, name)
            if given is None:
                continue
            if name == b"authorization":
                scheme, _, given = given.partition(b" ")
                given = given.strip() if scheme.lower() == b"bearer" else b""
            if hmac.compare_digest(given, self.token):
                rest = [(k, v) for k, v in scope["headers"] if k != name]
                return {**scope, "headers": rest}
            break
        raise GatewayError(
            401,
            f"this {self.what} wants its token: send it as the API key (Authorization: Bearer ...) "
            "or in the header x-clawmw-token",
            "invalid_token",
            www_authenticate="Bearer",
        )


async def read_body(scope: Scope, receive: Receive, limit: int = MAX_BODY) -> bytes | None:
    """The body of a JSON request; None when its sender left. Raises `GatewayError`."""
    kind = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise GatewayError(
            415, "send the body as JSON, with content-type: application/json", "unsupported_type"
        )
    return await receive_body(scope, receive, limit)


async def receive_body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The body of a request, unfolded; None when its sender left. Raises `GatewayError`."""
    encoding = (header(scope, b"content-encoding") or b"identity").strip().lower().decode("latin-1")
    if encoding not in ("identity", *ENCODINGS):
        raise GatewayError(
            415,
            "send the body as it is, or with one content-encoding: gzip or deflate",
            "unsupported_encoding",
        )
    told = header(scope, b"content-length") or b"0"
    if told.isdigit() and int(told) > limit:
        await _discard(receive, limit)
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _gather(receive, limit)
    except TimeoutError:
        raise GatewayError(
            408, "the body did not arrive in time", "body_timeout", connection="close"
        ) from None
    if body is None or encoding == "identity":
        return body
    try:
        return await asyncio.to_thread(inflate, body, encoding, limit)
    except TooLarge:
        raise _too_large(limit) from None
    except BadEncoding as error:
        raise GatewayError(400, f"the {encoding} body: {error}", "invalid_body") from None


async def _gather(receive: Receive, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            pieces.clear()
            if message.get("more_body"):
                await _discard(receive, limit)
            raise _too_large(limit)
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


async def _discard(receive: Receive, most: int) -> None:
    """Read on for a while, keeping nothing: a sender that is cut off reads no answer."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while size <= most:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return


def _too_large(limit: int) -> GatewayError:
    shown = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit} bytes"
    return GatewayError(
        413, f"the body is larger than {shown}; send less", "body_too_large", connection="close"
    )

"""Where the gateway's calls go, and the last hop there.

Where is decided by configuration alone: `--upstream`, or the `base_url` of a model in the
policy. A request names a model, never an address.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from clawmw.adapters import wire
from clawmw.adapters.gateway_aiohttp import AiohttpTransport
from clawmw.adapters.gateway_guard import GatewayError, Receive
from clawmw.adapters.leading import onward
from clawmw.errors import ClawmwError
from clawmw.policy.models import ModelEntry
from clawmw.policy.spoken import Server, server

__all__ = ["CALLER", "Caller", "Place", "Places", "RedirectError", "Upstream", "forwarded"]

CALLER = "clawmw.caller"
"""The key under which a request carries its `Caller`."""

_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
_NOT_UP = frozenset(
    b"host content-length content-encoding cookie expect forwarded origin referer via "
    b"x-real-ip".split()
)
_NOT_DOWN = frozenset(b"alt-svc set-cookie strict-transport-security".split())
_NOT_UP_BEGINS = (b"x-forwarded-", b"sec-")
_NOT_DOWN_BEGINS = (b"access-control-", b"x-clawmw-")


Pairs = Iterable[tuple[bytes, bytes]]


def _kept(
    headers: Pairs, drop: frozenset[bytes], begins: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    pairs = [(name.lower(), value) for name, value in headers]
    # What a Connection header names is between the two ends of that connection.
    listed = b",".join(value.lower() for name, value in pairs if name == b"connection")
    drop = _HOP | drop | {name.strip() for name in listed.split(b",")}
    return [
        (name, value)
        for name, value in pairs
        # Clients cannot agree on what bytes beyond ASCII mean; they are no part of the call.
        if name not in drop and not name.startswith(begins) and value.isascii()
    ]


def forwarded(headers: Pairs) -> list[tuple[bytes, bytes]]:
    """The caller's headers for the model: its key included, what is about this hop not."""
    return _kept(headers, _NOT_UP, _NOT_UP_BEGINS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one call goes. `own_key`: the key is the place's, from `key_env`, if it has one."""

    base_url: str
    model: str
    key_env: str | None = None
    own_key: bool = False
    entry: ModelEntry | None = None
    """What the policy says of it; None for `--upstream`."""


class Places:
    """What there is to call. Raises `ClawmwError` where that is nothing, or makes no sense."""

    def __init__(self, models: Mapping[str, ModelEntry], upstream: str | None = None) -> None:
        self.models = models
        self.upstream = _checked(upstream) if upstream else None
        if not self.urls:
            raise ClawmwError(
                "there is nowhere to send calls: give --upstream URL, or a model in the policy a "
                "base_url (models: {local: {model: NAME, base_url: http://127.0.0.1:8000/v1}})"
            )

    @property
    def urls(self) -> list[str]:
        """Every base URL, the default first."""
        found = [self._server(entry) for entry in self.models.values()]
        entries = [at.base_url for at in found if at is not None]
        return list(dict.fromkeys(url for url in (self.upstream, *entries) if url))

    def _server(self, entry: ModelEntry) -> Server | None:
        """Who answers for an entry; with an upstream, only an address leads elsewhere."""
        return server(entry) if entry.base_url or self.upstream is None else None

    def of(self, model: str) -> Place:
        """Where a call for `model` goes: a name of the policy, or a model's own id.

        Raises `GatewayError` for a model that nothing leads to.
        """
        entry = self.models.get(model)
        if entry is None and self.upstream is None:
            own = (e for e in self.models.values() if e.model == model and self._server(e))
            entry = next(own, None)
        at = self._server(entry) if entry is not None else None
        if entry is not None and at is not None:
            # With --upstream, the caller's key is that upstream's and goes nowhere else.
            kept = entry.api_key_env is not None or (at.key_env or "") in os.environ
            own_key = self.upstream is not None or at.by_litellm or kept
            return Place(at.base_url, at.model, at.key_env, own_key, entry)
        if self.upstream is not None:
            return Place(self.upstream, entry.model if entry else model)
        known = ", ".join(sorted(n for n, e in self.models.items() if self._server(e)))
        raise GatewayError(
            404,
            f"model {model[:100]!r} leads nowhere: ask for one of {known}, give it a base_url "
            "under `models` in the policy, or start the gateway with --upstream URL",
            "model_not_found",
        )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        complete = False
    if not complete or parts.username is not None or parts.query or parts.fragment:
        raise ClawmwError(
            "--upstream: expected a base URL such as http://127.0.0.1:9000/v1, without user, "
            "password, query or fragment"
        )
    return url.rstrip("/")


class Caller:
    """Whoever made a request: still there, or gone.

    Its leaving ends the wait for the upstream and nothing else, so that what is being
    written down about the call meanwhile is written to its end.
    """

    def __init__(self) -> None:
        self.gone = False
        self.upstream = ""
        """Whom the last attempt went to, for error messages: scheme, host and port."""
        self._waiting: asyncio.Task[object] | None = None

    async def watch(self, receive: Receive) -> None:
        """Return when the caller has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._waiting is not None:
            self._waiting.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the upstream is waited for, which ends when the caller leaves."""
        if self.gone:
            raise asyncio.CancelledError
        self._waiting = asyncio.current_task()
        try:
            yield
        finally:
            self._waiting = None


class RedirectError(Exception):
    """An upstream answered with a redirect; following it would hand the caller's key on."""


class Upstream(httpx.AsyncBaseTransport):
    """The last hop: sends, cleans what comes back, stops when the caller leaves."""

    reaches_all = True
    """See `onward`."""

    def __init__(self, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self.inner = inner or AiohttpTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See the class. Raises `RedirectError`, and what httpx raises."""
        caller: Caller = request.extensions[CALLER]
        caller.upstream = f"{request.url.scheme}://{request.url.netloc.decode()}"
        if wire.EXTENSION not in request.extensions:  # nothing was decided about it
            for name in [name for name in request.headers if name.startswith("x-clawmw-")]:
                del request.headers[name]
        inner = onward(self.inner, httpx, str(request.url))
        with caller.waiting():
            response = await inner.handle_async_request(request)
        if 300 <= response.status_code < 400:
            await response.aclose()
            raise RedirectError
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=_kept(response.headers.raw, _NOT_DOWN, _NOT_DOWN_BEGINS),
            stream=_Watched(response.stream, caller),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self.inner.aclose()


class _Watched(httpx.AsyncByteStream):
    """An answer's bytes as they come, until the caller leaves."""

    def __init__(self, stream: httpx.AsyncByteStream, caller: Caller) -> None:
        self._stream = stream
        self._caller = caller

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            with self._caller.waiting():
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()

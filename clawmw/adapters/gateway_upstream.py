"""Where the gateway's calls go, and the last hop there.

Where is decided by configuration alone: `--upstream`, or the `base_url` of a model in the
policy. A request names a model, never an address.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from clawmw.adapters import gateway_http, wire
from clawmw.adapters.gateway_aiohttp import AiohttpTransport
from clawmw.adapters.gateway_guard import GatewayError, Receive, Scope
from clawmw.adapters.gateway_http import Request, Response, Stream
from clawmw.adapters.leading import onward
from clawmw.errors import ClawmwError
from clawmw.observe.spans.ambient import quiet
from clawmw.policy.models import ModelEntry
from clawmw.policy.spoken import Server, server

__all__ = ["CALLER", "Caller", "Place", "Places", "RedirectError", "Upstream", "forwarded", "held"]

CALLER = "clawmw.caller"
"""The key under which a request carries its `Caller`."""

_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_NOT_UP = _HOP | frozenset(
    [
        "host",
        "content-length",
        "content-encoding",
        "cookie",
        "expect",
        "forwarded",
        "origin",
        "referer",
        "via",
        "x-real-ip",
    ]
)
_NOT_DOWN = _HOP | frozenset(["alt-svc", "set-cookie", "strict-transport-security"])
_NOT_UP_BEGINS = ("x-forwarded-", "sec-")
_NOT_DOWN_BEGINS = ("access-control-", "x-clawmw-")

Pairs = Iterable[tuple[str, str]]


def _kept(headers: Pairs, drop: frozenset[str], begins: tuple[str, ...]) -> wire.Headers:
    """The headers to hand on; their names are in lower case."""
    pairs = list(headers)
    # What a Connection header names is between the two ends of that connection.
    for name, value in pairs:
        if name == "connection" and value not in ("keep-alive", "close"):
            drop |= {listed.strip() for listed in value.lower().split(",")}
    return [
        (name, value)
        for name, value in pairs
        # Clients cannot agree on what bytes beyond ASCII mean; they are no part of the call.
        if name not in drop and not name.startswith(begins) and value.isascii()
    ]


def forwarded(scope: Scope) -> wire.Headers:
    """The caller's headers for the model: its key included, what is about this hop not."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return _kept(pairs, _NOT_UP, _NOT_UP_BEGINS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one call goes. `own_key`: the key is the place's, from `key_env`, if it has one."""

    base_url: str
    model: str
    """Its id there; "": none is named."""
    key_env: str | None = None
    own_key: bool = False
    entry: ModelEntry | None = None
    """What the policy says of it; None for `--upstream`."""


def held(place: Place, url: str, headers: wire.Headers) -> wire.Headers:
    """The headers for a place: with the key that is kept for it, or the caller's."""
    return (
        wire.elsewhere(place.base_url, place.key_env, url, headers)[1] if place.own_key else headers
    )


class Places:
    """What there is to call. Raises `ClawmwError` where that is nothing, or makes no sense."""

    def __init__(
        self,
        models: Mapping[str, ModelEntry],
        upstream: str | None = None,
        key_env: str | None = None,
    ) -> None:
        self.models = models
        self.upstream = _checked(upstream) if upstream else None
        self.key_env = key_env
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

    @property
    def keys(self) -> list[str]:
        """The variables that hold keys."""
        names = [self.key_env, *(entry.api_key_env for entry in self.models.values())]
        return list(dict.fromkeys(name for name in names if name))

    @property
    def simple(self) -> bool:
        """Whether every call goes to one place, as it is."""
        return self.upstream is not None and not self.models

    def default(self) -> Place:
        """Where what names no model goes: the first there is."""
        if self.upstream is not None:
            return Place(self.upstream, "", self.key_env, self.key_env is not None)
        pairs = [(entry, self._server(entry)) for entry in self.models.values()]
        entry, at = next((entry, at) for entry, at in pairs if at is not None)
        return Place(at.base_url, "", at.key_env, self._keeps(entry, at), entry)

    def url_of(self, model: str) -> str:
        """The base URL that answers for a model, by the policy's name or its id; "": none does."""
        named = [e for name, e in self.models.items() if name == model or e.model == model]
        found = [at.base_url for e in named if (at := self._server(e)) is not None]
        return next(iter(found), self.upstream or "")

    def _keeps(self, entry: ModelEntry, at: Server) -> bool:
        """Whether the key for a place is the policy's."""
        kept = entry.api_key_env is not None or (at.key_env or "") in os.environ
        # With --upstream, the caller's key is that upstream's and goes nowhere else.
        return self.upstream is not None or at.by_litellm or kept

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
            return Place(at.base_url, at.model, at.key_env, self._keeps(entry, at), entry)
        if self.upstream is not None:
            key_env = (entry.api_key_env if entry else None) or self.key_env
            named = entry.model if entry else model
            return Place(self.upstream, named, key_env, key_env is not None)
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


class Upstream:
    """The last hop: sends, cleans what comes back, stops when the caller leaves."""

    reaches_all = True
    """See `onward`."""

    def __init__(self, inner: AiohttpTransport | None = None) -> None:
        self.inner = inner or AiohttpTransport()

    async def handle_async_request(self, request: Request) -> Response:
        """See the class. Raises `RedirectError`, and what httpx raises."""
        caller: Caller = request.extensions[CALLER]
        caller.upstream = request.url.origin
        decided = wire.EXTENSION in request.extensions
        for name in list(request.headers):
            if wire.tells(name) or (name.startswith("x-clawmw-") and not decided):
                del request.headers[name]
        inner = onward(self.inner, gateway_http, str(request.url))
        with caller.waiting(), quiet(http_only=True):
            response = await inner.handle_async_request(request)
        if 300 <= response.status_code < 400:
            await response.aclose()
            raise RedirectError
        assert response.stream is not None
        kept = _kept(response.headers.multi_items(), _NOT_DOWN, _NOT_DOWN_BEGINS)
        return Response(
            response.status_code, headers=kept, stream=_Watched(response.stream, caller)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self.inner.aclose()


class _Watched:
    """An answer's bytes as they come, until the caller leaves."""

    def __init__(self, stream: Stream, caller: Caller) -> None:
        self._stream = stream
        self._next = aiter(stream).__anext__
        self._caller = caller

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._caller.waiting():
            return await self._next()

    async def aclose(self) -> None:
        await self._stream.aclose()

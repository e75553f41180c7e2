"""What the gateway says of itself: which models there are, how it and its upstreams are doing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from clawmw.adapters.gateway_aiohttp import TlsError
from clawmw.adapters.gateway_guard import GatewayError, Scope, Send, answer, header
from clawmw.adapters.gateway_http import Request, Url
from clawmw.adapters.gateway_upstream import CALLER, Caller, RedirectError, forwarded, held

if TYPE_CHECKING:
    from clawmw.adapters.gateway import Gateway

__all__ = ["Views"]

MODELS = "/v1/models"
MODELS_SECONDS = 5.0
"""How long an upstream may take to say which models it has."""
PROBE_SECONDS = 1.0
"""How long an upstream may take to accept a connection."""
PROBE_EVERY = 5.0
"""How long what a probe found holds: a monitor asks often, upstreams are to notice little."""


class Views:
    """The pages of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.extra: Callable[[], Mapping[str, Any]] = dict
        """What else health is to say: of the policy's file, of the worker."""
        self.metrics: Callable[[], bytes] | None = None
        """Gives the metrics in Prometheus's text format."""
        self._pages: Mapping[str, Callable[[Scope, Send], Awaitable[None]]] = {
            MODELS: self._models,
            "/healthz": self._health,
            "/metrics": self._metrics,
        }
        self._probed: dict[str, tuple[float, bool]] = {}

    async def answer(self, scope: Scope, send: Send) -> bool:
        """Answer a request for a page; False where there is none. Raises `GatewayError`."""
        path = scope["path"]
        page = self._pages.get(path)
        if page is None and path.startswith(MODELS + "/"):
            page = self._model
        if page is None:
            return False
        if scope["method"] not in ("GET", "HEAD"):
            raise GatewayError(405, f"{path[:200]} takes GET", "method", allow="GET")
        await page(scope, send)
        return True

    # --- how it is doing -------------------------------------------------------------------

    async def _health(self, scope: Scope, send: Send) -> None:
        counts, more = self.gateway.counts, self.extra()
        upstreams = await self._upstreams()
        well = all(u["reachable"] and u["breaker"] == "closed" for u in upstreams)
        policy = {"digest": self.gateway.runtime.pipeline.digest, **more.get("policy", {})}
        found = {
            "status": "ok" if well and not policy.get("error") else "degraded",
            "calls": counts.calls,
            "in_flight": counts.in_flight,
            "owned_elsewhere": counts.owned_elsewhere,
            "upstreams": upstreams,
            **more,
            "policy": policy,
        }
        await _json(send, found)

    async def _upstreams(self) -> list[dict[str, Any]]:
        """Each upstream: whether it takes connections, and its breakers; no path, no user."""
        places = self.gateway.places
        reached = await asyncio.gather(*map(self._reaches, places.urls))
        open_: dict[str, dict[str, str]] = {}
        for model, state in self.gateway.runtime.traffic.health.states().items():
            if state != "closed":
                open_.setdefault(places.url_of(model), {})[model] = state
        return [
            {
                "url": Url(url).origin,
                "reachable": reachable,
                "breaker": min(open_.get(url, {}).values(), default="closed", key=len),
                "failing": sorted(open_.get(url, ())),
            }
            for url, reachable in zip(places.urls, reached, strict=True)
        ]

    async def _reaches(self, url: str) -> bool:
        now = time.monotonic()
        when, reachable = self._probed.get(url, (float("-inf"), False))
        if now - when < PROBE_EVERY:
            return reachable
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                _, writer = await asyncio.open_connection(parts.hostname, port)
            writer.close()
            reachable = True
        except (OSError, TimeoutError):
            reachable = False
        self._probed[url] = (now, reachable)
        return reachable

    async def _metrics(self, scope: Scope, send: Send) -> None:
        if self.metrics is None:
            raise GatewayError(
                501,
                "metrics need prometheus-client: pip install prometheus-client, then start again",
                "no_metrics",
            )
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        await answer(send, 200, [(b"content-type", kind)], self.metrics())

    # --- which models there are ------------------------------------------------------------

    async def _models(self, scope: Scope, send: Send) -> None:
        await _json(send, await self._listed(scope))

    async def _model(self, scope: Scope, send: Send) -> None:
        name = scope["path"].removeprefix(MODELS + "/")
        rows = (await self._listed(scope))["data"]
        row = next((r for r in rows if isinstance(r, dict) and r.get("id") == name), None)
        if row is None:
            raise GatewayError(404, f"there is no model {name[:100]!r}", "model_not_found")
        await _json(send, row)

    async def _listed(self, scope: Scope) -> dict[str, Any]:
        """The upstream's list, if it gives one, and the policy's names."""
        found = await self._of_upstream(scope)
        given = found.get("data")
        rows = given if isinstance(given, list) else []
        known = {row.get("id") for row in rows if isinstance(row, dict)}
        theirs = header(scope, b"anthropic-version") is not None
        ours = [_row(name, anthropic=theirs) for name in self.gateway.places.models]
        rows = [*rows, *(row for row in ours if row["id"] not in known)]
        return {"object": "list", **found, "data": rows}

    async def _of_upstream(self, scope: Scope) -> dict[str, Any]:
        places = self.gateway.places
        if places.upstream is None:
            return {}
        place = places.default()
        url = f"{place.base_url}/models"
        headers = held(place, url, forwarded(scope))
        sent = Request("GET", url, headers=headers, extensions={CALLER: Caller()})
        try:
            async with asyncio.timeout(MODELS_SECONDS):
                response = await self.gateway.upstream.handle_async_request(sent)
                body = await response.aread()
            found = json.loads(body) if response.status_code == 200 else None
        except (httpx.HTTPError, RedirectError, TlsError, TimeoutError, ValueError):
            return {}  # it does not answer; say what we know
        return found if isinstance(found, dict) else {}


def _row(name: str, *, anthropic: bool) -> dict[str, Any]:
    """A name of the policy, as the dialect lists models."""
    if anthropic:
        created = "1970-01-01T00:00:00Z"
        return {"type": "model", "id": name, "display_name": name, "created_at": created}
    return {"id": name, "object": "model", "created": 0, "owned_by": "clawmw"}


async def _json(send: Send, value: Mapping[str, Any]) -> None:
    await answer(send, 200, [(b"content-type", b"application/json")], json.dumps(value).encode())

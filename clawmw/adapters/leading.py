"""Where an attempt goes: URL, headers, body and dialect, for the model that was chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from clawmw.adapters import litellm_upstream, wire
from clawmw.codecs.translate import Translator, translator
from clawmw.core.codec import Codec
from clawmw.core.types import Request
from clawmw.policy.models import ModelEntry
from clawmw.policy.spoken import LITELLM, OFFICIAL, Server, server

__all__ = ["Lead", "lead", "onward"]

_ENDS = {
    "openai.chat": "/chat/completions",
    "openai.responses": "/responses",
    "anthropic.messages": "/messages",
}
_VERSION = "2023-06-01"
"""Of Anthropic's API, for calls that were made in another dialect."""


@dataclass(frozen=True, slots=True)
class Lead:
    """What to send. `translator` is None where the caller's dialect is spoken there."""

    url: str
    headers: wire.Headers
    body: bytes
    translator: Translator | None = None


def lead(
    chosen: ModelEntry | None,
    here: ModelEntry | None,
    codec: Codec,
    request: Request,
    url: str,
    headers: Iterable[tuple[str, str]],
) -> Lead:
    """How `request` is sent to the model that a stage chose, or to where its caller sends it.

    `here`: the policy's entry for `url`, where it has one; `headers` are those of that place
    already. Raises `TranslationError`.
    """
    given = list(headers)
    entry = chosen or here
    at = server(entry) if entry is not None and request.dialect in _ENDS else None
    if entry is None or at is None:
        return Lead(url, given, codec.encode(request))
    if chosen is None:
        return _sent(at, codec, request, given, urlsplit(url).query)
    if entry.base_url is None and not entry.api_key_env and here is None:
        host = urlsplit(url).hostname
        if host == urlsplit(at.base_url).hostname:  # its caller's key is for it
            return _sent(replace(at, key_env=None), codec, request, given)
        if host not in OFFICIAL:
            # A gateway or an aggregator: it knows many models, and their ids with a provider.
            return Lead(url, given, codec.encode(request))
    return _sent(at, codec, request, _open(given))


def onward(inner: Any, module: ModuleType, url: str) -> Any:
    """Who sends to `url`: `inner`, or litellm what only litellm reaches."""
    if not url.startswith(f"{LITELLM}:") or getattr(inner, "reaches_all", False):
        return inner
    return litellm_upstream.upstream(module)


def _sent(
    at: Server, codec: Codec, request: Request, headers: wire.Headers, query: str = ""
) -> Lead:
    dialect = at.dialect_for(request.dialect)
    named = request if request.model == at.model else replace(request, model=at.model)
    body = codec.encode(named)
    through = translator(request.dialect, dialect)
    if through is not None:
        body, query = through.request(body), ""
    base = at.base_url
    if dialect == "anthropic.messages" and not base.endswith("/v1"):
        base += "/v1"  # its SDKs' base URLs leave it out
    key = os.environ.get(at.key_env) if at.key_env else None
    if through is not None or key is not None:
        headers = _keyed(headers, dialect, key)
    url = base + _ENDS[dialect] + (f"?{query}" if query else "")
    return Lead(url, headers, body, through)


def _open(headers: wire.Headers) -> wire.Headers:
    """The headers that hold no key. An allow-list: their names are the caller's affair."""
    plain = ("accept", "content-type", "user-agent", "anthropic-version", "anthropic-beta")
    return [
        (n, v) for n, v in headers if n.lower() in plain or n.lower().startswith("x-stainless-")
    ]


def _keyed(headers: wire.Headers, dialect: str, key: str | None) -> wire.Headers:
    """The headers as the dialect's servers want them: with `key`, or the one that is in them."""
    found = {n.lower(): v for n, v in headers}
    key = key or found.get("x-api-key") or found.get("authorization", "").removeprefix("Bearer ")
    about = ("authorization", "x-api-key", "api-key")
    if dialect == "anthropic.messages":
        kept = [(n, v) for n, v in headers if n.lower() not in about]
        if "anthropic-version" not in found:
            kept.append(("anthropic-version", _VERSION))
        return [*kept, ("x-api-key", key)] if key else kept
    kept = [
        (n, v)
        for n, v in headers
        if n.lower() not in about and not n.lower().startswith("anthropic-")
    ]
    return [*kept, ("authorization", f"Bearer {key}")] if key else kept

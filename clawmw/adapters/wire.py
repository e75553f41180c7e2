"""What every HTTP-shaped adapter shares: which requests are model calls, which headers travel."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from clawmw.codecs.unread import COUNT, EMBEDDINGS
from clawmw.core.engine import Result
from clawmw.core.tap import Tap
from clawmw.core.types import Failure, Message, Response, Role, Text
from clawmw.ownership import HEADER, Token, Tokens, current
from clawmw.runtime import Live

__all__ = [
    "CALLER",
    "DECODED",
    "ENTRY",
    "EXTENSION",
    "Headers",
    "answer_headers",
    "dialect_of",
    "elsewhere",
    "ending",
    "endpoints",
    "error_body",
    "outgoing_headers",
    "owner",
    "place",
    "streams",
    "tells",
    "to_gateway",
]

EXTENSION = "clawmw"
"""The key under which a request carries its token inside a process."""
DECODED = "clawmw.decoded"
"""The key under which a request carries its body as a gateway has decoded it."""

CALLER = "clawmw.headers"
"""The key under which a request carries its caller's headers, where not all of them are sent."""
ENTRY = "clawmw.entry"
"""The key under which a request carries the policy's entry for the place its URL names."""

Headers: TypeAlias = list[tuple[str, str]]

_TELLING = (
    "authorization",
    "x-api-key",
    "api-key",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-beta",
    "anthropic-version",
)
"""Headers by which a provider answers another account, or answers otherwise."""
_PATHS = {
    "/chat/completions": "openai.chat",
    "/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
    "/embeddings": EMBEDDINGS,
    "/v1/messages/count_tokens": COUNT,
}
"""Anthropic's with its version: OpenAI has `/v1/threads/ID/messages`, which is another matter."""
_BELOW = {path.removeprefix("/v1"): dialect for path, dialect in _PATHS.items()}
_OPEN = frozenset(
    ["accept", "content-type", "user-agent", "anthropic-beta", "anthropic-version", "openai-beta"]
)
"""Headers that hold no key."""
_TRACING = frozenset({"traceparent", "tracestate", "baggage", "b3", "uber-trace-id"})
_TRACING_BEGINS = ("x-b3-", "uberctx-")
"""Trace context and baggage: they name who called whom, and hold what the application put there."""
_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def endpoints() -> Mapping[str, str]:
    """The paths of model calls, below a base URL, and the dialect of each."""
    return _BELOW


def dialect_of(method: str, path: str) -> str:
    """The dialect of a model call by its path; "" for anything else."""
    if method != "POST":
        return ""
    plain = path.rstrip("/").lower()
    return next((name for end, name in _PATHS.items() if plain.endswith(end)), "")


def owner(token: object, body: bytes) -> str | None:
    """The exchange of an outer layer of this process that decided about this very request."""
    for candidate in (token, current.get()):
        if isinstance(candidate, Token) and candidate.take(body):
            return candidate.exchange
    return None


def tells(name: str) -> bool:
    """Whether a header carries trace context or baggage, which no provider is sent."""
    name = name.lower()
    return name in _TRACING or name.startswith(_TRACING_BEGINS)


def outgoing_headers(
    headers: Iterable[tuple[str, str]], url: str, exchange: str, body: bytes
) -> Headers:
    """The headers for the model: ours and the trace's stripped, length and encoding made anew.

    Our token goes along only to the gateway that `CLAWMW_GATEWAY` names.
    """
    dropped = {"content-length", "accept-encoding", "transfer-encoding"}
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in dropped
        and not name.lower().startswith("x-clawmw-")
        and not tells(name)
    ]
    kept.append(("content-length", str(len(body))))
    kept.append(("accept-encoding", "identity"))
    if to_gateway(url):
        with suppress(OSError):  # without it the gateway takes the call for one of its own
            kept.append((HEADER, Tokens.of_user().header(exchange, body)))
    return kept


def to_gateway(url: str) -> bool:
    """Whether a request goes to the gateway that `CLAWMW_GATEWAY` names."""
    gateway = os.environ.get("CLAWMW_GATEWAY")
    return bool(gateway) and _origin(str(gateway)) == _origin(url)


def elsewhere(
    base_url: str | None, key_env: str | None, url: str, headers: Iterable[tuple[str, str]]
) -> tuple[str, Headers]:
    """URL and headers for a model at another place; the caller's key does not go there."""
    given = list(headers)
    if base_url is None:
        return url, given
    end = next((path for path in _PATHS if urlsplit(url).path.endswith(path)), "")
    # An allow-list: what names of headers carry keys is the caller's affair.
    kept = [(n, v) for n, v in given if n.lower() in _OPEN or n.lower().startswith("x-stainless-")]
    key = os.environ.get(key_env) if key_env else None
    if key:
        kept.append(("authorization", f"Bearer {key}"))
    return base_url.rstrip("/") + end, kept


def place(url: str, headers: Mapping[str, str]) -> str:
    """Tells apart where a call goes and under which key, in any process; shows neither."""
    return _digest(url, *[headers.get(name) for name in _TELLING])


@lru_cache(maxsize=1024)
def _digest(*parts: str | None) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def answer_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """A provider's headers for the caller: what described the bytes on the wire is gone."""
    dropped = _HOP | {"content-length", "content-encoding"}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def streams(response: Any) -> bool:
    """Whether an answer is an event stream to be read as it comes."""
    kind = response.headers.get("content-type", "")
    return bool(response.status_code < 400 and kind.startswith("text/event-stream"))


def error_body(message: str, kind: str, code: str) -> bytes:
    """An error in OpenAI's shape, where no dialect is known."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}).encode()


def ending(live: Live, tap: Tap, result: Result) -> bytes:
    """What a stream still owes its reader once the exchange is over."""
    outcome = result.outcome
    if isinstance(outcome, Failure):
        tap.finished = True
        body = outcome.body if outcome.kind == "status" and outcome.body else b""
        error = {"message": outcome.message, "type": "upstream_error", "code": outcome.kind}
        body = body or live.codec.error(error)
        return tap.writer.failing(body)
    if result.halt is not None:
        outcome = Response(Message(Role.ASSISTANT, (Text(str(result.halt)),)), None, "stop")
    if outcome is None or not (outcome.complete or tap.cut):
        return b""  # the provider broke off: the reader must not take it for the end
    if tap.finished:
        return b""
    told = tap.fold.response(complete=True).message.text
    texts = [part.text for part in outcome.message.parts if isinstance(part, Text)]
    rest = "".join(texts).removeprefix(told)
    rest = f"\n{rest}" if rest and told and len(texts) > 1 else rest
    missed = Message(Role.ASSISTANT, ((Text(rest),) if rest else ()) + outcome.message.tool_calls)
    start = tap.writer.more(replace(outcome, message=missed)) if missed.parts else b""
    return start + tap.close(outcome)

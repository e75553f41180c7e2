"""One owner a call: when several layers of clawmw see the same request, the outermost decides.

It passes a one-shot token on with the request: in the process as an object (and through a
context variable where a request cannot carry one), between processes as an authenticated
header that is stripped before the provider. The token names the very request by its
digest, so any other request made meanwhile is an exchange of its own. A layer that has no
request yet, only messages (an agent framework's hook), puts a `Claim` on the call instead.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from clawmw.core.types import Message, Request, Text, ToolResult
from clawmw.observe.spans.ambient import quiet

__all__ = [
    "HEADER",
    "Claim",
    "Token",
    "Tokens",
    "body_digest",
    "claimed",
    "claiming",
    "current",
    "passing",
]

HEADER = "x-clawmw-owner"

_SEEN = 4096
"""Header tokens remembered as used."""

current: ContextVar[Token | None] = ContextVar("clawmw_token", default=None)


def body_digest(body: bytes) -> str:
    """What names a request between layers."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


class Token:
    """The right to let the request with `body` through. Whoever takes it first has it."""

    def __init__(self, exchange: str, body: bytes) -> None:
        self.exchange = exchange
        self._body = body  # comparing is a tenth of hashing, and mostly nobody asks
        self._lock = threading.Lock()
        self._taken = False

    def take(self, body: bytes) -> bool:
        """True once, and only for the request the token was made for."""
        if self._taken or body != self._body:
            return False
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken


@contextmanager
def passing(token: Token) -> Iterator[None]:
    """While a call is made: inner layers of the same context see `token`, and instrumentation of
    the HTTP client below is still."""
    mark = current.set(token)
    try:
        with quiet(http_only=True):
            yield
    finally:
        current.reset(mark)


_WRAPPED = ('{"result":', '{"output":')


class Claim:
    """The right to let one call through, by what its last message says.

    For layers that do not see the bytes. Whoever sends the call may send it several times:
    the first request that fits is the call, and its very bytes pass again.
    """

    def __init__(self, exchange: str, last: Message) -> None:
        self.exchange = exchange
        self._last = _said(last)
        self._lock = threading.Lock()
        self._digest = ""

    def take(self, last: Message, body: bytes) -> bool:
        """Whether a request, whose last message is `last`, is the call."""
        # Several results in a row are one message in some dialects: the last must be among it.
        if not self._last & _said(last) and self._last != _said(last):
            return False
        digest = body_digest(body)
        with self._lock:
            self._digest = self._digest or digest
            return digest == self._digest


def _said(message: Message) -> frozenset[str]:
    parts = [p for p in message.parts if isinstance(p, Text | ToolResult)]
    texts = {part.text.strip() for part in parts}
    for text in list(texts):
        if text.startswith(_WRAPPED):  # as ADK hands a model what a tool returned
            with suppress(ValueError, RecursionError):
                texts |= {v.strip() for v in json.loads(text).values() if isinstance(v, str)}
    return frozenset(text for text in texts if text)


_claim: ContextVar[Claim | None] = ContextVar("clawmw_claim", default=None)


@contextmanager
def claiming(exchange: str, request: Request) -> Iterator[None]:
    """While a framework makes the call of `request`: transports below let it through, and
    instrumentation of the models' SDKs below is still."""
    mark = _claim.set(Claim(exchange, request.messages[-1]) if request.messages else None)
    try:
        with quiet():
            yield
    finally:
        _claim.reset(mark)


def claimed(request: Request, body: bytes) -> Claim | None:
    """The claim of an outer layer on this very call, if there is one."""
    claim = _claim.get()
    if claim is None or not request.messages or not claim.take(request.messages[-1], body):
        return None
    return claim


class Tokens:
    """Tokens as headers, for another process of the same user."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of_user(cls, folder: Path | None = None) -> Tokens:
        """With the user's own key, made on first use (0600 in a 0700 folder)."""
        folder = folder or _state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "owner.key"
        if not path.exists():
            mine = folder / f"owner.key.{secrets.token_hex(8)}"
            handle = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another was first: its key holds
                os.link(mine, path)
            mine.unlink()
        return cls(path.read_bytes())

    def header(self, exchange: str, body: bytes) -> str:
        """The header value that lets `body` through once."""
        said = f"{secrets.token_hex(8)}.{exchange}.{body_digest(body)}"
        return f"{said}.{self._mac(said)}"

    def take(self, value: str, body: bytes) -> str | None:
        """The exchange a genuine, unused header for `body` belongs to, else None."""
        said, _, mac = value.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(said).encode()):
            return None
        nonce, _, rest = said.partition(".")
        exchange, _, digest = rest.rpartition(".")
        if digest != body_digest(body):
            return None
        with self._lock:
            if nonce in self._seen:
                return None
            self._seen[nonce] = None
            while len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
        return exchange

    def _mac(self, said: str) -> str:
        return hmac.new(self._key, said.encode(), hashlib.sha256).hexdigest()


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "clawmw"

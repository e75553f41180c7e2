"""Requests and answers as plain values: what the transport works on inside the gateway.

httpx's own objects parse, encode and copy what the web server has parsed already: 0.3 ms a call.
These have the few names that `clawmw.adapters.transport` uses, and httpx's exceptions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from httpx import (
    ConnectError,
    ConnectTimeout,
    HTTPError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    TimeoutException,
    TransportError,
)

__all__ = [
    "AsyncByteStream",
    "ConnectError",
    "ConnectTimeout",
    "HTTPError",
    "Headers",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Stream",
    "TimeoutException",
    "TransportError",
    "Url",
]


class Headers:
    """Names in lower case, and values, in their order."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)

    def multi_items(self) -> list[tuple[str, str]]:
        """All of them."""
        return self._pairs

    items = multi_items

    def get(self, name: str, default: str = "") -> str:
        """The first of that name."""
        return next((value for key, value in self._pairs if key == name), default)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._pairs)

    def __delitem__(self, name: str) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0] != name]


class Url(str):
    """An absolute URL."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """As it is written."""
        return urlsplit(str(self)).path

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(str(self))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Request:
    """A request whose body is here."""

    __slots__ = ("content", "extensions", "headers", "method", "url")

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        content: bytes = b"",
        extensions: dict[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.url = Url(url)
        self.headers = Headers(headers)
        self.content = content
        self.extensions = {} if extensions is None else extensions

    async def aread(self) -> bytes:
        """The body."""
        return self.content


class Stream(Protocol):
    """A body that comes piece by piece."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""
        ...

    async def aclose(self) -> None:
        """The reader is done, or left."""
        ...


class AsyncByteStream:
    """The base of a stream; see `Stream`."""


class Response:
    """An answer: its `content` is here, or comes as a `stream`."""

    __slots__ = ("content", "headers", "status_code", "stream")

    def __init__(
        self,
        status_code: int,
        *,
        headers: Iterable[tuple[str, str]] = (),
        content: bytes = b"",
        stream: Stream | None = None,
    ) -> None:
        self.status_code = status_code
        self.headers = Headers(headers)
        self.content = content
        self.stream = stream

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body's pieces."""
        assert self.stream is not None
        return aiter(self.stream)

    async def aread(self) -> bytes:
        """The whole body."""
        if self.stream is not None:
            self.content = b"".join([piece async for piece in self.stream])
            await self.aclose()
            self.stream = None
        return self.content

    async def aclose(self) -> None:
        """The reader is done, or left."""
        if self.stream is not None:
            await self.stream.aclose()

"""Answers on their way from the dialect of the model's server to the caller's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

from clawmw.adapters import failures, wire
from clawmw.codecs.translate import Translator, refusal
from clawmw.errors import CodecError, TranslationError
from clawmw.runtime import Live

__all__ = ["body_class", "refused", "translated"]

_IDS = ("request-id", "x-request-id")
"""How Anthropic's and OpenAI's SDKs look for the id of a request."""


def refused(module: ModuleType, live: Live, error: TranslationError, url: str) -> Any:
    """The answer of a call that this model cannot be told of: nothing is sent.

    A model that was asked before it failed: that is what its caller is told, as if there had
    been no other to ask.
    """
    if live.failure is not None:
        status, headers, said = failures.failed(live.failure, url, live.codec)
    else:
        status, said = 400, refusal(live.request.dialect, error)
        headers = [("content-type", "application/json"), ("x-should-retry", "false")]
    body = body_class(module, _Said)(said)
    return module.Response(status, headers=headers, stream=body)


def translated(module: ModuleType, response: Any, through: Translator | None) -> Any:
    """The answer in the caller's dialect, read as it comes; the same where it is already."""
    if through is None:
        return response
    given = response.headers.multi_items()
    headers = [(n, v) for n, v in wire.answer_headers(given) if n.lower() != "content-type"]
    said = {name.lower(): value for name, value in headers}
    for one, other in (_IDS, _IDS[::-1]):
        if one in said and other not in said:
            headers.append((other, said[one]))
    if through.dropped:
        headers.append(("x-clawmw-dropped", ",".join(through.dropped)))
    kind = "text/event-stream" if wire.streams(response) else "application/json"
    headers.append(("content-type", kind))
    body = body_class(module, _Body)(module, response, through)
    return module.Response(response.status_code, headers=headers, stream=body)


@cache
def body_class(module: ModuleType, ours: type) -> Any:
    """A body of ours on the flavour's base classes."""
    names = ("SyncByteStream", "AsyncByteStream")
    bases = tuple(getattr(module, name) for name in names if hasattr(module, name))
    return type(ours.__name__, (ours, *bases), {})


class _Said:
    """A body that is here."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Body:
    """The translated bytes of one answer, for either way of reading."""

    def __init__(self, module: ModuleType, response: Any, through: Translator) -> None:
        self._module, self._response, self._through = module, response, through
        self._streams = wire.streams(response)
        self._stream = through.stream()
        self._held: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._response.iter_bytes():
            if given := self._feed(chunk):
                yield given
        if rest := self._end():
            yield rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_bytes():
            if given := self._feed(chunk):
                yield given
        if rest := self._end():
            yield rest

    def close(self) -> None:
        """The reader is done, or left."""
        self._response.close()

    async def aclose(self) -> None:
        """`close`, awaiting."""
        await self._response.aclose()

    def _feed(self, chunk: bytes) -> bytes:
        if not self._streams:
            self._held.append(chunk)
            return b""
        with self._told():
            return self._stream.feed(chunk)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CodecError as error:
            raise self._module.RemoteProtocolError(str(error)) from error

    def _end(self) -> bytes:
        if self._streams:
            with self._told():
                return self._stream.end()
        body = b"".join(self._held)
        if self._response.status_code >= 400:
            return self._through.error(self._response.status_code, body)
        try:
            if body.lstrip().startswith((b"data:", b"event:", b":")):  # under another content type
                return self._stream.feed(body) + self._stream.end()
            return self._through.answer(body)
        except (CodecError, TranslationError):
            return body  # what cannot be read may still say what is wrong

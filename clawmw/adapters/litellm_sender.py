"""litellm as the last hop of a call that was made through it: its options, answers, exceptions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import httpx

from clawmw.adapters import wire
from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.ownership import claiming

__all__ = ["NO_KEY", "Sender"]

NO_KEY = "none"
"""For servers that want no key."""
_CHAT = "/chat/completions"
_ELSEWHERE = frozenset({
    "api_base", "base_url", "api_key", "api_version", "organization", "deployment_id",
    "custom_llm_provider", "client", "extra_headers", "azure_ad_token",
})  # fmt: skip
"""Options about where the caller's own model answers: they go to no other."""
_RETRY = ("retry-after", "retry-after-ms")


class Sender(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The transport below the policy, for one call. `url` stands for the caller's own address.

    `named`: how the policy knows the caller's model, and how litellm does.
    """

    reaches_all = True

    def __init__(
        self, litellm: Any, url: str, named: tuple[str, str], aside: Mapping[str, Any]
    ) -> None:
        self.litellm = litellm
        self.url = url
        self.model, self._own = named
        self._aside = aside
        self.error: Exception | None = None
        """What the last attempt raised."""
        self.given: tuple[bytes, Any] | None = None
        """The last answer: as bytes, and litellm's own object."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make one attempt."""
        options = self._options(request)
        if options is None:
            return _direct().handle_request(request)
        try:
            with _claiming(request):
                found = self.litellm.completion(**options)
        except Exception as error:  # noqa: BLE001 - what it raises is an answer to the policy
            return self._failed(error)
        return self._answer(found)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one attempt."""
        options = self._options(request)
        if options is None:
            direct = httpx.AsyncHTTPTransport()
            response = await direct.handle_async_request(request)
            response.stream = _Last(response.stream, direct)
            return response
        try:
            with _claiming(request):
                found = await self.litellm.acompletion(**options)
        except Exception as error:  # noqa: BLE001 - what it raises is an answer to the policy
            return self._failed(error)
        return self._answer(found)

    def _options(self, request: httpx.Request) -> dict[str, Any] | None:
        """What litellm is called with; None for a model with an address of its own."""
        self.error = self.given = None
        body: dict[str, Any] = json.loads(request.content)
        url, aside = str(request.url), dict(self._aside)
        if url == self.url and body["model"] == self.model:
            return {**aside, **body, "model": self._own}
        aside = {name: value for name, value in aside.items() if name not in _ELSEWHERE}
        if url == self.url:
            return {**aside, **body}
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.url.scheme == "litellm":
            return {**aside, **body, **({"api_key": key} if key else {})}
        if not url.endswith(_CHAT):
            return None  # it speaks another dialect, and so does the body by now
        base = url.removesuffix(_CHAT)
        there = {"model": f"openai/{body['model']}", "api_base": base, "api_key": key or NO_KEY}
        return {**aside, **body, **there}

    def _answer(self, found: Any) -> httpx.Response:
        if isinstance(found, self.litellm.ModelResponse):
            body = found.model_dump_json().encode()
            self.given = body, found
            headers = {"content-type": "application/json"}
            return httpx.Response(200, headers=headers, content=body)
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=_Events(found, self))

    def _failed(self, error: Exception) -> httpx.Response:
        """An exception of litellm's as the status it stands for; others are raised."""
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise error
        self.error = error
        code = getattr(error, "code", None)
        if isinstance(error, self.litellm.ContextWindowExceededError):
            code = "context_length_exceeded"
        body = {"message": str(error), "type": type(error).__name__, "code": code}
        given = getattr(getattr(error, "response", None), "headers", None) or {}
        headers = [(name, given[name]) for name in _RETRY if name in given]
        return httpx.Response(status, headers=headers, json={"error": body})


@cache
def _direct() -> httpx.HTTPTransport:
    """For models of the policy that have an address, and speak another dialect."""
    return httpx.HTTPTransport()


class _Last(httpx.AsyncByteStream):
    """The body of an answer; its connection ends with it, since event loops share none."""

    def __init__(self, body: Any, transport: httpx.AsyncHTTPTransport) -> None:
        self._body, self._transport = body, transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        """The reader is done, or left."""
        await self._body.aclose()
        await self._transport.aclose()


def _claiming(request: httpx.Request) -> AbstractContextManager[None]:
    """What litellm sends for this is this call: transports below let it through."""
    exchange = getattr(request.extensions.get(wire.EXTENSION), "exchange", "")
    return claiming(exchange, OpenAIChat().decode(request.content))


class _Events(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream of litellm's as the events that it came from."""

    def __init__(self, found: Any, sender: Sender) -> None:
        self._found, self._sender = found, sender

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._found:
                yield _event(chunk)
        except Exception as error:
            self._sender.error = error
            raise
        yield b"data: [DONE]\n\n"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._found:
                yield _event(chunk)
        except Exception as error:
            self._sender.error = error
            raise
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """The reader is done, or left."""
        close = getattr(getattr(self._found, "completion_stream", None), "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """`close`, awaiting."""
        close = getattr(self._found, "aclose", None)
        if close is not None:
            await close()


def _event(chunk: Any) -> bytes:
    said: str = chunk.model_dump_json(exclude_none=True)
    return b"data: " + said.encode() + b"\n\n"

"""What a caller of litellm gets: its own objects, or an exception of its own types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Self

import httpx

from clawmw.adapters.litellm_sender import Sender

__all__ = ["AsyncChunks", "Chunks", "whole"]


def whole(response: httpx.Response, sender: Sender) -> Any:
    """The answer as a `ModelResponse`; raises what stands for a failed or a stopped call."""
    if response.status_code >= 400:
        raise _error(response.status_code, response.content, response, sender)
    given = sender.given
    if given is not None and given[0] == response.content:
        answer = given[1]
    else:
        answer = sender.litellm.ModelResponse(**json.loads(response.content))
        if given is not None:
            answer._hidden_params = dict(given[1]._hidden_params)
    labels = {n: v for n, v in response.headers.items() if n.startswith("x-clawmw-")}
    hidden = answer._hidden_params
    hidden["additional_headers"] = {**(hidden.get("additional_headers") or {}), **labels}
    return answer


def _error(status: int, body: bytes, response: httpx.Response | None, sender: Sender) -> Exception:
    stopped = response is not None and "x-clawmw-stopped" in response.headers
    if sender.error is not None and not stopped:
        return sender.error
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    who = "clawmw" if stopped else ""
    error: Exception = sender.litellm.APIError(status, message, who, sender.model)
    return error


class _Reader:
    """What both twins know: how an event is read."""

    def __init__(self, response: httpx.Response, sender: Sender) -> None:
        self._response, self._sender = response, sender

    def _chunk(self, line: str) -> Any:
        """The chunk of a line; None: it holds none."""
        if not line.startswith("data: ") or line == "data: [DONE]":
            return None
        event = json.loads(line[6:])
        if "error" in event:
            raise _error(500, line[6:].encode(), None, self._sender)
        return self._sender.litellm.ModelResponseStream(**event)


class Chunks(_Reader):
    """A stream of `ModelResponseStream`, as litellm's own."""

    def __init__(self, response: httpx.Response, sender: Sender) -> None:
        super().__init__(response, sender)
        self._going = self._read()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._going)

    def _read(self) -> Generator[Any, None, None]:
        try:
            for line in self._response.iter_lines():
                chunk = self._chunk(line)
                if chunk is not None:
                    yield chunk
        finally:
            self._response.close()

    def close(self) -> None:
        """Read no further: the call ends here."""
        self._going.close()
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.close()


class AsyncChunks(_Reader):
    """The async twin."""

    def __init__(self, response: httpx.Response, sender: Sender) -> None:
        super().__init__(response, sender)
        self._going = self._read()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._going)

    async def _read(self) -> Any:
        try:
            async for line in self._response.aiter_lines():
                chunk = self._chunk(line)
                if chunk is not None:
                    yield chunk
        finally:
            await self._response.aclose()

    async def aclose(self) -> None:
        """Read no further: the call ends here."""
        await self._going.aclose()
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_about: object) -> None:
        await self.aclose()

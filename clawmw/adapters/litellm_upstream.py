"""litellm as an upstream: a transport for models that no HTTP address of ours leads to.

Chat completions in, chat completions out, streamed as the chunks come. litellm takes 5 seconds
and 200 MB to import, so that happens with the first call, in a thread; its price table is the
one it ships with, it reports to nobody, and it retries nothing: that is the policy's to decide.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

from clawmw.adapters.translating import body_class
from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.codecs.translate.base import CHAT, encoded
from clawmw.codecs.translate.faults import Fault, error_body, read_error
from clawmw.ownership import claiming

__all__ = ["LiteLLM", "upstream"]

_HINTS = frozenset({
    "frequency_penalty", "parallel_tool_calls", "prediction", "presence_penalty",
    "prompt_cache_key", "reasoning_effort", "safety_identifier", "seed", "service_tier",
    "stream_options", "temperature", "top_p", "user", "verbosity",
})  # fmt: skip
"""Fields that are left out for a provider that does not know them."""
_CARRIED = _HINTS | frozenset({
    "audio", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "modalities", "model", "n", "response_format", "stop", "stream",
    "thinking", "tool_choice", "tools", "top_logprobs", "web_search_options",
})  # fmt: skip
"""Fields of a body that are the model's. An allow-list: litellm would also take an address, a
key, or a file to read from its caller."""
_LOADING = threading.Lock()
_NAMES = re.compile(
    r"(?:litellm\.)?\w+(?:Error|Exception)(?:: | - )(?:\w+(?:Error|Exception)(?:: | - ))*"
)
_RETRY = ("retry-after", "retry-after-ms")


@cache
def upstream(module: ModuleType) -> LiteLLM:
    """The transport that makes answers of a flavour's classes."""
    return LiteLLM(module)


def _loaded() -> Any:
    """litellm, without its looking anything up; how another user set it is left alone."""
    with _LOADING:
        if "litellm" not in sys.modules:
            os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            import litellm

            litellm.telemetry = False
            litellm.suppress_debug_info = True
            litellm.disable_aiohttp_transport = True  # its sessions outlive their event loop
        return sys.modules["litellm"]


class LiteLLM:
    """A transport in both ways of calling. `module`: httpx, or what has its classes.

    Raises `module`'s exceptions: ConnectError, ReadTimeout, RemoteProtocolError.
    """

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def handle_request(self, request: Any) -> Any:
        """Answer one request."""
        litellm = _loaded()
        asked = _Asked(litellm, request)
        try:
            with claiming(asked.exchange, asked.decoded):
                found = litellm.completion(**asked.options)
        except Exception as error:  # noqa: BLE001 - whatever it raises is an answer
            return self._failed(error)
        return self._answer(found, asked)

    async def handle_async_request(self, request: Any) -> Any:
        """Answer one request."""
        litellm = await asyncio.to_thread(_loaded)
        asked = _Asked(litellm, request)
        try:
            with claiming(asked.exchange, asked.decoded):
                found = await litellm.acompletion(**asked.options)
        except Exception as error:  # noqa: BLE001 - whatever it raises is an answer
            return self._failed(error)
        return self._answer(found, asked)

    def _answer(self, found: Any, asked: _Asked) -> Any:
        headers = []
        if asked.dropped:
            headers.append(("x-clawmw-dropped", ",".join(asked.dropped)))
        kind = "text/event-stream" if asked.options.get("stream") else "application/json"
        headers.append(("content-type", kind))
        pieces = found if asked.options.get("stream") else [_dumped(found)]
        return self._response(200, headers, pieces)

    def _failed(self, error: Exception) -> Any:
        """An exception of litellm's as the answer it came from; raises where there was none."""
        status = getattr(error, "status_code", None)
        names = {kind.__name__ for kind in type(error).__mro__}
        if "APITimeoutError" in names:
            raise self._module.ReadTimeout(type(error).__name__) from error
        if "APIConnectionError" in names:
            raise self._module.ConnectError(type(error).__name__) from error
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise self._module.RemoteProtocolError(type(error).__name__) from error
        fault = _fault(status, str(getattr(error, "message", "")))
        if "ContextWindowExceededError" in names:
            fault = replace(fault, code="context_length_exceeded")
        given = getattr(error, "litellm_response_headers", None) or {}
        headers = [("content-type", "application/json")]
        headers += [(name, given[name]) for name in _RETRY if name in given]
        return self._response(status, headers, [encoded(error_body(CHAT, fault))])

    def _response(self, status: int, headers: list[tuple[str, str]], pieces: Any) -> Any:
        body = body_class(self._module, _Body)(self._module, pieces)
        return self._module.Response(status, headers=headers, stream=body)

    def close(self) -> None:
        """Nothing is held open here: litellm keeps its own clients."""

    async def aclose(self) -> None:
        """See `close`."""


class _Asked:
    """A request as litellm takes it."""

    def __init__(self, litellm: Any, request: Any) -> None:
        body: Mapping[str, Any] = json.loads(request.content)
        model = body["model"]
        known = litellm.get_supported_openai_params(model=model) or ()
        dropped = {n for n in body if n not in _CARRIED or (n in _HINTS and n not in known)}
        if "stream_options" in dropped and not body.get("stream"):
            dropped.discard("stream_options")
        self.dropped = sorted(dropped)
        self.options = {n: v for n, v in body.items() if n not in dropped and v is not None}
        self.options |= {"num_retries": 0, "max_retries": 0}
        headers = {n.lower(): v for n, v in request.headers.multi_items()}
        if key := headers.get("authorization", "").removeprefix("Bearer "):
            self.options["api_key"] = key
        if wait := (request.extensions.get("timeout") or {}).get("read"):
            self.options["timeout"] = wait
        self.exchange = getattr(request.extensions.get("clawmw"), "exchange", "")
        self.decoded = OpenAIChat().decode(request.content)


def _fault(status: int, message: str) -> Fault:
    """What an exception's message says: its provider's own error, behind litellm's names."""
    text = _NAMES.sub("", message, count=1)
    try:
        return read_error(json.loads(text[text.index("{") :]), status)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Fault(status, text or f"the provider answered {status}")


def _dumped(found: Any) -> bytes:
    """One of litellm's answers or chunks as JSON."""
    return json.dumps(found.model_dump(mode="json", warnings=False)).encode()


class _Body:
    """An answer's bytes: made already, or chunks as events."""

    def __init__(self, module: ModuleType, pieces: Any) -> None:
        self._module, self._pieces = module, pieces

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self._pieces, list):
            yield from self._pieces
            return
        try:
            for chunk in self._pieces:
                yield _event(chunk)
        except Exception as error:
            raise self._module.RemoteProtocolError(type(error).__name__) from error
        yield b"data: [DONE]\n\n"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._pieces, list):
            for piece in self._pieces:
                yield piece
            return
        try:
            async for chunk in self._pieces:
                yield _event(chunk)
        except Exception as error:
            raise self._module.RemoteProtocolError(type(error).__name__) from error
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """The reader is done, or left."""
        close = getattr(getattr(self._pieces, "completion_stream", None), "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """`close`, awaiting."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


def _event(chunk: Any) -> bytes:
    return b"data: " + _dumped(chunk) + b"\n\n"

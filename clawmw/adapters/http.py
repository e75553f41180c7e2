"""`clawmw.http_client(...)`: an HTTP client whose transport runs the policy.

Made for both `httpx` and `httpx2` (their classes are unrelated) by one factory. A request
that is no model call passes untouched, and so does everything when `CLAWMW_OFF=1`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, TypeAlias

from clawmw.adapters import wire
from clawmw.core.drive import aadvance, advance
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Response
from clawmw.errors import CodecError
from clawmw.ownership import Token, body_digest, passing
from clawmw.runtime import Live, Runtime, shared, switched_off

__all__ = [
    "Flavour",
    "async_http_client",
    "http_client",
    "make_async_transport",
    "make_transport",
]

Flavour: TypeAlias = Literal["httpx", "httpx2"]


def http_client(
    policy: Any,
    *,
    flavour: Flavour = "httpx",
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """An `httpx.Client` (or `httpx2.Client`) whose model calls run under `policy`.

    `policy`: a path, a mapping, a `Policy` or a `Runtime`. `transport`: what to send with
    (default: the flavour's own). `options` go to the client. Raises `PolicyError`.
    """
    module = import_module(flavour)
    wrapped = make_transport(shared(policy), flavour=flavour, inner=transport, identity=identity)
    return module.Client(transport=wrapped, **_client_options(module, options))


def async_http_client(
    policy: Any,
    *,
    flavour: Flavour = "httpx",
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """The async twin of `http_client`."""
    module = import_module(flavour)
    wrapped = make_async_transport(
        shared(policy), flavour=flavour, inner=transport, identity=identity
    )
    return module.AsyncClient(transport=wrapped, **_client_options(module, options))


def _client_options(module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    """Model calls take minutes: the clients' default of 5 seconds would cut them."""
    return {"timeout": module.Timeout(600.0, connect=10.0), **options}


def make_transport(
    runtime: Runtime,
    *,
    flavour: Flavour = "httpx",
    inner: Any = None,
    identity: Identity | None = None,
) -> Any:
    """A sync transport that runs the policy over `inner` (default: the flavour's own)."""
    module = import_module(flavour)
    return _classes(flavour)[0](runtime, inner or module.HTTPTransport(), identity)


def make_async_transport(
    runtime: Runtime,
    *,
    flavour: Flavour = "httpx",
    inner: Any = None,
    identity: Identity | None = None,
) -> Any:
    """The async twin of `make_transport`."""
    module = import_module(flavour)
    return _classes(flavour)[1](runtime, inner or module.AsyncHTTPTransport(), identity)


@cache
def _classes(flavour: Flavour) -> tuple[Any, Any]:
    """The two transport classes of one flavour."""
    return _sync_class(import_module(flavour)), _async_class(import_module(flavour))


class _Base:
    """What both twins share: whether a request is ours, and how an answer is built."""

    module: ModuleType

    def __init__(self, runtime: Runtime, inner: Any, identity: Identity | None) -> None:
        self.runtime = runtime
        self.inner = inner
        self.identity = identity

    def start(self, request: Any, body: bytes) -> Live | None:
        """The exchange of a model call; None when the request is to pass as it is."""
        dialect = wire.dialect_of(request.method, request.url.path)
        if dialect not in self.runtime.codecs or switched_off():
            return None
        if wire.owned(request.extensions.get(wire.EXTENSION), body):
            return None
        try:
            decoded = self.runtime.decode(dialect, body)
        except CodecError:
            return None  # not ours to judge: the provider says what is wrong with it
        headers = {k.lower(): v for k, v in request.headers.items()}
        return self.runtime.begin(decoded, headers, self.identity)

    def outgoing(self, request: Any, live: Live, call: Call) -> tuple[Any, Token]:
        """The request to send for `call`, and the token that goes with it."""
        body = live.codec.encode(call.request)
        token = Token(live.exchange, body_digest(body))
        url, given = str(request.url), request.headers.multi_items()
        entry = self.runtime.models.get(call.request.target)
        if entry is not None:
            url, given = wire.elsewhere(entry.base_url, entry.api_key_env, url, given)
        headers = wire.outgoing_headers(given, url, live.exchange, body)
        extensions = {**request.extensions, wire.EXTENSION: token}
        sent = self.module.Request(
            request.method, url, headers=headers, content=body, extensions=extensions
        )
        return sent, token

    def stopped(self, live: Live, result: Result) -> Any:
        """The answer to a call that a guard stopped."""
        status, headers, body = wire.refusal(live, result, self.runtime.refusal)
        return self.module.Response(status, headers=headers, content=body)

    def answer(self, live: Live, result: Result, last: Any) -> Any:
        """The caller's answer when no stream is open."""
        outcome = result.outcome
        if result.halt is not None:
            return self.stopped(live, result)
        if isinstance(outcome, Failure):
            kept = wire.answer_headers(outcome.headers)
            return self.module.Response(outcome.status or 502, headers=kept, content=outcome.body)
        assert isinstance(outcome, Response)
        headers = wire.answer_headers(last.headers.multi_items()) if last is not None else []
        body = outcome.body or b""
        if result.changed or outcome.body is None:
            if live.request.stream:
                body = live.codec.opening(outcome) + live.codec.closing(outcome, outcome.usage)
                headers = [("content-type", "text/event-stream")]
            else:
                body = live.codec.encode_response(outcome)
                headers = headers or [("content-type", "application/json")]
        status = last.status_code if last is not None else 200
        return self.module.Response(status, headers=headers, content=body)

    def failure(self, error: Exception) -> Failure:
        """A transport exception as a value."""
        module = self.module
        kind: Literal["timeout", "connect", "protocol"] = "protocol"
        if isinstance(error, module.TimeoutException):
            kind = "timeout"
        elif isinstance(error, module.ConnectError):
            kind = "connect"
        return Failure(kind, type(error).__name__)

    def outcome(self, live: Live, response: Any, body: bytes) -> Response | Failure:
        """A whole answer as a value."""
        if response.status_code >= 400:
            headers = tuple(response.headers.multi_items())
            return Failure(
                "status", f"HTTP {response.status_code}", response.status_code, body, headers
            )
        try:
            return live.codec.response(body)
        except CodecError as error:
            headers = tuple(response.headers.multi_items())
            return Failure("protocol", str(error), response.status_code, body, headers)


def _sync_class(module: ModuleType) -> type:
    class Transport(_Base, module.BaseTransport):  # type: ignore[name-defined,misc]
        """Runs the policy over an inner transport."""

        def handle_request(self, request: Any) -> Any:
            body = request.read()
            live = self.start(request, body)
            if live is None:
                return self.inner.handle_request(request)
            errors: list[Exception] = []
            step = advance(live.run, live.perform, None)
            last = None
            while isinstance(step, Call):
                called, last = self.call(request, live, step, errors)
                if called is None:
                    stream = self.reading(request, live, step, last)
                    headers = wire.answer_headers(last.headers.multi_items())
                    return module.Response(last.status_code, headers=headers, stream=stream)
                step = advance(live.run, live.perform, called)
            result = live.ended(step)
            if errors and isinstance(result.outcome, Failure) and result.outcome.status is None:
                raise errors[-1]
            return self.answer(live, result, last)

        def call(
            self, request: Any, live: Live, call: Call, errors: list[Exception]
        ) -> tuple[Called | None, Any]:
            """Send one attempt. No outcome: a stream is open and wants to be read."""
            sent, token = self.outgoing(request, live, call)
            started, clock = self.runtime.clock(), time.perf_counter()
            try:
                with passing(token):
                    response = self.inner.handle_request(sent)
                if call.tap is not None and wire.streams(response):
                    live.called += time.perf_counter() - clock
                    return None, response
                whole = b"".join(response.iter_bytes())
                response.close()
            except Exception as error:
                errors.append(error)
                live.called += time.perf_counter() - clock
                return Called(self.failure(error), started, self.runtime.clock()), None
            except BaseException:
                failure = Failure("cancelled", "interrupted")
                advance(live.run, live.perform, Called(failure, started, self.runtime.clock()))
                raise
            live.called += time.perf_counter() - clock
            return Called(
                self.outcome(live, response, whole), started, self.runtime.clock()
            ), response

        def reading(self, request: Any, live: Live, call: Call, response: Any) -> Any:
            return Stream(self, request, live, call, response)

        def close(self) -> None:
            self.inner.close()

    class Stream(module.SyncByteStream):  # type: ignore[name-defined,misc]
        """The caller's side of a stream; closing it early ends the exchange."""

        def __init__(self, owner: Any, request: Any, live: Live, call: Call, response: Any):
            self.owner, self.request, self.live = owner, request, live
            self.call, self.response = call, response
            self.started = owner.runtime.clock()
            self.over = False

        def __iter__(self) -> Iterator[bytes]:
            errors: list[Exception] = []
            while True:
                tap = self.call.tap
                assert tap is not None
                complete = True
                try:
                    for chunk in wire.timed(self.live, self.response.iter_bytes()):
                        given = tap.feed(chunk)
                        if given:
                            yield given
                        if tap.cut is not None:
                            break
                except Exception as error:
                    errors.append(error)
                    complete = False
                self.response.close()
                rest, answer = tap.end(complete=complete)
                if rest:
                    yield rest
                step = self.ended(answer)
                if isinstance(step, Call):
                    called, response = self.owner.call(self.request, self.live, step, errors)
                    if called is None:
                        self.call, self.response = step, response
                        continue
                    step = advance(self.live.run, self.live.perform, called)
                if errors and not complete:
                    raise errors[-1]
                if complete and isinstance(step, Result):
                    yield wire.ending(self.live, tap, step)
                return

        def ended(self, answer: Response) -> Call | Result:
            step = advance(
                self.live.run,
                self.live.perform,
                Called(answer, self.started, self.owner.runtime.clock()),
            )
            if isinstance(step, Result):
                self.over = True
                self.live.ended(step)
            return step

        def close(self) -> None:
            self.response.close()
            if not self.over and self.call.tap is not None:
                self.over = True
                _, answer = self.call.tap.end(complete=False)
                self.ended(answer)

    Transport.module = module
    return Transport


def _async_class(module: ModuleType) -> type:
    class AsyncTransport(_Base, module.AsyncBaseTransport):  # type: ignore[name-defined,misc]
        """Runs the policy over an inner async transport."""

        async def handle_async_request(self, request: Any) -> Any:
            body = await request.aread()
            live = self.start(request, body)
            if live is None:
                return await self.inner.handle_async_request(request)
            errors: list[Exception] = []
            step = await aadvance(live.run, live.aperform, None)
            last = None
            while isinstance(step, Call):
                called, last = await self.call(request, live, step, errors)
                if called is None:
                    stream = AsyncStream(self, request, live, step, last)
                    headers = wire.answer_headers(last.headers.multi_items())
                    return module.Response(last.status_code, headers=headers, stream=stream)
                step = await aadvance(live.run, live.aperform, called)
            result = live.ended(step)
            if errors and isinstance(result.outcome, Failure) and result.outcome.status is None:
                raise errors[-1]
            return self.answer(live, result, last)

        async def call(
            self, request: Any, live: Live, call: Call, errors: list[Exception]
        ) -> tuple[Called | None, Any]:
            """Send one attempt. No outcome: a stream is open and wants to be read."""
            sent, token = self.outgoing(request, live, call)
            started, clock = self.runtime.clock(), time.perf_counter()
            try:
                with passing(token):
                    response = await self.inner.handle_async_request(sent)
                if call.tap is not None and wire.streams(response):
                    live.called += time.perf_counter() - clock
                    return None, response
                whole = b"".join([chunk async for chunk in response.aiter_bytes()])
                await response.aclose()
            except Exception as error:
                errors.append(error)
                live.called += time.perf_counter() - clock
                return Called(self.failure(error), started, self.runtime.clock()), None
            except BaseException:
                failure = Failure("cancelled", "interrupted")
                # Settled here and now: a cancelled task may not await again.
                advance(live.run, live.perform, Called(failure, started, self.runtime.clock()))
                raise
            live.called += time.perf_counter() - clock
            return Called(
                self.outcome(live, response, whole), started, self.runtime.clock()
            ), response

        async def aclose(self) -> None:
            await self.inner.aclose()

    class AsyncStream(module.AsyncByteStream):  # type: ignore[name-defined,misc]
        """The caller's side of an async stream."""

        def __init__(self, owner: Any, request: Any, live: Live, call: Call, response: Any):
            self.owner, self.request, self.live = owner, request, live
            self.call, self.response = call, response
            self.started = owner.runtime.clock()
            self.over = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            errors: list[Exception] = []
            while True:
                tap = self.call.tap
                assert tap is not None
                complete = True
                try:
                    async for chunk in wire.atimed(self.live, self.response.aiter_bytes()):
                        given = tap.feed(chunk)
                        if given:
                            yield given
                        if tap.cut is not None:
                            break
                except Exception as error:
                    errors.append(error)
                    complete = False
                await self.response.aclose()
                rest, answer = tap.end(complete=complete)
                if rest:
                    yield rest
                step = await aadvance(
                    self.live.run,
                    self.live.aperform,
                    Called(answer, self.started, self.owner.runtime.clock()),
                )
                if isinstance(step, Call):
                    called, response = await self.owner.call(self.request, self.live, step, errors)
                    if called is None:
                        self.call, self.response = step, response
                        continue
                    step = await aadvance(self.live.run, self.live.aperform, called)
                self.over = True
                if isinstance(step, Result):
                    self.live.ended(step)
                if errors and not complete:
                    raise errors[-1]
                if complete and isinstance(step, Result):
                    yield wire.ending(self.live, tap, step)
                return

        async def aclose(self) -> None:
            await self.response.aclose()
            if not self.over and self.call.tap is not None:
                self.over = True
                _, answer = self.call.tap.end(complete=False)
                called = Called(answer, self.started, self.owner.runtime.clock())
                # Settled here and now: the task that closes may be cancelled.
                step = advance(self.live.run, self.live.perform, called)
                if isinstance(step, Result):
                    self.live.ended(step)

    AsyncTransport.module = module
    return AsyncTransport

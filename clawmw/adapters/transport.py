"""The transports behind `http_client`: one exchange a model call, sync and async.

The two differ only in what they await. A bug of ours before the call lets it through as
it was; a bug after it leaves the provider's answer as it came.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar, Literal

from clawmw.adapters import failures, wire
from clawmw.adapters.attempt import Attempt
from clawmw.adapters.bodies import take
from clawmw.adapters.calling import caller
from clawmw.adapters.leading import lead, onward
from clawmw.adapters.patience import Patience
from clawmw.adapters.refusal import refusal
from clawmw.codecs.translate import Translator
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Response
from clawmw.errors import InternalError
from clawmw.ownership import Token, claimed, passing
from clawmw.runtime import Live, Runtime, switched_off

__all__ = ["AsyncTransport", "Base", "Transport"]


class Base:
    """What both twins share: whether a request is ours, and how an answer is built."""

    module: ClassVar[ModuleType]
    reading: ClassVar[Any]
    decides = True
    """False: the next layer decides (a gateway); it is only told of what was decided already."""
    shared = False
    """Requests of any kind pass here, to whoever: what is no model call keeps its trace context."""

    def __init__(self, runtime: Runtime, inner: Any, identity: Identity | None) -> None:
        self.runtime = runtime
        self.inner = inner
        self.identity = identity

    def ours(self, request: Any) -> bool:
        """Whether a request is a model call that the policy is to decide about."""
        dialect = wire.dialect_of(request.method, request.url.path)
        return dialect in self.runtime.codecs and not switched_off()

    def passing(self, request: Any, body: bytes | None = None) -> Any:
        """A request that passes as it is, but for what we alone understand, and secrets."""
        if wire.EXTENSION in request.extensions or not self.decides:
            return request  # the layer that owns it sees to that
        theirs = self.shared and not wire.dialect_of(request.method, request.url.path)
        for name in set(request.headers):
            if name.lower().startswith("x-clawmw-") or (wire.tells(name) and not theirs):
                del request.headers[name]
        clean = self.runtime.redactor.data(body or b"")
        if clean == (body or b""):
            return request
        headers = [(n, v) for n, v in request.headers.multi_items() if n != "content-length"]
        more = {"headers": headers, "content": clean, "extensions": request.extensions}
        return self.module.Request(request.method, request.url, **more)

    def redacts(self, request: Any) -> bool:
        """Whether a request that is no model call may hold secrets to be replaced: it is JSON."""
        kind = request.headers.get("content-type", "")
        return bool(self.runtime.redactor) and "json" in kind and not switched_off()

    def start(self, request: Any, body: bytes) -> Live | None:
        """The exchange of a model call; None when the request is to pass as it is."""
        dialect = wire.dialect_of(request.method, request.url.path)
        outer = wire.owner(request.extensions.get(wire.EXTENSION), body)
        if outer is not None:
            self._hand_on(request, outer, body)
            return None
        headers = {k.lower(): v for k, v in request.headers.items()}
        known = request.extensions.get(wire.DECODED)
        taken = known or take(self.runtime, dialect, body, headers)
        claim = claimed(taken.request, body)
        if claim is not None:
            self._hand_on(request, claim.exchange, body)
            return None
        if not self.decides:
            return None
        place = wire.place(str(request.url), headers)
        said = request.extensions.get(wire.CALLER, headers)
        return self.runtime.begin(taken.request, said, caller(self.identity), place, taken.odd)

    def _hand_on(self, request: Any, exchange: str, body: bytes) -> None:
        """A request that an outer layer decided about, as the next layer is to see it."""
        url, given = str(request.url), request.headers.multi_items()
        request.headers = self.module.Headers(wire.outgoing_headers(given, url, exchange, body))
        request.extensions = {
            **request.extensions,
            wire.EXTENSION: Token(exchange, body),
        }

    def outgoing(
        self, request: Any, live: Live, call: Call, patience: Patience
    ) -> tuple[Any, Token, Translator | None]:
        """The request to send for `call`, the token that goes with it, and who translates.

        Raises `TranslationError`.
        """
        url, given = str(request.url), request.headers.multi_items()
        chosen = live.terms.models.get(call.request.target)
        here = request.extensions.get(wire.ENTRY)
        to = lead(chosen, here, live.codec, call.request, url, given)
        token = Token(live.exchange, to.body)
        headers = wire.outgoing_headers(to.headers, to.url, live.exchange, to.body)
        extensions = {**request.extensions, wire.EXTENSION: token}
        for ours in (wire.DECODED, wire.CALLER, wire.ENTRY):
            extensions.pop(ours, None)
        extensions["timeout"] = patience.extension(request.extensions.get("timeout"))
        sent = self.module.Request(
            request.method, to.url, headers=headers, content=to.body, extensions=extensions
        )
        return sent, token, to.translator

    def open(self, live: Live, request: Any, attempt: Attempt) -> Any:
        """The caller's answer while a stream is open: it is read as the caller reads."""
        response = attempt.response
        headers = wire.answer_headers(response.headers.multi_items())
        headers += attempt.call.labels.items()
        stream = self.reading(self, live, request, attempt)
        return self.module.Response(response.status_code, headers=headers, stream=stream)

    def answer(self, live: Live, result: Result, attempt: Attempt | None) -> Any:
        """The caller's answer when no stream is open; raises what the wire raised."""
        outcome, last = result.outcome, attempt.response if attempt else None
        if result.halt is not None:
            status, headers, body = refusal(live, result, live.terms.refusal)
            return self.module.Response(status, headers=headers, content=body)
        if isinstance(outcome, Failure):
            raised = attempt.error if attempt is not None else None
            if raised is not None and not failures.answered(outcome, attempt):
                raise raised
            where = str(attempt.sent.url) if attempt is not None else ""
            status, headers, body = failures.failed(outcome, where, live.codec)
            headers += result.labels.items()
            return self.module.Response(status, headers=headers, content=body)
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
        headers += result.labels.items()
        status = last.status_code if last is not None else 200
        return self.module.Response(status, headers=headers, content=body)

    def go_on(self, live: Live, called: Called) -> Call | Result | None:
        """The next step of the exchange; None when a bug of ours ended it."""
        try:
            return advance(live.run, live.perform, called)
        except Exception as error:  # noqa: BLE001 - the answer is there: it stays
            self.runtime.broke(live, error)
            return None

    async def ago_on(self, live: Live, called: Called) -> Call | Result | None:
        """`go_on`, awaiting."""
        try:
            return await live.aadvance(called)
        except Exception as error:  # noqa: BLE001 - the answer is there: it stays
            self.runtime.broke(live, error)
            return None

    def plain(self, attempt: Attempt | None) -> Any:
        """The provider's answer as it came."""
        if attempt is None:
            raise InternalError("the exchange ended without a call")
        if attempt.error is not None:
            raise attempt.error
        response = attempt.response
        headers = wire.answer_headers(response.headers.multi_items())
        return self.module.Response(response.status_code, headers=headers, content=attempt.body)

    def whole(self, attempt: Attempt, body: bytes) -> Called:
        """An answer that is no stream."""
        attempt.body = body
        attempt.arrived()
        response = attempt.response
        headers = tuple(response.headers.multi_items())
        status = response.status_code
        if status >= 400:
            kind: Literal["status", "refused"] = "status" if attempt.made else "refused"
            return attempt.called(Failure(kind, f"HTTP {status}", status, body, headers))
        try:
            return attempt.called(attempt.live.codec.response(body))
        except Exception:  # noqa: BLE001 - an answer we cannot read is still an answer
            read = failures.read_as_stream(attempt.call.tap, body)
            codec = attempt.live.codec
            return attempt.called(read or failures.unreadable(codec, status, body, headers))

    def failure(self, error: Exception) -> Failure:
        """A transport exception as a value. Its text may name hosts: only its type is told."""
        kind: Literal["timeout", "connect", "protocol", "unusable"] = "unusable"
        if isinstance(error, self.module.ConnectError | self.module.ConnectTimeout):
            kind = "connect"
        elif isinstance(error, self.module.TimeoutException):
            kind = "timeout"
        elif isinstance(error, self.module.TransportError):
            kind = "protocol"
        return Failure(kind, type(error).__name__)

    def cancelled(self, live: Live, attempt: Attempt) -> None:
        """The caller gave up: settle here and now, a cancelled task may not await again."""
        advance(live.run, live.perform, attempt.called(Failure("cancelled", "interrupted")))


class Transport(Base):
    """Runs the policy over an inner sync transport."""

    def handle_request(self, request: Any) -> Any:
        """Answer one request."""
        ours = self.ours(request)
        body = request.read() if ours or self.redacts(request) else None
        live = self.start(request, body) if ours and body is not None else None
        if live is None:
            return self.inner.handle_request(self.passing(request, body))
        attempt: Attempt | None = None
        try:
            step = advance(live.run, live.perform, None)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
            self.runtime.broke(live, error)
            return self.inner.handle_request(self.passing(request, body))
        after: Call | Result | None = step
        while isinstance(after, Call):
            attempt, called = self.call(request, live, after)
            if called is None:
                return self.open(live, request, attempt)
            after = self.go_on(live, called)
        if after is None:
            return self.plain(attempt)
        return self.answer(live, live.ended(after), attempt)

    def call(self, request: Any, live: Live, call: Call) -> tuple[Attempt, Called | None]:
        """Make one attempt. No outcome: a stream is open and wants to be read."""
        attempt = Attempt(self, request, live, call)
        try:
            if (response := attempt.response) is None:
                with passing(attempt.token):
                    inner = onward(self.inner, self.module, str(attempt.sent.url))
                    response = attempt.came(inner.handle_request(attempt.sent))
            attempt.patience.begun()
            if call.tap is not None and wire.streams(response):
                attempt.waited()
                return attempt, None
            body = self._body(attempt)
            response.close()
        except Exception as error:  # noqa: BLE001 - whatever the wire raises is an outcome
            attempt.waited()
            if attempt.response is not None:
                attempt.response.close()
            return attempt, attempt.failed(error)
        except BaseException:
            self.cancelled(live, attempt)
            raise
        attempt.waited()
        return attempt, self.whole(attempt, body)

    def _body(self, attempt: Attempt) -> bytes:
        chunks, found = iter(attempt.response.iter_bytes()), []
        while (chunk := attempt.next(chunks)) is not None:
            found.append(chunk)
            if chunk.strip():  # some servers send white space while the model thinks
                attempt.arrived()
        return b"".join(found)

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()


class AsyncTransport(Base):
    """Runs the policy over an inner async transport."""

    async def handle_async_request(self, request: Any) -> Any:
        """Answer one request."""
        ours = self.ours(request)
        body = await request.aread() if ours or self.redacts(request) else None
        live = self.start(request, body) if ours and body is not None else None
        if live is None:
            return await self.inner.handle_async_request(self.passing(request, body))
        attempt: Attempt | None = None
        try:
            step = await live.aadvance(None)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
            self.runtime.broke(live, error)
            return await self.inner.handle_async_request(self.passing(request, body))
        after: Call | Result | None = step
        while isinstance(after, Call):
            attempt, called = await self.call(request, live, after)
            if called is None:
                return self.open(live, request, attempt)
            after = await self.ago_on(live, called)
        if after is None:
            return self.plain(attempt)
        return self.answer(live, live.ended(after), attempt)

    async def call(self, request: Any, live: Live, call: Call) -> tuple[Attempt, Called | None]:
        """Make one attempt. No outcome: a stream is open and wants to be read."""
        attempt = Attempt(self, request, live, call)
        response = attempt.response
        try:
            if response is None:
                with passing(attempt.token):
                    inner = onward(self.inner, self.module, str(attempt.sent.url))
                    going = inner.handle_async_request(attempt.sent)
                    response = attempt.came(await attempt.patience.of(going))
            attempt.patience.begun()
            if call.tap is not None and wire.streams(response):
                attempt.waited()
                return attempt, None
            body = await self._body(attempt)
            await response.aclose()
        except Exception as error:  # noqa: BLE001 - whatever the wire raises is an outcome
            attempt.waited()
            if response is not None:
                await response.aclose()
            return attempt, attempt.failed(error)
        except BaseException:
            self.cancelled(live, attempt)
            if response is not None:
                await response.aclose()
            raise
        attempt.waited()
        return attempt, self.whole(attempt, body)

    async def _body(self, attempt: Attempt) -> bytes:
        chunks, found = aiter(attempt.response.aiter_bytes()), []
        while (chunk := await attempt.anext(chunks)) is not None:
            found.append(chunk)
            if chunk.strip():  # some servers send white space while the model thinks
                attempt.arrived()
        return b"".join(found)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

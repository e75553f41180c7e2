"""One exchange for an agent framework's hook, which has messages in hand and no HTTP.

Chat completions in and out, as dictionaries: the form every framework can turn its messages
into. What the policy left alone is named by its index, so that a hook hands on the
framework's own objects. A bug of ours lets the call through as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clawmw.adapters.calling import caller
from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.decisions import Halt
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Json, Message, Response
from clawmw.errors import ClawmwError, CodecError, InternalError, Refused
from clawmw.ownership import claiming
from clawmw.runtime import Live, Runtime, switched_off

__all__ = ["Answered", "Asked", "Direct"]

Body: TypeAlias = dict[str, Json]
"""A chat-completions request or answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The call to make, as the policy wants it."""

    body: Body
    messages: tuple[tuple[int | None, Json], ...]
    """Each message, and the index of the caller's own that it still is; None: changed or added."""
    target: str = ""
    """The policy's name of the model to ask; "": the caller's own."""

    @property
    def model(self) -> str:
        """The model's id."""
        return str(self.body["model"])


@dataclass(frozen=True, slots=True)
class Answered:
    """What the caller gets."""

    body: Body
    """The answer; for a stopped call one that says so."""
    changed: bool
    """False: it is what the last `send` returned, and the framework's own object will do."""
    halt: Halt | None = None
    """What stopped the call."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """`x-clawmw-*`: what was done, as a gateway tells it in headers."""

    def granted(self) -> Answered:
        """This, unless the call was stopped. Raises `Refused`."""
        if self.halt is not None:
            raise Refused(str(self.halt))
        return self


Send: TypeAlias = Callable[[Asked], Body]
ASend: TypeAlias = Callable[[Asked], Awaitable[Body]]


class Direct:
    """Runs the policy over calls that `send` makes.

    `send` gets what to ask and returns the answer, or raises what the framework raises; that
    reaches the caller when the policy has no better idea.
    """

    def __init__(self, runtime: Runtime, identity: Identity | None = None) -> None:
        self.runtime = runtime
        self.identity = identity

    def call(
        self,
        body: Body,
        send: Send,
        *,
        headers: Mapping[str, str] | None = None,
        identity: Identity | None = None,
    ) -> Answered:
        """Make one call. Raises what `send` raised."""
        going = self._begin(body, headers, identity)
        if isinstance(going, Asked):
            return Answered(send(going), changed=False)
        try:
            step = advance(going.live.run, going.live.perform, None)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
            self.runtime.broke(going.live, error)
            return Answered(send(going.as_it_is()), changed=False)
        while isinstance(step, Call):
            asked = going.asked(step)
            try:
                with claiming(going.live.exchange, step.request):
                    called = going.answered(send(asked))
            except Exception as error:  # noqa: BLE001 - whatever it raises is an outcome
                called = going.failed(error)
            except BaseException:
                going.cancelled()
                raise
            try:
                step = advance(going.live.run, going.live.perform, called)
            except Exception as error:  # noqa: BLE001 - the answer is there: it stays
                return going.broke(error)
        return going.ended(step)

    async def acall(
        self,
        body: Body,
        send: ASend,
        *,
        headers: Mapping[str, str] | None = None,
        identity: Identity | None = None,
    ) -> Answered:
        """`call`, awaiting."""
        going = self._begin(body, headers, identity)
        if isinstance(going, Asked):
            return Answered(await send(going), changed=False)
        try:
            step = await going.live.aadvance(None)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop an agent
            self.runtime.broke(going.live, error)
            return Answered(await send(going.as_it_is()), changed=False)
        while isinstance(step, Call):
            asked = going.asked(step)
            try:
                with claiming(going.live.exchange, step.request):
                    called = going.answered(await send(asked))
            except Exception as error:  # noqa: BLE001 - whatever it raises is an outcome
                called = going.failed(error)
            except BaseException:
                going.cancelled()
                raise
            try:
                step = await going.live.aadvance(called)
            except Exception as error:  # noqa: BLE001 - the answer is there: it stays
                return going.broke(error)
        return going.ended(step)

    def _begin(
        self, body: Body, headers: Mapping[str, str] | None, identity: Identity | None
    ) -> _Going | Asked:
        """The exchange; or what to ask when the call is to pass."""
        own = body
        try:
            wire = json.dumps(body).encode()
        except (TypeError, ValueError):
            return _as_it_is(body, body)  # no JSON: the framework says what is wrong with it
        if switched_off():
            return _as_it_is(body, own)
        clean = self.runtime.redactor.data(wire)
        if clean is not wire:
            body = json.loads(clean)
        try:
            request = self.runtime.decode(DIALECT, clean)
        except CodecError:
            return _as_it_is(body, own)  # not ours to judge, either
        who = caller(identity or self.identity)
        live = self.runtime.begin(request, dict(headers or {}), who, "direct")
        return _Going(self.runtime, live, body, own)


class _Going:
    """One exchange under way: what was asked last, and what came of it."""

    def __init__(self, runtime: Runtime, live: Live, body: Body, own: Body) -> None:
        self.runtime = runtime
        self.live = live
        self.body, self.own = body, own
        places = _as_it_is(body, own).messages
        pairs = zip(live.request.messages, places, strict=True)
        self._places = {id(message): at for message, (at, _) in pairs if at is not None}
        self._given: Body | None = None
        self._error: Exception | None = None
        self._started, self._clock = 0.0, 0.0

    def as_it_is(self) -> Asked:
        """The caller's own call, without secrets."""
        return _as_it_is(self.body, self.own)

    def asked(self, call: Call) -> Asked:
        """What `send` is to ask; the time from now on is the model's."""
        self._given = self._error = None
        self._started, self._clock = self.runtime.clock(), time.perf_counter()
        request = call.request
        messages = tuple([self._placed(message) for message in request.messages])
        body: Body = {"model": request.model, "messages": [value for _, value in messages]}
        if request.tools:
            body["tools"] = [tool.raw for tool in request.tools]
        return Asked({**body, **request.params}, messages, request.target)

    def _placed(self, message: Message) -> tuple[int | None, Json]:
        at = self._places.get(id(message))
        if at is not None:
            return at, self.body["messages"][at]
        return None, json.loads(self.live.codec.seal(message).wire or b"{}")

    def answered(self, given: Body) -> Called:
        """The answer of `send`."""
        self._given = given
        try:
            outcome: Response | Failure = self.live.codec.response(json.dumps(given).encode())
        except (CodecError, TypeError, ValueError) as error:
            outcome = Failure("unusable", f"no chat completion: {type(error).__name__}")
        return self._called(outcome)

    def failed(self, error: Exception) -> Called:
        """What `send` raised."""
        self._error = error
        return self._called(_failure(error))

    def _called(self, outcome: Response | Failure) -> Called:
        self.live.called += time.perf_counter() - self._clock
        headers = outcome.headers if isinstance(outcome, Failure) else ()
        return Called(outcome, self._started, self.runtime.clock(), headers=headers)

    def cancelled(self) -> None:
        """The caller gave up: settle here and now, a cancelled task may not await again."""
        called = self._called(Failure("cancelled", "interrupted"))
        advance(self.live.run, self.live.perform, called)

    def broke(self, error: Exception) -> Answered:
        """A bug of ours after the call: what came of it, as it came."""
        self.runtime.broke(self.live, error)
        return self._plain()

    def _plain(self) -> Answered:
        if self._error is not None:
            raise self._error
        if self._given is None:
            raise InternalError("the exchange ended without a call")
        return Answered(self._given, changed=False)

    def ended(self, result: Result) -> Answered:
        """What the caller gets; raises what `send` raised last."""
        self.live.ended(result)
        outcome = result.outcome
        if result.halt is not None:
            return Answered(self._refusal(result.halt), True, result.halt, result.labels)
        if isinstance(outcome, Response) and (result.changed or self._given is None):
            body = json.loads(self.live.codec.encode_response(outcome))
            return Answered(body, changed=True, labels=result.labels)
        if isinstance(outcome, Failure) and self._error is None and self._given is None:
            status = f" ({outcome.status})" if outcome.status else ""
            raise ClawmwError(f"the same call, made by another task, failed{status}")
        answered = self._plain()
        return Answered(answered.body, changed=False, labels=result.labels)

    def _refusal(self, halt: Halt) -> Body:
        message: Body = {"role": "assistant", "content": str(halt)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        named = {"id": f"clawmw-{self.live.exchange}", "model": self.live.request.model}
        return {**named, "object": "chat.completion", "created": 0, "choices": [choice]}


def _as_it_is(body: Body, own: Body) -> Asked:
    """`body`, which is the caller's `own`, or that without secrets."""
    mine, theirs = body.get("messages") or (), own.get("messages") or ()
    pairs = enumerate(zip(mine, theirs, strict=True))
    return Asked(body, tuple([(at if a is b or a == b else None, a) for at, (a, b) in pairs]))


def _failure(error: Exception) -> Failure:
    """An exception as a value: by its HTTP status if it has one, else by its name.

    SDKs of models name theirs alike (`status_code`, `response`). Its text may hold content:
    only its type is told.
    """
    name = type(error).__name__
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int) and status >= 400:
        headers = getattr(response, "headers", None)
        pairs = tuple((str(k), str(v)) for k, v in dict(headers or {}).items())
        return Failure("status", name, status, headers=pairs)
    kind: Literal["timeout", "connect", "unusable"] = "unusable"
    if isinstance(error, TimeoutError) or "Timeout" in name:
        kind = "timeout"
    elif isinstance(error, ConnectionError) or "Connect" in name:
        kind = "connect"
    return Failure(kind, name)

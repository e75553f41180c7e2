"""`Agent(model, capabilities=[clawmw.pydantic_ai.Capability("policy.yaml")])`.

Each model request of the agent runs under the policy, streams included. What the agent has in
its message history stays as it is: only what is sent changes.
"""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from clawmw.adapters.direct import Asked, Body, Direct
from clawmw.adapters.direct_stream import astreamed
from clawmw.adapters.failures import retries
from clawmw.adapters.pydantic_ai_call import Ask
from clawmw.adapters.pydantic_ai_messages import answer_of, response_of
from clawmw.adapters.pydantic_ai_stream import End, Event, Events, Signed
from clawmw.core.decisions import Halt
from clawmw.core.identity import Identity, clean
from clawmw.errors import Refused
from clawmw.observe.spans.ambient import current
from clawmw.policy.models import ModelEntry
from clawmw.runtime import shared, switched_off

__all__ = ["Capability", "Stopped", "model"]

_NOBODY = Identity()
_caller: ContextVar[Identity | None] = ContextVar("clawmw_pydantic_ai", default=None)
"""Whose run this is: set for a run, seen by the runs that its tools start."""


Others: TypeAlias = dict[tuple[str, int], tuple[Model, Model]]
"""Models for the policy's names: by name and by the model that they stand in for, which is held."""
_PROVIDERS = frozenset({"openai", "anthropic", "deepseek", "mistral", "groq", "xai"})
"""Prefixes of a model's id (`provider/model`) by which pydantic-ai makes the model."""


class Stopped(Refused, UsageLimitExceeded):
    """A guard stopped a request whose answer is no text: both ours and pydantic-ai's own."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.message = message


def model(model: Model | str, policy: Any, *, identity: Identity | None = None) -> Model:
    """A model of pydantic-ai under a policy, for direct requests and agents without capabilities.

    `policy`: a path, a mapping, a `Policy` or a `Runtime`. Raises `PolicyError`.
    """
    return _Guarded(model, Direct(shared(policy), identity), {})


@dataclass
class Capability(AbstractCapability[Any]):
    """See the module. `policy`: a path, a mapping, a `Policy` or a `Runtime`.

    A conversation is a session, a run is a chain; an agent that a tool runs is an agent of its
    own in that chain. A stopped request is answered with a text where the output may be one,
    else it raises `Stopped`, which is a `UsageLimitExceeded`. Raises `PolicyError`.
    """

    policy: Any
    identity: Identity | None = None
    _direct: Direct = field(init=False, repr=False)
    _others: Others = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._direct = Direct(shared(self.policy), self.identity)

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """Tell the runs that this one starts whose they are."""
        mark = _caller.set(_who(ctx, _caller.get()))
        try:
            return await handler()
        finally:
            _caller.reset(mark)

    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Any) -> Any:
        """Ask a model that the policy guards."""
        who = _caller.get() or _who(ctx, None)
        guarded = copy.copy(request_context)
        guarded.model = _Guarded(request_context.model, self._direct, self._others, who)
        return await handler(guarded)


def _who(ctx: Any, above: Identity | None) -> Identity:
    """The caller, as pydantic-ai knows it."""
    agent = clean(getattr(ctx.agent, "name", None)) or "default"
    session = clean(getattr(ctx, "conversation_id", None)) or ""
    if above is None:
        # A run within a trace of the application is part of what that trace is about.
        chain = "" if current() is not None else clean(ctx.run_id) or ""
        return Identity(agent=agent, session=session, chain=chain)
    return Identity(
        agent=agent,
        session=session,
        chain=above.chain,
        hop=above.hop + 1,
        parent_session=above.session or None,
    )


class _Guarded(WrapperModel):
    """A model whose requests the policy decides about."""

    def __init__(
        self, wrapped: Any, direct: Direct, others: Others, who: Identity | None = None
    ) -> None:
        super().__init__(wrapped)
        self.others = others
        self.direct = direct
        self.who = _over(who, direct.identity)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """One answer under the policy."""
        ask = self._ask(messages, model_settings, model_request_parameters, stream=False)
        came: list[ModelResponse] = []

        async def send(asked: Asked) -> Body:
            given = ask.to(asked, came, once=self.once)
            came.append(await self.asked(asked).request(*given))
            return answer_of(came[-1])

        answered = await self.direct.acall(ask.body, send, identity=self.who)
        if answered.halt is not None:
            return _refusal(answered.halt, ask)
        if answered.changed or not came:
            return response_of(answered.body, came[-1] if came else None)
        return came[-1]

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """One answer under the policy, as it comes; asked for when it is first read."""
        ask = self._ask(messages, model_settings, model_request_parameters, stream=True)
        stream = _Stream(model_request_parameters, self, ask, run_context)
        try:
            yield stream
        finally:
            await stream.left()

    @property
    def once(self) -> bool:
        """Whether the policy alone tries again."""
        return retries(self.direct.runtime) and not switched_off()

    def _ask(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        stream: bool,
    ) -> Ask:
        """The request; how the model gives its output is known to the model."""
        resolved = self.wrapped.prepare_request(settings, params)
        return Ask.of(self.model_name, messages, (settings, params), resolved, stream=stream)

    def asked(self, asked: Asked) -> Model:
        """The model to ask: the caller's own, or another that the policy names."""
        if not asked.target:
            return self.wrapped
        key = (asked.target, id(self.wrapped))
        if key not in self.others:
            entry = self.direct.runtime.terms.models[asked.target]
            self.others[key] = self.wrapped, _other(entry, self.wrapped)
        return self.others[key][1]


@dataclass
class _Stream(StreamedResponse):
    """One answer as it comes: what `astreamed` makes of one or several attempts."""

    guarded: _Guarded
    ask: Ask
    run_context: Any
    _sub: StreamedResponse | None = field(default=None, init=False)
    _reading: AsyncGenerator[Event, None] | None = field(default=None, init=False)
    _began: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        talk = Events(lambda halt: _text(halt, self.ask), _signs(self.guarded.wrapped))
        came: list[ModelResponse] = []

        async def send(asked: Asked) -> AsyncGenerator[Event, None]:
            given = self.ask.to(asked, came, once=self.guarded.once)
            async with self.guarded.asked(asked).request_stream(*given, self.run_context) as sub:
                self._sub = sub
                async for event in sub:
                    if isinstance(event, PartStartEvent | PartDeltaEvent):
                        yield event
            came.append(sub.get())
            yield End(came[-1])

        direct, who = self.guarded.direct, self.guarded.who
        self._reading = astreamed(direct, self.ask.body, send, talk, who)
        async for event in self._reading:
            if isinstance(event, End):  # clawmw is switched off
                talk.usage = event.response.usage
                continue
            self._apply(event)
            yield event
        self._end(talk, came)

    def _apply(self, event: ModelResponseStreamEvent) -> None:
        if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
            text = event.delta.content_delta
            for _ in self._parts_manager.handle_text_delta(
                vendor_part_id=event.index, content=text
            ):
                pass
        else:
            self._parts_manager.apply_event(event)

    def _end(self, talk: Events, came: list[ModelResponse]) -> None:
        self._usage = talk.usage
        if came:
            last = came[-1]
            self.provider_response_id = last.provider_response_id
            self.provider_details, self.finish_reason = last.provider_details, last.finish_reason
            self.state = last.state
        if talk.stopped is not None:
            self.provider_details, self.finish_reason = _details(talk.stopped), "stop"

    async def left(self) -> None:
        """Nobody reads on: what is open is closed, and the exchange settles."""
        if self._reading is not None:
            await self._reading.aclose()

    async def close_stream(self) -> None:
        """See the base."""
        if self._sub is not None:
            await self._sub.close_stream()

    def get_stream_cancel_errors(self) -> tuple[type[BaseException], ...]:
        """See the base."""
        own = super().get_stream_cancel_errors()
        return (*own, *self._sub.get_stream_cancel_errors()) if self._sub is not None else own

    @property
    def model_name(self) -> str:
        """See the base."""
        return self._sub.model_name if self._sub is not None else self.guarded.model_name

    @property
    def provider_name(self) -> str | None:
        """See the base."""
        return self._sub.provider_name if self._sub is not None else self.guarded.system

    @property
    def provider_url(self) -> str | None:
        """See the base."""
        return self._sub.provider_url if self._sub is not None else self.guarded.base_url

    @property
    def timestamp(self) -> datetime:
        """See the base."""
        return self._sub.timestamp if self._sub is not None else self._began


def _over(found: Identity | None, said: Identity | None) -> Identity | None:
    """What configuration says of a caller, and for the rest what the framework knows."""
    if found is None or said is None:
        return said or found
    given = {f.name: getattr(said, f.name) for f in fields(Identity)}
    return replace(found, **{n: v for n, v in given.items() if v != getattr(_NOBODY, n)})


def _other(entry: ModelEntry, own: Model) -> Model:
    """A model of the policy: at its own place, of its own provider, or as the caller's own is."""
    prefix, slash, rest = entry.model.partition("/")
    if entry.base_url is not None:
        key = os.environ.get(entry.api_key_env) if entry.api_key_env else None
        if str(getattr(entry, "dialect", "") or "").startswith("anthropic"):
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            place = AnthropicProvider(base_url=entry.base_url, api_key=key or "none")
            return AnthropicModel(entry.model, provider=place)
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        at = OpenAIProvider(base_url=entry.base_url, api_key=key or "none")
        return OpenAIChatModel(entry.model, provider=at)
    if slash and prefix in _PROVIDERS and prefix != own.system:
        return infer_model(f"{prefix}:{rest}")
    same: Any = copy.copy(own)
    same._model_name = rest if slash and prefix == own.system else entry.model
    return same  # type: ignore[no-any-return]


def _text(halt: Halt, ask: Ask) -> str:
    """What is said of a stopped request. Raises `Stopped` where the answer is no text."""
    if ask.textual:
        return str(halt)
    raise Stopped(str(halt))


def _signs(model: Model) -> Signed:
    """How thoughts must come back."""
    if model.system == "anthropic":
        return "answer"
    return "item" if "Responses" in type(model).__name__ else "no"


def _details(halt: Halt) -> dict[str, Any]:
    return {"clawmw": {"rule": str(halt.because), **halt.detail(), "resume": halt.resume}}


def _refusal(halt: Halt, ask: Ask) -> ModelResponse:
    parts = [TextPart(_text(halt, ask))]
    return ModelResponse(parts=parts, provider_details=_details(halt), finish_reason="stop")

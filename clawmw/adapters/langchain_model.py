"""A chat model of LangChain whose calls run under a policy.

::

    model = clawmw.langchain.model(ChatOpenAI(model="gpt-5.6"), "policy.yaml")

It stays a model of its own class: `bind_tools`, `with_structured_output`, streaming, callbacks
and profiles are the class's own. Only the four methods that reach the provider pass through the
policy, below LangChain's callbacks and cache, so that a run is traced once and tokens reach the
reader as they come.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableBinding
from pydantic import PrivateAttr

from clawmw.adapters.direct import Answered, Asked, Body, Direct
from clawmw.adapters.direct_stream import astreamed, streamed
from clawmw.adapters.failures import retries
from clawmw.adapters.langchain_call import Ask, Others, once, signs, wants_form
from clawmw.adapters.langchain_identity import who
from clawmw.adapters.langchain_messages import answer_of, answered_message
from clawmw.adapters.langchain_stream import Chunks
from clawmw.core.decisions import Halt
from clawmw.core.identity import Identity
from clawmw.errors import Refused
from clawmw.runtime import shared, switched_off

__all__ = ["Guard", "OnRefusal", "model"]

OnRefusal: TypeAlias = Literal["message", "raise"]
M = TypeVar("M")
"""A chat model, or one with arguments bound."""
_NOBODY = Identity()
_PRIVATE = ("_clawmw", "_clawmw_inner", "_clawmw_sole")


def model(
    chat_model: M,
    policy: Any,
    *,
    identity: Identity | None = None,
    on_refusal: OnRefusal | None = None,
) -> M:
    """The same chat model, under a policy; the one given stays as it is.

    `policy`: a path, a mapping, a `Policy` or a `Runtime`. A stopped call answers with a message
    that calls no tool, or raises `Refused`: as `on_refusal` says, else `refusal: error` in the
    policy. Where the answer is parsed (structured output, a forced tool) it raises. Raises
    `PolicyError`, and TypeError for what is no chat model.
    """
    return Guard(policy, identity, on_refusal).over(chat_model)


class Guard:
    """A policy for chat models."""

    def __init__(
        self, policy: Any, identity: Identity | None = None, on_refusal: OnRefusal | None = None
    ) -> None:
        self.runtime = shared(policy)
        self.direct = Direct(self.runtime)
        self.identity = identity
        self.on_refusal = on_refusal
        self.others = Others(self.runtime)

    def over(self, chat_model: M) -> M:
        """A chat model whose calls this guards."""
        if isinstance(chat_model, RunnableBinding):
            return chat_model.model_copy(update={"bound": self.over(chat_model.bound)})
        if not isinstance(chat_model, BaseChatModel):
            kind = type(chat_model).__name__
            raise TypeError(f"{kind} is no chat model; wrap the model itself, before it is bound")
        inner = getattr(chat_model, "_clawmw_inner", None) or chat_model  # the outermost decides
        guarded: Any = copy.copy(inner)
        guarded.__class__ = _guarded(type(inner))  # type: ignore[arg-type]
        sole = once(inner) if retries(self.runtime) else inner
        private = {"_clawmw": self, "_clawmw_inner": inner, "_clawmw_sole": sole}
        kept = getattr(inner, "__pydantic_private__", None) or {}
        object.__setattr__(guarded, "__pydantic_private__", {**kept, **private})
        return guarded  # type: ignore[no-any-return]

    def who(self, messages: list[BaseMessage]) -> Identity:
        """The caller: as configured, and for the rest as LangGraph knows it."""
        found, said = who(messages), self.identity
        if said is None:
            return found
        given = {f.name: getattr(said, f.name) for f in fields(Identity)}
        return replace(found, **{n: v for n, v in given.items() if v != getattr(_NOBODY, n)})

    def refusal(self, halt: Halt, kwargs: Mapping[str, Any]) -> AIMessage:
        """The message for a stopped call. Raises `Refused` where none is wanted."""
        wanted = self.on_refusal or (
            "raise" if self.runtime.terms.refusal == "error" else "message"
        )
        if wanted == "raise" or wants_form(kwargs):
            raise Refused(str(halt))
        told = {"rule": str(halt.because), **halt.detail(), "resume": halt.resume}
        said = {"clawmw": told, "finish_reason": "stop"}
        return AIMessage(content=str(halt), response_metadata=said)


class _Guarded:
    """Before a chat model's class: its calls pass through the guard."""

    _clawmw: Guard
    _clawmw_inner: BaseChatModel
    _clawmw_sole: BaseChatModel
    """The same, without retries of its own."""

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        call = _Call(self, messages, stop, kwargs, stream=False)

        def send(asked: Asked) -> Body:
            other, sent, given = call.to(asked)
            return call.came(other._generate(sent, stop, run_manager, **given))

        return call.result(self._clawmw.direct.call(call.ask.body, send, identity=call.who))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        call = _Call(self, messages, stop, kwargs, stream=False)

        async def send(asked: Asked) -> Body:
            other, sent, given = call.to(asked)
            return call.came(await other._agenerate(sent, stop, run_manager, **given))

        return call.result(await self._clawmw.direct.acall(call.ask.body, send, identity=call.who))

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        call = _Call(self, messages, stop, kwargs, stream=True)

        def send(asked: Asked) -> Iterator[ChatGenerationChunk]:
            other, sent, given = call.to(asked)
            return other._stream(sent, stop, run_manager, **given)

        direct, talk = (
            self._clawmw.direct,
            Chunks(call.refused, signed=signs(self._clawmw_inner, kwargs)),
        )
        return streamed(direct, call.ask.body, send, talk, call.who)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = _Call(self, messages, stop, kwargs, stream=True)

        def send(asked: Asked) -> AsyncIterator[ChatGenerationChunk]:
            other, sent, given = call.to(asked)
            return other._astream(sent, stop, run_manager, **given)

        direct, talk = (
            self._clawmw.direct,
            Chunks(call.refused, signed=signs(self._clawmw_inner, kwargs)),
        )
        async for chunk in astreamed(direct, call.ask.body, send, talk, call.who):
            yield chunk


class _Call:
    """One call under way."""

    def __init__(
        self, model: _Guarded, messages: list[BaseMessage], stop: Any, kwargs: Any, *, stream: bool
    ) -> None:
        self.model, self.guard, self.kwargs = model, model._clawmw, kwargs
        self.ask = Ask.of(model._clawmw_inner, messages, stop, kwargs, stream=stream)
        self.who = self.guard.who(messages)
        self.last: ChatResult | None = None

    def talk(self) -> Chunks:
        """How its stream is read."""
        return Chunks(self.refused, signed=signs(self.ask.inner, self.kwargs))

    def to(self, asked: Asked) -> tuple[BaseChatModel, list[BaseMessage], dict[str, Any]]:
        """Which model to ask what."""
        other, messages, given = self.ask.to(asked, self.guard.others)
        if other is self.model._clawmw_inner and not switched_off():
            other = self.model._clawmw_sole
        return other, messages, given

    def came(self, result: ChatResult) -> Body:
        """What a model answered, for the policy."""
        self.last = result
        first = result.generations[0]
        assert isinstance(first.message, AIMessage)
        return answer_of(
            first.message, {**(result.llm_output or {}), **(first.generation_info or {})}
        )

    def result(self, answered: Answered) -> ChatResult:
        """What the caller gets."""
        if answered.halt is not None:
            refusal = self.guard.refusal(answered.halt, self.kwargs)
            return ChatResult(generations=[ChatGeneration(message=refusal)])
        last = self.last
        if answered.changed or last is None:
            own = last.generations[0].message if last is not None else None
            message = answered_message(answered.body, own if isinstance(own, AIMessage) else None)
            info = last.generations[0].generation_info if last is not None else None
            made = ChatGeneration(message=message, generation_info=info)
            last = ChatResult(generations=[made], llm_output=last.llm_output if last else None)
        if answered.labels:
            first = last.generations[0].message
            first.response_metadata = {**first.response_metadata, "clawmw": dict(answered.labels)}
        return last

    def refused(self, halt: Halt) -> AIMessageChunk:
        """`result` of a stopped call, in a stream."""
        said = self.guard.refusal(halt, self.kwargs)
        return AIMessageChunk(content=said.content, response_metadata=said.response_metadata)


@cache
def _guarded(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    """A class of the same name whose calls are guarded."""
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__annotations__": dict.fromkeys(_PRIVATE, Any),
        **{name: PrivateAttr(default=None) for name in _PRIVATE},
        # What streams by other means than `_stream` would go around the policy.
        "_stream_chat_model_events": None,
        "_astream_chat_model_events": None,
    }
    streams = cls._stream is not BaseChatModel._stream
    if not streams:
        body["_stream"] = BaseChatModel._stream
    if not streams and cls._astream is BaseChatModel._astream:
        body["_astream"] = BaseChatModel._astream
    return type(cls)(cls.__name__, (_Guarded, cls), body)  # type: ignore[misc, no-any-return]

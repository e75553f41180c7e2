"""Google's Agent Development Kit (ADK) under a policy: a plugin, and a model.

A plugin's hooks before and after a model's call are two halves: a call that is cancelled, or a
stream that is left, never sees the second, and none can ask another model. So the plugin only
says, before each call, who calls, and lends the agent for this run a model that is the agent's
own with the policy around it: one exchange, begun and ended in one place.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clawmw.adapters.adk_answers import completion, response_of
from clawmw.adapters.adk_messages import Ask
from clawmw.adapters.adk_stream import Fragments
from clawmw.adapters.direct import Asked, Body, Direct
from clawmw.adapters.direct_stream import astreamed
from clawmw.core.decisions import Halt
from clawmw.core.events import StageFailed
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError, InternalError, Refused
from clawmw.policy.models import ModelEntry, Policy
from clawmw.runtime import Runtime, shared, switched_off

__all__ = ["Plugin", "model"]

_outer: ContextVar[str] = ContextVar("clawmw_adk_chain", default="")
"""The chain in whose tool this runs: an agent used as a tool has a runner of its own."""


class _Plugin:
    """For `InMemoryRunner(agent, plugins=[...])`: every model call of its agents."""

    def __init__(
        self,
        policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml",
        *,
        name: str = "clawmw",
    ) -> None:
        """Raises `PolicyError`."""
        super().__init__(name=name)  # type: ignore[call-arg]
        self._governing = _Governing(shared(policy))

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Lend the agent, for the rest of its run, its own model under the policy."""
        context = callback_context._invocation_context
        agent = context.agent
        if not hasattr(agent, "canonical_model") or not hasattr(agent, "model_copy"):
            raise ClawmwError(f"{type(agent).__qualname__} has no model to put under a policy")
        governed = self._governing.over(agent.canonical_model, _who(context))
        context.agent = agent.model_copy(update={"model": governed})

    async def before_tool_callback(self, *, tool_context: Any, **_: Any) -> None:
        """What runs in this tool is of this chain. (ADK gives each tool a context of its own.)"""
        _outer.set(_outer.get() or tool_context.invocation_id)


def model(
    inner: Any, policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml"
) -> Any:
    """A model (a `BaseLlm`, or a name) under `policy`, as `LlmAgent(model=...)` takes it.

    What it cannot know without the plugin is who calls: say so with `clawmw.calling`.
    """
    from google.adk.models.registry import LLMRegistry

    found = LLMRegistry.new_llm(inner) if isinstance(inner, str) else inner
    return _Governing(shared(policy)).over(found, None)


class _Governing:
    """A policy over models of ADK."""

    def __init__(self, runtime: Runtime) -> None:
        self.direct = Direct(runtime)
        self._others: dict[ModelEntry, Any] = {}

    def __deepcopy__(self, memo: Any) -> _Governing:
        return self  # agents are copied; a policy is one

    def over(self, inner: Any, who: Identity | None) -> Any:
        """A model like `inner`, of its class; the call itself is `inner`'s."""
        inner = getattr(inner, "_clawmw_inner", inner)  # the one put around it last decides
        twin = inner.model_copy()
        kind: Any = type(inner)
        twin.__class__ = _kind(kind)
        for name, value in (("inner", inner), ("governing", self), ("who", who)):
            object.__setattr__(twin, f"_clawmw_{name}", value)
        return twin

    def call(self, inner: Any, request: Any, *, stream: bool) -> _Call | None:
        """A call to decide about; None: it is to pass as it is."""
        if switched_off():
            return None
        try:
            return _Call(self, inner, request, stream=stream)
        except Exception as error:
            runtime, name = self.direct.runtime, type(error).__name__
            runtime.emit(StageFailed("", runtime.clock(), "adk", "before", name, False))
            if runtime.redactor:
                raise
            return None  # a bug of ours must not stop an agent

    def other(self, target: str, inner: Any) -> Any:
        """The model to ask for a name of the policy's; `inner` where it says no place."""
        entry = self.direct.runtime.terms.models.get(target)
        if entry is None:
            return inner
        if entry not in self._others:
            self._others[entry] = _made(entry)
        return self._others[entry] or inner


def _made(entry: ModelEntry) -> Any:
    """A model where the policy says it is; None: at the place of the caller's own."""
    if entry.base_url is None and "/" not in entry.model:
        return None
    from google.adk.models.lite_llm import LiteLlm

    if entry.base_url is None:
        return LiteLlm(model=entry.model)
    key = os.environ.get(entry.api_key_env) if entry.api_key_env else None
    provider = "anthropic" if entry.dialect == "anthropic.messages" else "openai"
    place = {"api_base": entry.base_url, "api_key": key or "none"}
    return LiteLlm(model=f"{provider}/{entry.model}", **place)


class _Governed:
    """Before a model's class: its calls run under the policy."""

    __slots__ = ()
    _clawmw_inner: Any
    _clawmw_governing: _Governing
    _clawmw_who: Identity | None

    async def generate_content_async(
        self, llm_request: Any, stream: bool = False
    ) -> AsyncIterator[Any]:
        """ADK's own. Raises `Refused` where a stopped call cannot be told in the answer."""
        inner, who = self._clawmw_inner, self._clawmw_who
        call = self._clawmw_governing.call(inner, llm_request, stream=stream)
        if call is None:
            asked = inner.generate_content_async(llm_request, stream=stream)
        else:
            asked = call.streamed(who) if stream else call.whole(who)
        async with aclosing(asked) as answers:
            async for answer in answers:
                yield answer


class _Call:
    """One call of a model."""

    def __init__(self, governing: _Governing, inner: Any, request: Any, *, stream: bool) -> None:
        self.governing, self.inner, self.request = governing, inner, request
        self.ask = Ask(request, request.model or inner.model, stream=stream)
        self.answer: Any = None

    def _sent(self, asked: Asked, *, stream: bool) -> Any:
        other = self.governing.other(asked.target, self.inner)
        request = self.ask.to(asked)
        if other is not self.inner:
            request = request.model_copy(update={"model": other.model})
        return other.generate_content_async(request, stream=stream)

    async def whole(self, who: Identity | None) -> AsyncGenerator[Any, None]:
        """The one answer."""

        async def send(asked: Asked) -> Body:
            async with aclosing(self._sent(asked, stream=False)) as answers:
                async for answer in answers:
                    self.answer = answer
            if self.answer is None:
                raise InternalError("the model ended without an answer")
            return completion(self.answer)

        answered = await self.governing.direct.acall(self.ask.body, send, identity=who)
        if answered.halt is not None:
            yield self.refusal(answered.halt)
        elif answered.changed:
            yield response_of(answered.body, self.answer)
        else:
            yield self.answer

    async def streamed(self, who: Identity | None) -> AsyncGenerator[Any, None]:
        """Fragments, and the whole."""

        def send(asked: Asked) -> AsyncIterator[Any]:
            return self._sent(asked, stream=True)  # type: ignore[no-any-return]

        direct, talk = self.governing.direct, Fragments(self.refusal)
        async with aclosing(astreamed(direct, self.ask.body, send, talk, who)) as chunks:
            async for chunk in chunks:
                yield chunk

    def refusal(self, halt: Halt) -> Any:
        """An answer that says why, for people; programs get the exception."""
        from google.adk.models.llm_response import LlmResponse
        from google.genai import types

        if self.ask.parsed or self.governing.direct.runtime.terms.refusal == "error":
            raise Refused(str(halt))
        told = {"rule": str(halt.because), **halt.detail(), "resume": halt.resume}
        content = types.Content(role="model", parts=[types.Part(text=str(halt))])
        return LlmResponse(
            content=content,
            partial=False,
            finish_reason=types.FinishReason.STOP,
            custom_metadata={"clawmw": told},
        )


def _who(context: Any) -> Identity:
    """The caller, as ADK knows it: an agent's part of a session is a conversation of its own."""
    session, agent = context.session, context.agent.name
    return Identity(
        agent=agent,
        session=f"{session.app_name}/{session.user_id}/{session.id}/{agent}",
        chain=_outer.get() or context.invocation_id,
    )


@cache
def _kind(plain: Any) -> type:
    return type(plain.__name__, (_Governed, plain), {"__module__": plain.__module__})


if TYPE_CHECKING:

    class Plugin(_Plugin):
        """See `_Plugin`."""

else:

    def __getattr__(name: str) -> Any:
        if name == "Plugin":
            return _plugin()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _plugin() -> type:
    from google.adk.plugins.base_plugin import BasePlugin

    return type("Plugin", (_Plugin, BasePlugin), {"__module__": "clawmw.adk"})

"""The OpenAI Agents SDK under a policy: its own models, our transport below, and who calls.

Nothing is converted: the SDK's models send what they send (chat completions or Responses), and
the HTTP client under them runs the policy. What the transport cannot see is said here: the
agent (also one handed over to, or used as a tool), the workflow as the chain, the SDK's session
or group as the session.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from clawmw.adapters.calling import caller, calling
from clawmw.adapters.refusal import told
from clawmw.adapters.sdk import wrap
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError, Refused
from clawmw.observe.spans.ambient import current
from clawmw.policy.models import Policy
from clawmw.runtime import Runtime, shared

__all__ = ["Provider", "model"]

_CLIENT = "openai-agents"
"""Whose final output is read by people, unless it has a type: a stopped call says why in it."""
_KEY = "prompt_cache_key"
_KEYS = "agents-sdk:"
"""How the cache keys begin that the SDK makes up: it then names what it groups a run by."""
_UNTRACED = "no-op"

_chains: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Names for workflows that are not traced, as long as they last."""


class _Provider:
    """A provider of the SDK's own models, each with its calls under the policy."""

    def __init__(
        self, policy: Runtime | Policy | Mapping[str, Any] | str | Path, **options: Any
    ) -> None:
        """`options` are `MultiProvider`'s (`openai_client`, `openai_use_responses`, ...).

        Raises `PolicyError`, and `ClawmwError` for the transport over websockets.
        """
        if options.setdefault("openai_use_responses_websocket", False):
            raise ClawmwError("the policy decides about HTTP: leave openai_use_responses_websocket")
        super().__init__(**options)
        self._runtime = shared(policy)
        self._clients: dict[int, tuple[Any, Any]] = {}

    def get_model(self, model_name: str | None) -> Any:
        """The SDK's model of this name. Raises `ClawmwError` for one without an HTTP client."""
        return _governed(super().get_model(model_name), self._wrapped)  # type: ignore[misc]

    def _wrapped(self, client: Any) -> Any:
        """The client under the policy; made once."""
        if id(client) not in self._clients:
            self._clients[id(client)] = client, wrap(client, self._runtime)
        return self._clients[id(client)][1]


def model(
    name: str | None,
    policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml",
    **options: Any,
) -> Any:
    """One model under `policy`, as `Agent(model=...)` takes it. `options`: see `Provider`."""
    return _provider()(policy, **options).get_model(name)


def _governed(plain: Any, wrapped: Any) -> Any:
    """A model like `plain`, of its class, that says who calls; its client is `wrapped`."""
    client = getattr(plain, "_client", None)
    if client is None:
        raise ClawmwError(
            f"{type(plain).__qualname__} brings no OpenAI client for the policy to decide below; "
            "for other providers use their OpenAI-compatible endpoint, or clawmw.litellm"
        )
    kind: Any = type(plain)
    twin: Any = object.__new__(_kind(kind))
    twin.__dict__.update(plain.__dict__, _client=wrapped(client))
    return twin


@cache
def _kind(plain: Any) -> type:
    return type(plain.__name__, (_Governed, plain), {"__module__": plain.__module__})


class _Governed:
    """Mixed into a model of the SDK: its calls say who makes them."""

    def _supports_default_prompt_cache_key(self) -> bool:
        """True, so that the SDK names what it groups by; a server that takes no key gets none."""
        return True

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, *rest: Any, **given: Any
    ) -> Any:
        """The SDK's own. Raises `Refused` where a stopped call cannot be told in the answer."""
        said, settings = self._said(model_settings)
        with _telling(said):
            ask = super().get_response  # type: ignore[misc]
            return await ask(system_instructions, input, settings, *rest, **given)

    async def stream_response(
        self, system_instructions: Any, input: Any, model_settings: Any, *rest: Any, **given: Any
    ) -> AsyncIterator[Any]:
        """The SDK's own. Raises as `get_response` does."""
        said, settings = self._said(model_settings)
        ask = super().stream_response  # type: ignore[misc]
        async with aclosing(ask(system_instructions, input, settings, *rest, **given)) as events:
            while True:
                with _telling(said):  # at each step: a generator has no context of its own
                    event = await anext(events, None)
                if event is None:
                    return
                yield event

    def _said(self, settings: Any) -> tuple[Identity, Any]:
        """Who calls, and the settings as the SDK would have made them without us."""
        key = str((settings.extra_args or {}).get(_KEY, ""))
        made = key.startswith(_KEYS)
        plain = getattr(super(), "_supports_default_prompt_cache_key", None)
        if made and not (plain and plain()):
            kept = {k: v for k, v in settings.extra_args.items() if k != _KEY}
            settings = replace(settings, extra_args=kept or None)
        # A run that belongs to nothing is known by what it says, as it is without a key.
        return _who(key if made and not key.startswith(f"{_KEYS}run:") else ""), settings


def _who(key: str) -> Identity:
    """The caller: what the user says around the run, else what the SDK's trace says."""
    said = caller(None) or Identity()
    agent, chain = "", ""
    with suppress(Exception):  # an SDK that we do not know: its calls are told apart all the same
        from agents.tracing import get_current_span, get_current_trace

        span, trace = get_current_span(), get_current_trace()
        data = span.span_data if span is not None else None
        agent = getattr(data, "agent_name", None) or getattr(data, "name", None) or ""
        if current() is None:  # else the application's own trace is what the run is part of
            chain = _chain(trace) if trace is not None else ""
    return Identity(
        agent=agent or said.agent,
        session=said.session or (f"{key}/{agent}" if key else ""),
        chain=said.chain or chain,
        client=said.client or _CLIENT,
    )


def _chain(trace: Any) -> str:
    """One name a workflow: its trace's, or one of our own where tracing is off.

    A run that is not traced hides the workflow that it is part of: that one is looked for.
    """
    while trace.trace_id == _UNTRACED:
        outer = getattr(getattr(trace, "_prev_context_token", None), "old_value", None)
        if not hasattr(outer, "trace_id"):
            return _chains.setdefault(trace, f"run_{uuid.uuid4().hex}")
        trace = outer
    return str(trace.trace_id)


@contextmanager
def _telling(said: Identity) -> Iterator[None]:
    """Transports below know who calls; a refusal that they answer with an error is a `Refused`."""
    with calling(said):
        try:
            yield
        except Exception as error:
            reason = told(error)
            if reason is not None:
                raise Refused(reason) from error
            raise


if TYPE_CHECKING:

    class Provider(_Provider):
        """See `_Provider`."""

else:

    def __getattr__(name: str) -> Any:
        if name == "Provider":
            return _provider()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _provider() -> type:
    from agents.models.multi_provider import MultiProvider

    return type("Provider", (_Provider, MultiProvider), {"__module__": "clawmw.agents"})

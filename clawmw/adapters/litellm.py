"""LiteLLM's `completion` and `acompletion` under a policy, and the policy as its provider.

::

    from clawmw.litellm import completion              # instead of litellm's
    completion(model="anthropic/claude-sonnet-5-5", messages=[...], policy="policy.yaml")

    clawmw.litellm.register("policy.yaml")             # or: models `clawmw/auto`, `clawmw/NAME`
    litellm.completion(model="clawmw/auto", messages=[...])

litellm is the last hop, so every provider and every option it knows works. Below the policy it
tries nothing again by itself: how often is asked is the policy's to say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from clawmw.adapters import wire
from clawmw.adapters.http import make_async_transport, make_transport
from clawmw.adapters.litellm_answers import AsyncChunks, Chunks, whole
from clawmw.adapters.litellm_sender import NO_KEY, Sender
from clawmw.core.identity import Identity
from clawmw.policy.models import ModelEntry, Policy
from clawmw.policy.spoken import server
from clawmw.runtime import Runtime, shared, switched_off

__all__ = ["PROVIDER", "acompletion", "completion", "register"]

Given: TypeAlias = Runtime | Policy | Mapping[str, Any] | str | Path

PROVIDER = "clawmw"
_PREFIX = f"{PROVIDER}/"
_NOWHERE = "https://litellm.invalid"
"""Stands for the provider's own address, which litellm alone knows."""
_ASIDE = frozenset({
    "request_timeout", "api_base", "api_version", "api_key", "deployment_id", "organization",
    "base_url", "default_headers", "timeout", "max_retries", "extra_headers",
})  # fmt: skip
"""What litellm counts among a body's fields and is none."""


def completion(
    model: str,
    messages: Sequence[Any] = (),
    *,
    policy: Given = "policy.yaml",
    identity: Identity | None = None,
    **options: Any,
) -> Any:
    """`litellm.completion` under `policy`: a `ModelResponse`, or an iterable of its chunks.

    `model`: as litellm writes it, `clawmw/NAME` for a model of the policy, or `clawmw/auto` for
    its first one. `policy`: a path (read once a process), a mapping, a `Policy` or a `Runtime`.
    Every option of litellm's holds but `num_retries`, where the policy has retries of its own.

    Raises what litellm raises; `litellm.APIError` with status 402 or 503 for a call that the
    policy stops (unless it says `refusal: message`); and `PolicyError`.
    """
    if switched_off() and not model.startswith(_PREFIX):
        return litellm().completion(model=model, messages=list(messages), **options)
    call = _Call(_runtime(policy), model, messages, options)
    transport = make_transport(call.runtime, inner=call.sender, identity=identity)
    response = transport.handle_request(call.request)
    if wire.streams(response):
        return Chunks(response, call.sender)
    response.read()
    return whole(response, call.sender)


async def acompletion(
    model: str,
    messages: Sequence[Any] = (),
    *,
    policy: Given = "policy.yaml",
    identity: Identity | None = None,
    **options: Any,
) -> Any:
    """The async twin of `completion`."""
    if switched_off() and not model.startswith(_PREFIX):
        return await litellm().acompletion(model=model, messages=list(messages), **options)
    call = _Call(_runtime(policy), model, messages, options)
    transport = make_async_transport(call.runtime, inner=call.sender, identity=identity)
    response = await transport.handle_async_request(call.request)
    if wire.streams(response):
        return AsyncChunks(response, call.sender)
    await response.aread()
    return whole(response, call.sender)


def register(policy: Given = "policy.yaml", identity: Identity | None = None) -> None:
    """Make the policy a provider of litellm's, with the models `clawmw/auto` and `clawmw/NAME`.

    For `litellm.completion`, `acompletion` and its Router; streams too. Said again, the newest
    policy holds. Raises `PolicyError`.
    """
    from clawmw.adapters.litellm_provider import provider

    module = litellm()
    handler = provider(module, _runtime(policy), identity)
    others = [one for one in module.custom_provider_map if one["provider"] != PROVIDER]
    module.custom_provider_map = [*others, {"provider": PROVIDER, "custom_handler": handler}]
    module.utils.custom_llm_setup()


def litellm() -> Any:
    """The library. It takes 5 seconds and 200 MB to import, so that happens with the first use."""
    import litellm as library

    return library


def _runtime(policy: Given) -> Runtime:
    return _read(str(policy)) if isinstance(policy, str | Path) else shared(policy)


@cache
def _read(path: str) -> Runtime:
    return shared(path)


class _Call:
    """One call: the request that the policy sees, and who sends it."""

    def __init__(
        self, runtime: Runtime, model: str, messages: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self.runtime = runtime
        module = litellm()
        entry = _entry(module, runtime, model)
        known = frozenset(module.OPENAI_CHAT_COMPLETION_PARAMS) - _ASIDE
        given = {name: value for name, value in options.items() if value is not None}
        shape = given.get("response_format")
        if isinstance(shape, type):  # a pydantic model
            given["response_format"] = _shape(shape)
        aside = {name: value for name, value in given.items() if name not in known}
        named = entry.model if entry is not None else model
        body = {"model": named, "messages": list(messages)}
        body |= {name: value for name, value in given.items() if name in known}
        headers = {**(aside.pop("headers", None) or {}), **(aside.pop("extra_headers", None) or {})}
        aside["extra_headers"] = {n: v for n, v in headers.items() if not _ours(n)}
        own = named
        if entry is not None:
            own, there = _at(entry)
            aside |= there
        if any(stage.traits.name == "retry" for stage in runtime.pipeline.stages):
            aside |= {"num_retries": 0, "max_retries": 0}
        url = str(aside.get("api_base") or aside.get("base_url") or _NOWHERE).rstrip("/")
        content = json.dumps(body, default=_dumped).encode()
        about = {n: str(v) for n, v in headers.items() if _ours(n) or n.lower() == "traceparent"}
        if aside.get("api_key"):  # tells callers' accounts apart; goes nowhere
            about["authorization"] = f"Bearer {aside['api_key']}"
        self.request = httpx.Request(
            "POST", f"{url}/chat/completions", headers=about, content=content
        )
        self.sender = Sender(module, str(self.request.url), (named, own), aside)


def _entry(module: Any, runtime: Runtime, model: str) -> ModelEntry | None:
    """The policy's model of that name; None: it is litellm's own."""
    name = model.removeprefix(_PREFIX)
    entries = dict(runtime.terms.models)
    if entries and model == f"{_PREFIX}auto":
        return next(iter(entries.values()))
    if name not in entries and model.startswith(_PREFIX):
        known = ", ".join(entries) or "none: name them under `models`"
        message = f"the policy has no model {name!r}; it has {known}"
        raise module.NotFoundError(message, model=model, llm_provider=PROVIDER)
    return entries.get(name)


def _at(entry: ModelEntry) -> tuple[str, dict[str, str]]:
    """A model of the policy as litellm names it, and the options that lead there."""
    there = {}
    if entry.api_key_env:
        there["api_key"] = os.environ.get(entry.api_key_env) or NO_KEY
    place = server(entry)
    if entry.base_url is None or place is None:
        return entry.model, there
    there.setdefault("api_key", NO_KEY)  # or litellm would send that of another place
    if "anthropic.messages" in place.dialects:
        return f"anthropic/{entry.model}", {**there, "api_base": entry.base_url.removesuffix("/v1")}
    return f"openai/{entry.model}", {**there, "api_base": entry.base_url}


def _ours(header: str) -> bool:
    return header.lower().startswith("x-clawmw-")


def _shape(model: type) -> Any:
    """A pydantic model as litellm would write it."""
    utils = import_module("litellm.llms.base_llm.base_utils")
    return utils.type_to_response_format_param(model)


def _dumped(value: Any) -> Any:
    """litellm's own messages, as they come back in a conversation."""
    return value.model_dump(exclude_none=True)

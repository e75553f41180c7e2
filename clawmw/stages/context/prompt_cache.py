"""`prompt_cache`: gives the provider's prompt cache what it needs to hit.

The prefix is kept byte-stable by the fold; this stage adds the hints a provider takes:
Anthropic-style `cache_control` marks (Anthropic, Qwen; via OpenRouter too), and OpenAI's
`prompt_cache_key`, which routes requests with one prefix to one machine. Hints are not part
of the prefix, so placing them anew moves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar, Literal

from clawmw.core.decisions import Because, Decision, Pass, Rewrite
from clawmw.core.prefix import breakpoints, tools_digest
from clawmw.core.stage import Context, StageTraits
from clawmw.core.types import Json, Message, Outcome, Request, Role
from clawmw.stages.base import Build, Registration, StageConfig

__all__ = ["REGISTRATION", "PromptCache", "PromptCacheConfig"]

_EPHEMERAL = {"type": "ephemeral"}


class PromptCacheConfig(StageConfig):
    """Keep the provider's prompt cache warm."""

    marks: Literal["auto", "keep"] = "auto"
    """`auto`: place marks where the provider takes them and the caller placed none."""
    key: bool = True
    """Send `prompt_cache_key` where the provider takes it and the caller sent none."""
    ttl: Literal["auto", "5m", "1h"] = "auto"
    """How long a marked prefix is to be kept; `auto` leaves it to the provider."""


class PromptCache:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits("prompt_cache", below=("route", "compress"))

    def __init__(self, config: PromptCacheConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Add the hint that the model's provider takes."""
        hint = ctx.profile(request.model).cache.hint
        if hint == "prompt_cache_key" and self.config.key:
            return self._keyed(request, ctx)
        if hint == "cache_control" and self.config.marks == "auto":
            return self._marked(request, ctx)
        return Pass()

    def _keyed(self, request: Request, ctx: Context) -> Decision:
        """One key a prefix family: same tenant, tools and system prompt."""
        if "prompt_cache_key" in request.params:
            return Pass()
        digest = hashlib.blake2b(ctx.identity.tenant.encode(), digest_size=12)
        digest.update(tools_digest(request.tools).encode())
        for message in request.messages:
            if message.role is not Role.SYSTEM:
                break
            digest.update(message.text.encode("utf-8", "surrogatepass"))
        params = {**request.params, "prompt_cache_key": f"clawmw-{digest.hexdigest()}"}
        return Rewrite(Because("prompt_cache", "key"), replace(request, params=params))

    def _marked(self, request: Request, ctx: Context) -> Decision:
        """Marks at the end of the system prompt, of what is warm, and of the request."""
        if any(b'"cache_control"' in (m.wire or b"") for m in request.messages):
            return Pass()
        if any("cache_control" in tool.raw for tool in request.tools if isinstance(tool.raw, dict)):
            return Pass()  # the caller places its own
        rules = ctx.profile(request.model).cache
        places = breakpoints(request.messages, ctx.warm_messages, rules.max_marks or 4)
        mark = dict(_EPHEMERAL)
        if self.config.ttl != "auto":
            mark["ttl"] = self.config.ttl
        messages = list(request.messages)
        for place in places:
            messages[place] = _with_mark(messages[place], mark)
        return Rewrite(Because("prompt_cache", "marks"), replace(request, messages=tuple(messages)))

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Nothing to record: the engine keeps what the cache holds."""
        return Pass()


def _with_mark(message: Message, mark: Json) -> Message:
    origin = message.wire or message.origin
    return replace(message, wire=None, origin=origin, mark=mark)


def _build(config: PromptCacheConfig, build: Build) -> PromptCache:
    return PromptCache(config)


REGISTRATION = Registration("prompt_cache", PromptCacheConfig, _build)

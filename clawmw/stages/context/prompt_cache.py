"""`prompt_cache`: gives the provider's prompt cache what it needs to hit.

The prefix is kept byte-stable by the fold; this stage adds the hints a provider takes: marks on
blocks (Anthropic's and Qwen's `cache_control`, via OpenRouter too; OpenAI's
`prompt_cache_breakpoint` from GPT-5.6) with the lifetime that pays, and `prompt_cache_key`,
which routes requests with one prefix to one machine. It also puts a session's tools in one
order. Hints are not part of the prefix, so placing them anew moves nothing; no text is moved.
Where marks go: `clawmw.core.breakpoints`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, ClassVar, Literal

from clawmw.core.breakpoints import TOOLS, Given, Place, given, kept, merged, places, worth
from clawmw.core.canon import MARKS
from clawmw.core.decisions import Because, Decision, Pass, Rewrite
from clawmw.core.effects import Join, Joined
from clawmw.core.events import Acted
from clawmw.core.memo import by_identity
from clawmw.core.money import CacheRules, Ttl
from clawmw.core.prefix import by_name, tools_digest, tools_tokens
from clawmw.core.stage import Context, Effects, Quiet, StageTraits
from clawmw.core.types import Json, Mark, Message, Request, Role, ToolSpec
from clawmw.core.volatile import family
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.units import Duration

__all__ = ["REGISTRATION", "PromptCache", "PromptCacheConfig"]

_OURS = "clawmw_"
"""How the tools that clawmw adds are named. They stay behind the agent's own."""
_WORTH = 1024
"""Tokens: the shortest prefix that most providers cache."""
_HINTS = ("cache_control", "prompt_cache_breakpoint")


class PromptCacheConfig(StageConfig):
    """Keep the provider's prompt cache warm."""

    marks: Literal["keep", "merge", "own"] = "keep"
    """Marks the caller set itself: `keep` them as they are, and place ours only where there are
    none; `merge` ours with them, up to what the provider takes; or place our `own` instead."""
    ttl: Literal["auto", "5m", "1h"] = "auto"
    """How long a marked prefix is to be kept, where the provider gives a choice. `auto`: what
    costs least by the agent's own rhythm. A lifetime the caller asked for is kept."""
    key: bool = True
    """Send `prompt_cache_key` where the provider takes it and the caller sent none."""
    tools: Literal["sort", "keep"] = "sort"
    """`sort`: tools by name from a session's first call on, so that sessions that were given
    them in another order share a prefix. Never where they were sent in another order."""
    wait: Duration = 5.0
    """When calls that begin alike start at once and no cache holds that beginning, one sends
    first, and the others wait this long at most for its answer to begin. 0: nobody waits."""


class PromptCache(Quiet):
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "prompt_cache", needs="history", below=("route", "compress")
    )

    def __init__(self, config: PromptCacheConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Add the hints that the model's provider takes; wait for a sibling that sends first."""
        rules = ctx.profile(request.model).cache
        if rules.style == "none":
            return Pass()
        hinted = self._hinted(request, rules, ctx)
        if self.config.wait and _cold(request, rules, ctx):
            return self._joined(hinted, rules, ctx)
        return hinted.decision()

    def _joined(self, hinted: _Hinted, rules: CacheRules, ctx: Context) -> Effects:
        """Requests sent at once all miss: an entry can be read once its answer has begun."""
        head = _shared(hinted.request, ctx)
        joined: Joined = yield Join(head, self.config.wait, rules.ttl_s)
        if joined in ("followed", "late"):
            hinted.done.insert(0, ("wait", {"as": joined}))
        return hinted.decision()

    def _hinted(self, request: Request, rules: CacheRules, ctx: Context) -> _Hinted:
        hinted = _Hinted(request, ctx)
        if self.config.tools == "sort":
            hinted.sort()
        if rules.key and self.config.key and "prompt_cache_key" in ctx.codec.hints:
            hinted.key()
        if rules.hint in _HINTS and rules.hint in ctx.codec.hints:
            self._mark(hinted, rules, ctx)
        return hinted

    def _mark(self, hinted: _Hinted, rules: CacheRules, ctx: Context) -> None:
        """Place marks, together with the caller's or instead of them."""
        request, marks = hinted.request, self.config.marks
        theirs = given(request)
        if theirs and marks == "keep":
            return
        stay = kept(theirs, rules.max_marks) if marks == "merge" else ()
        ours = places(
            request.messages,
            request.tools,
            known=_known(request, ctx),
            transient=_is_tail(request, ctx) and ctx.cache.transient,
            rules=rules,
        )
        joining = merged(ours, stay, self._ttl(request, ctx), rules)
        off = {mark.message for mark in theirs} - {mark.message for mark in stay}
        hinted.mark(joining, off, theirs, rules)

    def _ttl(self, request: Request, ctx: Context) -> Ttl | None:
        profile = ctx.profile(request.model)
        if self.config.ttl != "auto":
            return profile.cache.ttl(self.config.ttl)
        calls = 1 + sum(m.role is Role.ASSISTANT for m in request.messages)
        return worth(profile, ctx.cache.gaps, ctx.sent_tokens, ctx.sent_tokens // calls)


class _Hinted:
    """A request as hints are added to it, and which rules did."""

    def __init__(self, request: Request, ctx: Context) -> None:
        self.request, self.ctx = request, ctx
        self.done: list[tuple[str, dict[str, Any]]] = []

    def sort(self) -> None:
        """Tools by name, unless they were sent as they are now, or a mark of the caller's among
        them says where what is cached ends."""
        tools = self.request.tools
        inorder = by_name(tools)
        marked = any(mark.message == TOOLS for mark in given(self.request))
        if inorder != tools and not marked and tools_digest(tools) != self.ctx.last_tools:
            self.request = replace(self.request, tools=inorder)
            self.done.append(("tools", {}))

    def key(self) -> None:
        """One key a prefix family: same tenant, and tools and a system prompt that open alike.

        Not all of them: two rosters may share most of their prefix, and would be parted.
        """
        request = self.request
        if "prompt_cache_key" in request.params:
            return
        digest = hashlib.blake2b(self.ctx.identity.tenant.encode(), digest_size=12)
        digest.update(_first(request.tools).encode())
        for message in request.messages:
            if message.role is not Role.SYSTEM:
                break
            digest.update(family(message.text).encode())
        params = {**request.params, "prompt_cache_key": f"clawmw-{digest.hexdigest()}"}
        self.request = replace(request, params=params)
        self.done.append(("key", {}))

    def mark(
        self,
        joining: list[tuple[Place, Ttl | None]],
        off: set[int],
        theirs: tuple[Given, ...],
        rules: CacheRules,
    ) -> None:
        """Put marks at their places; take the caller's off the messages in `off`."""
        if not joining and not off:
            return
        request, key = self.request, rules.hint or ""
        messages, tools, params = list(request.messages), request.tools, request.params
        if TOOLS in off:
            tools = tuple(_bare(tool) for tool in tools)
        if any(mark.automatic and mark.message in off for mark in theirs):
            params = {k: v for k, v in params.items() if k != "cache_control"}
        at = {place.message: (place, ttl) for place, ttl in joining}
        for index in sorted({*at, *off}.intersection(range(len(messages)))):
            place, ttl = at.get(index, (None, None))
            value = _value(key, ttl, rules) if place else None
            part = place.part if place else None
            messages[index] = _with(messages[index], Mark(key, value, part, index in off))
        if TOOLS in at:
            tools = _tools_marked(tools, key, _value(key, at[TOOLS][1], rules))
        self.request = replace(request, messages=tuple(messages), tools=tools, params=params)
        longest = max((ttl.seconds for _, ttl in joining if ttl), default=0)
        if rules.ttls and longest > rules.ttls[0].seconds:
            self.done.append(("ttl", {"seconds": longest}))
        self.done.append(("marks", {"marks": len(joining)}))

    def decision(self) -> Decision:
        """What was decided: one rewrite, and an event for each rule but the last."""
        if not self.done:
            return Pass()
        ctx, *rest = self.ctx, *self.done
        would = ctx.mode == "observe"
        events = tuple(
            Acted(
                ctx.exchange, ctx.now, "prompt_cache", "rewrite", f"prompt_cache.{rule}", would, d
            )
            for rule, d in rest[:-1]
        )
        return Rewrite(Because("prompt_cache", rest[-1][0]), self.request, events=events)


@by_identity
def _first(tools: tuple[ToolSpec, ...]) -> str:
    return tools_digest(tools[:1])


def _cold(request: Request, rules: CacheRules, ctx: Context) -> bool:
    """Whether the static head is worth a sibling's wait: long enough, and nowhere yet for us."""
    if ctx.attempt > 1 or ctx.mode != "enforce" or ctx.cache.known or ctx.warm_tokens:
        return False
    least = max(rules.min_tokens, _WORTH)
    if ctx.sent_tokens < least:
        return False
    head = tools_tokens(request.tools)
    for step in ctx.history.steps:
        if step.raw.role is not Role.SYSTEM:
            break
        head += step.sent_tokens
    return head >= least


def _shared(request: Request, ctx: Context) -> str:
    """The static head as its provider tells it from others: one tenant, one model, one place."""
    digest = hashlib.blake2b(digest_size=16)
    texts = [m.text for m in request.messages if m.role is Role.SYSTEM]
    model = (ctx.identity.tenant, request.target, request.model, tools_digest(request.tools))
    for text in (*model, *texts):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()


def _known(request: Request, ctx: Context) -> int:
    """How many leading messages of the request the cache holds, journal entries included."""
    count = ctx.cache.known
    if not count:
        return 0
    last = ctx.history.steps[count - 1].sent
    for index in range(count - 1, len(request.messages)):
        if request.messages[index] is last:
            return index + 1
    return count


def _is_tail(request: Request, ctx: Context) -> bool:
    """Whether the agent's last message ends the request, nothing of ours behind it."""
    return bool(ctx.history.steps) and request.messages[-1] is ctx.history.steps[-1].sent


def _value(key: str, ttl: Ttl | None, rules: CacheRules) -> Json:
    if key == "prompt_cache_breakpoint":
        return {"mode": "explicit"}
    if ttl is None or ttl == rules.ttls[0]:
        return {"type": "ephemeral"}
    return {"type": "ephemeral", "ttl": ttl.name}


def _with(message: Message, mark: Mark) -> Message:
    origin = message.wire or message.origin
    return replace(message, wire=None, origin=origin, mark=mark)


def _tools_marked(tools: tuple[ToolSpec, ...], key: str, value: Json) -> tuple[ToolSpec, ...]:
    """The tools with a mark on the agent's last: ours, behind it, other sessions may not have."""
    for index in reversed(range(len(tools))):
        raw = tools[index].raw
        # Anthropic refuses a mark on a tool that is loaded later.
        plain = isinstance(raw, dict) and not raw.get("defer_loading")
        if plain and not tools[index].name.startswith(_OURS):
            return (
                *tools[:index],
                replace(tools[index], raw={**raw, key: value}),
                *tools[index + 1 :],
            )
    return tools


def _bare(tool: ToolSpec) -> ToolSpec:
    """A tool without the caller's marks; names in its schema are its own."""
    if not isinstance(tool.raw, dict):
        return tool
    raw = {key: value for key, value in tool.raw.items() if key not in MARKS}
    function = raw.get("function")
    if isinstance(function, dict) and MARKS & function.keys():
        raw["function"] = {key: value for key, value in function.items() if key not in MARKS}
    return tool if len(raw) == len(tool.raw) and raw == tool.raw else replace(tool, raw=raw)


def _build(config: PromptCacheConfig, build: Build) -> PromptCache:
    return PromptCache(config)


REGISTRATION = Registration("prompt_cache", PromptCacheConfig, _build)

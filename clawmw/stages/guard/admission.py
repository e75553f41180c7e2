"""`admission`: who may call an upstream now, and who waits.

Holds for this process: a slot is taken when a call is about to be made and given back when its
answer is complete, never while a tool or another agent works. Classes share by weight, agents and
tenants within a class equally, chains come in the order in which they began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from clawmw.core.decisions import Because, Decision, Halt, Pass
from clawmw.core.effects import RANKS, Admit, Admitted, Lanes, Leave, Rank
from clawmw.core.events import Waited
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.callers import Callers
from clawmw.stages.units import Count, Duration

__all__ = ["REGISTRATION", "Admission", "AdmissionConfig"]

_THROTTLED = frozenset({429, 503, 529})
_BACKGROUND = frozenset({"heartbeat", "background", "batch", "title", "summary", "cron"})
"""Kinds of call that nobody waits for."""
_ALLOWED = ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit")
"""Headers in which OpenAI and Anthropic say how many requests a minute they allow."""
_NOTICED = 0.05
"""Seconds of waiting worth telling."""
_OUTPUT = 1024
"""Output tokens expected of a call that names no limit."""


class Classes(BaseModel):
    """Shares of the classes when all of them wait, in tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    interactive: Annotated[float, Field(gt=0, le=1000)] = 4.0
    """Somebody may be waiting: whatever is none of the others."""
    chain: Annotated[float, Field(gt=0, le=1000)] = 3.0
    """A later step of a task."""
    heavy: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """A long context."""
    background: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Heartbeats, titles, summaries, what the policy or `x-clawmw-priority` says; and what an
    agent asks beyond as many calls at once as there are slots."""


class Rate(BaseModel):
    """Limits by the minute; a minute's worth may come at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    requests: Count | None = None
    """Model calls a minute."""
    tokens: Count | None = None
    """Tokens a minute: estimated when a call begins, corrected when it ends."""


def _slots(value: Any) -> Any:
    return None if value == "auto" else value


class AdmissionConfig(StageConfig):
    """Who may call a model now, and who waits."""

    slots: Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, BeforeValidator(_slots)] = (
        Field(default=None, json_schema_extra={"anyOf": [{"const": "auto"}, {"type": "integer"}]})
    )
    """Calls under way at one upstream at once. `auto` begins at 32, so that one agent's parallel
    calls do not wait, goes up while calls succeed and down when the upstream throttles."""
    classes: Classes = Classes()
    """Shares of the classes."""
    waiting: Count = 1024
    """Calls that may wait; beyond, the newest of the lowest class is turned away."""
    max_wait: Duration = 300.0
    """The longest wait; then the call is refused. A caller's `x-clawmw-deadline` may be shorter."""
    ageing: Duration = 60.0
    """After this long a call goes first within its class, after three times as long before all
    others (background excepted)."""
    heavy: Count = 60_000
    """Tokens from which a call is heavy."""
    rate: Rate = Rate()
    """Limits by the minute, for each upstream."""


class Admission:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "admission", below=("budget", "breaker", "prompt_cache"), needs="weight"
    )

    def __init__(
        self, config: AdmissionConfig, rules: Sequence[tuple[Callers, Rank | None]] = ()
    ) -> None:
        self.config = config
        classes, rate = config.classes, config.rate
        self._lanes = Lanes(
            config.slots,
            (classes.interactive, classes.chain, classes.heavy, classes.background),
            config.waiting,
            config.ageing,
            requests=rate.requests / 60 if rate.requests else None,
            tokens=rate.tokens / 60 if rate.tokens else None,
        )
        self._rules = rules

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Wait for a slot, or refuse."""
        return self._wait(request, ctx) if ctx.mode == "enforce" else Pass()

    def _wait(self, request: Request, ctx: Context) -> Effects:
        who, rank = ctx.identity, self._rank(ctx)
        patience = min(self.config.max_wait, ctx.identity.wishes.deadline or math.inf)
        tokens = ctx.sent_tokens + (request.max_output or _OUTPUT)
        upstream = request.target or request.model
        place = ctx.upstream(request)
        names = (who.tenant, who.agent, who.chain)
        admitted: Admitted = yield Admit(place, patience, rank, tokens, names, self._lanes)
        if admitted.granted and admitted.waited < _NOTICED:
            return Pass()
        waited = Waited(ctx.exchange, ctx.now, upstream, rank, admitted.waited, admitted.reason)
        if admitted.granted:
            return Pass(events=(waited,))
        return self._refused(admitted, upstream, waited)

    def _refused(self, admitted: Admitted, upstream: str, waited: Waited) -> Halt:
        if admitted.reason == "full":
            limit, used = f"{self.config.waiting} waiting calls", "as many wait already"
        else:
            limit = f"{self.config.max_wait:g} s of waiting, or the caller's deadline"
            used = f"no slot came free within {admitted.waited:.1f} s"
        return Halt(
            Because("admission", "waiting" if admitted.reason == "full" else "max_wait"),
            f"upstream {upstream}",
            limit,
            used,
            "Ask again later, or raise admission.slots if the upstream takes more at once.",
            (waited,),
            kind="busy",
            retry_after=admitted.retry_after,
        )

    def _rank(self, ctx: Context) -> Rank:
        """The class of a call: as the policy says, or its caller; else by what it is."""
        who = ctx.identity
        ruled = next((rank for about, rank in self._rules if about.include(who)), None)
        said = ruled or who.wishes.priority
        if said in RANKS:
            return said
        if who.kind in _BACKGROUND:
            return "background"
        if ctx.sent_tokens >= self.config.heavy:
            return "heavy"
        goes_on = ctx.account.chain == who.chain and ctx.account.calls > 1
        return "chain" if goes_on or who.parent else "interactive"

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Give the slot back."""
        return self._leave(outcome, ctx) if ctx.mode == "enforce" else Pass()

    def _leave(self, outcome: Outcome, ctx: Context) -> Effects:
        verdict: Literal["ok", "throttled", "neutral"] = "neutral"
        tokens = None
        if isinstance(outcome, Failure):
            if outcome.status in _THROTTLED or outcome.kind == "timeout":
                verdict = "throttled"
        elif ctx.called is not None:
            verdict = "ok"
            if outcome.usage is not None and outcome.usage.input_tokens is not None:
                tokens = outcome.usage.input_tokens + (outcome.usage.output_tokens or 0)
        yield Leave(tokens, verdict, _per_minute(ctx))
        return Pass()


def _per_minute(ctx: Context) -> int | None:
    for name, value in ctx.called.headers if ctx.called else ():
        if value.isdecimal() and len(value) < 10 and name.lower() in _ALLOWED:
            return int(value)
    return None


def _build(config: AdmissionConfig, build: Build) -> Admission:
    rules = [(Callers.of(n, rule), rule.get("priority")) for n, rule in build.agents.items()]
    return Admission(config, rules if any(rank for _, rank in rules) else ())


REGISTRATION = Registration("admission", AdmissionConfig, _build)

"""`budget`: calls, tokens and money, reserved before each call and settled after it.

The worst case is drawn from every scope in one atomic step, so concurrent calls cannot
overshoot together; what was really used replaces it. A call that crashed is paid for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from clawmw.core.breakpoints import lifetime
from clawmw.core.decisions import Because, Decision, Halt, Pass, Rewrite
from clawmw.core.effects import Charge, Meter, Reserve, Reserved, Settle
from clawmw.core.money import NANO, Profile, cost
from clawmw.core.stage import Context, Cut, Effects, StageTraits
from clawmw.core.stream import StreamEvent, UsageEvent
from clawmw.core.tokens import estimate
from clawmw.core.types import Failure, Json, Outcome, Request, Usage
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.units import Count, Duration, Usd

__all__ = ["REGISTRATION", "Budget", "BudgetConfig", "Limits"]

_FALLBACK_OUTPUT = 4096
"""Output tokens reserved when neither the caller nor the model's facts give a limit."""
_MARGIN = 1.25
"""Single contexts are estimated up to a fifth too low; usage settles it."""


class Limits(BaseModel):
    """What a scope may use. Unset is unlimited."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    calls: Count | None = None
    """Model calls, retries and expansions included."""
    input_tokens: Count | None = None
    """Input tokens, cached ones included."""
    output_tokens: Count | None = None
    """Output tokens, reasoning included."""
    usd: Usd | None = None
    """Money, in USD, by the price table."""

    def charges(self, scope: str, worst: dict[Meter, int]) -> list[Charge]:
        """What to draw from `scope` for a call of that worst case."""
        limits: dict[Meter, int | None] = {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "usd": self.usd,
        }
        return [
            Charge(scope, meter, worst[meter], limit)
            for meter, limit in limits.items()
            if limit is not None
        ]


class Daily(BaseModel):
    """Limits that start anew each day, at midnight UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    day: Limits = Limits()
    """What may be used on one day."""


class BudgetConfig(StageConfig):
    """Limits on calls, tokens and money."""

    chain: Limits = Limits()
    """One task, with all agents and conversations it involves."""
    session: Limits = Limits()
    """One conversation."""
    agent: Daily = Daily()
    """One agent."""
    tenant: Daily = Daily()
    """Everything under one tenant."""
    unknown_price: Literal["refuse", "allow"] = "refuse"
    """What a USD limit does with a model whose price is not known: `refuse` or `allow`."""
    min_output: Count = 4096
    """A call whose longest answer does not fit is made with a lower limit on it, never below
    this; then it is refused."""
    lease: Duration = 900.0
    """A reservation not settled after this long counts as spent."""


class Budget:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "budget", on_error="closed", below=("prompt_cache", "route", "compress", "dedupe")
    )

    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        levels = (config.chain, config.session, config.agent.day, config.tenant.day)
        self._limits = any(level != Limits() for level in levels)

    # --- before ------------------------------------------------------------------------

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Reserve the worst case, or refuse; and have streams say what they used."""
        if not self._limits:
            return self._asking_usage(request)
        worst = self._worst(request, ctx)
        return self._reserve(request, ctx, self._charges(ctx, worst), worst)

    def _reserve(
        self, request: Request, ctx: Context, charges: Sequence[Charge], worst: dict[Meter, int]
    ) -> Effects:
        priced = any(c.meter == "usd" for c in charges)
        if priced and worst["usd"] < 0:
            if self.config.unknown_price == "refuse" and ctx.mode == "enforce":
                return _unknown_price(request.model)
            charges = [c for c in charges if c.meter != "usd"]
        name = _reservation(ctx, worst)
        if ctx.mode == "observe":
            return (yield from self._counted(charges, name, ctx))
        reserved: Reserved = yield Reserve(tuple(charges), self.config.lease, name)
        if reserved.granted:
            return self._asking_usage(request)
        shorter = self._shorter(request, ctx, charges, reserved)
        if shorter is None:
            return _spent(reserved, charges)
        worst = self._worst(shorter, ctx)
        meters = {c.meter for c in charges}
        charges = [c for c in self._charges(ctx, worst) if c.meter in meters]
        name = _reservation(ctx, worst)
        reserved = yield Reserve(tuple(charges), self.config.lease, name)
        if not reserved.granted:
            return _spent(reserved, charges)
        asking = self._asking_usage(shorter)
        changed = asking.request if isinstance(asking, Rewrite) else shorter
        return Rewrite(Because("budget", "min_output"), changed)

    def _counted(self, charges: Sequence[Charge], name: str, ctx: Context) -> Effects:
        """Observing: draw without limits, and say whether they would have held."""
        free = tuple(replace(c, limit=None) for c in charges)
        reserved: Reserved = yield Reserve(free, self.config.lease, name)
        for charge in charges:
            after = reserved.usage.get((charge.scope, charge.meter), 0)
            if charge.limit is not None and after > charge.limit:
                used = after - charge.amount
                said = (charge.scope, charge.meter, charge.limit, used)
                return _spent(Reserved(False, reserved.usage, *said), charges)
        return Pass()

    def _shorter(
        self, request: Request, ctx: Context, charges: Sequence[Charge], refused: Reserved
    ) -> Request | None:
        """The request with a limit on its answer that fits what is left; None if none does.

        A caller who set no limit gets a quarter of what is left, so that others that run at
        the same time find some too.
        """
        price = ctx.profile(request.model).price
        fits = []
        for charge in charges:
            if charge.limit is None:
                continue
            left = charge.limit - refused.usage.get((charge.scope, charge.meter), 0)
            if charge.meter == "output_tokens":
                fits.append(left)
            elif charge.meter == "usd" and price is not None:
                each = price.at(int(ctx.sent_tokens * _MARGIN)).output
                needed = charge.amount - each * self._output(request, ctx)
                fits.append((left - needed) // max(each, 1))
            elif charge.amount > left:
                return None  # calls or input: a shorter answer does not help
        most = min(fits, default=0) // request.choices
        asked = request.max_output
        limit = most if asked is not None else max(most // 4, min(most, self.config.min_output))
        if limit < min(self.config.min_output, asked or self.config.min_output):
            return None
        return _limited(request, limit, ctx.profile(request.model))

    def _output(self, request: Request, ctx: Context) -> int:
        """The longest the answers can get, in tokens."""
        most = ctx.profile(request.model).max_output or _FALLBACK_OUTPUT
        return request.choices * (request.max_output or most)

    def _worst(self, request: Request, ctx: Context) -> dict[Meter, int]:
        """The most this call may use; `usd` is -1 where no price is known."""
        profile = _billed(request, ctx)
        tokens = int(ctx.sent_tokens * _MARGIN) + 16
        output = self._output(request, ctx)
        usd = -1
        if profile.price is not None:
            price = profile.price.at(tokens)
            usd = tokens * max(price.input, price.cache_write) + output * price.output
        return {"calls": 1, "input_tokens": tokens, "output_tokens": output, "usd": usd}

    def _charges(self, ctx: Context, amounts: dict[Meter, int]) -> list[Charge]:
        day = time.strftime("%Y-%m-%d", time.gmtime(ctx.now))
        identity, config = ctx.identity, self.config
        return [
            *config.chain.charges(identity.scope("chain"), amounts),
            *config.session.charges(identity.scope("session"), amounts),
            *config.agent.day.charges(f"{identity.scope('agent')}\x1f{day}", amounts),
            *config.tenant.day.charges(f"{identity.scope('tenant')}\x1f{day}", amounts),
        ]

    def _asking_usage(self, request: Request) -> Decision:
        """A chat-completions stream reports usage only when asked to."""
        options = request.params.get("stream_options")
        if not request.stream or (isinstance(options, dict) and "include_usage" in options):
            return Pass()
        asked = {**(options or {}), "include_usage": True}
        params = {**request.params, "stream_options": asked}
        return Rewrite(Because("budget", "usage"), replace(request, params=params))

    # --- the stream, and after ----------------------------------------------------------

    def watches(self, request: Request) -> bool:
        """See `Streamer.watches`: only where we asked for usage and the caller did not."""
        options = request.params.get("stream_options")
        return not (isinstance(options, dict) and options.get("include_usage"))

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """Keep usage that only we asked for from the reader."""
        return () if isinstance(event, UsageEvent) else (event,)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Replace the reservation by what was used."""
        if not self._limits:
            return Pass()
        return self._settle(request, outcome, ctx, self._worst(request, ctx))

    def _settle(
        self, request: Request, outcome: Outcome, ctx: Context, worst: dict[Meter, int]
    ) -> Effects:
        used = _used(outcome, ctx, worst, _billed(request, ctx), request.choices)
        charges = [c for c in self._charges(ctx, used) if c.meter != "usd" or used["usd"] >= 0]
        yield Settle(tuple(charges), _reservation(ctx, worst))
        return Pass()


def _billed(request: Request, ctx: Context) -> Profile:
    """The prices the call is billed at: cache writes by the lifetime its marks ask for."""
    profile = ctx.profile(request.model)
    return profile.writing(lifetime(request, profile.cache))


def _reservation(ctx: Context, worst: dict[Meter, int]) -> str:
    """The reservation's id; told apart by what was reserved, which settling knows too."""
    return f"{ctx.exchange}/{ctx.attempt}/budget/{worst['output_tokens']}"


def _limited(request: Request, limit: int, profile: Profile) -> Request:
    """The request with a limit on its answer, under the name its provider knows."""
    names = [n for n in ("max_completion_tokens", "max_tokens") if n in request.params]
    fallback = "max_completion_tokens" if profile.family.startswith("openai") else "max_tokens"
    params = {**request.params, **dict.fromkeys(names or [fallback], limit)}
    return replace(request, params=params)


def _used(
    outcome: Outcome, ctx: Context, worst: dict[Meter, int], profile: Profile, choices: int
) -> dict[Meter, int]:
    """What a call used. Not reported is estimated; not answered in time is the worst case."""
    if isinstance(outcome, Failure):
        if outcome.kind == "refused":
            return {"calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0}
        if outcome.kind in ("status", "connect"):
            return {"calls": 1, "input_tokens": 0, "output_tokens": 0, "usd": 0}
        return worst
    usage = outcome.usage
    if usage is None or usage.input_tokens is None:
        said = estimate(outcome.message.text)
        said += sum(estimate(c.arguments) for c in outcome.message.tool_calls)
        usage = Usage(ctx.sent_tokens, said * choices, basis="estimated")
    spent = cost(replace(usage, output_tokens=usage.output_tokens or 0), profile)
    return {
        "calls": 1,
        "input_tokens": usage.input_tokens or 0,
        "output_tokens": usage.output_tokens or 0,
        "usd": spent.total if spent else worst["usd"],
    }


def _unknown_price(model: str) -> Halt:
    return Halt(
        Because("budget", "unknown_price"),
        "",
        "only models of a known price where USD are limited",
        f"the price of {model!r} is not known",
        f"Name a profile for it (models: {{mine: {{model: {model}, profile: ...}}}}), or set "
        "budget.unknown_price: allow.",
    )


def _spent(reserved: Reserved, charges: Sequence[Charge]) -> Halt:
    level = reserved.scope.partition(":")[0]
    usd = reserved.meter == "usd"
    show = _money if usd else str
    what = "USD" if usd else reserved.meter.replace("_", " ")
    day = ".day" if level in ("agent", "tenant") else ""
    bound = (reserved.scope, reserved.meter)
    need = next((c.amount for c in charges if (c.scope, c.meter) == bound), 0)
    knob = "" if reserved.meter in ("calls", "input_tokens") else " or lower budget.min_output"
    return Halt(
        Because("budget", f"{level}{day}.{reserved.meter}"),
        f"{level} and day" if day else level,
        f"{show(reserved.limit)} {what}",
        f"{show(reserved.used)} {what} are used or reserved, and this call may need {show(need)}",
        f"Raise the limit in the policy{knob}, and restart what runs it.",
    )


def _money(nano: int) -> str:
    return f"{nano / NANO:.4f}".rstrip("0").rstrip(".") or "0"


def _build(config: BudgetConfig, build: Build) -> Budget:
    return Budget(config)


REGISTRATION = Registration("budget", BudgetConfig, _build)

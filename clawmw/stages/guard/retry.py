"""`retry`: the one owner of retries. What failed for now is tried again, a bounded number of times.

Full jitter (AWS): a random wait of up to 0.5, 1, 2 ... seconds; what the upstream asks for in
`Retry-After` is waited besides. A breaker that is open is waited for, by a few. Nothing is tried
again after the first byte was forwarded: then a broken stream is an incomplete answer, not a
failure. A failure that is passed on says `x-should-retry: false`, so that an SDK above does not
multiply the attempts.

Our own code: tenacity and stamina (29 us a call) own the loop and wrap a function; here a failure
is a value, the loop is the engine's, and what is decided must replay, so the dice are the
exchange's name. hyx and purgatory have no retry budget.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import inf
from typing import Annotated, ClassVar

from pydantic import Field

from clawmw.core.decisions import Because, Decision, Pass, Retry, Rewrite
from clawmw.core.effects import Withdraw
from clawmw.core.stage import Context, Effects, Quiet, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.failures import Trouble, retry_after, trouble
from clawmw.stages.units import Duration

__all__ = ["REGISTRATION", "RetryConfig", "Retrying"]

_COST: dict[Trouble, float] = {"throttled": 5.0, "transient": 14.0}
"""Tokens of the retry budget (AWS SDKs, standard mode)."""


class RetryConfig(StageConfig):
    """Try again what failed for now."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """The most attempts at one model, the first included."""
    base: Duration = 0.5
    """The longest wait before the second attempt; twice as long before each further one."""
    longest: Duration = 8.0
    """The longest wait of our own choosing."""
    patience: Duration = 30.0
    """The longest `Retry-After` that is waited for, if the caller's deadline is not shorter; a
    longer one is passed on to the caller."""


class Retrying(Quiet):
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "retry",
        above=("budget", "breaker", "admission", "prompt_cache"),
        below=("route",),
        needs="weight",
    )

    def __init__(self, config: RetryConfig) -> None:
        self.config = config

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Try again, or pass the failure on."""
        if isinstance(outcome, Failure):
            return self._failed(request, outcome, ctx)
        return self._paid(request, ctx) if ctx.called is not None else Pass()

    def _paid(self, request: Request, ctx: Context) -> Effects:
        """A success puts back what its retry cost, or one token."""
        before = self._mine(request, ctx)[:-1]
        cost = _COST.get(trouble(before[-1]), 1.0) if before else 1.0
        yield Withdraw(ctx.upstream(request), -cost)
        return Pass()

    def _failed(self, request: Request, outcome: Failure, ctx: Context) -> Effects:
        waits = ctx.stopped is not None and str(ctx.stopped.because) == "breaker.open"
        kind: Trouble = "transient" if waits else trouble(outcome)
        if kind not in _COST and not _tempting(outcome):
            return Pass()
        made = len(self._mine(request, ctx))
        delay = self._delay(outcome, made, ctx) if kind in _COST else None
        if made >= self.config.attempts:
            delay = None
        # Waiting for a breaker asks nothing of the upstream.
        if delay is not None and (waits or (yield Withdraw(ctx.upstream(request), _COST[kind]))):
            return Retry(Because("retry", "attempts"), delay)
        told = (*outcome.headers, ("x-should-retry", "false"))
        return Rewrite(Because("retry", "passed_on"), response=replace(outcome, headers=told))

    def _mine(self, request: Request, ctx: Context) -> list[Outcome]:
        """How the attempts at this model ended, this one's included."""
        at = (request.model, request.target)
        return [t.outcome for t in ctx.tried if (t.model, t.target) == at]

    def _delay(self, outcome: Failure, made: int, ctx: Context) -> float | None:
        """Seconds to wait after `made` attempts; None: longer than anybody should."""
        asked = retry_after(outcome.headers, ctx.now)
        if ctx.stopped is not None:
            asked = ctx.stopped.retry_after
        most = min(self.config.base * 2.0 ** (made - 1), self.config.longest)
        own = most * _dice(f"{ctx.exchange}/{ctx.attempt}/{ctx.seed}")
        if asked is None:
            return own
        patience = min(self.config.patience, ctx.identity.wishes.deadline or inf)
        return asked + own if asked <= patience else None


def _tempting(outcome: Failure) -> bool:
    """Whether an SDK would try again what we know to be final."""
    status = outcome.status or 0
    return outcome.kind == "status" and (status in (408, 409, 429) or status >= 500)


def _dice(name: str) -> float:
    """0 to 1, the same for the same attempt."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") / 2**32


def _build(config: RetryConfig, build: Build) -> Retrying:
    return Retrying(config)


REGISTRATION = Registration("retry", RetryConfig, _build)

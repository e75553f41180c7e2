"""`breaker`: no call to an upstream that has just failed again and again.

One for each model, address and key. A caller's own mistakes (4xx), throttling (429) and
cancellations say nothing against the upstream.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from clawmw.core.decisions import Because, Decision, Halt, Pass
from clawmw.core.effects import Permit, Permitted, Report
from clawmw.core.events import BreakerTurned
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.stages.base import Build, Registration, StageConfig

__all__ = ["REGISTRATION", "BreakerConfig", "CircuitBreaker"]

_RULE = Because("breaker", "open")


class BreakerConfig(StageConfig):
    """Leave an upstream alone that fails again and again.

    It opens when half of the last 20 answers, and at least five, were failures; a single call at a
    time then finds out whether the upstream is back.
    """


class CircuitBreaker:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits("breaker", below=("budget", "prompt_cache"))

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Ask whether the call may go."""
        return self._ask(request, ctx) if ctx.mode == "enforce" else Pass()

    def _ask(self, request: Request, ctx: Context) -> Effects:
        permitted: Permitted = yield Permit(ctx.upstream(request))
        if permitted.granted:
            return Pass()
        name = request.target or request.model
        return Halt(
            _RULE,
            f"upstream {name}",
            "no call while half of the last ones failed",
            f"{name} has failed again and again of late",
            "It is tried again every few seconds; ask again then, or name a `fallback`.",
            kind="busy",
            retry_after=permitted.retry_after,
        )

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Tell how the call ended."""
        if ctx.mode != "enforce" or (ctx.stopped is not None and ctx.stopped.because == _RULE):
            return Pass()
        return self._tell(request, outcome, ctx)

    def _tell(self, request: Request, outcome: Outcome, ctx: Context) -> Effects:
        turned = yield Report(ctx.upstream(request), _verdict(outcome, ctx))
        if not turned:
            return Pass()
        name = request.target or request.model
        return Pass(events=(BreakerTurned(ctx.exchange, ctx.now, name, turned),))


def _verdict(outcome: Outcome, ctx: Context) -> Literal["ok", "failed", "neutral"]:
    if ctx.called is None:
        return "neutral"
    if not isinstance(outcome, Failure):
        return "ok"
    if outcome.kind == "status":
        status = outcome.status or 0
        if status == 429:
            return "neutral"
        return "failed" if status >= 500 or status == 408 else "ok"
    return "neutral" if outcome.kind in ("cancelled", "refused") else "failed"


def _build(config: BreakerConfig, build: Build) -> CircuitBreaker:
    return CircuitBreaker()


REGISTRATION = Registration("breaker", BreakerConfig, _build)

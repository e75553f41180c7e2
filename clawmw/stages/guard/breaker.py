"""`breaker`: no call to an upstream that has just failed again and again.

One for each model, address and key. A caller's own mistakes (4xx), throttling (429) and
cancellations say nothing against the upstream.
"""

from __future__ import annotations

from typing import ClassVar

from clawmw.core.decisions import Because, Decision, Halt, Pass
from clawmw.core.effects import Permit, Permitted, Report, Verdict
from clawmw.core.events import BreakerTurned
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.stages.base import Build, Registration, StageConfig

__all__ = ["REGISTRATION", "BreakerConfig", "CircuitBreaker"]

_OPEN, _CROWDED = Because("breaker", "open"), Because("breaker", "crowded")
"""Whether it is worth waiting for, which `retry` does."""


class BreakerConfig(StageConfig):
    """Leave an upstream alone that fails again and again.

    It opens when half of the last 20 answers, and at least five, were failures; single calls then
    find out whether the upstream is back, at most four seconds apart while others wait.
    """


class CircuitBreaker:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "breaker", below=("budget", "prompt_cache"), needs="weight"
    )

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Ask whether the call may go."""
        return self._ask(request, ctx) if ctx.mode == "enforce" else Pass()

    def _ask(self, request: Request, ctx: Context) -> Effects:
        permitted: Permitted = yield Permit(ctx.upstream(request))
        if permitted.granted:
            return Pass()
        name = request.target or request.model
        return Halt(
            _CROWDED if permitted.crowded else _OPEN,
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
        refused = ctx.stopped is not None and ctx.stopped.because in (_OPEN, _CROWDED)
        if ctx.mode != "enforce" or refused:
            return Pass()
        return self._tell(request, outcome, ctx)

    def _tell(self, request: Request, outcome: Outcome, ctx: Context) -> Effects:
        turned = yield Report(ctx.upstream(request), _verdict(outcome, ctx))
        if not turned:
            return Pass()
        name = request.target or request.model
        return Pass(events=(BreakerTurned(ctx.exchange, ctx.now, name, turned),))


def _verdict(outcome: Outcome, ctx: Context) -> Verdict:
    if ctx.called is None:
        return "neutral"
    if not isinstance(outcome, Failure):
        return "ok"
    status = outcome.status or 0
    if outcome.kind == "status":
        return "failed" if status >= 500 or status == 408 else "alive"
    if outcome.kind == "unusable" and 0 < status < 400:
        return "alive"
    return "neutral" if outcome.kind in ("cancelled", "refused") else "failed"


def _build(config: BreakerConfig, build: Build) -> CircuitBreaker:
    return CircuitBreaker()


REGISTRATION = Registration("breaker", BreakerConfig, _build)

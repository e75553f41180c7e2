"""`degrade`: a poorer answer rather than none, rung by rung, and back up again.

The rungs, in the order the policy gives: `compress` (sent history in shorter forms), a model by
its name, `reuse` (an earlier answer of the same tenant, even an old one), `refuse`. How far down
depends on the pressure, the larger of two shares: of the tightest budget that is used, and of the
time a call may wait for a slot that others wait already. The first rung begins at `soft`, refusal
at 1, the others evenly between; a rung is left when the pressure has fallen 0.1 below where it
began (ThunderAgent's soft .80 and hysteresis .10). An upstream whose breaker is open, or that
failed after all retries, is left for the first rung that leads elsewhere.

Every answer says its rung in `x-clawmw-degraded`; `x-clawmw-no-degrade` keeps a call off the
ladder. Between a tool call and its result no model of another family takes over.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from clawmw.core.decisions import Because, Decision, Halt, Pass, Retry, Rewrite
from clawmw.core.effects import Effect, Sense, Sensed
from clawmw.core.epoch import Epoch
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.errors import PolicyError
from clawmw.stages.base import Build, ModelRef, Registration, StageConfig
from clawmw.stages.failures import asked_by, retry_after, trouble
from clawmw.stages.forecast import epoch_of, scene
from clawmw.stages.shorter import deeper, recent, superseded
from clawmw.stages.units import Duration, Share

__all__ = ["REGISTRATION", "Degrade", "DegradeConfig"]

LABEL = "x-clawmw-degraded"
HYSTERESIS = 0.1
_NEAR = 1e-4
"""Shares are remembered with four digits."""
_KEPT, _GAIN = 4, 0.1
"""Newest rounds of tool calls that are not shortened, and the least share that must go."""
_MARK = "degrade/"
"""How the names begin that a `Retry` of ours gives to rungs."""


class DegradeConfig(StageConfig):
    """A poorer answer rather than none: `degrade: [compress, light, reuse, refuse]`."""

    shorthand: ClassVar[str | None] = "ladder"

    ladder: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    """The rungs in order: `compress`, names under `models`, `reuse`, `refuse`."""
    soft: Annotated[Share, Field(gt=0, lt=1)] = 0.8
    """The share of a budget, or of the time to wait, from which the first rung is taken."""
    patience: Annotated[Duration, Field(gt=0)] = 30.0
    """How long a call may wait for a slot; a caller's `x-clawmw-deadline` may be shorter."""


class Degrade:
    """See the module. The slot: how far down the session is."""

    traits: ClassVar[StageTraits] = StageTraits(
        "degrade",
        slot="session",
        needs="history",
        prefix="moves",
        below=("compress", "dedupe", "route"),
        above=("fallback", "retry", "epochs", "window", "prompt_cache", "budget"),
    )

    def __init__(self, config: DegradeConfig, models: Mapping[str, ModelRef]) -> None:
        self.config, self.models = config, models
        ladder, soft = config.ladder, config.soft
        share = (1 - soft) / max(len([r for r in ladder if r != "refuse"]), 1)
        self.begins = [1.0 if r == "refuse" else soft + i * share for i, r in enumerate(ladder)]

    # --- on the way down --------------------------------------------------------------------

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Take the rung that the pressure asks for, or that a failure led to."""
        if not self.config.ladder or ctx.identity.wishes.pinned:
            return Pass()
        return self._descend(request, slot, ctx)

    def _descend(self, request: Request, slot: Json | None, ctx: Context) -> Effects:
        here: Sensed = yield Sense(ctx.upstream(request))
        wait = min(self.config.patience, ctx.identity.wishes.deadline or self.config.patience)
        pressure = max(ctx.account.spent, here.waited / wait)
        was = slot.get("rung", 0) if isinstance(slot, dict) else 0
        rung = self._level(pressure, was if isinstance(was, int) else 0)
        kept = {"rung": rung} if rung != was else None
        if ctx.target.startswith(_MARK):
            taken = (*self.config.ladder[:rung], ctx.target.removeprefix(_MARK))
        else:
            taken = self.config.ladder[:rung] + self._still(request, ctx)
            if here.open and not any(self._elsewhere(r, request, ctx) for r in taken):
                taken += yield from self._around(request, ctx)
        return self._take(taken, request, ctx, kept)

    def _level(self, pressure: float, was: int) -> int:
        """How many rungs down, coming from `was`."""
        level = 0
        for index, begins in enumerate(self.begins, 1):
            if pressure + _NEAR >= begins - (HYSTERESIS if index <= was else 0.0):
                level = index
        return level

    def _still(self, request: Request, ctx: Context) -> tuple[str, ...]:
        """The rung whose model waits for the result of a tool it asked for."""
        asker = asked_by(request, ctx) if ctx.attempt == 1 else None
        if asker is None or asker == request.model:
            return ()
        return tuple([name for name, model in self.models.items() if model.id == asker][:1])

    def _around(self, request: Request, ctx: Context) -> Generator[Effect, Any, tuple[str, ...]]:
        """The first rung that leads around an open breaker; none: the call may wait for it."""
        for rung in self.config.ladder:
            if rung == "reuse":
                return (rung,)
            if self._elsewhere(rung, request, ctx):
                there: Sensed = yield Sense(ctx.upstream(self._asking(rung, request)))
                if not there.open:
                    return (rung,)
        return ()

    def _take(
        self, taken: Sequence[str], request: Request, ctx: Context, slot: Json | None
    ) -> Decision:
        if "refuse" in taken:
            return self._refused(request, ctx, slot)
        named, changed, epoch = "", request, None
        for rung in taken:
            if rung == "compress":
                epoch = self._shorter(request, ctx)
                named = rung
            elif rung == "reuse":
                failed = ctx.target.startswith(_MARK)
                changed, named = replace(changed, reuse="must" if failed else "may"), rung
            elif self._elsewhere(rung, request, ctx):
                changed, named = self._asking(rung, changed), rung
        if not named:
            return Pass(slot=slot)
        because = Because("degrade", named)
        return Rewrite(because, changed, slot=slot, epoch=epoch, labels={LABEL: named})

    def _asking(self, rung: str, request: Request) -> Request:
        return replace(request, model=self.models[rung].id, target=rung)

    def _elsewhere(self, rung: str, request: Request, ctx: Context) -> bool:
        """Whether a rung is another model, and one that may take over here."""
        other = self.models.get(rung)
        if other is None or rung == request.target:
            return False
        asker = asked_by(request, ctx)
        return asker is None or ctx.profile(other.id).family == ctx.profile(asker).family

    def _shorter(self, request: Request, ctx: Context) -> Epoch | None:
        """The history in the shorter forms that there are, where that is a tenth of it."""
        if ctx.attempt > 1:
            return None
        upto = recent(ctx.history, _KEPT)
        found = {one.place: one for one in deeper(ctx, upto)}
        if ctx.may_hide and ctx.can_expand:
            found |= {one.place: one for one in superseded(ctx, upto)}
        chosen = [one for one in found.values() if one.gain > 0]
        if sum(one.gain for one in chosen) < _GAIN * max(ctx.sent_tokens, 1):
            return None
        forecast = scene(request, ctx, "budget", 0.0).forecast(chosen)
        return epoch_of(chosen, forecast, offer=False)

    def _refused(self, request: Request, ctx: Context, slot: Json | None) -> Halt:
        name = request.target or request.model
        last = ctx.tried[-1].outcome if ctx.tried else None
        resume = "Raise the limit, or wait until it begins anew; the trace shows what used it."
        if not isinstance(last, Failure):
            share = f"{min(ctx.account.spent, 9.99):.0%} of the tightest budget is used"
            limit = "no call once a budget, or the time to wait for a slot, is used up"
            return Halt(Because("degrade", "refuse"), "", limit, share, resume, slot=slot)
        return Halt(
            Because("degrade", "refuse"),
            f"upstream {name}",
            "no more attempts once every rung has failed",
            f"{name} failed {len(ctx.tried)} times and nothing took its place",
            "Ask again later, or add a rung that leads elsewhere to `degrade`.",
            slot=slot,
            kind="busy",
            retry_after=retry_after(last.headers, ctx.now),
        )

    # --- on the way up ----------------------------------------------------------------------

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Go on to the next rung that leads elsewhere, where the call failed for now."""
        if not isinstance(outcome, Failure) or ctx.identity.wishes.pinned:
            return Pass()
        stop = ctx.stopped
        busy = stop is not None and (stop.kind == "busy" or stop.because.section == "budget")
        if not busy and trouble(outcome) not in ("throttled", "transient"):
            return Pass()
        if stop is not None and stop.because.section == "degrade":
            return Pass()
        rung = self._next(request, ctx)
        if rung is None or (rung == "refuse" and stop is not None and stop.kind == "limit"):
            return Pass()  # whoever stopped it says it best
        return Retry(Because("degrade", rung), target=_MARK + rung, at_once=busy)

    def _next(self, request: Request, ctx: Context) -> str | None:
        """The first rung that leads elsewhere and was not tried in this exchange."""
        ladder, asked = self.config.ladder, {t.target for t in ctx.tried}
        at = ctx.target.removeprefix(_MARK) if ctx.target.startswith(_MARK) else ""
        for rung in ladder[ladder.index(at) + 1 :] if at in ladder else ladder:
            if rung in ("reuse", "refuse"):
                return rung
            if rung not in asked and self._elsewhere(rung, request, ctx):
                return rung
        return None


def _build(config: DegradeConfig, build: Build) -> Degrade:
    models = {}
    for place, rung in enumerate(config.ladder):
        if rung in ("compress", "reuse", "refuse"):
            continue
        if rung not in build.models:
            known = ", ".join(["compress", "reuse", "refuse", *sorted(build.models)])
            raise PolicyError(f"no rung {rung!r}; there are {known}", where=f"degrade[{place}]")
        models[rung] = build.models[rung]
    return Degrade(config, models)


REGISTRATION = Registration("degrade", DegradeConfig, _build, default=False)

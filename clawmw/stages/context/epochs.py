"""`epochs`: sent history is sent in a shorter form from now on, when that pays.

Rewriting what was sent loses the provider's cache, so it is the exception: when the cache is
cold anyway (idle past its lifetime, another model, other tools), or when what is saved over
the calls still expected exceeds what writing the prefix again costs. Both sums are in the
trace, and later what came of them.
"""

from __future__ import annotations

from math import log
from typing import ClassVar

from clawmw.core.decisions import Because, Decision, Pass, Rewrite
from clawmw.core.fold import WORTH, History
from clawmw.core.render import Form
from clawmw.core.stage import Context, StageTraits
from clawmw.core.types import Json, Outcome, Request
from clawmw.stages import horizon
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.forecast import Scene, epoch_of, scene, why
from clawmw.stages.shorter import Shorter, deeper, recent, superseded
from clawmw.stages.units import Count, Share

__all__ = ["REGISTRATION", "Epochs", "EpochsConfig"]

_LEAST = 1024
"""Tokens of results below which nothing is worth rewriting."""
_GROWTH = log(1.25)
"""With a warm cache the sums are done each time the results have grown by a quarter."""
_SHRINKS = 0.6
"""The most that results are taken to shrink by, before the forms are really made."""


class EpochsConfig(StageConfig):
    """Rewrite old history when the cache is cold, or when that pays."""

    keep: Count = 4
    """Newest rounds of tool calls that are never rewritten; at least one."""
    gain: Share = 0.1
    """The least share of the context that must go for a rewrite."""
    warm: bool = True
    """Also with a warm cache, when the calls expected save more than rewriting costs."""


class Epochs:
    """See the module. The slot: how many calls the agent's chains had."""

    traits: ClassVar[StageTraits] = StageTraits(
        "epochs",
        slot="agent",
        needs="history",
        prefix="moves",
        below=("compress", "dedupe", "route"),
        above=("prompt_cache", "budget", "window"),
    )

    def __init__(self, config: EpochsConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Begin an epoch, if that saves money."""
        results = ctx.history.sums.results
        if ctx.attempt > 1 or results < max(_LEAST, self.config.gain * ctx.sent_tokens):
            return Pass()
        reason = why(request, ctx)
        if reason is None or ctx.profile(request.model).price is None:
            return Pass()
        if reason == "pays" and not (self.config.warm and _grown(ctx.history)):
            return Pass()
        calls = horizon.expected(slot, ctx.account.calls)
        return self._judged(scene(request, ctx, reason, calls), ctx)

    def _judged(self, scene: Scene, ctx: Context) -> Decision:
        """Make the forms, choose among them, and see what they come to."""
        upto = recent(ctx.history, self.config.keep)
        offer = ctx.can_offer and ctx.may_hide
        if scene.reason == "pays" and not scene.best(_guessed(ctx.history, upto), offer=offer):
            return Pass()
        found = {one.place: one for one in deeper(ctx, upto)}
        if ctx.may_hide and (ctx.can_expand or offer):
            found |= {one.place: one for one in superseded(ctx, upto)}
        chosen = scene.best(list(found.values()), offer=offer)
        if sum(one.gain for one in chosen) < self.config.gain * scene.sent:
            return Pass()
        offer = offer and any(one.hides for one in chosen)
        forecast = scene.forecast(chosen, offer=offer)
        epoch = epoch_of(chosen, forecast, offer=offer)
        return Rewrite(Because("epochs", scene.reason), epoch=epoch)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Count the call."""
        if ctx.attempt > 1:
            return Pass()
        return Pass(slot=horizon.counted(slot, ctx.account.calls))


def _grown(history: History) -> bool:
    """Whether the results have grown by a quarter since the last time the sums were done."""
    known = len(history.steps) - len(history.fresh())
    before = history.steps[known - 1].upto.results if known else 0
    return _steps(history.sums.results) > _steps(before)


def _steps(tokens: int) -> int:
    return int(log(max(tokens, _LEAST)) / _GROWTH)


def _guessed(history: History, upto: int) -> list[Shorter]:
    """The best that could come of it: each result as short as any becomes."""
    return [
        Shorter(place, Form(), step.sent_tokens, round((1 - _SHRINKS) * step.sent_tokens))
        for place, step in enumerate(history.steps[:upto])
        if step.form is None and step.sent_tokens >= WORTH and step.raw.tool_results
    ]


def _build(config: EpochsConfig, build: Build) -> Epochs:
    return Epochs(config)


REGISTRATION = Registration("epochs", EpochsConfig, _build)

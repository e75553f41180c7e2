"""`window`: near the model's limit, old history makes room for new, in a stated order.

1. Old results in the deeper forms of an epoch. 2. Results that a later call superseded become
markers. 3. Then the oldest results, one after the other. 4. Then the oldest rounds, each a
tool call with its results or one message, as a whole. What is cut can be asked for again where
the model has the means. The system prompt, the first and the last message of the user and the
newest round stay (its results become markers if the model can ask); what then does not fit is
refused, with the reason.

Where the model's limit is not known, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from clawmw.core.decisions import Because, Decision, Halt, Pass, Rewrite
from clawmw.core.money import Profile
from clawmw.core.stage import Context, Quiet, StageTraits
from clawmw.core.types import Json, Request
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.forecast import OFFER, epoch_of, scene
from clawmw.stages.shorter import Shorter, deeper, left_out, marked, recent, superseded, units
from clawmw.stages.units import Count, Share

__all__ = ["REGISTRATION", "Window", "WindowConfig"]

_MARKER = 60
"""Tokens of what is put in the place of rounds, about."""
_NEWEST = 2
"""Rounds whose results are made shorter only when there is no other way."""


class WindowConfig(StageConfig):
    """Make room near the model's limit."""

    at: Share = 0.9
    """The share of the room for input at which history is made shorter."""
    to: Share = 0.6
    """The share it is brought down to, so that the next calls keep their prefix."""
    reserve: Count = 4096
    """Tokens left for the answer where the caller sets no limit on it."""


class Window(Quiet):
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "window",
        needs="history",
        prefix="moves",
        below=("compress", "dedupe", "route", "epochs"),
        above=("prompt_cache", "budget"),
    )

    def __init__(self, config: WindowConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Make room, or say that there is none."""
        profile = ctx.profile(request.model)
        half = (profile.context_window or 0) // 2  # there is never less room than that
        if not half or ctx.attempt > 1 or ctx.sent_tokens <= self.config.at * half:
            return Pass()
        room = self.room(request, profile)
        if room is None or ctx.sent_tokens <= self.config.at * room:
            return Pass()
        chosen = _Chosen(ctx, round(self.config.to * room))
        if chosen.total > room:
            return _full(request, ctx, room, chosen.total)
        if not chosen.forms:
            return Pass()
        # How many calls are to come matters little: without room there are none.
        forecast = scene(request, ctx, "window", 0.0).forecast(chosen.found, offer=chosen.offer)
        epoch = epoch_of(chosen.found, forecast, offer=chosen.offer)
        return Rewrite(Because("window", chosen.rule), epoch=epoch)

    def room(self, request: Request, profile: Profile) -> int | None:
        """Tokens of input that the model takes beside the longest answer; None: not known."""
        if profile.context_window is None:
            return None
        answer = request.max_output
        if answer is None:
            answer = min(self.config.reserve, profile.max_output or self.config.reserve)
        return profile.context_window - min(answer, profile.context_window // 2)


class _Chosen:
    """The forms that bring the context down to `target` tokens, taken in the stated order."""

    def __init__(self, ctx: Context, target: int) -> None:
        self.ctx, self.target = ctx, target
        self.offer = ctx.can_offer
        self.total = ctx.sent_tokens + (OFFER if self.offer else 0)
        self.forms: dict[int, Shorter] = {}
        self.rule = ""
        self._choose()
        if not any(one.hides for one in self.found):
            self.total -= OFFER if self.offer else 0
            self.offer = False

    @property
    def found(self) -> list[Shorter]:
        """The forms, oldest message first."""
        return [self.forms[place] for place in sorted(self.forms)]

    def _choose(self) -> None:
        ctx, steps = self.ctx, self.ctx.history.steps
        old = recent(ctx.history, _NEWEST)
        self._take("deeper", deeper(ctx, old))
        self._take("superseded", superseded(ctx, old))
        results = [place for place, step in enumerate(steps) if step.raw.tool_results]
        whole = units(ctx.history)
        newest = whole[-1].stop if whole else 0
        for first, end in ((0, old), (old, newest)):
            for place in results:
                if first <= place < end and self.total > self.target:
                    self._take("results", marked(ctx, [place]))
            self._leave_out([unit for unit in whole if first <= unit.start < end])
        if ctx.can_expand or ctx.can_offer:  # even the newest, where the model can ask
            for place in results:
                if place >= newest and self.total > self.target:
                    self._take("results", marked(ctx, [place]))

    def _leave_out(self, whole: list[range]) -> None:
        """The oldest units, as many as must go."""
        weights = [self._weight(place) for place in range(len(self.ctx.history.steps))]
        over, count = self.total - self.target, 0
        while over > 0 and count < len(whole):
            over -= sum(weights[place] for place in whole[count]) - (_MARKER if not count else 0)
            count += 1
        if count:
            self._take("rounds", left_out(self.ctx, whole[:count]))

    def _weight(self, place: int) -> int:
        chosen = self.forms.get(place)
        return chosen.after if chosen else self.ctx.history.steps[place].sent_tokens

    def _take(self, rule: str, batch: Iterable[Shorter]) -> None:
        """A batch is taken as a whole, if there is need of it."""
        if self.total <= self.target:
            return
        for one in batch:
            less = self._weight(one.place) - one.after
            if less > 0 or one.form.whole is not None:
                self.total -= less
                self.forms[one.place] = one
                self.rule = rule


def _full(request: Request, ctx: Context, room: int, total: int) -> Decision:
    return Halt(
        Because("window", "full"),
        "call",
        f"about {room:,} tokens of input, which is what {request.model} takes beside the answer",
        f"about {total:,} tokens are left after all that can be left out (estimated)",
        "Begin a new conversation, send less at a time, or use a model with a larger window.",
    )


def _build(config: WindowConfig, build: Build) -> Window:
    return Window(config)


REGISTRATION = Registration("window", WindowConfig, _build)

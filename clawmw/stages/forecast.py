"""What an epoch would cost and save, by the provider's own prices and cache rules.

Without it, this call reads the cached prefix and later ones read all of it. With it, the
prefix is read up to the first message that changes; what follows is written once more, but
is shorter, in this call and in every later one. All from `clawmw.core.money`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clawmw.core.epoch import Epoch, Forecast, Reason
from clawmw.core.money import Profile, cost, simulate
from clawmw.core.prefix import Warm, by_name, tools_digest, tools_tokens, warm
from clawmw.core.stage import Context
from clawmw.core.types import Request, Usage
from clawmw.stages.shorter import Shorter

__all__ = ["Scene", "epoch_of", "scene", "why"]

OFFER = 100
"""Tokens of the tool to ask with, at most."""
_ASKED = 0.02
"""Share of the results that are hidden at an epoch that the model will ask for again: old
ones, so fewer than of the new (recorded runs need 8 in 100 of those)."""
_SLICE = 1500
"""Tokens that come back then, to be carried from there on."""
_RETURNS = 0.5
"""How likely a session comes back to a model, or to tools, that it turned away from."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The call that an epoch could begin with."""

    reason: Reason
    profile: Profile
    tools: int
    """Tokens of the tools."""
    upto: Sequence[int]
    """Tokens of the history before each message, and of all of it."""
    sent: int
    """Tokens of the whole context without an epoch."""
    held: int
    """Leading messages that the cache holds; 0 with a cold one."""
    calls: float
    """Calls expected after this one."""
    others: tuple[Profile, ...] = ()
    """Models (or this one, with other tools) whose cache holds the history too."""

    def forecast(self, chosen: Sequence[Shorter], *, offer: bool = False) -> Forecast:
        """Both sums, for those forms."""
        less = sum(one.gain for one in chosen) - (OFFER if offer else 0)
        first = min((one.place for one in chosen), default=len(self.upto) - 1)
        before, after = self.sent, self.sent - less
        bare = Forecast(self.reason, before, after, calls=self.calls)
        held = self.tools + self.upto[self.held] if self.held else 0
        stands = 0 if offer or not held else min(held, self.tools + self.upto[first])
        shorter = max(held - less, stands) if held else 0
        profile = self.profile
        without, moved = _call(profile, held, before), _call(profile, stands, after)
        unmoved = _call(profile, shorter, after)
        later = _less(_call(profile, before, before), _call(profile, after, after))
        if without is None or moved is None or unmoved is None or later is None:
            return replace(bare, rewritten=shorter - stands)
        away = self._away(0 if offer else self.tools + self.upto[first], after)
        asked = self._asked(sum(one.hides for one in chosen), after)
        return replace(
            bare,
            rewritten=shorter - stands,
            price=moved - unmoved + away,
            saving=without - unmoved + round(self.calls * later) - asked,
            now=without - moved,
        )

    def _away(self, stands: int, after: int) -> int:
        """What it costs to come back to where the history is still cached as it was."""
        total = 0.0
        for profile in self.others:
            back = _less(_call(profile, min(stands, after), after), _call(profile, after, after))
            total += _RETURNS * (back or 0)
        return round(total)

    def _asked(self, hidden: int, after: int) -> int:
        """What the model's asking for some of it will cost: a call, and a slice to carry."""
        price = self.profile.price
        once = _call(self.profile, after, after)
        if not hidden or price is None or once is None:
            return 0
        rates = price.at(after)
        carried = _SLICE * (max(rates.input, rates.cache_write) + self.calls * rates.cache_read)
        return round(_ASKED * hidden * (once + carried))

    def best(self, found: Sequence[Shorter], *, offer: bool = False) -> list[Shorter]:
        """Those of the forms that save most after all; none when none does.

        What is rewritten begins with the first message that changes, so from the newest on
        each older one is taken along where the sum is then higher.
        """
        price = self.profile.price
        if price is None:
            return []
        each = self._asked(1, self.sent)
        carried = price.at(self.sent).cache_read * (1 + self.calls)
        worth = [one for one in found if not one.hides or one.gain * carried > each]
        ordered = sorted(worth, key=lambda one: one.place, reverse=True)
        most, taken = 0, 0
        for count in range(1, len(ordered) + 1):
            net = _net(self.forecast(ordered[:count], offer=offer))
            if net is not None and net > most:
                most, taken = net, count
        return ordered[:taken][::-1]


def why(request: Request, ctx: Context) -> Reason | None:
    """Why an epoch could begin with this call: its cache is cold, or it may pay; quick.

    None where the session was not called before.
    """
    account = ctx.account
    if not account.warm or not ctx.history.steps:
        return None
    last = account.for_model(request.model)
    if last is None:
        return "model"
    if _cold(last, ctx.profile(request.model), ctx.now):
        return "idle"
    if not ctx.tools_changed:
        return "pays"
    # Another order is no other tools: `prompt_cache`, further down, puts them in the one they had.
    return "pays" if last.tools == tools_digest(by_name(request.tools)) else "tools"


def scene(request: Request, ctx: Context, reason: Reason, calls: float) -> Scene:
    """How things stand for this call; `calls` are expected after it."""
    profile, steps = ctx.profile(request.model), ctx.history.steps
    others = [profile] if reason == "tools" else []
    for other in ctx.account.warm:
        theirs = ctx.profile(other.model)
        if other.model != request.model and not _cold(other, theirs, ctx.now):
            others.append(theirs)
    held = 0
    if reason in ("pays", "window", "budget"):
        # After an edit or a fork, what was sent before may still be held: taken as if it were.
        last = ctx.account.for_model(request.model)
        known = len(steps) - len(ctx.history.fresh())
        cold = last is None or _cold(last, profile, ctx.now)
        held = 0 if cold else warm(ctx.history, last, profile.cache, ctx.now) or known
    upto = [0, *(step.upto.sent for step in steps)]
    tools = tools_tokens(request.tools)
    return Scene(reason, profile, tools, upto, ctx.sent_tokens, held, calls, tuple(others))


def epoch_of(chosen: Sequence[Shorter], forecast: Forecast, *, offer: bool) -> Epoch:
    """The epoch that has those forms."""
    originals = {ref: text for one in chosen for ref, text in one.originals.items()}
    return Epoch({one.place: one.form for one in chosen}, forecast, originals, offer)


def _cold(last: Warm, profile: Profile, now: float) -> bool:
    return not last.holds(profile.cache, now)


def _net(forecast: Forecast) -> int | None:
    if forecast.saving is None or forecast.price is None:
        return None
    return forecast.saving - forecast.price


def _call(profile: Profile, cached: int, sent: int) -> int | None:
    """Nano-USD of a call's input."""
    usage: Usage = simulate(profile.cache, prefix_tokens=cached, input_tokens=sent)
    bill = cost(usage, profile)
    return None if bill is None else bill.total


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other

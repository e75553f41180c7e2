"""`budget`: calls, tokens, money and time, reserved before each call and settled after it.

The worst case is drawn from every scope in one atomic step, so concurrent calls cannot
overshoot together; what was really used replaces it. A call that crashed is paid for. Usage
above its reservation is charged all the same: a scope that it takes to its limit is closed,
and every further call refused, until the limit is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from clawmw.core.bill import answers
from clawmw.core.codec import Codec
from clawmw.core.decisions import Because, Decision, Pass, Rewrite
from clawmw.core.effects import Above, Charge, Near, Reserve, Reserved, Settle
from clawmw.core.events import Assumed, BudgetNeared, Event, Overdrawn
from clawmw.core.stage import Context, Cut, Effects, StageTraits
from clawmw.core.stream import StreamEvent, UsageEvent
from clawmw.core.types import Json, Outcome, Request
from clawmw.core.unread import UNREAD
from clawmw.stages.base import Build, Registration
from clawmw.stages.callers import Callers
from clawmw.stages.guard.budget import amounts
from clawmw.stages.guard.budget.amounts import MARGIN, Amounts, asked_output, limited
from clawmw.stages.guard.budget.limits import BudgetConfig
from clawmw.stages.guard.budget.scopes import Books, Rule, named
from clawmw.stages.guard.budget.words import Words, unknown_price

__all__ = ["REGISTRATION", "Budget", "books"]

_TRIES = 3
"""How often a call that does not fit is asked to do with less; others take from it meanwhile."""


class Budget:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "budget",
        on_error="closed",
        below=("prompt_cache", "route", "compress", "dedupe"),
        needs="weight",
    )

    def __init__(self, config: BudgetConfig, books: Books, *, durable: bool = False) -> None:
        self.config = config
        self._books = books
        self._words = Words(books, durable)

    # --- before ------------------------------------------------------------------------

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Reserve the worst case, or refuse; and have streams say what they used."""
        if not self._books.any:
            return self._decided(request, request, ctx)
        return self._reserve(request, ctx)

    def _reserve(self, given: Request, ctx: Context) -> Effects:
        request, above = given, self._books.above(ctx.identity)
        most = amounts.worst(request, ctx)
        for left in reversed(range(_TRIES)):
            charges = self._books.charges(ctx, most)
            if most["usd"] < 0 and self._refuses(ctx):
                return unknown_price(request.model)
            if ctx.mode == "observe":
                return (yield from self._counted(charges, above, most, ctx))
            refused = self._too_much(most, ctx)
            if refused is None:
                name = _reservation(ctx, most)
                reserved: Reserved = yield Reserve(charges, self.config.lease, name, above)
                if reserved.granted:
                    return self._decided(given, request, ctx, reserved)
                refused = reserved
            shorter = self._shorter(request, ctx, refused, most) if left else None
            if shorter is None:
                return self._words.spent(refused, most, ctx.identity)
            request = shorter
            most = amounts.worst(request, ctx)
        raise AssertionError("the last try grants or refuses")

    def _refuses(self, ctx: Context) -> bool:
        """Whether a limit in USD holds for a call whose price nobody knows."""
        if self.config.unknown_price == "allow" or ctx.mode == "observe":
            return False
        return self._books.in_usd(ctx.identity)

    def _too_much(self, most: Amounts, ctx: Context) -> Reserved | None:
        """The limits of one call, which need no ledger; None: they hold."""
        limits = self._books.call
        for meter, limit in limits.items():
            amount = ctx.attempt if meter == "calls" else most[meter]
            if amount > limit:
                used = ctx.attempt - 1 if meter == "calls" else 0
                # No answer is short enough for one attempt less.
                left: dict[str, int] = {str(m): n for m, n in limits.items()}
                if meter == "calls":
                    left[meter] = 0
                return Reserved(False, {}, "", meter, limit, used, left)
        return None

    def _counted(
        self, charges: Sequence[Charge], above: Above | None, most: Amounts, ctx: Context
    ) -> Effects:
        """Observing: draw without limits, and say whether they would have held."""
        free = tuple([charge._replace(limit=None, soft=None) for charge in charges])
        name = _reservation(ctx, most)
        reserved: Reserved = yield Reserve(free, self.config.lease, name, above)
        for charge in charges:
            after = reserved.usage.get((charge.scope, charge.meter), 0)
            if charge.amount and charge.limit is not None and after > charge.limit:
                used = after - charge.amount
                said = Reserved(False, {}, charge.scope, charge.meter, charge.limit, used)
                return self._words.spent(said, most, ctx.identity)
        return Pass()

    def _shorter(
        self, request: Request, ctx: Context, refused: Reserved, most: Amounts
    ) -> Request | None:
        """The request with a limit on its answer that fits what is left; None if none does.

        A caller who set no limit gets a quarter of what is left, so that others that run at
        the same time find some too.
        """
        if request.dialect.endswith(UNREAD):
            return None  # it is sent as it came
        profile, fits = ctx.profile(request.model), []
        for meter, left in refused.left.items():
            amount = most[meter]  # type: ignore[index]  # the ledger gives back our meters
            if meter == "output_tokens":
                fits.append(left)
            elif meter == "usd" and profile.price is not None:
                each = profile.price.at(int(ctx.sent_tokens * MARGIN)).output
                needed = amount - each * most["output_tokens"]
                if needed > max(left, 0):
                    return None
                if each:
                    fits.append((left - needed) // each)
            elif amount and amount > left:
                return None  # calls, input, time: a shorter answer does not help
        most_each = min(fits, default=0) // answers(request)
        asked, least = asked_output(request), self.config.min_output
        limit = most_each if asked is not None else max(most_each // 4, min(most_each, least))
        longest = most["output_tokens"] // answers(request)
        if limit < min(least, asked or least) or not request.thinking < limit < longest:
            return None
        return limited(request, limit, profile)

    def _decided(
        self,
        given: Request,
        request: Request,
        ctx: Context,
        reserved: Reserved | None = None,
    ) -> Decision:
        """Send `request`, made from `given`; its stream is to say what was used."""
        rule = "" if request is given else "min_output"
        if (asked := ctx.codec.reporting(request)) is not request:
            request, rule = asked, rule or "usage"
        notes: dict[str, Any] = {}
        if reserved is not None and reserved.near:
            who = ctx.identity
            notes["journal"] = tuple([self._words.near(near, who) for near in reserved.near])
            notes["events"] = tuple([_neared(ctx, near) for near in reserved.near])
            rule = rule or "soft"
        if not rule:
            return Pass()
        return Rewrite(Because("budget", rule), request if request is not given else None, **notes)

    # --- the stream, and after ----------------------------------------------------------

    def watches(self, request: Request, codec: Codec) -> bool:
        """See `Streamer.watches`: only where we asked for usage and the caller did not."""
        return codec.reporting(request) is not request

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """Keep usage that only we asked for from the reader."""
        return () if isinstance(event, UsageEvent) else (event,)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Replace the reservation by what was used."""
        return self._settle(request, outcome, ctx) if self._books.any else Pass()

    def _settle(self, request: Request, outcome: Outcome, ctx: Context) -> Effects:
        most = amounts.worst(request, ctx)
        spent = amounts.used(outcome, ctx, most)
        charges = self._books.charges(ctx, spent, settling=True)
        yield Settle(charges, _reservation(ctx, most), self._books.above(ctx.identity))
        over = amounts.overrun(most, spent)
        told: list[Event] = [
            Overdrawn(ctx.exchange, ctx.now, meter, most[meter], spent[meter]) for meter in over
        ]
        if ctx.bill is not None and ctx.bill.cost is None and spent["usd"] > 0:
            told.append(Assumed(ctx.exchange, ctx.now, spent["usd"]))
        return Pass(events=tuple(told))


def _reservation(ctx: Context, most: Amounts) -> str:
    """The reservation's id; told apart by what was reserved, which settling knows too."""
    return f"{ctx.exchange}/{ctx.attempt}/budget/{most['output_tokens']}"


def _neared(ctx: Context, near: Near) -> BudgetNeared:
    scope = named(near.scope)
    level, name = (scope.level, scope.name) if scope else ("", "")
    day = scope.day if scope else ""
    return BudgetNeared(ctx.exchange, ctx.now, level, name, day, near.meter, near.limit, near.used)


def books(config: BudgetConfig, agents: Mapping[str, Mapping[str, Any]]) -> Books:
    """The limits of a policy's `budget` and of its rules under `agents`."""
    about = [(name, Callers.of(name, rule), rule) for name, rule in agents.items()]
    return Books(config, [Rule(name, who, rule.get("budget")) for name, who, rule in about])


def _build(config: BudgetConfig, build: Build) -> Budget:
    return Budget(config, books(config, build.agents), durable=build.durable)


REGISTRATION = Registration("budget", BudgetConfig, _build)

"""What an attempt is billed: its usage, as reported or estimated, times the prices.

The one place where money is worked out: what the ledger is charged and what the trace says of a
call are sums of these, so they agree to the nano-USD.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from clawmw.core.breakpoints import lifetime
from clawmw.core.events import Totals
from clawmw.core.money import CacheRules, Cost, Profile, cost, simulate, uncached
from clawmw.core.tap import add_usage
from clawmw.core.tokens import estimate
from clawmw.core.types import Failure, Json, Outcome, Request, Response, Usage

__all__ = ["Bill", "answers", "bill", "estimated", "total", "whole"]

_MOST = 2**53
"""More than this is no amount anybody means, and sums stay within 64 bits."""
_FREE = ("refused", "status", "connect")
"""Failures that are not billed: never sent, or answered by an error."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Of one attempt, or of a call's attempts together; None is what nobody knows."""

    usage: Usage | None = None
    cost: Cost | None = None
    uncached: int | None = None
    """Nano-USD that the same tokens cost at a provider that caches nothing."""


def bill(request: Request, outcome: Outcome, sums: Totals, profile: Profile) -> Bill:
    """What an attempt that was sent is billed. Unknown where it broke without an answer."""
    if isinstance(outcome, Failure):
        return Bill(None, Cost()) if outcome.kind in _FREE else Bill()
    usage = estimated(request, outcome, sums, profile.cache)
    priced = profile.writing(lifetime(request, profile.cache))
    return Bill(usage, cost(usage, priced), uncached(usage, priced))


def total(bills: Iterable[Bill]) -> Bill:
    """The sum of what is known; an attempt at a time, since prices may rise with its length.

    Without an attempt, nothing was used: that costs 0.
    """
    bills = tuple(bills)
    if not bills:
        return Bill(None, Cost())
    usage: Usage | None = None
    for one in bills:
        usage = add_usage(usage, one.usage)
    costs = [one.cost for one in bills if one.cost is not None]
    full = [one.uncached for one in bills if one.uncached is not None]
    return Bill(usage, sum(costs, Cost()) if costs else None, sum(full) if full else None)


def estimated(request: Request, response: Response, sums: Totals, rules: CacheRules) -> Usage:
    """The usage of an answer: as reported, or estimated where it was not."""
    usage = response.usage
    if usage is not None and usage.input_tokens is not None and usage.output_tokens is not None:
        return usage
    said = estimate(response.message.text)
    said += sum(estimate(c.arguments) for c in response.message.tool_calls)
    said *= answers(request)
    if usage is not None and usage.input_tokens is not None:
        return replace(usage, output_tokens=said, basis="estimated")
    return simulate(
        rules,
        prefix_tokens=sums.sent_cached,
        input_tokens=sums.sent,
        output_tokens=said,
        marked_tokens=None if sums.sent_cacheable else 0,
    )


def answers(request: Request) -> int:
    """How many answers are made, and paid for: `n`, or `best_of` of which `n` are shown."""
    params = request.params
    if "n" not in params and "best_of" not in params:
        return 1
    return max(whole(params.get("n")) or 1, whole(params.get("best_of")) or 1)


def whole(value: Json) -> int | None:
    """A positive whole number as a provider would take it; None for anything else."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return min(value, _MOST) if type(value) is int and value > 0 else None

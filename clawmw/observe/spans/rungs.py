"""What of a call's decisions people filter and sum by: the rule that chose its model and what the
other one would have cost, how far a loop is, what is left of a budget."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.util.types import AttributeValue

from clawmw.core.charges import Near
from clawmw.core.events import Acted, CallFinished
from clawmw.core.money import NANO

__all__ = ["budget_left", "level_of", "loop", "models"]

_CHOOSING = ("route", "fallback", "degrade")
_SCALES = {"usd": NANO, "wall": 1000}
"""What the ledger counts in one USD, and in one second."""


def models(acted: Sequence[Acted], finished: CallFinished) -> dict[str, AttributeValue]:
    """The last rule that chose the model, the rung of `degrade`, and the price of the one asked
    for; the chosen one's is `clawmw.cost.usd`."""
    result: dict[str, AttributeValue] = {}
    for one in acted:
        if one.would or one.action not in ("rewrite", "retry"):
            continue
        if one.stage in _CHOOSING:
            result["clawmw.route.rule"] = one.rule[:64]
        if one.stage == "degrade":
            result["clawmw.degrade.rung"] = one.rule.rpartition(".")[2][:64]
    if finished.asked is not None:
        result["clawmw.route.requested_usd"] = finished.asked / NANO
    return result


def loop(acted: Sequence[Acted]) -> dict[str, AttributeValue]:
    """The step of the loop guard that acted last, what it saw, and how often."""
    found = [one for one in acted if one.stage == "loop_guard" and not one.would]
    if not found:
        return {}
    last = found[-1]
    result: dict[str, AttributeValue] = {"clawmw.loop.step": last.rule.rpartition(".")[2][:64]}
    for key in ("detector", "count"):
        if key in last.detail:
            result[f"clawmw.loop.{key}"] = last.detail[key]
    return result


def budget_left(limits: Sequence[Near]) -> dict[str, AttributeValue]:
    """Of the limit that is nearest to its end: which it is, what is left, and the share of it."""
    counted = [near for near in limits if near.limit > 0 and near.meter != "concurrent"]
    if not counted:
        return {}
    near = max(counted, key=lambda one: one.used / one.limit)
    level, daily = level_of(near)
    left = max(near.limit - near.used, 0)
    scale = _SCALES.get(near.meter)
    return {
        "clawmw.budget.tightest": f"{level}{'.day' if daily else ''}.{near.meter}",
        "clawmw.budget.left": left / scale if scale else left,
        "clawmw.budget.left_share": round(left / near.limit, 6),
    }


def level_of(near: Near) -> tuple[str, bool]:
    """The level of a limit's scope, whose key holds its name, too; and whether it is a day's."""
    level, _, rest = near.scope.partition(":")
    return level, rest.count("\x1f") > (0 if level == "tenant" else 1)  # tenant, name, day

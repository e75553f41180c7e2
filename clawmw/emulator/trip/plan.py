"""What the trip agents write: outline, findings, verdict and the final plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from clawmw.emulator.trip.sight import Meal, SlotSeen, TicketSeen, TrainSeen
from clawmw.emulator.trip.world import BUDGET, HOME_BY, PARTY

__all__ = ["DINNER", "FAILED", "Facts", "failed", "gathered", "outline", "report", "verdict"]

FAILED = "TASK FAILED:"
DINNER = "17:00"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the plan stands on, as it was seen."""

    day: str
    adult: TicketSeen
    child: TicketSeen
    slot: SlotSeen
    hours: tuple[str, str]
    rain: str
    train: TrainSeen
    lunch: Meal
    dinner: Meal

    @property
    def expression(self) -> str:
        """The sum for the calculator: tickets, lunch, dinner, metro both ways."""
        grown, small = PARTY["adult"], PARTY["child"]
        return (
            f"{grown}*{self.adult.yuan}+{small}*{self.child.yuan}"
            f"+{grown}*{self.lunch.adult}+{small}*{self.lunch.child}"
            f"+{grown}*{self.dinner.adult}+{small}*{self.dinner.child}"
            f"+2*{grown}*{self.train.fare}"
        )

    @property
    def cost(self) -> int:
        """What it all costs, in yuan."""
        return sum(self.costs.values())

    @property
    def costs(self) -> dict[str, int]:
        """The sum, item by item. A child under 1.3 m rides the metro free."""
        grown, small = PARTY["adult"], PARTY["child"]
        return {
            "tickets": grown * self.adult.yuan + small * self.child.yuan,
            "lunch": grown * self.lunch.adult + small * self.lunch.child,
            "dinner": grown * self.dinner.adult + small * self.dinner.child,
            "metro": 2 * grown * self.train.fare,
        }


def failed(reason: str) -> str:
    """How an agent gives up: one clear line."""
    return f"{FAILED} {reason}."


def outline() -> str:
    """The planner's answer: what to find out, in which order."""
    return (
        "Outline\n"
        "1. Find the Saturday from 28 November to 26 December that has the off-peak price.\n"
        "2. Read the park's page: opening hours, height limits, a free window for the mine train.\n"
        "3. Two adult and one child one-day tickets for that very day, with their SKUs.\n"
        "4. Weather; lunch in the park and early dinner in the town, with children's menus.\n"
        f"5. The last train that brings everyone to People's Square well before {HOME_BY}.\n"
        f"6. Add up the money ({BUDGET} yuan at most), then hold tickets and table.\n"
        "Next: gather."
    )


def gathered(facts: Facts) -> str:
    """The researcher's findings, one record a line with its identifier."""
    train = facts.train
    lines = [
        "Findings (each id as printed by its source)",
        f"- {facts.day} off_peak, park open {facts.hours[0]} to {facts.hours[1]}",
        f"- {facts.day} rain {facts.rain}",
        *(
            f"- {t.sku} one_day {t.audience} {t.day} {t.tier} ¥{t.yuan}.00"
            for t in (facts.adult, facts.child)
        ),
        f"- {facts.slot.id} mine train from {facts.slot.start}, available",
        f"- {train.trip} dep {train.departs} arr {train.arrives} fare ¥{train.fare}.00",
        *(
            f"- {m.rid} {m.area} kids_menu adult ¥{m.adult}.00, child ¥{m.child}.00"
            for m in (facts.lunch, facts.dinner)
        ),
        "Next: check the sum and hold tickets and table.",
    ]
    return "\n".join(lines)


def verdict(facts: Facts, total: int, held: str, table: str) -> str:
    """The checker's answer."""
    return (
        f"Checked: {facts.expression} = {total}, within {BUDGET} yuan. {facts.day} is an "
        f"off-peak Saturday, the child's ticket is {facts.child.sku}, the train is in at "
        f"{facts.train.arrives}, before {HOME_BY}. Tickets held as {held}; table reserved as "
        f"{table}. Next: report."
    )


def report(facts: Facts, total: int, held: str, table: str) -> str:
    """The final plan: for the family in words, for the check as JSON."""
    costs, train = facts.costs, facts.train
    plan = _record(facts, total, held, table)
    lines = (
        f"Your Saturday at Shanghai Disneyland: {facts.day}\n",
        f"- {facts.hours[0]}: in at the gates. Chance of rain {facts.rain}.",
        f"- {facts.slot.start}: the mine train with your reservation, then Fantasyland.",
        f"- 12:30: lunch in the park ({facts.lunch.rid}), {costs['lunch']} yuan.",
        f"- {DINNER}: dinner in the town ({facts.dinner.rid}), {costs['dinner']} yuan.",
        f"- {train.departs}: metro home, at People's Square at {train.arrives}.\n",
        f"Tickets {costs['tickets']} yuan, metro {costs['metro']} yuan.",
        f"In all {total} of {BUDGET} yuan. Your tickets are held for 24 hours: {held}.\n",
        f"```json\n{json.dumps(plan, ensure_ascii=False, indent=1)}\n```",
    )
    return "\n".join(lines)


def _record(facts: Facts, total: int, held: str, table: str) -> dict[str, Any]:
    train = facts.train
    return {
        "date": facts.day,
        "tier": facts.adult.tier,
        "hours": list(facts.hours),
        "rain": facts.rain,
        "tickets": [
            {"sku": t.sku, "audience": t.audience, "quantity": PARTY[t.audience], "yuan": t.yuan}
            for t in (facts.adult, facts.child)
        ],
        "slot": {"id": facts.slot.id, "start": facts.slot.start},
        "lunch": {"rid": facts.lunch.rid, "yuan": facts.costs["lunch"]},
        "dinner": {"rid": facts.dinner.rid, "yuan": facts.costs["dinner"], "time": DINNER},
        "train": {"trip": train.trip, "departs": train.departs, "arrives": train.arrives},
        "costs": {**facts.costs, "total": total},
        "hold_id": held,
        "reservation_id": table,
    }

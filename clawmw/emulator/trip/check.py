"""Whether the final plan keeps every constraint of the task."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from clawmw.emulator.trip.plan import FAILED
from clawmw.emulator.trip.world import (
    BUDGET,
    HOME_BY,
    PARTY,
    WISH,
    hold_id,
    hours,
    reservation_id,
    restaurants,
    saturdays,
    slots,
    tickets,
    tier,
    trains,
    weather,
)

__all__ = ["check"]

_JSON = re.compile(r"```json\s*(\{.*?\})\s*```", re.DOTALL)


def check(report_text: str) -> list[str]:
    """What is wrong with the plan, one line each; empty when it is right.

    Compared with the world itself, not with what the agents saw: ids must exist, prices be
    true, the child's ticket be a child's, the day an off-peak Saturday, the train in before
    eight, the sum within the budget, and the hold be for exactly these tickets.
    """
    if FAILED in report_text:
        return [report_text[report_text.index(FAILED) :].split("\n")[0]]
    found = _JSON.search(report_text)
    if not found:
        return ["the report holds no plan"]
    try:
        plan = json.loads(found[1])
        return list(_problems(plan))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        return [f"the plan is not complete: {type(e).__name__}: {e}"]


def _problems(plan: Mapping[str, Any]) -> Iterator[str]:
    day = date.fromisoformat(plan["date"])
    if day not in saturdays():
        yield f"{day} is no Saturday of the window"
        return
    if tier(day) != "off_peak":
        yield f"{day} is not off-peak but {tier(day)}"
    if tuple(plan["hours"]) != hours(day):
        yield f"the park is open {'-'.join(hours(day))}, not {'-'.join(plan['hours'])}"
    if plan["rain"] != f"{weather(day)[2]}%":
        yield f"the chance of rain is {weather(day)[2]}%, not {plan['rain']}"
    cost = 0
    for problem, yuan in (*_tickets(plan, day), *_meals(plan), _train(plan)):
        cost += yuan
        if problem:
            yield problem
    yield from _slot(plan, day)
    yield from _bookings(plan)
    if plan["costs"]["total"] != cost:
        yield f"the plan costs {cost} yuan, not {plan['costs']['total']}"
    if cost > BUDGET:
        yield f"the plan costs {cost} yuan, more than {BUDGET}"


def _tickets(plan: Mapping[str, Any], day: date) -> Iterator[tuple[str, int]]:
    known = {t.sku: t for t in tickets()}
    bought = dict.fromkeys(PARTY, 0)
    for item in plan["tickets"]:
        ticket = known.get(item["sku"])
        if ticket is None:
            yield f"there is no ticket {item['sku']}", 0
            continue
        problem = ""
        if (ticket.day, ticket.product) != (day, "one_day"):
            problem = f"{ticket.sku} is a {ticket.product} ticket for {ticket.day}"
        elif ticket.yuan != item["yuan"]:
            problem = f"{ticket.sku} costs {ticket.yuan} yuan, not {item['yuan']}"
        bought[ticket.audience] = bought.get(ticket.audience, 0) + item["quantity"]
        yield problem, ticket.yuan * item["quantity"]
    if bought != PARTY:
        yield f"tickets are for {bought}, the family is {PARTY}", 0


def _meals(plan: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    known = {r.rid: r for r in restaurants()}
    for meal, area in (("lunch", "in_park"), ("dinner", "disneytown")):
        place = known.get(plan[meal]["rid"])
        if place is None:
            yield f"there is no restaurant {plan[meal]['rid']}", 0
            continue
        yuan = PARTY["adult"] * place.adult + PARTY["child"] * place.child
        problem = ""
        if not place.kids_menu or place.area != area:
            problem = f"{place.rid} is no place for {meal} with a child ({place.area})"
        elif plan[meal]["yuan"] != yuan:
            problem = f"{meal} costs {yuan} yuan, not {plan[meal]['yuan']}"
        yield problem, yuan


def _train(plan: Mapping[str, Any]) -> tuple[str, int]:
    train = next((t for t in trains() if t.trip == plan["train"]["trip"]), None)
    if train is None:
        return f"there is no train {plan['train']['trip']}", 0
    fare = 2 * PARTY["adult"] * train.fare
    if (train.departs, train.arrives) != (
        plan["train"]["departs"],
        plan["train"]["arrives"],
    ):
        return f"{train.trip} runs {train.departs} to {train.arrives}", fare
    if train.arrives >= HOME_BY or train.departs <= plan["dinner"]["time"]:
        when = f"{train.departs} to {train.arrives}"
        return f"{train.trip} ({when}) is not after dinner and back before {HOME_BY}", fare
    return "", fare


def _slot(plan: Mapping[str, Any], day: date) -> Iterator[str]:
    slot = next((s for s in slots() if s.id == plan["slot"]["id"]), None)
    if slot is None:
        yield f"there is no reservation window {plan['slot']['id']}"
    elif (slot.day, slot.attraction, slot.free) != (day, WISH, True):
        yield f"{slot.id} is not a free window of the mine train on {day}"
    elif slot.start != plan["slot"]["start"]:
        yield f"{slot.id} is at {slot.start}, not at {plan['slot']['start']}"


def _bookings(plan: Mapping[str, Any]) -> Iterator[str]:
    items = {t["sku"]: t["quantity"] for t in plan["tickets"]}
    if plan["hold_id"] != hold_id(plan["date"], items, plan["slot"]["id"]):
        yield f"{plan['hold_id']} does not hold these tickets"
    dinner = plan["dinner"]
    if plan["reservation_id"] != reservation_id(dinner["rid"], plan["date"], dinner["time"]):
        yield f"{plan['reservation_id']} is no table at {dinner['rid']}"

"""The scripted brain of the four trip agents.

It decides from the request it is sent and from nothing else: which agent it is (by the last
line `Agent: NAME` of a system or user message), what was already asked (by the tool calls), and
every fact of the plan (by reading the texts). A fact it needs and does not see it asks back
with `clawmw_expand`, where that tool is offered and a reference stands in the text; else the
task has failed, and it says what was missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clawmw.emulator.reply import Reply, ToolUse, text_of
from clawmw.emulator.trip import sight
from clawmw.emulator.trip.plan import DINNER, Facts, failed, gathered, outline, report, verdict
from clawmw.emulator.trip.world import (
    BUDGET,
    FIRST_DAY,
    HOME_BY,
    LAST_DAY,
    PARTY,
    saturdays,
)

__all__ = ["brain"]

EXPAND = "clawmw_expand"
MAX_ASKS = 4
"""Most references asked for in one reply."""
HOME = {
    "origin": "Disney Resort",
    "destination": "People's Square",
    "arrive_before": HOME_BY,
}
LEAVE_AFTER, MARGIN = "18:00", "19:45"
"""The train leaves after dinner and arrives a quarter of an hour before the family must be back."""

_ROLE = re.compile(r"^agent:[ \t]*(plan|gather|check|report)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_REF = re.compile(
    r"""clawmw_expand\(\s*(?:ref\s*=\s*)?["']([^"']+)["']|\[clawmw_expand\s+([^\s:\]]+):|\bref\s*[=:]\s*["']?([\w./-]{4,})"""
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A request, read: the agent, the texts with the tool each came from, the calls made."""

    role: str
    texts: tuple[tuple[str, str], ...]
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    can_expand: bool

    def all_text(self) -> str:
        return "\n\n".join(text for _, text in self.texts)

    def of(self, tool: str) -> list[str]:
        return [text for source, text in self.texts if source == tool]

    def called(self, tool: str) -> int:
        return sum(1 for name, _ in self.calls if name == tool)


@dataclass(frozen=True, slots=True)
class _Missing:
    """A fact that cannot be seen: where it came from and what to look for there."""

    what: str
    source: str
    query: str


def brain(body: dict[str, Any]) -> Reply:
    """The next step of whichever agent was told its part last."""
    seen = _read(body)
    match seen.role:
        case "plan":
            return Reply(text=outline())
        case "gather":
            return _gather(seen)
        case "check":
            return _check(seen)
        case "report":
            return _report(seen)
        case _:
            return Reply(text=failed("nothing I was told names an agent I know"))


def _gather(seen: _Seen) -> Reply:
    span = {"date_from": str(FIRST_DAY), "date_to": str(LAST_DAY), "product": "one_day"}
    steps = (
        (
            ToolUse("park_queue_page", {"lang": "zh"}),
            ToolUse("weather_forecast", {"place": "川沙新镇", "days": 30}),
        ),
        (ToolUse("ticket_search", span),),
        (
            ToolUse("metro_routes", HOME),
            ToolUse("restaurant_list", {"area": "any", "party": sum(PARTY.values())}),
        ),
    )
    for step in steps:
        if not seen.called(step[0].name):
            return Reply(tools=step)
    facts = _facts(seen)
    return Reply(text=gathered(facts)) if isinstance(facts, Facts) else _ask(seen, facts)


def _check(seen: _Seen) -> Reply:
    facts = _facts(seen)
    if not isinstance(facts, Facts):
        return _ask(seen, facts)
    if not seen.called("calculator"):
        return Reply(
            text="Adding up, and reading timetable and weather once more before holding anything.",
            tools=(
                ToolUse("calculator", {"expression": facts.expression}),
                ToolUse("metro_routes", HOME),
                ToolUse("weather_forecast", {"place": "川沙新镇", "days": 29}),
            ),
        )
    total = sight.result_of(seen.all_text(), facts.expression)
    if total is None:
        return _ask(seen, [_Missing("the sum", "calculator", facts.expression)])
    if total > BUDGET:
        return Reply(text=failed(f"the plan costs {total} yuan, more than {BUDGET}"))
    if not seen.called("hold_tickets"):
        items = [
            {"sku": facts.adult.sku, "quantity": PARTY["adult"]},
            {"sku": facts.child.sku, "quantity": PARTY["child"]},
        ]
        table = {
            "restaurant_id": facts.dinner.rid,
            "date": facts.day,
            "time": DINNER,
            "party": sum(PARTY.values()),
        }
        hold = {"date": facts.day, "items": items, "slot_id": facts.slot.id}
        return Reply(tools=(ToolUse("hold_tickets", hold), ToolUse("reserve_table", table)))
    held, table_id = _held(seen)
    if held is None or table_id is None:
        said = " ".join(seen.of("hold_tickets") + seen.of("reserve_table"))[:300]
        return Reply(text=failed(f"tickets or table could not be held: {said}"))
    return Reply(text=verdict(facts, total, held, table_id))


def _report(seen: _Seen) -> Reply:
    facts = _facts(seen)
    if not isinstance(facts, Facts):
        return _ask(seen, facts)
    total = sight.result_of(seen.all_text(), facts.expression)
    held, table_id = _held(seen)
    if total is None or held is None or table_id is None:
        return Reply(
            text=failed("the check's sum, hold id or table reservation is not in what I was given")
        )
    return Reply(text=report(facts, total, held, table_id))


def _held(seen: _Seen) -> tuple[str | None, str | None]:
    text = seen.all_text()
    held = re.search(r"\bHOLD-[A-Z2-7]{9}\b", text)
    table = re.search(r"\bTBL-[A-Z2-7]{7}\b", text)
    return (held[0] if held else None), (table[0] if table else None)


def _facts(seen: _Seen) -> Facts | list[_Missing]:
    """Every fact of the plan, or those that cannot be seen."""
    text = seen.all_text()
    found = list(sight.tickets(text))
    day = _off_peak_saturday(text, found)
    if not day:  # everything else depends on it, so nothing else is asked for yet
        return [_Missing("an off-peak Saturday", "park_queue_page", "off_peak")]
    prices = {t.audience: t for t in found if t.day == day and t.tier == "off_peak"}
    windows = sorted(sight.slots(text, day), key=lambda s: s.start)
    opening, wet = sight.hours(text, day), sight.rain(text, day)
    trains = [t for t in sight.trains(text) if t.departs >= LEAVE_AFTER and t.arrives <= MARGIN]
    food = sorted(sight.meals(text), key=_price)
    inside = next((m for m in food if m.area == "in_park"), None)
    outside = next((m for m in food if m.area == "disneytown"), None)
    adult, child = prices.get("adult"), prices.get("child")
    shop = "ticket_search", f"{day} off_peak one_day"
    needs = (
        (adult, _Missing("the adult ticket of an off-peak Saturday", *shop)),
        (child, _Missing("the child ticket of an off-peak Saturday", *shop)),
        (windows, _Missing("a free window's slot id", "park_queue_page", "SP-7DM available")),
        (opening, _Missing("the opening hours", "park_queue_page", day)),
        (wet, _Missing("the chance of rain", "weather_forecast", day)),
        (trains, _Missing("a train home", "metro_routes", "L11W 18: 19: fare")),
        (inside, _Missing("a place for lunch", "restaurant_list", "kids_menu in_park")),
        (outside, _Missing("a place for dinner", "restaurant_list", "kids_menu disneytown")),
    )
    missing = [need for value, need in needs if not value]
    if missing or not (adult and child and opening and wet and inside and outside):
        return missing
    train = max(trains, key=lambda t: t.departs)
    facts = Facts(day, adult, child, windows[0], opening, wet, train, inside, outside)
    if facts.cost > BUDGET:
        return [_Missing("cheaper places to eat", "restaurant_list", "kids_menu")]
    return facts


def _off_peak_saturday(text: str, found: list[sight.TicketSeen]) -> str:
    """The day by the tickets' tier, else by the page's calendar; "" when neither is seen."""
    weekend = sorted(str(d) for d in saturdays())
    sold = {t.day for t in found if t.tier == "off_peak"}
    for day in weekend:
        if day in sold:
            return day
    told = (d for d in weekend if re.search(re.escape(d) + r"[^\n]{0,60}\boff_peak\b", text))
    return next(told, "")


def _price(meal: sight.Meal) -> tuple[int, str]:
    return (PARTY["adult"] * meal.adult + PARTY["child"] * meal.child, meal.rid)


def _ask(seen: _Seen, missing: list[_Missing]) -> Reply:
    """Ask back what is missing, or fail: no tool, no reference, or nothing left to ask.

    Each reference is asked for twice at most: for the records that match, then for all of it.
    """
    gone = "; ".join(m.what for m in missing)
    if not seen.can_expand:
        return Reply(
            text=failed(f"I cannot see {gone}, and there is no tool to ask for what was cut")
        )
    asked = [dict(args) for name, args in seen.calls if name == EXPAND]
    uses: list[ToolUse] = []
    for need in missing:
        ways = (
            wish
            for ref in _references(seen, need.source)
            for wish in ({"ref": ref, "query": need.query}, {"ref": ref})
            if wish not in asked
        )
        wish = next(ways, None)
        if wish is not None and all(u.arguments != wish for u in uses):
            uses.append(ToolUse(EXPAND, wish))
    if not uses:
        return Reply(
            text=failed(f"I cannot see {gone}, and asking for what was cut did not bring it back")
        )
    return Reply(tools=tuple(uses[:MAX_ASKS]))


def _references(seen: _Seen, source: str) -> Iterator[str]:
    """References in the results of the tool that knew, then any others."""
    own, others = seen.of(source), [t for s, t in seen.texts if s not in (source, "")]
    known: set[str] = set()
    for text in own + others:
        for groups in _REF.findall(text):
            ref = next(g for g in groups if g)
            if ref not in known:
                known.add(ref)
                yield ref


def _read(body: dict[str, Any]) -> _Seen:
    role, texts, calls, names = "", [], [], {}
    for message in body["messages"]:
        text = text_of(message.get("content"))
        instructs = message.get("role") in ("system", "developer")
        if instructs or message.get("role") == "user":
            role = next(reversed(_ROLE.findall(text)), role).lower()
        if instructs:
            continue
        for call in message.get("tool_calls") or ():
            name = call["function"]["name"]
            names[call["id"]] = name
            calls.append((name, _arguments(call["function"]["arguments"])))
        source = (
            names.get(message.get("tool_call_id"), "tool") if message.get("role") == "tool" else ""
        )
        texts.append((source, text))
    offered = [t.get("function", {}).get("name") for t in body.get("tools") or ()]
    return _Seen(role, tuple(texts), tuple(calls), EXPAND in offered)


def _arguments(raw: str) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

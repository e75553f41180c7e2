"""What the trip tools answer. Same call, same answer: no state, no clock, no network."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from datetime import date
from fractions import Fraction
from typing import Any

from clawmw.emulator.trip import pages
from clawmw.emulator.trip.texts import text
from clawmw.emulator.trip.world import (
    hold_id,
    reservation_id,
    restaurants,
    slots,
    tickets,
)

__all__ = ["TOOLS", "call_tool"]

TOOLS: list[dict[str, Any]] = json.loads(text("tools.json"))
"""What the agents are offered, as OpenAI tool schemas."""

Arguments = Mapping[str, Any]


class _Wrong(Exception):
    """The arguments are not what the tool takes."""


def call_tool(name: str, arguments: Mapping[str, Any]) -> str:
    """The text a tool gives back; what is wrong with a call is told in the text, as APIs do."""
    if name not in _TOOLS:
        return _error(f"unknown tool {name!r}; there are {', '.join(_TOOLS)}")
    try:
        return _TOOLS[name](arguments)
    except _Wrong as e:
        return _error(str(e))


def _queue(arguments: Arguments) -> str:
    return pages.queue_page(_day(arguments, "date", optional=True))


def _tickets(arguments: Arguments) -> str:
    return pages.ticket_page(_day(arguments, "date_from"), _day(arguments, "date_to"))


def _weather(arguments: Arguments) -> str:
    # A second look finds the hourly update, as live sources do.
    return pages.weather_page("07:10" if arguments.get("days", 30) != 30 else "06:10")


def _metro(_arguments: Arguments) -> str:
    return pages.metro_page()


def _restaurants(_arguments: Arguments) -> str:
    return pages.restaurant_page()


def _calculate(arguments: Arguments) -> str:
    expression = str(arguments.get("expression", ""))[:500]
    try:
        value = _value(ast.parse(expression, mode="eval").body, 0)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        raise _Wrong(
            f"not an expression of numbers, + - * / and parentheses: {expression[:80]!r}"
        ) from None
    shown = str(value) if value.denominator == 1 else f"{float(value):.2f}"
    return f"{expression} = {shown}"


def _hold(arguments: Arguments) -> str:
    day = _day(arguments, "date")
    known = {t.sku: t for t in tickets()}
    items: dict[str, int] = {}
    wanted = arguments.get("items")
    if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
        raise _Wrong("items must be a list of {sku, quantity}")
    for item in wanted:
        sku, quantity = str(item.get("sku")), item.get("quantity")
        if sku not in known:
            raise _Wrong(f"no ticket has the SKU {sku!r}; use it exactly as printed")
        if known[sku].day != day:
            raise _Wrong(f"{sku} is for {known[sku].day}, not for {day}")
        if not isinstance(quantity, int) or quantity < 1:
            raise _Wrong(f"quantity of {sku} must be a whole number from 1")
        items[sku] = items.get(sku, 0) + quantity
    slot = next((s for s in slots() if s.id == arguments.get("slot_id")), None)
    if not items:
        raise _Wrong("items is empty")
    if slot is None:
        raise _Wrong(f"no reservation window has the id {arguments.get('slot_id')!r}")
    if slot.day != day or not slot.free:
        raise _Wrong(f"{slot.id} is {'sold out' if slot.day == day else f'for {slot.day}'}")
    amount = sum(known[sku].yuan * quantity for sku, quantity in items.items())
    held = hold_id(str(day), items, slot.id)
    answer = {
        "status": "HELD",
        "hold_id": held,
        "amount": f"¥{amount}.00",
        "slot_id": slot.id,
        "hours": 24,
    }
    return json.dumps(answer, ensure_ascii=False)


def _reserve(arguments: Arguments) -> str:
    day, rid, time = (
        _day(arguments, "date"),
        arguments.get("restaurant_id"),
        str(arguments.get("time")),
    )
    place = next((r for r in restaurants() if r.rid == rid), None)
    if place is None:
        raise _Wrong(f"no restaurant has the id {rid!r}; use it exactly as printed")
    if not place.opens <= time <= place.closes:
        raise _Wrong(f"{rid} is open from {place.opens} to {place.closes}")
    answer = {
        "status": "CONFIRMED",
        "reservation_id": reservation_id(place.rid, str(day), time),
        "time": time,
    }
    return json.dumps(answer, ensure_ascii=False)


_TOOLS: Mapping[str, Callable[[Arguments], str]] = {
    "park_queue_page": _queue,
    "ticket_search": _tickets,
    "weather_forecast": _weather,
    "metro_routes": _metro,
    "restaurant_list": _restaurants,
    "calculator": _calculate,
    "hold_tickets": _hold,
    "reserve_table": _reserve,
}

_OPERATORS: Mapping[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(node: ast.AST, depth: int) -> Fraction:
    """The value of an arithmetic expression, walked rather than evaluated."""
    if depth > 50:
        raise ValueError("nested too deeply")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, depth + 1), _value(node.right, depth + 1)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, depth + 1)
    raise ValueError("not arithmetic")


def _day(arguments: Arguments, name: str, *, optional: bool = False) -> Any:
    value = arguments.get(name)
    if value is None and optional:
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise _Wrong(f"{name} must be a date like 2026-12-01, not {value!r}") from None


def _error(message: str) -> str:
    return json.dumps({"error": message}, ensure_ascii=False)

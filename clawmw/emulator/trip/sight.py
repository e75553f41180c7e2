"""What can be seen in a request's text, in whatever form it stands there.

The same record may stand as raw JSON or HTML, as a row of a table, as a line of text. So a
record is found by its identifier, and read by the shapes of its values, never by the format:
the object in braces around the identifier if that holds no other one, else its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from clawmw.emulator.trip.world import WISH

__all__ = [
    "Meal",
    "SlotSeen",
    "TicketSeen",
    "TrainSeen",
    "hours",
    "meals",
    "rain",
    "result_of",
    "slots",
    "tickets",
    "trains",
]

_SKU = re.compile(r"\bTK-[A-Z2-7]{10}\b")
_SLOT = re.compile(r"\bSP-[A-Z0-9]{3}-\d{4}-[A-Z2-7]{6}\b")
_TRIP = re.compile(r"\bL11W-[A-Z2-7]{5}\b")
_PLACE = re.compile(r"\bRS-[A-Z2-7]{6}\b")
_YUAN = re.compile(r"[¥￥](\d+)(?:\.00)?\b")
_TIME = re.compile(r"(?<![\d:])([01]\d|2[0-3]):([0-5]\d)(?![\d:])")
_DAY = re.compile(r"\b2026-\d\d-\d\d\b")
_TAG = re.compile(r"<[^>]*>")
_RECORD_CHARS = 1500
_HOURS_CHARS = 260


@dataclass(frozen=True, slots=True)
class TicketSeen:
    """A one-day ticket."""

    sku: str
    day: str
    audience: str
    tier: str
    yuan: int


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """A free reservation window."""

    id: str
    start: str


@dataclass(frozen=True, slots=True)
class TrainSeen:
    """A train home; the fare in yuan."""

    trip: str
    departs: str
    arrives: str
    fare: int


@dataclass(frozen=True, slots=True)
class Meal:
    """A place with a children's menu; yuan a head."""

    rid: str
    area: str
    adult: int
    child: int


def tickets(text: str) -> Iterator[TicketSeen]:
    """One-day tickets whose day, audience, tier and price can be seen."""
    for sku, record in _records(_SKU, text):
        days, prices = set(_DAY.findall(record)), set(_YUAN.findall(record))
        audience = set(re.findall(r"\b(adult|child|senior)\b", record))
        tier = set(re.findall(r"\b(off_peak|regular|peak|holiday)\b", record))
        one_day = re.search(r"\bone_day\b", record)
        if one_day and len(days) == len(prices) == len(audience) == len(tier) == 1:
            yield TicketSeen(sku, days.pop(), audience.pop(), tier.pop(), int(prices.pop()))


def slots(text: str, day: str) -> Iterator[SlotSeen]:
    """Free reservation windows of the ride the child asked for, on that day."""
    if not day:
        return
    wanted = f"SP-{WISH}-{day[5:].replace('-', '')}-"
    for found, record in _records(_SLOT, text):
        times = _times(record)
        if found.startswith(wanted) and times and re.search(r"\bavailable\b|可预约", record):
            yield SlotSeen(found, times[0])


def trains(text: str) -> Iterator[TrainSeen]:
    """Trains whose departure, arrival and fare can be seen."""
    for trip, record in _records(_TRIP, text):
        times, fares = sorted(set(_times(record))), set(_YUAN.findall(record))
        if len(times) == 2 and len(fares) == 1:
            yield TrainSeen(trip, times[0], times[1], int(fares.pop()))


def meals(text: str) -> Iterator[Meal]:
    """Restaurants with a children's menu whose area and prices can be seen."""
    for rid, record in _records(_PLACE, text):
        prices = sorted({int(p) for p in _YUAN.findall(record)})
        area = set(re.findall(r"\b(in_park|disneytown)\b", record))
        if re.search(r"\bkids_menu\b", record) and len(prices) == 2 and len(area) == 1:
            yield Meal(rid, area.pop(), adult=prices[1], child=prices[0])


def hours(text: str, day: str) -> tuple[str, str] | None:
    """When the park opens and closes that day: the two times that follow it and its tier."""
    if not day:
        return None
    for match in re.finditer(re.escape(day), text):
        after = _TAG.sub(" ", text[match.end() : match.end() + _HOURS_CHARS])
        following = _DAY.split(after)[0]
        times = _times(following)
        if len(times) >= 2 and re.search(r"\b(off_peak|regular|peak|holiday)\b", following):
            return times[0], times[1]
    return None


def rain(text: str, day: str) -> str | None:
    """The chance of rain that day, such as `10%`."""
    for found, record in _records(_DAY, text):
        chances = set(re.findall(r"(?<!\d)\d{1,3}%", record))
        if found == day and len(chances) == 1:
            return str(chances.pop())
    return None


def result_of(text: str, expression: str) -> int | None:
    """What the calculator said an expression is."""
    found = re.search(re.escape(expression) + r"\s*=\s*(\d+)\b", text)
    return int(found[1]) if found else None


def _records(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """Each identifier with its record's text; skipped where it shares it with another one."""
    for match in pattern.finditer(text):
        record = _around(text, match.start(), match.end())
        if len(set(pattern.findall(record))) > 1:
            record = _line(text, match.start(), match.end())
        if len(set(pattern.findall(record))) == 1:
            yield match[0], record


def _around(text: str, start: int, end: int) -> str:
    """The object in braces around a place, or its line where there is none of a record's size."""
    opened = _unmatched(text, range(start - 1, max(start - _RECORD_CHARS, -1), -1), "{", "}")
    closed = _unmatched(text, range(end, min(end + _RECORD_CHARS, len(text))), "}", "{")
    if opened is not None and closed is not None:
        return text[opened : closed + 1]
    return _line(text, start, end)


def _unmatched(text: str, places: range, wanted: str, other: str) -> int | None:
    depth = 0
    for place in places:
        if text[place] == other:
            depth += 1
        elif text[place] == wanted:
            if depth == 0:
                return place
            depth -= 1
    return None


def _line(text: str, start: int, end: int) -> str:
    opened = text.rfind("\n", 0, start) + 1
    closed = text.find("\n", end)
    return text[opened : closed if closed >= 0 else len(text)]


def _times(record: str) -> list[str]:
    return [f"{h}:{m}" for h, m in _TIME.findall(_TAG.sub(" ", record))]

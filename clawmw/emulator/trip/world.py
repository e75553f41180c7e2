"""The facts of the demo's world: what is true, before any page makes a mess of it.

Everything is made up but plausible, fixed, and derived without a clock or chance, so every
run sees the same bytes. Identifiers are opaque: they cannot be guessed from what they name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from clawmw.emulator.trip.texts import text

__all__ = [
    "ATTRACTIONS",
    "BUDGET",
    "FIRST_DAY",
    "HOME_BY",
    "LAST_DAY",
    "PARTY",
    "WISH",
    "Attraction",
    "Restaurant",
    "Slot",
    "Ticket",
    "Train",
    "code",
    "days",
    "hold_id",
    "hours",
    "reservation_id",
    "restaurants",
    "saturdays",
    "slots",
    "tickets",
    "tier",
    "trains",
    "weather",
]

FIRST_DAY, LAST_DAY = date(2026, 11, 28), date(2026, 12, 26)
BUDGET = 2000
"""Yuan for everything: tickets, food, metro."""
HOME_BY = "20:00"
PARTY = {"adult": 2, "child": 1}
WISH = "7DM"
"""The ride the child asked for."""

TIERS = {
    "off_peak": (475, 356),
    "regular": (599, 449),
    "peak": (719, 539),
    "holiday": (799, 599),
}
"""One-day price for an adult and for a child (100 to 140 cm), in yuan."""


@dataclass(frozen=True, slots=True)
class Attraction:
    """A ride or show. `height` is the least height in cm, 0 for none."""

    key: str
    en: str
    zh: str
    land: str
    height: int
    minutes: int
    note: str


ATTRACTIONS = tuple(Attraction(*row) for row in json.loads(text("rides.json")))


@dataclass(frozen=True, slots=True)
class Ticket:
    """One price of one product on one day."""

    sku: str
    day: date
    product: str
    audience: str
    tier: str
    yuan: int
    stock: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A reservation window of an attraction."""

    id: str
    attraction: str
    day: date
    start: str
    end: str
    free: bool


@dataclass(frozen=True, slots=True)
class Train:
    """A metro run from the resort to People's Square, one change included."""

    trip: str
    departs: str
    arrives: str
    fare: int


@dataclass(frozen=True, slots=True)
class Restaurant:
    """A place to eat; prices in yuan a head."""

    rid: str
    en: str
    zh: str
    area: str
    kids_menu: bool
    adult: int
    child: int
    opens: str
    closes: str
    rating: float


def code(*parts: object, size: int = 8) -> str:
    """An opaque identifier of what it is made from."""
    raw = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    return base64.b32encode(raw).decode()[:size]


def number(low: int, high: int, *parts: object) -> int:
    """A fixed number from `low` to `high` for what it is made from."""
    raw = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return low + int.from_bytes(raw) % (high - low + 1)


def days() -> list[date]:
    """Every day tickets are sold for."""
    return [FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]


def saturdays() -> list[date]:
    """The Saturdays among them."""
    return [d for d in days() if d.weekday() == 5]


def tier(day: date) -> str:
    """The price tier of a day. Exactly one Saturday is off-peak."""
    if day >= date(2026, 12, 19):
        return "holiday" if day.weekday() >= 4 else "peak"
    if day == date(2026, 12, 12):
        return "off_peak"
    if day.weekday() == 5:
        return "peak"
    return "regular" if day.weekday() in (4, 6) else "off_peak"


def hours(day: date) -> tuple[str, str]:
    """When the park opens and closes."""
    return ("08:30", "20:30") if tier(day) in ("off_peak", "regular") else ("08:00", "21:30")


def weather(day: date) -> tuple[int, int, int]:
    """Lowest and highest temperature, and the chance of rain in percent."""
    low = number(1, 6, "low", day)
    wet = 10 if day == date(2026, 12, 12) else number(0, 9, "rain", day) * 10
    return low, low + number(5, 9, "high", day), wet


@lru_cache(maxsize=1)
def tickets() -> tuple[Ticket, ...]:
    """Every ticket on sale."""
    found = []
    for day in days():
        adult, child = TIERS[tier(day)]
        offers = (
            ("one_day", "adult", adult),
            ("one_day", "child", child),
            ("one_day", "senior", child),
            ("after_15h", "adult", adult * 7 // 10),
        )
        for product, audience, yuan in offers:
            sku = f"TK-{code('ticket', day, product, audience, size=10)}"
            stock = number(40, 900, "stock", sku)
            found.append(Ticket(sku, day, product, audience, tier(day), yuan, stock))
    return tuple(found)


@lru_cache(maxsize=1)
def slots() -> tuple[Slot, ...]:
    """Reservation windows of every attraction on the Saturdays."""
    found = []
    for day in saturdays():
        for ride in ATTRACTIONS:
            for hour in (9, 10, 11, 13, 14, 15):
                start, end = f"{hour:02d}:30", f"{hour + 1:02d}:30"
                free = number(0, 2, "free", day, ride.key, hour) == 0
                if ride.key == WISH and tier(day) == "off_peak":
                    free = hour in (10, 14)
                mark = code("slot", day, ride.key, hour, size=6)
                found.append(
                    Slot(
                        f"SP-{ride.key}-{day:%m%d}-{mark}",
                        ride.key,
                        day,
                        start,
                        end,
                        free,
                    )
                )
    return tuple(found)


@lru_cache(maxsize=1)
def trains() -> tuple[Train, ...]:
    """Evening trains from Disney Resort to People's Square."""
    found = []
    for index in range(28):
        leave = 16 * 60 + 56 + index * 8
        arrive = leave + 56 + number(0, 6, "train", index)
        trip = f"L11W-{code('trip', index, size=5)}"
        found.append(Train(trip, _clock(leave), _clock(arrive), 7))
    return tuple(found)


@lru_cache(maxsize=1)
def restaurants() -> tuple[Restaurant, ...]:
    """Places to eat in the park and in the town before its gates."""
    found = []
    for index, (en, zh) in enumerate((json.loads(text("restaurants.json")) * 2)[:34]):
        area = "in_park" if index % 20 < 10 else "disneytown"
        branch = "" if index < 20 else " (second house)"
        adult = number(85, 190, "adult", index)
        found.append(
            Restaurant(
                rid=f"RS-{code('restaurant', index, size=6)}",
                en=en + branch,
                zh=zh + ("" if index < 20 else "二店"),
                area=area,
                kids_menu=number(0, 2, "kids", index) != 0,
                adult=adult,
                child=adult * 6 // 10,
                opens="10:30" if index % 3 else "11:00",
                closes="20:30",
                rating=number(36, 49, "rating", index) / 10,
            )
        )
    return tuple(found)


def hold_id(day: str, items: dict[str, int], slot: str) -> str:
    """The number a hold of these tickets gets; the same hold gets the same number."""
    return f"HOLD-{code('hold', day, sorted(items.items()), slot, size=9)}"


def reservation_id(rid: str, day: str, time: str) -> str:
    """The number a table reservation gets."""
    return f"TBL-{code('table', rid, day, time, size=7)}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"

"""The world as its websites tell it: large, repetitive and messy, as real ones are."""

from __future__ import annotations

import json
from datetime import date
from string import Template
from typing import Any

from clawmw.emulator.trip.texts import text
from clawmw.emulator.trip.world import (
    ATTRACTIONS,
    Attraction,
    Slot,
    code,
    days,
    hours,
    number,
    restaurants,
    saturdays,
    slots,
    tickets,
    tier,
    trains,
    weather,
)

__all__ = ["metro_page", "queue_page", "restaurant_page", "ticket_page", "weather_page"]

DOW = "一二三四五六日"
TIER_ZH = {
    "off_peak": "平日价",
    "regular": "特别常规日",
    "peak": "高峰日",
    "holiday": "特别高峰日",
}
PRODUCT = {"one_day": ("一日票", "1-Day"), "after_15h": ("下午票", "After 15:00")}
AUDIENCE = {
    "adult": ("成人", "Adult"),
    "child": ("儿童", "Child"),
    "senior": ("老年人", "Senior"),
}


def queue_page(day: date | None = None) -> str:
    """The park's page on waits and reservations, as HTML.

    Reservation windows of one Saturday (`day`) or, without one, of the first off-peak one;
    their ids stand only in attributes, as on real pages.
    """
    shown = day or next(d for d in saturdays() if tier(d) == "off_peak")
    cards = "\n".join(_card(ride, shown) for ride in ATTRACTIONS)
    calendar = "\n".join(_calendar_row(d) for d in saturdays())
    return "\n".join(
        (
            Template(text("head.html")).substitute(rows=calendar),
            f'<main id="app" data-v-{code("v", size=6).lower()} role="main" class="wt-main">',
            f'<section class="wt-list" data-day="{shown}" aria-live="polite">',
            f"{cards}\n</section></main>",
            f"{_state(shown)}\n{text('foot.html')}",
        )
    )


def _calendar_row(day: date) -> str:
    opens, closes = hours(day)
    name = f"{day} 周{DOW[day.weekday()]}"
    cells = (name, f"{TIER_ZH[tier(day)]} {tier(day)}", opens, closes)
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="cal__row cal__row--{tier(day)}" data-date="{day}">{row}</tr>'


def _card(ride: Attraction, day: date) -> str:
    waits = [number(5, 110, "wait", ride.key, hour) for hour in range(9, 20)]
    bars = "".join(
        f'<i style="height:{w}px" title="{9 + n}:00 {w}min"></i>' for n, w in enumerate(waits)
    )
    lines = "\n".join(_slot_line(s) for s in slots() if s.day == day and s.attraction == ride.key)
    height = (
        f"{ride.height} cm 以上 / min. {ride.height} cm" if ride.height else "不限 / any height"
    )
    return Template(text("card.html")).substitute(
        key=ride.key,
        mark=code("card", ride.key, size=7).lower(),
        zh=ride.zh,
        en=ride.en,
        land=ride.land,
        note=ride.note.capitalize(),
        height=height,
        minutes=ride.minutes,
        bars=bars,
        lines=lines,
    )


def _slot_line(slot: Slot) -> str:
    state, word = ("ok", "可预约 available") if slot.free else ("full", "已约满 sold out")
    shown = f"{slot.start}–{slot.end} <b>{word}</b>"
    return f'    <li class="s s--{state}" data-slot-id="{slot.id}">{shown}</li>'


def _state(day: date) -> str:
    """The page's own state, as frameworks leave it in the markup."""
    rides = [
        {
            "k": r.key,
            "w": number(5, 110, "wait", r.key, 12),
            "s": "OPERATING",
            "t": code("t", r.key).lower(),
        }
        for r in ATTRACTIONS
    ]
    state = {
        "v": "4.18.2",
        "locale": "zh-CN",
        "day": str(day),
        "rides": rides,
        "ab": {"x41": "b", "x77": "a"},
    }
    return f"<script>window.__INITIAL_STATE__={json.dumps(state, separators=(',', ':'))};</script>"


def ticket_page(first: date | None = None, last: date | None = None) -> str:
    """Tickets on sale, as the shop's JSON."""
    rows = []
    for t in tickets():
        if (first and t.day < first) or (last and t.day > last):
            continue
        zh, en = (
            PRODUCT[t.product][0] + AUDIENCE[t.audience][0],
            f"{PRODUCT[t.product][1]} {AUDIENCE[t.audience][1]}",
        )
        rows.append(
            {
                "sku": t.sku,
                "visitDate": str(t.day),
                "product": t.product,
                "audience": t.audience,
                "tier": t.tier,
                "price": f"¥{t.yuan}.00",
                "stock": t.stock,
                "name": f"{zh} {en}",
            }
        )
    body: dict[str, Any] = {
        "code": 0,
        "message": "OK",
        "requestId": code("request", first, last, size=20).lower(),
        "total": len(rows),
        "heightRule": {
            "child": "100-140 cm",
            "free": "under 100 cm",
            "adult": "over 140 cm",
        },
        "list": rows,
    }
    return json.dumps(body, ensure_ascii=False)


def weather_page(observed: str = "06:10") -> str:
    """The forecast: a text bulletin, then the JSON it was made from."""
    daily, hourly = [], []
    for day in days():
        low, high, wet = weather(day)
        sky = "小雨 light rain" if wet >= 60 else "多云 cloudy" if wet >= 30 else "晴 sunny"
        daily.append(
            {
                "date": str(day),
                "rain": f"{wet}%",
                "low": f"{low}°C",
                "high": f"{high}°C",
                "sky": sky,
            }
        )
    for day in saturdays():
        low, high, wet = weather(day)
        for hour in range(8, 21, 3):
            warm = low + (high - low) * (6 - abs(14 - hour)) // 6
            wind = number(1, 5, "wind", day, hour)
            hourly.append(
                {
                    "t": f"{day}T{hour:02d}:00",
                    "c": warm,
                    "rh": number(45, 90, "rh", day, hour),
                    "wind": wind,
                    "pop": wet,
                }
            )
    bulletin = Template(text("bulletin.txt")).substitute(observed=observed)
    return bulletin + json.dumps({"daily": daily, "hourly": hourly}, ensure_ascii=False, indent=1)


def metro_page() -> str:
    """Routes from the resort to People's Square and the evening timetable, as JSON."""
    runs = [
        {
            "trip": t.trip,
            "line": "11",
            "from": "迪士尼 Disney Resort",
            "to": "人民广场 People's Square",
            "dep": t.departs,
            "arr": t.arrives,
            "fare": f"¥{t.fare}.00",
            "change": "罗山路 Luoshan Rd → 16/2",
            "crowding": ("low", "medium", "high")[number(0, 2, "crowd", t.trip)],
        }
        for t in trains()
    ]
    known = json.loads(text("metro.json"))
    routes = [
        {
            "id": code("route", n, size=8).lower(),
            "name": name,
            "walk_m": number(300, 900, "walk", n),
            "minutes": minutes,
            "changes": changes,
            "note": note,
        }
        for n, (name, minutes, changes, note) in enumerate(known["routes"])
    ]
    page = {"ok": True, "routes": routes, "rules": known["rules"], "departures": runs}
    return json.dumps(page, ensure_ascii=False)


def restaurant_page() -> str:
    """Places to eat, as the guide's JSON."""
    rows = [
        {
            "rid": r.rid,
            "name": f"{r.zh} {r.en}",
            "area": r.area,
            "per_head": f"adult ¥{r.adult}.00, child ¥{r.child}.00",
            "menu": "kids_menu" if r.kids_menu else "adults_only",
            "open": f"{r.opens}-{r.closes}",
            "rating": r.rating,
            "votes": number(80, 4000, "votes", r.rid),
            "geo": f"31.14{number(100, 999, 'lat', r.rid)},121.65{number(100, 999, 'lon', r.rid)}",
            "photo": f"https://img.example.com/{code('photo', r.rid, size=16).lower()}.webp",
        }
        for r in restaurants()
    ]
    return json.dumps({"status": "ok", "count": len(rows), "items": rows}, ensure_ascii=False)

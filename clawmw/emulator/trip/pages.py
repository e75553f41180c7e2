"""The world as its websites tell it: large, repetitive and messy, as real ones are."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

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
    return f"{_HEAD}\n{_NAV}\n{_CALENDAR.format(rows=calendar)}\n" + (
        f'<main id="app" data-v-{code("v", size=6).lower()} role="main" class="wt-main wt-main--zh">\n'
        f'<section class="wt-list" data-day="{shown}" aria-live="polite">\n{cards}\n</section></main>\n'
        f"{_state(shown)}\n{_FOOT}"
    )


def _calendar_row(day: date) -> str:
    opens, closes = hours(day)
    return (
        f'<tr class="cal__row cal__row--{tier(day)}" data-date="{day}"><td>{day} 周{DOW[day.weekday()]}</td>'
        f"<td>{TIER_ZH[tier(day)]} {tier(day)}</td><td>{opens}</td><td>{closes}</td></tr>"
    )


def _card(ride: Attraction, day: date) -> str:
    waits = [number(5, 110, "wait", ride.key, hour) for hour in range(9, 20)]
    bars = "".join(
        f'<i style="height:{w}px" title="{9 + n}:00 {w}min"></i>'
        for n, w in enumerate(waits)
    )
    lines = "\n".join(
        _slot_line(s) for s in slots() if s.day == day and s.attraction == ride.key
    )
    height = (
        f"{ride.height} cm 以上 / min. {ride.height} cm"
        if ride.height
        else "不限 / any height"
    )
    mark = code("card", ride.key, size=7).lower()
    return f"""<article class="wt-card wt-card--{ride.land.split()[0].lower()} js-track" id="c-{mark}" data-attraction="{ride.key}" data-gtm='{{"e":"impr","p":"{mark}"}}'>
  <div class="wt-card__hd"><svg class="i" width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><path d="M8 1.5l2 4.2 4.5.6-3.3 3.2.8 4.6L8 11.9 4 14.1l.8-4.6L1.5 6.3 6 5.7z"></path></svg>
  <h3>{ride.zh}<small>&nbsp;{ride.en}</small></h3><span class="tag tag--land">{ride.land}</span></div>
  <p class="wt-card__txt">{ride.note.capitalize()}. 身高要求：{height}。约 {ride.minutes} 分钟。</p>
  <div class="wt-bar" role="img" aria-label="predicted waits">{bars}</div>
  <ul class="wt-slots">
{lines}
  </ul>
</article>"""


def _slot_line(slot: Slot) -> str:
    state, word = (
        ("ok", "可预约 available") if slot.free else ("full", "已约满 sold out")
    )
    return f'    <li class="s s--{state}" data-slot-id="{slot.id}">{slot.start}–{slot.end} <b>{word}</b></li>'


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
                "refund": "D-2" if t.tier != "holiday" else "none",
                "trace": code("trace", t.sku, size=12).lower(),
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
        sky = (
            "小雨 light rain"
            if wet >= 60
            else "多云 cloudy"
            if wet >= 30
            else "晴 sunny"
        )
        daily.append(
            {
                "date": str(day),
                "low": f"{low}°C",
                "high": f"{high}°C",
                "rain": f"{wet}%",
                "sky": sky,
            }
        )
    for day in saturdays():
        low, high, wet = weather(day)
        for hour in range(8, 21, 2):
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
    text = (
        f"上海市浦东新区 川沙新镇 30 天预报 / Pudong, Chuansha: 30-day outlook\nObserved {observed} at station 58366. "
        "Cold air reaches the lower Yangtze around 4 December; the week after is dry and calm. "
        "Feels-like temperatures at the lake are 2 to 3 degrees lower after sunset.\n"
    )
    return text + json.dumps(
        {"daily": daily, "hourly": hourly}, ensure_ascii=False, indent=1
    )


def metro_page() -> str:
    """Routes from the resort to People's Square and the evening timetable, as JSON."""
    runs = [
        {
            "trip": t.trip, "line": "11", "from": "迪士尼 Disney Resort", "to": "人民广场 People's Square",
            "dep": t.departs, "arr": t.arrives, "fare": f"¥{t.fare}.00", "change": "罗山路 Luoshan Rd → 16/2",
            "crowding": ("low", "medium", "high")[number(0, 2, "crowd", t.trip)],
        }
        for t in trains()
    ]  # fmt: skip
    routes = [
        {
            "id": code("route", n, size=8).lower(), "name": name, "walk_m": number(300, 900, "walk", n),
            "minutes": minutes, "changes": changes, "note": note,
        }
        for n, (name, minutes, changes, note) in enumerate(_ROUTES)
    ]  # fmt: skip
    rules = {
        "child": "Children under 1.3 m ride free with a paying adult; at most one a passenger. 身高1.3米以下儿童免费。",
        "last_train": "Line 11 from Disney Resort: last run toward Huaqiao Sun to Thu 22:30, Fri and Sat 22:45.",
        "crowds": "After the evening show the station gates are metered; allow 20 minutes more.",
    }
    return json.dumps(
        {"ok": True, "routes": routes, "rules": rules, "departures": runs},
        ensure_ascii=False,
    )


_ROUTES = (
    (
        "11 → 16 → 2",
        61,
        2,
        "步行最少; change at Luoshan Road and Longyang Road; lifts at both",
    ),
    (
        "11 → 8",
        66,
        1,
        "change at Oriental Sports Center; long corridor, about 6 minutes with a pushchair",
    ),
    ("11 → 9 → 1", 72, 2, "change at Xujiahui; crowded on Saturdays from 17:00"),
    ("Bus 50 → 2", 88, 1, "浦东50路; slow after rain"),
)


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
    return json.dumps(
        {"status": "ok", "count": len(rows), "items": rows}, ensure_ascii=False
    )


_HEAD = """<!DOCTYPE html>
<html lang="zh-CN" class="no-js"><head><meta charset="utf-8"><title>等候时间与预约 | Wait times and reservations</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="theme-color" content="#0b2a6b">
<link rel="preload" as="style" href="/static/css/app.8f21c.css"><link rel="stylesheet" href="/static/css/app.8f21c.css">
<script>(function(w,d,s,l,i){w[l]=w[l]||[];w[l].push({'gtm.start':new Date().getTime(),event:'gtm.js'});var f=d.getElementsByTagName(s)[0],j=d.createElement(s);j.async=true;j.src='https://tags.example.com/gtm.js?id='+i;f.parentNode.insertBefore(j,f);})(window,document,'script','dataLayer','GTM-X0X0');</script>
<style>.wt-card{border:1px solid #e3e8f4;border-radius:12px;margin:0 0 16px;padding:12px 16px;background:#fff}.wt-card__hd{display:flex;align-items:center;gap:8px}.wt-bar{display:flex;align-items:flex-end;gap:2px;height:60px}.wt-bar i{flex:1;background:#9db7f5}.s--full{color:#98a2b3;text-decoration:line-through}.tag{font-size:12px;border-radius:8px;padding:2px 6px;background:#eef2fc}@media(max-width:600px){.wt-card{padding:8px}.wt-bar{height:40px}}</style></head>
<body class="page page--waits"><noscript><img height="1" width="1" style="display:none" src="https://px.example.com/tr?id=991&amp;ev=PageView&amp;noscript=1" alt=""></noscript>
<div id="cookie" class="ck ck--open" role="dialog" aria-label="Cookies"><p>我们使用 Cookie 改善您的体验。We use cookies to improve your visit.</p><button data-a="acc">接受 Accept</button><button data-a="set">设置 Settings</button></div>"""

_NAV = """<header class="hd"><nav aria-label="main"><ul class="nav"><li><a href="/tickets">门票 Tickets</a></li><li><a href="/attractions">游乐项目 Attractions</a></li><li><a href="/entertainment">娱乐演出 Entertainment</a></li><li><a href="/dining">美食 Dining</a></li><li><a href="/hotels">酒店 Hotels</a></li><li><a href="/maps">地图 Map</a></li><li><a href="/help">帮助 Help</a></li></ul></nav><form role="search" action="/search"><label class="vh" for="q">搜索</label><input id="q" name="q" type="search" autocomplete="off"></form></header>
<div class="crumb"><a href="/">首页</a> › <a href="/today">今日</a> › <span>等候时间 Wait times</span></div>"""

_CALENDAR = """<section class="cal" aria-label="Park hours"><h2>周六开放时间 Saturday opening hours</h2><table class="cal__t"><thead><tr><th>日期 Date</th><th>票价级别 Tier</th><th>开园 Opens</th><th>闭园 Closes</th></tr></thead><tbody>
{rows}
</tbody></table><p class="fine">开放时间如有变动，恕不另行通知。Hours may change without notice. Reservation windows are released seven days ahead at 07:00 and are bound to a held ticket.</p></section>"""

_FOOT = """<footer class="ft"><div class="ft__cols"><ul><li><a href="/about">关于我们</a></li><li><a href="/careers">加入我们</a></li><li><a href="/press">新闻中心</a></li></ul><ul><li><a href="/legal/terms">使用条款</a></li><li><a href="/legal/privacy">隐私政策</a></li><li><a href="/legal/children">儿童个人信息保护规则</a></li></ul></div><p>© 2026 Demo page. Data are made up for a demonstration. 沪ICP备00000000号</p></footer>
<script src="/static/js/vendor.51ab2.js" defer></script><script src="/static/js/app.8f21c.js" defer></script></body></html>"""

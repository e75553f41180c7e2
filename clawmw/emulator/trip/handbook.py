"""The reference part of the agents' system prompt: long, as real agents' prompts are.

Written out from tables: what an assistant that plans family outings in Shanghai carries
along on every call, whether this task needs it or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from clawmw.emulator.trip import almanac
from clawmw.emulator.trip.schemas import TOOLS
from clawmw.emulator.trip.world import ATTRACTIONS, Attraction, number

__all__ = ["handbook"]


def handbook() -> str:
    """All chapters."""
    chapters = (
        ("Attraction guide 游乐项目指南", _rides()),
        ("Tool manual 工具手册", _tools()),
        ("When a tool fails 工具出错时", _errors()),
        ("Pacing by age 按年龄安排节奏", _pacing()),
        ("Line 11, station by station 11号线逐站说明", _stations()),
        ("Packing by temperature 按气温准备物品", _packing()),
        ("Phrase book 常用语", _phrases()),
        ("Memory: earlier outings 记忆：以往出行", _memory()),
        *almanac.chapters(),
    )
    return "\n\n".join(f"## {title}\n" + "\n".join(lines) for title, lines in chapters)


def _rides() -> Iterator[str]:
    yield (
        "Heights are checked at the entrance with shoes on; a child below the mark is turned away even with a reservation. "
        "身高以入口测量为准，不足者即使有预约也不能乘坐。"
    )
    for ride in ATTRACTIONS:
        yield (
            f"- {ride.en} ({ride.zh}), {ride.land}. {_height(ride)} Lasts about {ride.minutes} minutes. {ride.note.capitalize()}. "
            f"{_AGES[number(0, 3, 'age', ride.key)]} {_QUEUES[number(0, 3, 'queue', ride.key)]} "
            f"{_RIDES_ZH[number(0, 3, 'zh', ride.key)].format(zh=ride.zh)}"
        )


def _height(ride: Attraction) -> str:
    if not ride.height:
        return "Any height; under seven with an adult in the same vehicle."
    return f"At least {ride.height} cm; child swap at the entrance for those who wait below."


_AGES = (
    "Best first ride for a child who has never been.",
    "Ask the child on the spot; do not promise it beforehand.",
    "Good after a rest, when the child sits well.",
    "Fine for the whole family in one row.",
)
_QUEUES = (
    "The line is shortest in the first forty minutes and during the parade.",
    "Indoor line with things to look at; bearable up to half an hour.",
    "Outdoor line without shade or heating; thirty minutes in December are too long.",
    "The single-rider line splits the family and is no option with a child.",
)
_RIDES_ZH = (
    "建议开园后第一时间前往{zh}，避免长时间排队。",
    "{zh}午后排队较长，建议安排在演出或巡游期间。",
    "乘坐{zh}前请先带孩子去洗手间，排队区内没有卫生间。",
    "如孩子害怕，可在{zh}入口办理家长轮候，无需重新排队。",
)


def _tools() -> Iterator[str]:
    for tool in TOOLS:
        function = tool["function"]
        fields = function["parameters"]["properties"]
        required = ", ".join(function["parameters"]["required"]) or "nothing"
        yield f"- `{function['name']}` requires {required}; takes {', '.join(fields)}. {_HABITS[function['name']]}"


_HABITS = {
    "park_queue_page": "Returns the page as served, about thirty kilobytes of markup. Read the calendar first, then the card of the wished ride; slot ids stand in the attributes of the list items. One fetch is enough: waits change, ids do not. 只需抓取一次。",
    "ticket_search": "Returns every day asked for, some hundred rows. Ask once for the whole window instead of once a day. Look for the exact visit date, audience and product in one row, and copy the SKU letter by letter. 务必核对同一行的日期、人群与票种，逐字复制 SKU。",
    "weather_forecast": "The bulletin is for orientation, the numbers are in the JSON below it. A chance of rain of 60% or more moves outdoor rides to the morning and calls for a second Saturday to be considered. 降雨概率达到 60% 时应考虑备选日期。",
    "metro_routes": "Times include the change. Leave a quarter of an hour before the deadline; after shows the station gates are metered. Fares are a head and one way. 票价为单程每人。",
    "restaurant_list": "Prices are a head. Keep only places with a children's menu that are open at the time of the meal, then take the cheapest of the area. 仅选择提供儿童餐且营业的餐厅。",
    "calculator": "One expression for the whole sum, in the order tickets, lunch, dinner, metro; the result is what the report quotes. 报告金额以计算器结果为准。",
    "hold_tickets": "Only after the check has passed. A refusal names the item that is wrong: read the source again, never try a neighbouring id. 被拒绝时应重新核对来源，禁止猜测编号。",
    "reserve_table": "Dinner only; lunch places do not take reservations. Give the full party including the child. 人数须包含儿童。",
}


def _errors() -> Iterator[str]:
    for symptom, cause, step in _FAULTS:
        yield f"- {symptom}: {cause}. {step}."


_FAULTS = (
    ("The page is empty or shows a waiting room", "the site limits visitors at the hour tickets are released", "Wait for the next turn and fetch once more; do not fetch three times in a row"),
    ("The shop answers with code 40301", "the session is too old", "Search again with the same dates; SKUs stay the same"),
    ("A SKU is refused as being for another day", "a neighbouring row was read", "Find the row by its visit date first, then by audience"),
    ("A window is refused as sold out", "the page was older than ten minutes", "Fetch the page again and take the next free window of the same ride"),
    ("The calculator refuses the expression", "a currency sign or a Chinese full-width symbol slipped in", "Write digits, signs and parentheses only"),
    ("The timetable ends before the wanted hour", "the feed is cut at forty rows", "Ask again with a later arrival"),
    ("Two sources disagree on the closing time", "the calendar on the queue page is binding, news articles are not", "Quote the calendar and say so in the report"),
    ("A restaurant has a menu for children but no price for them", "the guide leaves out prices that follow the adult's", "Skip the place; do not estimate"),
    ("The forecast lacks the day", "it reaches thirty days", "Say that the weather is unknown instead of naming an average"),
    ("A result was shortened and names a reference", "it was kept elsewhere to save room", "Ask for it by the reference when, and only when, a value you need is not visible"),
    ("The same call returned the same answer twice", "nothing has changed at the source", "Do not repeat it a third time; go on with what you have or say what is missing"),
    ("A tool wants personal data of the child", "no tool here needs it", "Leave it out and mention it in the report"),
)  # fmt: skip


def _pacing() -> Iterator[str]:
    for ages, rest, walk, extra in _AGE_GROUPS:
        yield f"### Children of {ages}"
        for hour, what in _DAY_PLAN:
            yield f"- {hour} {what.format(rest=rest, walk=walk)}"
        yield f"- {extra}"


_AGE_GROUPS = (
    ("three and four", "ninety minutes", "two kilometres", "A nap in the pushchair after lunch decides the afternoon; plan it, do not hope for it. 午睡决定下午的状态。"),
    ("five to seven", "two hours", "six kilometres", "One wish of the child comes first in the day; promise one, keep one. 每天只承诺一个愿望，并且做到。"),
    ("eight to ten", "three hours", "nine kilometres", "Let the child hold the map and choose every second ride. 让孩子看地图并轮流选择项目。"),
)  # fmt: skip
_DAY_PLAN = (
    (
        "07:40",
        "at the security check; bags open, no glass, no folding chairs; toilets are left of the gates.",
    ),
    (
        "08:30",
        "first ride of the day without a line; then a second one in the same land, to save steps.",
    ),
    (
        "10:00",
        "a snack brought along; the child drinks before the line, not in it; {rest} without a pause is the limit.",
    ),
    (
        "11:15",
        "lunch before the crowd or at half past twelve with a window seat; never between.",
    ),
    (
        "13:30",
        "an indoor show; parents count the steps so far: {walk} a day is what legs of this age take.",
    ),
    (
        "15:00",
        "the parade from the bridge side; those who stand on the right side leave first.",
    ),
    (
        "16:30",
        "last ride, a mild one; then the shop at the far end, which is emptier than the one at the gates.",
    ),
    (
        "17:00",
        "an early dinner outside; the child who has eaten sleeps on the metro and walks home by itself.",
    ),
)


def _stations() -> Iterator[str]:
    yield "Count stops with the child; it shortens the way. 数站名可以让孩子觉得路程更短。"
    for index, (zh, en) in enumerate(_STATIONS):
        lift = (
            "lift at both ends",
            "lift at exit 1 only",
            "lift at exit 3, ramp at exit 2",
        )[number(0, 2, "lift", en)]
        toilet = (
            "toilet before the gates",
            "toilet behind the gates",
            "toilet on the platform",
        )[number(0, 2, "wc", en)]
        yield f"{index + 1}. {zh} {en}: {lift}; {toilet}; {number(2, 4, 'min', en)} minutes to the next."


_STATIONS = (
    ("迪士尼", "Disney Resort"), ("康新公路", "Kangxin Highway"), ("秀沿路", "Xiuyan Road"), ("罗山路", "Luoshan Road"),
    ("御桥", "Yuqiao"), ("浦三路", "Pusan Road"), ("三林东", "East Sanlin"), ("三林", "Sanlin"),
    ("东方体育中心", "Oriental Sports Center"), ("龙耀路", "Longyao Road"), ("云锦路", "Yunjin Road"), ("龙华", "Longhua"),
    ("上海游泳馆", "Shanghai Swimming Center"), ("徐家汇", "Xujiahui"), ("交通大学", "Jiaotong University"), ("江苏路", "Jiangsu Road"),
    ("隆德路", "Longde Road"), ("曹杨路", "Caoyang Road"), ("枫桥路", "Fengqiao Road"), ("真如", "Zhenru"),
    ("上海西站", "Shanghai West"), ("李子园", "Liziyuan"), ("祁连山路", "Qilianshan Road"), ("武威路", "Wuwei Road"),
    ("桃浦新村", "Taopu Xincun"), ("南翔", "Nanxiang"), ("陈翔公路", "Chenxiang Highway"), ("马陆", "Malu"),
)  # fmt: skip


def _packing() -> Iterator[str]:
    for span, wear, carry in _PACKS:
        yield f"- {span}: wear {wear}; carry {carry}."


_PACKS = (
    ("Above 25 degrees 高于25度", "a light shirt, a hat with a brim, sandals that stay on 轻便衣物、遮阳帽", "two bottles a head, salt sweets, a small fan, sun cream every two hours 水、防晒霜"),
    ("15 to 25 degrees 15至25度", "a shirt and a thin jacket, closed shoes 衬衫、薄外套", "a rain cape instead of an umbrella, one change of socks 雨披、备用袜子"),
    ("8 to 15 degrees 8至15度", "a sweater and a windproof jacket, long trousers 毛衣、防风外套", "a scarf for the boat rides, gloves for the ropes, a thermos with warm water 围巾、手套、保温杯"),
    ("0 to 8 degrees 0至8度", "thermal underwear, a down jacket, a cap over the ears 保暖内衣、羽绒服、帽子", "heat pads, lip balm, a blanket for the pushchair, a second pair of gloves 暖宝宝、润唇膏、毯子"),
    ("Rain at any temperature 雨天", "shoes that dry quickly 速干鞋", "capes in two sizes, a bag for wet things, spare trousers for the child 雨披、防水袋、备用裤子"),
)  # fmt: skip


def _phrases() -> Iterator[str]:
    for en, zh in _PHRASES:
        yield f"- {en} {zh}"


_PHRASES = (
    ("Where is the nearest toilet?", "请问最近的洗手间在哪里？"), ("Is there a children's menu?", "请问有儿童餐吗？"),
    ("We have a reservation for three.", "我们预订了三位。"), ("No peanuts, please; the child is allergic.", "请不要放花生，孩子过敏。"),
    ("How long is the wait from here?", "从这里开始要排多久？"), ("Can one of us wait outside with the child?", "可以一位家长带孩子在外面等吗？"),
    ("Where is the baby care centre?", "请问母婴服务中心在哪里？"), ("My child is lost; she wears a yellow jacket.", "我的孩子走失了，她穿着黄色外套。"),
    ("Could you take a picture of us?", "可以帮我们拍张照吗？"), ("Is this the line for the mine train?", "这是矿山车的队伍吗？"),
    ("Which exit for line 11?", "去11号线走哪个出口？"), ("Does this train go to People's Square?", "这趟车到人民广场吗？"),
    ("One adult rides with the child for free?", "儿童可以免费随成人乘车吗？"), ("Please keep the table for fifteen minutes.", "请为我们保留座位十五分钟。"),
    ("The bill, please, and an invoice.", "请结账，并开具发票。"), ("May we refill the bottle with warm water?", "可以帮我们加点温水吗？"),
    ("Is the show indoors?", "这个演出是在室内吗？"), ("Where do we hand in the pushchair?", "婴儿车在哪里归还？"),
    ("What time does the parade pass here?", "巡游几点经过这里？"), ("Is there a doctor on site?", "园区里有医生吗？"),
)  # fmt: skip


def _memory() -> Iterator[str]:
    for month, place, lesson in _OUTINGS:
        yield f"- {month}: {place}. {lesson}"


_OUTINGS = (
    ("2026-01", "Natural History Museum 自然博物馆", "Two hours were enough; the dinosaur hall is too dark for the last quarter of an hour. The cafe had no children's chairs."),
    ("2026-02", "Lantern fair in Yuyuan 豫园灯会", "Crowded beyond reason after 18:00; the family left by the back gate. 人流过大，以后避开节日夜晚。"),
    ("2026-03", "Chenshan Botanical Garden 辰山植物园", "The shuttle cart saved the day; bring cash for it. 樱花季需提前两周预约。"),
    ("2026-04", "Wild Animal Park 野生动物园", "The bus safari line was ninety minutes; start with it next time. Lunch cost twice the estimate because prices were added up without the calculator."),
    ("2026-05", "Ocean Aquarium 海洋水族馆", "Tickets were bought for the wrong day: the SKU of the neighbouring row. Since then SKUs are copied and compared with the date. 票种日期务必核对。"),
    ("2026-06", "Century Park 世纪公园", "Pedal boats close at 17:00. The child fell asleep on line 2; a seat near the door was good."),
    ("2026-07", "Water park 水上乐园", "Height mark 110 cm: turned away at two slides. Ask for heights before promising. 先查身高要求再答应孩子。"),
    ("2026-08", "Astronomy Museum 上海天文馆", "Reservation by time window; fifteen minutes late was accepted, thirty was not."),
    ("2026-09", "Science Museum 科技馆", "The robot show is in Chinese only; grandmother translated. Home before eight and everyone was in a good mood."),
    ("2026-10", "Harvest farm on Chongming 崇明农场", "The last bus was missed because the plan left no margin; a taxi cost 310 yuan. Since then a quarter of an hour of margin is a rule."),
)  # fmt: skip

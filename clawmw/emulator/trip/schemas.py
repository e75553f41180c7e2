"""The tools the trip agents are offered, as OpenAI tool schemas."""

from __future__ import annotations

from typing import Any

__all__ = ["TOOLS"]

_DATE = {
    "type": "string",
    "description": "Date as YYYY-MM-DD in the park's time zone (Asia/Shanghai). 日期，格式 YYYY-MM-DD。",
}


def _tool(
    name: str, description: str, properties: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": parameters,
        },
    }


TOOLS: list[dict[str, Any]] = [
    _tool(
        "park_queue_page",
        "Fetch the park's public page on waits and reservations (HTML as served). Holds the opening hours and price tier of "
        "each Saturday, the predicted wait of every attraction by hour, height limits, and the reservation windows with their "
        "slot ids. The slot id is needed by hold_tickets. 获取乐园等候时间与预约页面（原始 HTML），含开放时间、身高要求与预约时段编号。",
        {
            "date": {**_DATE, "description": "Show the reservation windows of this Saturday; leave out for the first off-peak one."},
            "lang": {"type": "string", "enum": ["zh", "en"], "description": "Preferred language; the page mixes both. 语言偏好。"},
        },
        [],
    ),
    _tool(
        "ticket_search",
        "List the tickets on sale between two dates with product, audience, price tier, price in yuan, stock and SKU (JSON as "
        "served by the shop). Every SKU is for one day and one audience; buying for another day needs another SKU. Child: 100 to "
        "140 cm. 查询门票：按日期、票种、人群列出价格、库存与 SKU；儿童票身高 100-140 厘米。",
        {
            "date_from": _DATE,
            "date_to": _DATE,
            "product": {"type": "string", "enum": ["one_day", "after_15h", "any"], "description": "Product to look for. 票种。"},
        },
        ["date_from", "date_to"],
    ),
    _tool(
        "weather_forecast",
        "Thirty-day outlook for Chuansha, Pudong: a text bulletin followed by JSON with daily and two-hourly values. Updated every "
        "hour, so two calls may differ in the observation time. 川沙新镇 30 天天气预报（文字与 JSON）。",
        {"place": {"type": "string", "description": "Place name. 地点。"}, "days": {"type": "integer", "minimum": 1, "maximum": 30, "description": "Days ahead. 天数。"}},
        ["place"],
    ),
    _tool(
        "metro_routes",
        "Metro and bus routes between two places, with the timetable of departures, arrivals and fares for the evening (JSON). "
        "Times include the change. 地铁与公交路线、时刻与票价（含换乘时间）。",
        {
            "origin": {"type": "string", "description": "Start. 起点。"},
            "destination": {"type": "string", "description": "End. 终点。"},
            "arrive_before": {"type": "string", "description": "Latest arrival as HH:MM, 24 hours. 最晚到达时间。"},
        },
        ["origin", "destination"],
    ),
    _tool(
        "restaurant_list",
        "Places to eat in the park (in_park) and in the town before its gates (disneytown): price a head for adults and children, "
        "whether there is a children's menu, opening hours, rating (JSON). 乐园内与迪士尼小镇餐厅：人均、儿童餐、营业时间、评分。",
        {
            "area": {"type": "string", "enum": ["in_park", "disneytown", "any"], "description": "Where. 区域。"},
            "party": {"type": "integer", "minimum": 1, "maximum": 12, "description": "How many people. 人数。"},
        },
        [],
    ),
    _tool(
        "calculator",
        "Work out an arithmetic expression exactly: numbers, + - * / and parentheses. Always use it for money; never add prices in "
        "your head. 计算器：所有金额必须用它计算，禁止心算。",
        {"expression": {"type": "string", "description": "For example 2*475+356. 算式。"}},
        ["expression"],
    ),
    _tool(
        "hold_tickets",
        "Hold tickets for 24 hours together with one reservation window. Needs the exact SKU of each ticket and the exact slot id as "
        "printed by the sources; nothing is charged. Returns a hold id. Refuses SKUs of another day, unknown ids and windows that are "
        "sold out. 锁定门票 24 小时并绑定一个预约时段；SKU 与时段编号必须与来源完全一致。",
        {
            "date": _DATE,
            "items": {
                "type": "array",
                "description": "Tickets to hold. 门票清单。",
                "items": {
                    "type": "object",
                    "properties": {
                        "sku": {"type": "string", "description": "Exact SKU, TK-... 完整 SKU。"},
                        "quantity": {"type": "integer", "minimum": 1, "maximum": 9},
                    },
                    "required": ["sku", "quantity"],
                },
            },
            "slot_id": {"type": "string", "description": "Exact slot id, SP-... 完整预约时段编号。"},
        },
        ["date", "items", "slot_id"],
    ),
    _tool(
        "reserve_table",
        "Reserve a table at a restaurant by its exact id; free of charge, kept for 15 minutes. Returns a reservation id. "
        "预订餐位，须使用准确的餐厅编号（RS-...），保留 15 分钟。",
        {
            "restaurant_id": {"type": "string", "description": "Exact restaurant id, RS-... 餐厅编号。"},
            "date": _DATE,
            "time": {"type": "string", "description": "HH:MM, 24 hours. 时间。"},
            "party": {"type": "integer", "minimum": 1, "maximum": 12, "description": "How many people. 人数。"},
        },
        ["restaurant_id", "date", "time", "party"],
    ),
]  # fmt: skip

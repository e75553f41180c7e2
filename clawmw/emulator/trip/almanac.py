"""More chapters of the agents' reference: lands, shows, kitchens, safety, the city, examples."""

from __future__ import annotations

from collections.abc import Iterator

from clawmw.emulator.trip.world import number

__all__ = ["chapters"]


def chapters() -> tuple[tuple[str, Iterator[str]], ...]:
    """Title and lines of each."""
    return (
        ("The lands of the park 主题园区", _lands()),
        ("Shows and parades 演出与巡游", _shows()),
        ("Kitchens: what to know before choosing 餐厅须知", _kitchens()),
        ("Safety and first aid 安全与急救", _safety()),
        ("Metro network in short 地铁网络概览", _lines()),
        ("If the day falls through: other places 备选去处", _others()),
        ("Worked examples 示例", _examples()),
    )


def _lands() -> Iterator[str]:
    for name, zh, first, way, rest in _LANDS:
        yield (
            f"- {name} ({zh}). {first} The way there: {way}. To rest: {rest}. Crowds turn here "
            f"{_TURNS[number(0, 3, 'turn', name)]}. {_LANDS_ZH[number(0, 2, 'land', name)].format(zh=zh)}"
        )


_LANDS = (
    ("Mickey Avenue", "米奇大街", "Everyone passes through and nobody should stay: shops open an hour before the gates close and are empty then.", "straight from the gates", "benches behind the bakery"),
    ("Gardens of Imagination", "奇想花园", "The hub; small rides without height limits, the castle stage, and the best place to meet again after a swap.", "past the statue, left of the castle", "the garden with the zodiac mosaics, shaded until noon"),
    ("Fantasyland", "梦幻世界", "The largest land for small children; the mine train stands at its far end and draws the longest line of all.", "through the castle, then right along the water", "the bridge behind the tea cups"),
    ("Adventure Isle", "探险岛", "A mountain, rope courses and a raft ride; the flying theatre is indoors and warm.", "right of the hub, over the stone bridge", "the hut opposite the raft ride"),
    ("Treasure Cove", "宝藏湾", "A pirate harbour: one great boat ride, canoes in good weather, a stunt show under a roof.", "behind Adventure Isle, along the harbour wall", "the upper deck of the ship, out of the wind"),
    ("Tomorrowland", "明日世界", "Light and glass; the fast coaster is for those of 122 cm and more, the shooting ride for everyone.", "left of the hub, up the ramp", "inside the glass hall beside the ramp"),
    ("Toy Story Land", "玩具总动员", "Three mild rides and much colour; nothing here is worth more than half an hour of waiting.", "between Tomorrowland and Fantasyland", "none with a roof"),
    ("Zootopia", "疯狂动物城", "The newest land; its one ride has the longest line until noon and a short one during the evening show.", "behind Fantasyland, past the station front", "the square under the screens"),
)  # fmt: skip
_TURNS = (
    "from ten o'clock",
    "right after the first parade",
    "when the rain begins",
    "from two in the afternoon",
)
_LANDS_ZH = (
    "带孩子游览{zh}建议预留一个半小时，并安排一次休息。",
    "{zh}午后人流明显增加，请优先安排在上午。",
    "如孩子疲倦，{zh}内可安静坐下休息。",
)


def _shows() -> Iterator[str]:
    for name, zh, where, fact in _SHOWS:
        yield f"- {name} ({zh}), {where}; {number(15, 45, 'show', name)} minutes. {fact}"


_SHOWS = (
    ("Castle stage greeting", "城堡迎宾", "Gardens of Imagination", "Standing only; children see something when they stand at the left barrier. 请站在左侧围栏处。"),
    ("Stunt show in the theatre", "风暴来临", "Treasure Cove", "Loud and dark at the beginning; tell the child that the storm is made of fans and water. 开场较暗较响。"),
    ("Tarzan acrobatics", "人猿泰山", "Adventure Isle", "No words, so no language problem; doors close when it starts. 演出开始后不得入场。"),
    ("Sing-along", "冰雪奇缘欢唱盛会", "Fantasyland", "Six-year-olds know every line; seats fill from the front. 座位先到先得。"),
    ("Afternoon parade", "奇幻童话专列", "from Tomorrowland to Mickey Avenue", "Sit on the kerb of the bridge side from twenty minutes before. 提前二十分钟占位。"),
    ("Drum band", "鼓乐队", "Treasure Cove", "Comes without notice; stays where children dance."),
    ("Meet the bear couple", "达菲见面会", "Mickey Avenue", "The line is closed when it reaches the lamp post; ask first. 队伍满后不再接受排队。"),
    ("Evening projection", "夜光幻影秀", "Gardens of Imagination", "Ends after the family must be on the metro; do not plan it, do not mention it to the child. 与返程时间冲突，不予安排。"),
    ("Fireworks", "烟花表演", "above the castle", "Off in strong wind; later than bedtime in any case. 时间过晚。"),
    ("Jedi lessons", "训练营", "Tomorrowland", "Ended last year; older guides still list it. 已停止。"),
)  # fmt: skip


def _kitchens() -> Iterator[str]:
    for kind, child, wait, hint in _KITCHENS:
        yield f"- {kind}: for children {child}; waiting {wait}. {hint}"


_KITCHENS = (
    ("Noodle houses 面馆", "small bowls at six tenths of the price", "ten minutes, moves fast", "Ask for the broth without chili; the default is spicy. 请注明不辣。"),
    ("Dumplings and buns 点心", "half portions on request", "five minutes", "Steam baskets are hot underneath; keep them away from the edge. 蒸笼底部烫手。"),
    ("Grill and barbecue 烧烤", "chicken skewers, fruit", "up to half an hour at noon", "Portions are large; two for three people are enough. 份量较大。"),
    ("Bakeries 面包甜品", "cookies in the shape of the mouse", "long before the parade", "Peanut butter is common here: ask for the allergen card. 花生过敏者务必查看过敏原卡。"),
    ("Tea houses 茶楼", "rice with egg, sweet soup", "none before eleven", "Second floor has sockets and high chairs. 二楼有儿童椅。"),
    ("Self-service halls 美食集市", "set with a toy", "twenty minutes, tables turn over quickly", "One adult takes the table, the other one the tray. 一人占座一人取餐。"),
    ("Table service 餐桌服务", "coloured pencils and a menu of its own", "reservation needed for dinner", "Give the party with the child; a high chair counts as a seat. 儿童椅计入人数。"),
    ("Snack carts 小食车", "popcorn, turkey legs, ice cream", "none", "Cards only; the buckets can be refilled at half the price. 仅限电子支付。"),
    ("Coffee bars 咖啡", "warm milk", "ten minutes in the morning", "The only places with decaffeinated coffee are outside the gates."),
    ("Vegetarian counters 素食", "tofu with tomato, rice balls", "none", "Marked with a green leaf on the board; broth may still contain chicken. 汤底可能含鸡肉。"),
)  # fmt: skip


def _safety() -> Iterator[str]:
    for case, step in _CASES:
        yield f"- {case}: {step}"


_CASES = (
    ("The child is lost 孩子走失", "Stay where you are for two minutes, then tell the nearest member of staff; do not split up. The meeting place is the clock at the hub."),
    ("A fall with a scraped knee 擦伤", "Water and a plaster from the bag; the first-aid room is left of the castle and charges nothing. 医务室免费。"),
    ("A bump on the head 头部撞击", "First-aid room at once, even if the child laughs again; no rides for the rest of the day. 当天不再乘坐任何项目。"),
    ("Allergy 过敏", "The pen is in the outer pocket of the grey bag; then 120, then the staff. Note the time of the dose. 先注射后拨打120。"),
    ("Fever 发烧", "Go home by taxi, not by metro; the hold on the tickets lapses by itself. 建议乘出租车返回。"),
    ("Too cold 着凉", "The flying theatre, the glass hall and every bakery are heated; twenty minutes are enough."),
    ("Thunderstorm 雷暴", "Outdoor rides stop; indoor lines double. Eat then, ride after. 户外项目暂停，趁机用餐。"),
    ("Air quality above 150 空气污染", "Masks outside, indoor programme, shorter day. 室外请戴口罩。"),
    ("A ride stops while you are on it 设备停运", "Stay seated, talk to the child about what is seen; staff walk everyone out. 保持坐姿等待工作人员。"),
    ("A stranger wants to take a picture 陌生人拍照", "No, in one word, and go on. 直接拒绝。"),
    ("The phone is empty 手机没电", "Tickets are bound to the passports too; power banks are rented at the gates. 凭身份证件亦可入园。"),
    ("The last train is gone 错过末班车", "Taxi rank at the east side, about an hour and two hundred yuan, which breaks the budget: this is why there is a margin. 会超出预算。"),
)  # fmt: skip


def _lines() -> Iterator[str]:
    for line, ends, fact in _LINES:
        first, last = number(0, 50, "first", line), number(0, 55, "last", line)
        yield f"- Line {line}, {ends}: first 05:{first:02d}, last about 22:{last:02d}. {fact}"


_LINES = (
    ("1", "Xinzhuang to Fujin Road", "Through People's Square and Xujiahui; crowded on weekdays, fine on Saturdays."),
    ("2", "Panxiang Road to Pudong Airport", "East to west through the middle; change to 11 at Jiangsu Road, to 16 at Longyang Road."),
    ("3", "Shanghai South to North Jiangyang Road", "Above ground; children like the view at the bridge."),
    ("4", "the ring", "Watch the direction: inner and outer ring stop at the same platform number."),
    ("6", "Gangcheng Road to Oriental Sports Center", "Small trains; pushchairs fit only at the ends."),
    ("7", "Meilan Lake to Huamu Road", "For the fair grounds and the expo park."),
    ("8", "Shiguang Road to Shendu Highway", "Change to 11 at Oriental Sports Center; a long corridor."),
    ("9", "Caolu to Songjiang South", "Change to 11 at Xujiahui; four minutes with moving walkways."),
    ("10", "Hongqiao to Jilong Road", "Old town and both universities; driverless, seats behind the front window."),
    ("11", "Disney Resort to Huaqiao or North Jiading", "The way to the park; check the branch on the way home."),
    ("12", "Qixin Road to Jinhai Road", "Quiet at all times."),
    ("13", "Jinyun Road to Zhangjiang Road", "Natural History Museum has a stop of its own."),
    ("14", "Fengbang to Guiqiao Road", "New; lifts at every exit."),
    ("15", "Gucun Park to Zizhu", "North to south in the west; cherry blossoms in March."),
    ("16", "Longyang Road to Dishui Lake", "Express and local trains; the express does not stop at Luoshan Road."),
    ("17", "Hongqiao to Xicen", "Water towns; an hour and a half each way."),
    ("18", "South Changjiang Road to Hangtou", "Change to 11 at Yuqiao, same level."),
)  # fmt: skip


def _others() -> Iterator[str]:
    for place, when, cost, note in _PLACES:
        yield f"- {place}: {when}; about {cost} yuan for three. {note}"


_PLACES = (
    ("Natural History Museum 自然博物馆", "any weather, mornings", 75, "Reserve three days ahead; the blue whale hangs on the lower floor."),
    ("Astronomy Museum 天文馆", "any weather, time windows", 90, "Far out at Dishui Lake; combine with nothing else."),
    ("Science Museum 科技馆", "rain, long days", 120, "Half of the halls are being rebuilt; ask before going. 部分展区闭馆改造。"),
    ("Wild Animal Park 野生动物园", "dry, above 10 degrees", 420, "The bus safari first, the pandas last."),
    ("Zoo in Hongqiao 动物园", "dry", 100, "Old-fashioned, calm, large lawns. 适合野餐。"),
    ("Chenshan Botanical Garden 辰山植物园", "spring and autumn", 140, "Greenhouses keep warm in winter."),
    ("Ocean Aquarium 海洋水族馆", "rain", 460, "Feeding times fill the tunnel; go half an hour later."),
    ("Gongqing Forest Park 共青森林公园", "dry", 60, "Tandem bicycles for three; deposit in cash. 自行车押金需现金。"),
    ("Century Park 世纪公园", "dry", 0, "Free since last year; boats are extra."),
    ("Children's Art Theatre 儿童艺术剧场", "any weather, evenings", 540, "Ends at 20:30: too late on school days."),
    ("Toy museum 玩具博物馆", "rain", 150, "Two hours; a workshop for wooden cars on Saturdays."),
    ("Ice rink at Feiyang 飞扬冰上运动中心", "any weather", 280, "Helmets are lent; gloves are not. 请自备手套。"),
)  # fmt: skip


def _examples() -> Iterator[str]:
    yield from _EXAMPLES.strip().split("\n")


_EXAMPLES = """
The following is how an earlier outing was written, kept as a pattern. Its identifiers are of another shop and long expired.
Findings (each id as printed by its source)
- AQ-0517-A83 adult, Sunday, regular, 160 yuan, entry 09:00 to 15:00, rows 12 and 13 of the price list read together
- AQ-0517-C83 child 100 to 140 cm, Sunday, regular, 110 yuan, same entry
- Bus 81-07 dep 16:20 arr 17:05, 2 yuan a head, children under 1.3 m free, every twelve minutes, no change
- Cafe "Coral", children's menu, adult 68 yuan, child 42 yuan, open 10:00 to 19:00, forty seats, no reservation
- Rain 80% in the afternoon, therefore indoors; wind 4, no boats
Next: check the sum.

Checked: 2*160+1*110+2*68+1*42+2*2*2 = 616, within 800 yuan. All four constraints hold: Sunday, indoors, children's menu, home before
18:00 with 55 minutes of margin. Tickets held until Monday noon. Next: report.

Report, as the family liked it: where, when, what first, where to eat, when to leave, what it costs, what is held. Six lines. What they
did not like: a paragraph on the history of the aquarium, three alternatives nobody had asked for, and a packing list as long as the plan.

What went wrong once, and is not to happen again: the outline promised the penguin feeding before its time was known; gather found it at
16:40, after the last suitable bus; check noticed, but the child had already been told. Promise nothing in an outline. 大纲中不得作出承诺。

How a stop is written when something is missing: name the value, name the source it should come from, say what was tried. For example:
"Stopped: the price of the child's ticket is not visible in the price list (rows 40 to 160 were cut), and asking for the cut rows brought
nothing back." Not: "Unfortunately I could not complete the task." The family can do something about the first one. 说明缺少什么、来自哪里、尝试过什么。

How an identifier is handled: read it in its record, write it into the findings once, copy it from there. If two records look alike (same
product, next day), compare the date of both before writing either one. If a tool refuses an identifier, the fault is in the reading, not
in the tool: go back to the record. Never change a letter because another one looks more likely, never add a missing digit, never take the
identifier of a neighbouring record because it is the only one visible. 不得更改、补全或借用相邻记录的编号。

How money is handled: one expression, all items, the number of people in front of each price, both ways for every fare. Discounts that
need a membership are left out. A price that ends in cents is rounded up per item. If the total is above the budget, look for the item
with the largest difference to the next cheaper choice, change that one, and add up again; after two rounds stop and report the gap.
"""

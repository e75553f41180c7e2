"""Whether values stand in their record: in every form a result is sent in."""

from __future__ import annotations

import json

import pytest

from clawmw.replay.integrity import Judge, paired, standing
from clawmw.replay.records import CODEC, dump
from clawmw.replay.tabular import records
from clawmw.stages.context.compress.notation import Encoder, decode_json
from tests.conftest import turn

ROWS = [
    {"id": f"tkt_{n}", "price": 100.25 + n, "holder": f"Person {n}", "seat": {"row": f"R{n:03}x"}}
    for n in range(5)
]
TEXT = json.dumps(ROWS)
VALUES = 5 * 4


def judged(original: str, sent: str) -> tuple[int, int, int]:
    found = Judge().judge(original, sent)
    return found.values, found.intact, found.listed


@pytest.mark.parametrize(
    "sent",
    [
        TEXT,
        json.dumps(ROWS, indent=2),
        json.dumps(ROWS, separators=(",", ":")),
        Encoder().encode(decode_json(TEXT)),
        "\n".join(json.dumps(row) for row in ROWS),
        f"Here are 5 of 900 records:\n{TEXT}\n[more left out]",
    ],
)
def test_records_that_are_whole_are_intact_however_they_are_written(sent: str) -> None:
    assert judged(TEXT, sent) == (VALUES, VALUES, 0)


def test_a_table_of_clawmw_with_rows_left_out_is_intact() -> None:
    wide = [{**row, "legs": [{"from": f"AAA{n}", "to": f"BBB{n}"}]} for n, row in enumerate(ROWS)]
    sent = (
        "json:{data:[5 rows: id,price,holder,seat{row},legs[]{from,to}\n"
        "tkt_0,100.25,Person 0,{R000x},[{AAA0,BBB0}]\n… 3 rows …\n"
        "tkt_4,104.25,Person 4,{R004x},[{AAA4,BBB4}]],more:true}"
    )
    assert judged(json.dumps({"data": wide, "more": True}), sent) == (12, 12, 0)


def test_rows_in_short_under_a_narrower_header_are_intact() -> None:
    head = "id,price,holder,state,town,street,shop\n"
    rows = [f"tkt_{n},{n}0.25,Person {n},state-{n},Town {n},Street {n},shop-{n}" for n in range(9)]
    table = head + "\n".join(rows)
    short = "… 8 more rows, in short:\nid,town\n" + "\n".join(
        f"tkt_{n},Town {n}" for n in range(1, 9)
    )
    assert judged(table, f"{head}{rows[0]}\n{short}") == (7 + 16, 7 + 16, 0)
    bare = short.replace("tkt_5,Town 5", "tkt_5,")
    assert judged(table, f"{head}{rows[0]}\n{bare}") == (7 + 15, 7 + 15, 0)
    swapped = short.replace("id,town", "id,street")
    assert judged(table, f"{head}{rows[0]}\n{swapped}") == (7 + 16, 7 + 8, 0)
    objects = json.dumps(
        [dict(zip(head.strip().split(","), row.split(","), strict=True)) for row in rows]
    )
    notes = "json:{x:1}\n… in short: [8 rows: id,town\n" + short.partition("id,town\n")[2] + "]"
    assert judged(objects, notes) == (16, 16, 0)


def test_a_value_in_another_column_or_record_is_apart() -> None:
    table = "id,price,holder\ntkt_1,19.50,Ann Lee\ntkt_2,21.75,Bo Moss\ntkt_3,30.10,Cy Nash\n"
    assert judged(table, table.replace("tkt_2,21.75", "tkt_2,,21.75")) == (9, 7, 0)
    swapped = table.replace("19.50", "x").replace("21.75", "19.50").replace("x,", "21.75,")
    values, intact, _ = judged(table, swapped)
    assert values == 9
    assert intact < 9  # each price has another ticket now


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("prices: 100.25 101.25 102.25", (3, 0, 0)),
        ("ids seen: tkt_0 tkt_1 tkt_2 tkt_3 tkt_4", (5, 0, 0)),
        ("… 5 rows, id: tkt_0, tkt_1, tkt_2, tkt_3, tkt_4 …", (5, 0, 5)),
        ("nothing of it", (0, 0, 0)),
    ],
)
def test_bare_lists_of_values_are_not_intact(sent: str, expected: tuple[int, int, int]) -> None:
    assert judged(TEXT, sent) == expected


@pytest.mark.parametrize(
    "table",
    [
        "name  ready  address\npod-aaaa  1/1  10.1.2.3\npod-bbbb  0/1  10.9.8.7\n",
        "|name|ready|address|\n|---|---|---|\n|pod-aaaa|1/1|10.1.2.3|\n|pod-bbbb|0/1|10.9.8.7|\n",
        "name\tready\taddress\npod-aaaa\t1/1\t10.1.2.3\npod-bbbb\t0/1\t10.9.8.7\n",
        "name;ready;address\npod-aaaa;1/1;10.1.2.3\npod-bbbb;0/1;10.9.8.7\n",
    ],
)
def test_tables_as_text_are_read_and_judged(table: str) -> None:
    assert records(table)[1] == [("name", "pod-bbbb"), ("ready", "0/1"), ("address", "10.9.8.7")]
    assert judged(table, table + " ") == (4, 4, 0)
    cut = "\n".join(line for line in table.splitlines() if "aaaa" not in line)
    assert judged(table, cut) == (2, 2, 0)
    headless = table.splitlines()[-1]
    assert judged(table, headless) == (2, 0, 0)


def test_rows_without_names_need_their_row() -> None:
    rows = "[('DEU1', 'German', 91.33), ('FRA1', 'French', 93.66)]"
    assert judged(rows, rows[:28]) == (3, 3, 0)
    assert judged(rows, "DEU1\nGerman\n91.33") == (3, 0, 3)


def test_a_map_needs_each_value_beside_its_key() -> None:
    flat = {f"key-{n:04}": f"value-{n:04}" for n in range(60)}
    whole = json.dumps(flat)
    assert judged(whole, '{key-0007:value-0007, "key-0008": "value-0008"') == (2, 2, 0)
    assert judged(whole, "value-0007, value-0008") == (2, 0, 0)


def test_objects_by_name_keep_their_name() -> None:
    named = json.dumps({"card_1": {"kind": "visa", "last": "0042"}, "gift_9": {"kind": "gift"}})
    sent = "{2 keyed rows: kind,last\ncard_1:visa,0042\ngift_9:gift,}"
    assert judged(named, sent) == (5, 5, 0)


@pytest.mark.parametrize(
    "text", ["", "Just words, a comma.", "x" * 9_000_000, "[1, 2", "{}", "[[]]"]
)
def test_what_has_no_records_is_not_judged(text: str) -> None:
    assert records(text) == []


def test_prose_and_logs_are_no_tables() -> None:
    prose = "\n".join(f"In {n}, many came, and some stayed, we hear." for n in range(9))
    log = "\n".join(f"2025-01-01T00:00:{n:02}Z INFO [a-{n}] did {n}: ok" for n in range(9))
    assert records(log) == []
    assert records(prose) == []


def test_a_pair_counts_once() -> None:
    judge = Judge()
    assert judge.judge(TEXT, TEXT).values == VALUES
    assert judge.judge(TEXT, TEXT).values == 0
    assert judge.judge(TEXT, "tkt_1").values == 1


def test_cells_stand_whole() -> None:
    assert list(standing("2024", '2024-05-15 "2024", 12024 2024')) == [12, 25]


def test_results_are_paired_by_id_and_the_last_of_doubled_ones_first() -> None:
    def request(*texts: str) -> list[dict[str, object]]:
        return [m for text in texts for m in turn("same", "get", {"q": "x"}, text)]

    def read(messages: list[dict[str, object]]) -> tuple[object, ...]:
        return CODEC.decode(dump({"model": "m", "messages": messages})).messages

    raw, sent = read(request("a", "b", "c")), read(request("B", "C"))
    assert paired(raw, sent) == [("b", "B"), ("c", "C")]  # type: ignore[arg-type]

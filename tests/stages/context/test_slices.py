"""Slices of originals: what is asked for is there, the rest is named, nothing is too much."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.tokens import estimate
from clawmw.stages.context.slices import MOST, Asked, slice_of
from tests.conftest import log, rows

TRIP = json.dumps(
    {
        "data": {
            "items": [
                {"id": i, "price": i * 1.5, "from": {"city": "Paris" if i % 2 else "Rome"}}
                for i in range(900)
            ],
            "odd.key": {"a b": [1, 2, 3]},
            "total": 900,
        }
    }
)


# -- path ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("data.items[3].id", "3"),
        ("$.data.items[3].id", "3"),
        ("data.items.3.from.city", "Paris"),
        ("data.items[-1].id", "899"),
        ("data.items[1:4].id", "1\n2\n3"),
        ('data["odd.key"]["a b"]', "[1, 2, 3]"),
        ("data['odd.key']['a b'][*]", "1\n2\n3"),
        ("data.odd.key", "(`data` is an object without 'odd'; its keys are 'items', 'odd.key', "),
        ("data.itms", "(`data` is an object without 'itms'; its keys are 'items', 'odd.key', "),
        ("data.total.x", "(`data.total` is a number; nothing lies below it)"),
        ("data.items.id", "(`data.items` is a list of 900, nothing in it fits 'id'; use "),
        ("data.items[900]", "(`data.items` is a list of 900, nothing in it fits [900]; use "),
        ("data..items", "('data..items' is no path; write it like data.items[3].id"),
        ("data.items[", "('data.items[' is no path; "),
    ],
)
def test_a_path_leads_there_or_says_where_it_ends(path: str, answer: str) -> None:
    assert slice_of(TRIP, path=path).startswith(answer)


def test_every_item_is_shown_as_far_as_it_fits_and_how_to_go_on() -> None:
    first = slice_of(TRIP, path="data.items[*].id")
    *ids, note = first.splitlines()
    assert note == f"({len(ids)} of 900 shown; go on with path data.items[{len(ids)}:].id)"
    while note.startswith("("):
        path = note.partition("with path ")[2].removesuffix(")")
        *some, note = slice_of(TRIP, path=path).splitlines()
        ids += some
    assert [*ids, note] == [str(i) for i in range(900)]


def test_a_long_value_shows_what_it_consists_of() -> None:
    found = slice_of(TRIP, path="data.items")
    assert found.startswith('data.items: a list of 900\n[0]: {"id": 0, "price": 0.0, ')
    assert "go on with path data.items[" in found
    assert "items: (a list of 900)" in slice_of(TRIP, path="data")


def test_a_path_in_what_is_no_json_says_so_and_gives_lines() -> None:
    found = slice_of(log(5), path="a.b")
    assert found.startswith("(`path` is for JSON")
    assert "job 4" in found


def test_json_lines_are_a_list() -> None:
    text = "\n".join(json.dumps({"id": i}) for i in range(50))
    assert slice_of(text, path="[7].id") == "7"
    assert slice_of(text, query="49") == '[49]: {"id": 49}'


def test_numbers_are_given_back_as_they_were_written() -> None:
    text = '{"a": [{"price": 1.50, "big": 123456789012345678901234567890, "e": 1e400}, {"x": 2}]}'
    assert slice_of(text, path="a[0].price") == "1.50"
    assert '"price": 1.50, "big": 123456789012345678901234567890, "e": 1e400' in slice_of(
        text, query="price"
    )


def test_a_query_within_a_path() -> None:
    found = slice_of(TRIP, path="data.items[0:10]", query="Paris")
    assert [json.loads(line.partition(": ")[2])["id"] for line in found.splitlines()] == [
        1,
        3,
        5,
        7,
        9,
    ]


# -- lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("3-5", 3, 5), ("3 - 5", 3, 5), ("3:5", 3, 5), ("5-3", 3, 5), ("3,5", 3, 5), ("7", 7, 7),
     ("198-", 198, 200), ("lines 3 to 5", 3, 5), ("199-900", 199, 200)],
)  # fmt: skip
def test_lines_as_models_write_them(asked: str, first: int, last: int) -> None:
    head, *lines = slice_of(log(200), lines=asked).splitlines()
    assert lines == log(200).splitlines()[first - 1 : last]
    named = f"line {first}" if first == last else f"lines {first}-{last}"
    assert head == f"[{named} of 200]"


def test_several_ranges_and_none_that_exists() -> None:
    found = slice_of(log(200), lines="1-2, 150-151")
    assert "[lines 1-2 of 200]" in found
    assert "[lines 150-151 of 200]" in found
    assert (
        slice_of(log(200), lines="900-901") == "(there are no lines 900-901: the original has 200)"
    )
    assert "`lines` is A-B" in slice_of(log(200), lines="the first")


def test_what_does_not_fit_is_named_and_can_be_asked_for() -> None:
    text = log(900)
    seen, asked = list[str](), "1-900"
    for _ in range(40):
        *shown, note = slice_of(text, lines=asked).splitlines()
        if not note.startswith("("):
            seen += [*shown[1:], note]
            break
        seen += shown[1:]
        asked = note.partition("lines ")[2].partition(";")[0]
    assert seen == text.splitlines()


def test_a_line_of_many_characters_counts_as_several() -> None:
    text = "head\n" + "word," * 100_000 + "\ntail"
    found = slice_of(text, lines="1-2")
    assert estimate(found) < 600
    assert "[lines 1-2 of 627]" in found
    assert slice_of(text, lines="627") == "[line 627 of 627]\ntail"


# -- query ---------------------------------------------------------------------------------


def test_records_come_whole_and_alone() -> None:
    wanted = json.loads(rows(300))[150]
    path, _, found = slice_of(rows(300), query=wanted["id"]).partition(": ")
    assert path == "[150]"
    assert json.loads(found) == wanted


def test_lines_come_with_their_neighbours() -> None:
    found = slice_of(log(900), query="disk QUOTA")
    assert found.splitlines()[0] == "[lines 449-453 of 900]"
    assert found.splitlines()[1:] == log(900).splitlines()[448:453]


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("北京环球影城早享卡 票价 418 元", "环球影城的早享卡"),
        ("東京ディズニーランドの開園時間は9時です", "ディズニーランド 開園"),
        ("에버랜드 자유이용권 가격은 62,000원", "자유이용권 가격"),
        ("Билет в Эрмитаж стоит 500 рублей", "билет ЭРМИТАЖ"),
        ("สวนสนุกดรีมเวิลด์ เปิด 10 โมง", "ดรีมเวิลด์"),
        ("ＡＢＣ－１２３ 満席", "abc-123"),
        ("Straße nach Köln gesperrt", "STRASSE köln"),
        ("ticket TKT-9 refunded", "ticket refunded"),
    ],
)
def test_words_of_any_script_are_found(line: str, query: str) -> None:
    noise = [f"第{i}天 上海 ticket line {i} 개 строка" for i in range(400)]
    found = slice_of("\n".join([*noise[:200], line, *noise[200:]]), query=query)
    assert line in found
    assert estimate(found) < 300, "and little else"


def test_the_rarer_word_counts_more_and_whole_words_before_pieces() -> None:
    lines = [f"GET /items/{i} status 200 price {i}" for i in range(500)]
    lines[77] = "GET /items/77 status 503 price 77"
    assert slice_of("\n".join(lines), query="status of price 503").splitlines()[3] == lines[77]
    assert "items/7 " in slice_of("\n".join(lines), query="items/7")


def test_columns_are_named_with_a_row_that_is_found() -> None:
    table = "\n".join(["id,name,price", *(f"{i},Ticket {i},{i * 3}" for i in range(500))])
    assert slice_of(table, query="Ticket 417").splitlines()[1] == "id,name,price"


def test_more_that_match_are_counted_and_named() -> None:
    found = slice_of("\n".join(["hit " + "x y z " * 30] * 300), query="hit")
    assert "more lines match: " in found
    assert estimate(found) < MOST * 1.1
    many = slice_of(json.dumps([{"k": "same " * 60, "i": i} for i in range(200)]), query="same")
    assert " more match: [" in many


def test_nothing_found_says_so() -> None:
    assert "nothing in the original matches 'unicorn'" in slice_of(log(200), query="unicorn")
    assert "nothing in the original matches 'unicorn'" in slice_of(rows(90), query="unicorn")
    assert "nothing in the original matches '???'" in slice_of(log(200), query="???")


def test_a_record_too_long_is_looked_into() -> None:
    giant = {"name": "big", "log": [{"n": i, "say": f"event {i} " * 9} for i in range(400)]}
    found = slice_of(json.dumps([giant, {"name": "small"}]), query="event 321")
    assert found.startswith("[0].log[321]: ")
    assert estimate(found) < MOST


def test_without_a_wish_all_of_it_or_a_beginning() -> None:
    assert slice_of("short") == "short"
    assert slice_of("") == "(the original is empty)"
    found = slice_of(log(900))
    assert found.splitlines()[1] == log(900).splitlines()[0]
    assert found.splitlines()[-1].startswith("(still to come: lines ")
    assert slice_of(rows(300)).startswith("the whole: a list of 300")


# -- bounds --------------------------------------------------------------------------------


@given(
    text=st.one_of(st.text(), st.sampled_from([rows(50), log(80), TRIP, "[[[", "{}", "[1, NaN]"])),
    query=st.text(max_size=30),
    lines=st.text(alphabet="0123456789-,: x", max_size=12),
    path=st.text(alphabet="abdit.[]*$:0123456789\"'\\", max_size=16),
)
@settings(max_examples=150, deadline=None)
def test_never_fails_and_never_too_long(text: str, query: str, lines: str, path: str) -> None:
    asked: dict[str, str] = {"query": query, "lines": lines, "path": path}
    for some in (asked, asked | {"lines": ""}, asked | {"path": ""}, asked | {"query": ""}):
        found = slice_of(text, **some)
        assert found
        assert estimate(found) <= MOST * 1.25 + 100
        assert found == slice_of(text, **some)


def large(megabytes: int) -> dict[str, tuple[str, dict[str, str]]]:
    half = megabytes * 500_000
    return {
        "a log": (log(1000) * (megabytes * 18), {"query": "disk quota worker-3", "lines": ""}),
        "line ends": ("\n" * (2 * half), {"query": "x", "lines": "7-9"}),
        "one line": ("x" * half + " needle " + "y" * half, {"query": "needle"}),
    }


HOSTILE: dict[str, tuple[str, dict[str, str]]] = {
    **large(5),
    "half a surrogate": ("a\ud800b\udfff\n" * 100_000, {"query": "a\ud800b", "lines": "5-9"}),
    "nested": ("[" * 900 + "]" * 900, {"query": "x", "path": "[0]" * 300}),
    "too deep": ("[" * 100_000, {"query": "x", "path": "[0]"}),
    "ligatures that grow": ("\ufdfa" * 5_000_000, {"query": "\ufdfa" * 500}),
    "a key of 4 MB": (json.dumps({"k" * 4_000_000: {"a": ["b c"] * 9}}), {"query": "b c"}),
    "a digit of 10 MB": ("[" + "9" * 4_000_000 + "]", {"path": "[0]"}),
    "many keys": (json.dumps({f"k{i}": i for i in range(200_000)}), {"path": "nope"}),
    "doubled keys": ('{"a": 1, "a": [1, 2], "b": NaN}', {"path": "a[1]"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(large(0)))
def test_originals_of_50_mb_are_bounded(name: str) -> None:
    _bounded(*large(50)[name])


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_originals_are_bounded(name: str) -> None:
    _bounded(*HOSTILE[name])


def _bounded(text: str, asked: dict[str, str]) -> None:
    start = time.process_time()
    for one in ({key: value} for key, value in asked.items()):
        found = slice_of(text, **one)
        assert estimate(found) < MOST * 1.25
    assert time.process_time() - start < 8, "seconds of CPU, on a slow machine"


# -- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (
            '{"ref": "r1a", "query": "x", "lines": "1-2", "path": "a"}',
            Asked("r1a", "x", "1-2", "a"),
        ),
        ('{"ref": "[clawmw_expand r1a: 3 rows not shown]"}', Asked("r1a")),
        ('{"ref": " `r1a:` "}', Asked("r1a")),
        ('{"ref": "r1a", "lines": [10, 20]}', Asked("r1a", lines="10-20")),
        ('{"ref": "r1a", "lines": 7, "query": null, "path": {}}', Asked("r1a", lines="7")),
        ('{"ref": {"x": 1}}', Asked()),
        ("[1]", Asked()),
        ("{broken", Asked()),
        ("", Asked()),
        ("[" * 100_000, Asked()),
    ],
)
def test_arguments_are_read_leniently(arguments: str, asked: Asked) -> None:
    assert Asked.written(arguments) == asked


def test_arguments_are_bounded() -> None:
    long: Any = {"ref": "r" * 10**6, "query": "q" * 10**6, "lines": 10**5000}
    asked = Asked.of(long)
    assert (len(asked.ref), len(asked.query), asked.lines) == (80, 1000, "")

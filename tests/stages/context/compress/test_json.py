"""JSON: nothing is lost by re-encoding, and what is cut from long lists is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.base import Brief, Reduced, reduce
from clawmw.stages.context.compress.literal import decode_python
from clawmw.stages.context.compress.notation import Encoder, decode_json
from clawmw.stages.context.compress.relevance import stems
from tests.stages.context.compress.notation_decoder import as_pairs, decode

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "7",
            "true",
            "",
            " a",
            "a:b",
            "x,y",
            "2 rows: a",
            "北京",
            "a\nb",
            '"q"',
            "…",
            "[",
            "-",
            "01",
        ]
    )
)
keys = st.text(max_size=6) | st.sampled_from(["id", "name", "a b", "x{", "price", "日期", ""])


def records(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of objects that mostly share their keys, as tools return them."""
    return st.lists(keys, min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.lists(
            st.fixed_dictionaries({names[0]: values}, optional=dict.fromkeys(names[1:], values)),
            min_size=2,
            max_size=5,
        )
    )


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5) | records(inner)
    ),
    max_leaves=40,
)


@settings(deadline=None)
@given(values, st.sampled_from([None, 2]), st.booleans())
def test_reencoding_keeps_every_value(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert decode(Encoder().encode(decode_json(text))) == as_pairs(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.0,"a":1.00,"b":1E400,"c":-0}',
        '[{"id":"1","n":1},{"id":"2"},{"n":3,"id":"3"}]',
        '{"u1":{"n":"Ann"},"u2":{"n":"Bo"},"u2":{"n":"Bo"}}',
        '[[1,2],["a,b",null],[3,"4"]]',
        '[[{"a":1,"b":2},{"a":3,"b":4}],[{"a":5,"b":6}]]',
        '[{"x":{"a":1,"b":2}},{"x":null},{"x":{"a":3,"b":null}},{}]',
        '{"t":"' + r"line \"one\"\nline \"two\"\n\tthree" + "x" * 80 + '"}',
        '[{"a":[]},{"a":[{"b":1}]}]',
        '["3 rows: a,b","2 keyed rows: x"]',
        "[NaN,-Infinity]",
        '["\\ud83d"]',
    ],
)
def test_awkward_values_are_kept(text: str) -> None:
    encoded = Encoder().encode(decode_json(text))
    encoded.encode("utf-8")
    assert decode(encoded) == as_pairs(text)


def test_json_lines_are_one_table() -> None:
    lines = "\n".join(json.dumps({"id": i, "state": "ok"}) for i in range(5))
    reduced = reduce(lines, Brief("lossless", "r1"))
    assert reduced is not None
    assert reduced.lossless
    assert reduced.text == "jsonl:[5 rows: id,state\n0,ok\n1,ok\n2,ok\n3,ok\n4,ok]"


def tickets(count: int) -> list[dict[str, Any]]:
    return [
        {
            "ticket_id": f"TK-{i * 7919 % 10007:05d}",
            "subject": f"Order {i} arrived {'late' if i % 3 else 'broken'}",
            "priority": "low" if i % 5 else "high",
            "amount": f"{i * 37 % 500}.50",
            "customer": {"name": f"Customer {i}", "tier": "gold" if i == 61 else "basic"},
            "escalation": "to the legal team" if i == 43 else None,
            "status": "payment failed" if i == 77 else "open",
            "body": f"Hello, my order {i} has a problem that I describe at length here. " * 3,
        }
        for i in range(count)
    ]


def balanced(value: Any) -> Reduced:
    reduced = reduce(json.dumps(value), Brief("balanced", "r7k2m9q4xw"))
    assert reduced is not None
    return reduced


def test_a_long_list_keeps_ends_and_exceptions_whole_and_others_in_short() -> None:
    rows = tickets(120)
    reduced = balanced(rows)
    assert not reduced.lossless
    assert reduced.text.splitlines()[0].startswith("[clawmw_expand r7k2m9q4xw: ")
    shown = [line for line in reduced.text.splitlines() if line.startswith("TK-")]
    for i in (0, 1, 43, 61, 77, 119):
        row = next(line for line in shown if line.startswith(rows[i]["ticket_id"]))
        assert rows[i]["amount"] in row
        assert rows[i]["customer"]["name"] in row
    short = [line for line in reduced.text.splitlines() if line.startswith("{ticket_id:TK-")]
    assert len(short) + len(shown) == 120 or "left out" in reduced.text.splitlines()[0]
    assert f"{len(short)} of 120 rows in short" in reduced.text
    assert estimate(reduced.text) < estimate(json.dumps(rows)) / 4


def test_cheapest_and_dearest_stay() -> None:
    rows = tickets(120)
    text = balanced(rows).text
    for pick in (min, max):
        row = pick(rows, key=lambda row: float(row["amount"]))
        assert any(
            line.startswith(row["ticket_id"]) and row["amount"] in line
            for line in text.splitlines()
        )


def test_a_small_result_is_never_cut() -> None:
    reduced = balanced(tickets(2))
    assert reduced.lossless
    assert decode(reduced.text.removeprefix("json:")) == as_pairs(json.dumps(tickets(2)))


def test_long_cells_are_cut_before_rows_are() -> None:
    rows = [{"id": i * 7, "title": f"Title {i}", "body": f"Text {i} " * 200} for i in range(20)]
    reduced = balanced(rows)
    assert "20 long texts cut short" in reduced.text
    assert all(f"\n{i * 7},Title {i}," in reduced.text for i in range(20))


def test_a_page_inside_a_value_is_reduced_as_a_page() -> None:
    page = "<html><body><nav>menu</nav>" + "".join(
        f"<div class='c{i}'><p>Gate {i}: <b>{i * 7 % 60}</b> min</p></div>" for i in range(300)
    )
    value = json.dumps({"status": 200, "url": "https://x.example/q", "body": page})
    asked = frozenset(stems("how long is the wait at gate 271?"))
    reduced = reduce(value, Brief("balanced", "r1", asked))
    assert reduced is not None
    assert "status:200" in reduced.text
    assert "Gate 271: 37 min" in reduced.text
    assert "<div" not in reduced.text


@pytest.mark.parametrize("depth", [70, 1000, 100_000])
def test_deep_nesting_is_not_taken_apart(depth: int) -> None:
    for text in ("[1," * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        reduced = reduce(text, Brief("balanced", "r1"))
        assert reduced is None or reduced.kind not in ("json", "table")


def test_rows_of_a_database_driver() -> None:
    text = str([(f"C{i}", "Name, with comma", i * 1.5, None) for i in range(9)])
    reduced = reduce(text, Brief("lossless", "r1"))
    assert reduced is not None
    assert reduced.text.startswith('python:[9 rows of 4:\nC0,"Name, with comma",0.0,None\n')


@pytest.mark.parametrize(
    "text",
    [
        "{1, 2}",
        "{1: 2}",
        "[__import__('os')",
        "['a' 'b']",
        "[lambda: 1]",
        "[x]",
        "['a'",
        "(",
        "[f'{1}']",
    ],
)
def test_other_python_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_python(text)


def test_calls_stay_as_their_source() -> None:
    node = decode_python("[datetime.date(2024, 5, 8), Decimal('1.20'), -3, {'k': True}]")
    assert node == ["datetime.date(2024, 5, 8)", "Decimal('1.20')", "-3", [("k", "True")]]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_printed_strings_are_read_as_python_reads_them(strings: list[str]) -> None:
    assert decode_python(repr(strings)) == strings

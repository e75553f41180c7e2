"""Which literals a call can only have had from a tool result, and where they went."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.types import Message, Request
from clawmw.replay.provenance import Need, literals, needs, occurs, placed
from clawmw.replay.records import CODEC, dump
from tests.conftest import tool, turn
from tests.replay import samples


def request(*messages: samples.Message, tools: tuple[str, ...] = ()) -> Request:
    body = {"model": "m", "messages": list(messages), "tools": [tool(name) for name in tools]}
    return CODEC.decode(dump(body))


def answer(arguments: object, name: str = "get") -> Message:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "n", "type": "function", "function": {"name": name, "arguments": text}}
    return CODEC.message(dump({"role": "assistant", "content": "So:", "tool_calls": [call]}))


def needed(arguments: object, *before: samples.Message, tools: tuple[str, ...] = ()) -> list[str]:
    return [n.literal for n in needs(request(*before, tools=tools), answer(arguments))]


GO = samples.user("Go.")


def test_what_only_a_result_has_shown_is_needed() -> None:
    shown = turn("a", "find", {"q": "x"}, '{"id": "tkt_77", "price": 149.5, "name": "José"}')
    assert needed({"ticket": "tkt_77", "pay": 149.5, "who": "José"}, GO, *shown) == [
        "tkt_77",
        "149.5",
        "José",
    ]


@pytest.mark.parametrize(
    "elsewhere",
    [
        samples.user("It is tkt_77."),
        samples.says("I see tkt_77."),
        {"role": "system", "content": "tkt_77"},
        turn("z", "look", {"id": "tkt_77"}, "no")[0],
    ],
)
def test_what_stands_elsewhere_too_is_not(elsewhere: samples.Message) -> None:
    shown = turn("a", "find", {"q": "x"}, "tkt_77")
    assert needed({"ticket": "tkt_77"}, GO, elsewhere, *shown) == []


def test_what_a_tool_definition_offers_is_not_needed() -> None:
    shown = turn("a", "find", {"q": "x"}, "string")
    assert needed({"kind": "string"}, GO, *shown, tools=("get",)) == []


def test_words_in_a_long_value_count_when_they_look_like_data() -> None:
    listing = "src/app_main.py\nREADME\nfound with errors"
    shown = turn("a", "ls", {"q": "x"}, listing)
    command = "cat src/app_main.py && echo found with care | tee notes to be read by others later"
    assert needed({"command": command}, GO, *shown) == ["src/app_main.py"]


def test_plain_words_count_only_where_the_result_quotes_them() -> None:
    query = "SELECT count FROM airports WHERE country IS NOT NULL AND name LIKE 'x' ORDER BY name"
    shown = turn("a", "sql", {"q": "SHOW TABLES"}, "[('airports',), ('flights',)] country")
    assert needed({"sql": query}, GO, *shown) == ["airports"]


def test_arguments_that_are_no_json_are_read_as_text() -> None:
    assert needed("cat tkt_77 now", GO, *turn("a", "find", {"q": "x"}, "tkt_77")) == ["tkt_77"]


def test_origins_are_the_messages_that_hold_it() -> None:
    before = [GO, *turn("a", "f", {"q": "x"}, "tkt_77"), *turn("b", "f", {"q": "y"}, "tkt_77!")]
    assert needs(request(*before), answer({"t": "tkt_77"})) == [Need("tkt_77", (2, 4))]


@pytest.mark.parametrize(
    ("literal", "text", "found"),
    [
        ("12", "123", False),
        ("12", "x12", False),
        ("12", "a 12.", True),
        ("abc", "abc_d", False),
        ("tkt_1", "\\ntkt_1", True),  # the letter of an escape is no part of the word
        ('say "hi"', '{"t": "say \\"hi\\""}', True),
        ("José", '"Jos\\u00e9"', True),
        ("上海", "去上海迪士尼", True),
    ],
)
def test_occurrences_are_whole(literal: str, text: str, found: bool) -> None:
    assert occurs(literal, text) is found


def test_placed_says_where_each_literal_is() -> None:
    found = [Need("tkt_1", (2,)), Need("tkt_2", (2,)), Need("tkt_3", (2,)), Need("tkt_4", (2,))]
    sent = request(GO, *turn("a", "f", {"q": "x"}, "tkt_1 [cut, ref rabc]")).messages
    originals = {"rabc": "tkt_1 tkt_2", "rgone": "tkt_3"}  # no marker names rgone
    assert [(p.where, p.ref) for p in placed(found, sent, originals)] == [
        ("context", ""),
        ("reachable", "rabc"),
        ("lost", ""),
        ("lost", ""),
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_any_arguments_can_be_read(value: object) -> None:
    for whole, words in literals(json.dumps(value)):
        assert len(whole) <= 80
        assert all(len(word) >= 4 for word in words)


@given(st.text(), st.text(), st.text())
def test_a_literal_between_spaces_always_occurs(before: str, literal: str, after: str) -> None:
    if literal:
        assert occurs(literal, f"{before} {literal} {after}")

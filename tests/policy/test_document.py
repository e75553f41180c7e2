"""Reading YAML: the same data as a safe loader gives, and the line of everything."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from clawmw.policy.document import read

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
)
KEYS = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=10,
    ),
    min_size=1,
    max_size=4,
)


@given(DATA, st.booleans())
@example({"a": "0E0"}, True)
@example({"a": ".5e3", "b": 1e300, "c": "1_0.e+1_0"}, False)
def test_reads_what_was_dumped(data: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow)
    document = read(text)
    assert document.problems == []
    assert document.data == data


@given(DATA)
def test_every_line_named_holds_its_key(data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, allow_unicode=True, default_flow_style=False)
    source = text.split("\n")
    for path, line in read(text).lines.items():
        key = path[-1]
        assert isinstance(key, int) or key.strip("'\"") in source[line - 1]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", False),
        ("On", True),
        ("no", False),
        ("'off'", "off"),
        ("~", None),
        ("", None),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1e3", "1e3"),
        ("1.5e3", "1.5e3"),
        ("1.5e+3", 1500.0),
        (".5", 0.5),
        ("5%", "5%"),
        ("9" * 60, "9" * 60),
        (".inf", math.inf),
    ],
)
def test_scalars(written: str, value: Any) -> None:
    assert read(f"a: {written}\n").data == {"a": value}


def test_keys_are_texts_as_written() -> None:
    assert read("on: {1: a, null: b, 2.50: c}").data == {"on": {"1": "a", "null": "b", "2.50": "c"}}


def test_anchors_and_merges_take_what_they_name() -> None:
    document = read("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\nc: [*x]\n")
    assert document.data["b"] == {"k": 1, "l": 3}
    assert document.data["c"] == [{"k": 1, "l": 2}]
    assert document.lines[("b", "k")] == 3


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n").data == {"a": 1, "b": {"c": 2}}

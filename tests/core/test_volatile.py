"""Dates, times and ids are found where they stand, in time, and told by kind."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.volatile import _ANY, find


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Today is 2026-11-22.", "date"),
        ("[Sun 22 Nov 2026]", "date"),
        ("November 22, 2026", "date"),
        ("今天是2026年11月22日", "date"),
        ("at 16:26:05 UTC", "time"),
        ("sessionId=abcdef", "id"),
        ("request_id: 7", "id"),
        ("6f1c2d3e-aaaa-bbbb-cccc-0123456789ab", "uuid"),
        ("since 1795665961", "epoch"),
        ("4bf92f3577b34da6a3ce929d0e0e4736", "hex"),
    ],
)
def test_what_varies_is_found(text: str, kind: str) -> None:
    assert next(find(f"line one\nx {text} y\nlast")).kind == kind


@pytest.mark.parametrize(
    "text",
    ["", "Be brief.", "port 8080, version 1.2.3, 4,096 tokens", "id: it is a word", "deadbeef" * 4,
     "at 10:30", "10.0.0.1", "section 2026"],
)  # fmt: skip
def test_what_does_not_is_not(text: str) -> None:
    assert not list(find(text))


pieces = st.sampled_from(["2026-11-22", "x", "\n", " ", "sessionId=1", "12:00:01", "é", "id", "7"])


@given(st.lists(pieces, max_size=30).map("".join))
@settings(max_examples=300, derandomize=True, database=None)
def test_looking_line_by_line_finds_the_same(text: str) -> None:
    whole = [m.start() for line in re.finditer(r"[^\n]*", text)
             for m in _ANY.finditer(text, line.start(), line.end())]  # fmt: skip
    assert [bit.at for bit in find(text)] == whole


@pytest.mark.parametrize(
    "text",
    ["a" * 400_000, "0" * 400_000, "1" * 20 + "-" * 400_000, "session " * 50_000, "2026-" * 80_000,
     "a1" * 200_000, "id:\n" * 100_000],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.thread_time()
    for _ in find(text):
        pass
    assert time.thread_time() - began < 2

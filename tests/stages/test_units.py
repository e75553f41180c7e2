"""Units: what is written, what is held, and back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from clawmw.stages.units import Count, Duration, Share, Size, Usd, show_count, show_usd


class Held(BaseModel):
    duration: Duration = 0.0
    count: Count = 0
    size: Size = 0
    usd: Usd = 0
    share: Share = 0.0


@pytest.mark.parametrize(
    ("unit", "written", "held"),
    [
        ("duration", "30m", 1800),
        ("duration", "250ms", 0.25),
        ("duration", "1h30m", 5400),
        ("duration", "1.5 h", 5400),
        ("duration", "2w", 1_209_600),
        ("duration", 45, 45),
        ("duration", "0.5", 0.5),
        ("count", "2M", 2_000_000),
        ("count", "35k", 35_000),
        ("count", "1.5k", 1500),
        ("count", "1_000", 1000),
        ("count", 7, 7),
        ("count", 3.0, 3),
        ("size", "1GiB", 2**30),
        ("size", "64 kib", 65_536),
        ("size", "500MB", 500_000_000),
        ("size", 12, 12),
        ("usd", 0.2, 200_000_000),
        ("usd", "0.20", 200_000_000),
        ("usd", 5, 5_000_000_000),
        ("usd", Decimal("0.000000001"), 1),
        ("share", "5%", 0.05),
        ("share", 0.05, 0.05),
        ("share", "12.5 %", 0.125),
        ("share", 1, 1.0),
    ],
)
def test_written_and_held(unit: str, written: Any, held: float) -> None:
    assert getattr(Held.model_validate({unit: written}), unit) == held


@pytest.mark.parametrize(
    ("unit", "written", "said"),
    [
        (
            "duration",
            "30 minutes",
            'such as 30m, 7d or 250ms (units: ms, s, m, h, d, w), not "30 min',
        ),
        ("duration", "-5m", 'not "-5m"'),
        ("duration", -5, "not negative, not -5"),
        ("duration", "1e9d", "not"),
        ("duration", 1e12, "this is too large"),
        ("duration", True, "not true"),
        ("count", "2m", "such as 500, 35k or 2M"),
        ("count", 1.5, "a whole number, not 1.5"),
        ("count", float("nan"), "such as 500"),
        ("count", 10**30, "this is too large"),
        ("size", "1XB", "such as 64KiB"),
        ("usd", "$5", "a plain number such as 5 or 0.20"),
        ("usd", "0.0000000001", "no more than nine decimals"),
        ("usd", float("inf"), "a plain number"),
        ("usd", [1], "a plain number"),
        ("share", 5, "did you mean 5%?"),
        ("share", "1e9999999%", "such as 5%"),
        ("usd", "1e-9999999", "a plain number"),
        ("count", None, "not nothing"),
        ("share", "150%", "between 0% and 100%"),
        ("share", "{x}", 'not "{x}"'),
    ],
)
def test_refused_with_what_was_expected(unit: str, written: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Held.model_validate({unit: written})
    (error,) = caught.value.errors()
    assert error["msg"].startswith("expected ")
    assert said in error["msg"]


@given(
    duration=st.decimals(0, 10**6, places=3),
    count=st.integers(0, 2**53),
    size=st.integers(0, 2**53),
    usd=st.decimals(0, 10**5, places=9),
    share=st.decimals(0, 1, places=6),
)
def test_a_dump_validates_to_the_same_values(**written: Any) -> None:
    held = Held.model_validate(written)
    assert held.usd == int(written["usd"] * 10**9)
    assert Held.model_validate(json.loads(held.model_dump_json())) == held


def test_shown_as_people_write_them() -> None:
    assert [show_count(n) for n in (7, 35_000, 1_500_000, 1_234_567)] == [
        "7",
        "35k",
        "1.5M",
        "1234567",
    ]
    assert [show_usd(n) for n in (10**9, 500_000, 0, 12_340_000_000)] == [
        "$1.00",
        "$0.0005",
        "$0.00",
        "$12.34",
    ]

"""Intervals: they hold what they promise, and claim nothing of too few."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.observe.reading.statistics import (
    ENOUGH,
    _student,
    difference_of_shares,
    ratio_of_means,
    ratio_of_typical,
    typical,
)

costs = st.lists(st.floats(0.001, 1e6), min_size=ENOUGH, max_size=40)
quick = settings(max_examples=25, deadline=None)


@quick
@given(costs, costs)
def test_an_interval_holds_its_estimate_and_is_the_same_each_time(
    before: list[float], after: list[float]
) -> None:
    found = ratio_of_means(before, after, draws=100)
    assert found is not None
    assert found == ratio_of_means(before, after, draws=100)
    assert 0 < found.low <= found.estimate * (1 + 1e-9)
    assert found.estimate <= found.high * (1 + 1e-9)
    assert found.estimate == pytest.approx(
        (sum(after) / len(after)) / (sum(before) / len(before)), rel=1e-6
    )


@quick
@given(costs, costs, st.floats(0.001, 1000))
def test_the_unit_does_not_matter(before: list[float], after: list[float], unit: float) -> None:
    one = ratio_of_means(before, after, draws=60)
    other = ratio_of_means([v * unit for v in before], [v * unit for v in after], draws=60)
    assert one is not None
    assert other is not None
    assert other.low == pytest.approx(one.low, rel=1e-4)
    assert other.high == pytest.approx(one.high, rel=1e-4)


@quick
@given(costs, costs)
def test_the_typical_are_compared_as_ratios(before: list[float], after: list[float]) -> None:
    found = ratio_of_typical(before, after)
    turned = ratio_of_typical(after, before)
    usual = typical(before), typical(after)
    assert found is not None
    assert turned is not None
    assert usual[0] is not None
    assert usual[1] is not None
    assert found.estimate == pytest.approx(usual[1] / usual[0], rel=1e-6)
    assert found.low <= found.estimate <= found.high
    assert turned.low == pytest.approx(1 / found.high, rel=1e-6)
    # One chain that costs a million times as much moves the typical one little.
    large = ratio_of_typical(before, [*after, 1e9])
    assert large is not None
    assert large.estimate < found.estimate * 1e12 ** (1 / (len(after) + 1)) * 1.01


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(19, 2.0930), (30, 2.0423), (100, 1.9840), (1e9, 1.9600)]
)
def test_students_t_is_that_of_the_tables(freedom: float, quantile: float) -> None:
    assert _student(freedom) == pytest.approx(quantile, abs=0.0005)


@given(st.lists(st.floats(0, 10), max_size=ENOUGH - 1), costs)
def test_too_few_tell_nothing(few: list[float], many: list[float]) -> None:
    assert ratio_of_means(few, many) is None
    assert ratio_of_means(many, few) is None
    assert ratio_of_typical(few, many) is None
    assert ratio_of_typical(many, [0.0] * 50) is None
    assert difference_of_shares(0, len(few), 0, len(many)) is None


def test_what_cannot_be_divided_is_not() -> None:
    assert ratio_of_means([0.0] * 30, [1.0] * 30) is None
    assert ratio_of_means([1.0] * 30, [0.0] * 30) is None
    same = ratio_of_means([2.0] * 30, [1.0] * 30)
    assert same is not None
    assert (same.low, same.estimate, same.high) == (0.5, 0.5, 0.5)


@given(st.integers(ENOUGH, 400), st.integers(ENOUGH, 400), st.data())
def test_a_difference_of_shares_is_one(first: int, second: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, first)), data.draw(st.integers(0, second))
    found = difference_of_shares(bad[0], first, bad[1], second)
    assert found is not None
    assert -1 - 1e-9 <= found.low <= found.estimate <= found.high <= 1 + 1e-9
    assert found.low < found.high, "no number of chains makes it certain"
    turned = difference_of_shares(bad[1], second, bad[0], first)
    assert turned is not None
    assert turned.estimate == pytest.approx(-found.estimate)
    assert turned.low == pytest.approx(-found.high)


def test_newcombes_own_example() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, example a)."""
    found = difference_of_shares(48, 80, 56, 70)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "governed", "spread"), [(20, 200, 1.0), (20, 20, 0.7), (60, 60, 1.0)]
)
def test_the_true_ratio_is_within_as_often_as_promised(
    raw: int, governed: int, spread: float
) -> None:
    """Costs of chains are about lognormal; of 400 simulated weeks at least 90% are right."""
    dice, inside, usual, truth = random.Random(7), 0, 0, 0.7
    for _ in range(400):
        before = [dice.lognormvariate(0, spread) for _ in range(raw)]
        after = [dice.lognormvariate(math.log(truth), spread) for _ in range(governed)]
        found = ratio_of_means(before, after, draws=200)
        assert found is not None
        inside += found.low <= truth <= found.high
        other = ratio_of_typical(before, after)
        assert other is not None
        usual += other.low <= truth <= other.high
    assert inside / 400 >= 0.9
    assert 0.93 <= usual / 400 <= 0.98


@pytest.mark.slow
def test_no_difference_is_seldom_claimed() -> None:
    dice, claimed = random.Random(11), 0
    for _ in range(400):
        before = [dice.lognormvariate(0, 1) for _ in range(25)]
        after = [dice.lognormvariate(0, 1) for _ in range(250)]
        found = ratio_of_means(before, after, draws=200)
        claimed += found is not None and found.excludes(1)
    assert claimed / 400 <= 0.09

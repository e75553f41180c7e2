"""Money: cache arithmetic and cost, as sums a reader can check by hand, and as laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.money import (
    NANO,
    CacheRules,
    Cost,
    Price,
    Profile,
    cached_tokens,
    cost,
    simulate,
)
from clawmw.core.types import Usage

PRICE = Price(2000, 10_000, 100, 2500, as_of="2026-11-22", source="test")
MARKS = CacheRules(style="marks", min_tokens=512, max_marks=4, bills_writes=True)
STEPS = CacheRules(style="automatic", min_tokens=1024, granularity=128)
PROFILE = Profile("anthropic/x", "anthropic", PRICE, MARKS, "cached_apart", "2026-11-22", ("test",))

tokens = st.integers(min_value=0, max_value=2_000_000)
rules = st.builds(
    CacheRules,
    style=st.sampled_from(["none", "automatic", "marks", "breakpoints"]),
    min_tokens=st.integers(0, 8192),
    granularity=st.integers(1, 512),
    bills_writes=st.booleans(),
)


def test_a_call_is_billed_by_fresh_read_written_and_output_tokens() -> None:
    usage = Usage(10_000, 500, cache_read_tokens=8_000, cache_write_tokens=1_500)
    bill = cost(usage, PROFILE)
    assert bill == Cost(
        input=500 * 2000, output=500 * 10_000, cache_read=8_000 * 100, cache_write=1_500 * 2500
    )
    assert bill.total == 1_000_000 + 5_000_000 + 800_000 + 3_750_000
    assert bill.usd == bill.total / NANO


@pytest.mark.parametrize(
    "usage", [Usage(None, 5), Usage(5, None), Usage()], ids=["no input", "no output", "nothing"]
)
def test_unknown_tokens_have_an_unknown_cost(usage: Usage) -> None:
    assert cost(usage, PROFILE) is None


def test_an_unknown_price_is_not_free() -> None:
    assert cost(Usage(5, 5), replace(PROFILE, price=None)) is None


def test_unreported_cache_use_is_billed_as_plain_input() -> None:
    assert cost(Usage(10, 0), PROFILE) == Cost(input=20_000)


def test_a_long_call_is_billed_at_the_long_price_throughout() -> None:
    long = Price(4000, 15_000, 200, 5000, as_of="2026-11-22", source="test")
    profile = replace(PROFILE, price=replace(PRICE, long_from=200_000, long=long))
    below = cost(Usage(199_999, 1), profile)
    above = cost(Usage(200_000, 1), profile)
    assert below is not None
    assert below.total == 199_999 * 2000 + 10_000
    assert above is not None
    assert above.total == 200_000 * 4000 + 15_000


@pytest.mark.parametrize(
    ("prefix", "hit"), [(0, 0), (1023, 0), (1024, 1024), (1151, 1024), (1152, 1152), (5000, 4992)]
)
def test_a_hit_needs_the_minimum_and_counts_whole_steps(prefix: int, hit: int) -> None:
    assert cached_tokens(prefix, STEPS) == hit


def test_no_cache_means_no_hit() -> None:
    assert cached_tokens(100_000, CacheRules(style="none")) == 0


def test_simulated_call_reads_the_common_prefix_and_writes_up_to_its_last_mark() -> None:
    usage = simulate(
        MARKS, prefix_tokens=8_000, input_tokens=10_000, output_tokens=7, marked_tokens=9_000
    )
    assert usage == Usage(10_000, 7, 8_000, 1_000, basis="estimated")


def test_without_a_mark_nothing_is_written() -> None:
    usage = simulate(MARKS, prefix_tokens=0, input_tokens=10_000, marked_tokens=0)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (0, 0)


def test_free_writes_are_not_reported() -> None:
    usage = simulate(STEPS, prefix_tokens=0, input_tokens=10_000)
    assert usage.cache_write_tokens == 0


@given(rules=rules, prefix=tokens, total=tokens, out=tokens, marked=st.none() | tokens)
def test_reads_and_writes_never_exceed_the_input(
    rules: CacheRules, prefix: int, total: int, out: int, marked: int | None
) -> None:
    usage = simulate(
        rules, prefix_tokens=prefix, input_tokens=total, output_tokens=out, marked_tokens=marked
    )
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    assert 0 <= read <= min(prefix, total)
    assert written >= 0
    assert read + written <= total


@given(rules=rules, short=tokens, more=tokens)
def test_a_longer_common_prefix_is_never_worth_less(
    rules: CacheRules, short: int, more: int
) -> None:
    assert cached_tokens(short, rules) <= cached_tokens(short + more, rules)


@given(total=tokens, read=tokens, written=tokens, out=tokens)
def test_cost_is_never_negative_and_adds_up(total: int, read: int, written: int, out: int) -> None:
    bill = cost(Usage(total, out, read, written), PROFILE)
    assert bill is not None
    assert min(bill.input, bill.output, bill.cache_read, bill.cache_write) >= 0
    assert (bill + bill).total == 2 * bill.total

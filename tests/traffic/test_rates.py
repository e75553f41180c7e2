"""The token bucket: what it lets through, whatever is asked and corrected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.traffic.rates import Bucket

MINUTE = 600.0
STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.floats(1, MINUTE), st.floats(0.1, 3)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_never_more_than_a_minutes_worth_and_what_the_time_gave(
    steps: list[tuple[float, float, float]],
) -> None:
    bucket, now, taken = Bucket(MINUTE / 60, 0.0), 0.0, 0.0
    for later, amount, really in steps:
        now += later
        if bucket.wait(amount, now) <= 0:
            assert taken + amount <= MINUTE + now * MINUTE / 60 + 1e-6
            bucket.take(amount)
            bucket.take(amount * really - amount)  # corrected when the call ended
            taken += amount * really


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_wait_it_names_is_just_long_enough(steps: list[tuple[float, float, float]]) -> None:
    bucket, now = Bucket(MINUTE / 60, 0.0), 0.0
    for later, amount, _ in steps:
        now += later
        wait = bucket.wait(amount, now)
        if wait > 1e-3:
            assert bucket.wait(amount, now + wait / 2) > 0
        now += wait
        assert bucket.wait(amount, now) < 1e-6
        bucket.take(amount)


def test_more_than_fits_at_all_goes_when_the_bucket_is_full_and_is_paid_for_later() -> None:
    bucket = Bucket(10.0, 0.0)
    assert bucket.wait(5000, 0.0) == 0
    bucket.take(5000)
    assert bucket.wait(1, 0.0) == (5000 - 600 + 1) / 10

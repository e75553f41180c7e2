"""The circuit breaker and the retry budget, against a plain model of each."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clawmw.core.effects import Permit, Report, Verdict, Withdraw
from clawmw.traffic.breaker import BUDGET, ENOUGH, LONGEST, PAUSES, SHARE, WINDOW, Breaker
from clawmw.traffic.control import Traffic
from clawmw.traffic.health import Health


class Upstream(RuleBasedStateMachine):
    """Calls come and go in any order; the breaker keeps its word."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 0.0, 0
        self.breaker = Breaker()
        self.out: list[tuple[str, float]] = []
        """Calls under way, and when they began."""
        self.answers: list[bool] = []
        self.closed = -1.0
        """When it closed last."""
        self.probed, self.probes = -9.0, set[str]()
        self.level = BUDGET

    @rule()
    def ask(self) -> None:
        self.number += 1
        name, was_open = f"{self.number}", self.breaker.opened is not None
        permitted = self.breaker.permit(name, self.now, 0.5)
        assert self.breaker.permit(name, self.now, 0.5).granted == permitted.granted
        assert permitted.probe == (permitted.granted and was_open)
        if permitted.probe:
            assert self.now - self.probed >= PAUSES[0] * 0.75
            self.probed = self.now
            self.probes.add(name)
        if permitted.granted:
            self.out.append((name, self.now))
        else:
            assert 0 < (permitted.retry_after or 0) <= LONGEST

    @rule(
        index=st.integers(0, 30),
        verdict=st.sampled_from(["ok", "failed", "failed", "failed", "alive", "neutral"]),
    )
    def tell(self, index: int, verdict: Verdict) -> None:
        if not self.out:
            return
        name, began = self.out.pop(index % len(self.out))
        was_closed, probing = self.breaker.opened is None, name in self.probes
        self.breaker.report(name, verdict, self.now, began, 0.5)
        is_closed = self.breaker.opened is None
        if was_closed:
            if verdict in ("ok", "failed") and began >= self.closed:
                self.answers = [*self.answers, verdict == "failed"][-WINDOW:]
            bad = len(self.answers) >= ENOUGH and sum(self.answers) >= SHARE * len(self.answers)
            assert is_closed != bad
        else:
            assert is_closed == (probing and verdict in ("ok", "alive"))
            self.probes.discard(name)
            if is_closed:
                self.answers, self.closed, self.probed = [], self.now, -9.0
                self.probes.clear()

    @rule(seconds=st.floats(0.01, 5))
    def later(self, seconds: float) -> None:
        self.now += seconds

    @rule(amount=st.sampled_from([-1.0, 5.0, 14.0, -14.0]))
    def retry(self, amount: float) -> None:
        fits = amount <= self.level
        assert self.breaker.withdraw(amount) == fits
        self.level = min(self.level - amount, BUDGET) if fits else self.level

    @invariant()
    def the_budget_is_what_is_left(self) -> None:
        assert 0 <= self.breaker.budget == self.level

    @invariant()
    def while_traffic_waits_the_next_probe_is_never_far(self) -> None:
        if self.breaker.opened is not None:
            assert self.breaker.until - self.now <= LONGEST


TestUpstream = Upstream.TestCase
TestUpstream.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for number in range(ENOUGH):
        breaker.report(f"{number}", "failed", now, now, 0.0)
    assert breaker.state == "open"
    return breaker


def test_a_hundred_waiters_are_one_probe() -> None:
    """R9: half-open, one call goes out, whoever else asks."""
    breaker = broken()
    asked = [breaker.permit(f"w{n}", 1.5, 0.0) for n in range(100)]
    assert [a.granted for a in asked].count(True) == 1
    assert breaker.state == "half_open"


def test_while_traffic_waits_it_is_probed_at_least_every_four_seconds() -> None:
    breaker, now, probes = broken(), 0.0, []
    while now < 60:
        if breaker.permit(f"p{now}", now, 0.0).probe:
            probes.append(now)
            breaker.report(f"p{now}", "failed", now + 0.05, now, 0.0)
        now += 0.1
    gaps = [b - a for a, b in pairwise(probes)]
    assert max(gaps) <= 4.3
    assert len(probes) <= 40


def test_flapping_does_not_make_it_oscillate() -> None:
    """R11: with every second answer an error, no state lasts shorter than the least pause."""
    breaker, turned = Breaker(), []
    for tick in range(3000):
        now, name = tick / 50, f"{tick}"
        if breaker.permit(name, now, 1.0).granted:
            verdict = "failed" if tick % 2 else "ok"
            if breaker.report(name, verdict, now, now, 1.0):
                turned.append((now, breaker.state))
    opened = [at for at, state in turned if state == "open"]
    closed = [at for at, state in turned if state == "closed"]
    assert all(c - o >= PAUSES[0] * 0.74 for o, c in zip(opened, closed, strict=False))


@pytest.mark.parametrize("verdict", ["neutral", "alive"])
def test_a_callers_mistakes_and_cancellations_say_nothing(verdict: Verdict) -> None:
    """R8: 4xx, 429 and cancellations leave the breaker where it is."""
    breaker = Breaker()
    for number in range(50):
        breaker.report(f"{number}", verdict, 0.0, 0.0, 0.0)
    assert breaker.state == "closed"


def test_a_probe_that_was_dropped_does_not_block_the_next() -> None:
    now = [0.0]
    traffic = Traffic(lambda: now[0])
    traffic.health = health = Health(lambda: now[0], lambda: 0.0)
    for number in range(ENOUGH):
        health.report(Report("up", "failed", f"{number}"), {})
    now[0] = 2.0
    guest = traffic.guest("dropped")
    assert health.permit(Permit("up", "dropped/1/breaker/0"), {}).probe
    assert not health.permit(Permit("up", "other/1/breaker/0"), {}).granted
    guest.over()
    now[0] += PAUSES[0]
    assert health.permit(Permit("up", "other/1/breaker/0"), {}).probe
    traffic.guest("other").over()
    assert traffic.census()["probes"] == 0
    assert health.withdraw(Withdraw("elsewhere", BUDGET))

"""The circuit breaker and the retry budget, against a plain model of each."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clawmw.core.effects import Permit, Report, Withdraw
from clawmw.traffic.breaker import BUDGET, ENOUGH, PAUSES, SHARE, WINDOW, Breaker
from clawmw.traffic.control import Traffic
from clawmw.traffic.health import Health


class Upstream(RuleBasedStateMachine):
    """Calls come and go in any order; the breaker keeps its word."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 0.0, 0
        self.breaker = Breaker()
        self.out: list[str] = []
        self.answers: list[bool] = []
        self.failed = -9.0
        """When a probe failed last."""
        self.level = BUDGET

    @rule()
    def ask(self) -> None:
        self.number += 1
        name, was_open = f"{self.number}", self.breaker.opened is not None
        permitted = self.breaker.permit(name, self.now)
        assert self.breaker.permit(name, self.now).granted == permitted.granted
        assert permitted.probe == (permitted.granted and was_open)
        if permitted.probe:
            assert self.now - self.failed >= PAUSES[0] * 0.75
        if permitted.granted:
            self.out.append(name)
        else:
            assert 0 < (permitted.retry_after or 0) <= PAUSES[-1]

    @rule(index=st.integers(0, 30), verdict=st.sampled_from(["ok", "failed", "failed", "neutral"]))
    def tell(self, index: int, verdict: str) -> None:
        if not self.out:
            return
        name = self.out.pop(index % len(self.out))
        closed, probing = self.breaker.opened is None, self.breaker.probe == name
        self.breaker.report(name, verdict, self.now, 0.5)  # type: ignore[arg-type]
        if closed and verdict != "neutral":
            self.answers = [*self.answers, verdict == "failed"][-WINDOW:]
            bad = len(self.answers) >= ENOUGH and sum(self.answers) >= SHARE * len(self.answers)
            assert (self.breaker.opened is not None) == bad
        elif probing and verdict == "ok":
            assert self.breaker.opened is None
            self.answers = []
        elif not closed:
            assert self.breaker.opened is not None
            self.failed = self.now if probing and verdict == "failed" else self.failed

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
        assert self.breaker.budget == self.level


TestUpstream = Upstream.TestCase
TestUpstream.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for number in range(ENOUGH):
        breaker.report(f"{number}", "failed", now, 0.0)
    assert breaker.state == "open"
    return breaker


def test_a_hundred_waiters_are_one_probe() -> None:
    """R9: half-open, one call goes out, whoever else asks."""
    breaker = broken()
    asked = [breaker.permit(f"w{n}", 1.5) for n in range(100)]
    assert [a.granted for a in asked].count(True) == 1
    assert breaker.state == "half_open"


def test_while_traffic_waits_it_is_probed_at_least_every_four_seconds() -> None:
    breaker, now, probes = broken(), 0.0, []
    while now < 60:
        if breaker.permit(f"p{now}", now).probe:
            probes.append(now)
            breaker.report(f"p{now}", "failed", now + 0.05, 0.0)
        now += 0.1
    gaps = [b - a for a, b in pairwise(probes)]
    assert max(gaps) <= 4.3
    assert len(probes) < 20


def test_flapping_does_not_make_it_oscillate() -> None:
    """R11: with every second answer an error, no state lasts shorter than the least pause."""
    breaker, turned = Breaker(), []
    for tick in range(3000):
        now, name = tick / 50, f"{tick}"
        if breaker.permit(name, now).granted:
            verdict = "failed" if tick % 2 else "ok"
            if breaker.report(name, verdict, now, 1.0):  # type: ignore[arg-type]
                turned.append((now, breaker.state))
    opened = [at for at, state in turned if state == "open"]
    closed = [at for at, state in turned if state == "closed"]
    assert all(c - o >= PAUSES[0] * 0.74 for o, c in zip(opened, closed, strict=False))


def test_a_callers_mistakes_and_cancellations_say_nothing() -> None:
    breaker = Breaker()
    for number in range(50):
        breaker.report(f"{number}", "neutral", 0.0, 0.0)
    assert breaker.state == "closed"


def test_a_probe_that_was_dropped_does_not_block_the_next() -> None:
    now = [0.0]
    traffic = Traffic(lambda: now[0])
    traffic.health = health = Health(lambda: now[0], lambda: 0.0)
    for number in range(ENOUGH):
        health.report(Report("up", "failed", f"{number}"))
    now[0] = 2.0
    guest = traffic.guest("dropped")
    assert health.permit(Permit("up", "dropped/1/breaker/0")).probe
    assert not health.permit(Permit("up", "other/1/breaker/0")).granted
    guest.over()
    assert health.permit(Permit("up", "other/1/breaker/0")).probe
    traffic.guest("other").over()
    assert traffic.census()["probes"] == 0
    assert health.withdraw(Withdraw("elsewhere", BUDGET))

"""Reuse: an answer given again, and what never is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.core.types import Failure, Outcome, Response
from clawmw.testing import Bench, Clock, answer, asks, failing

ASK = [{"role": "user", "content": "Anything new?"}]
BEAT = Identity(session="s1", chain="c1", kind="heartbeat")


def bench(*outcomes: Outcome, who: Identity = BEAT, **reuse: Any) -> Bench:
    rest = iter(outcomes)
    config = {"kinds": ["heartbeat"], "ttl": "10m", **reuse}
    policy = {"version": 1, "reuse": config, "retry": False, "budget": {"chain": {"calls": 50}}}
    return Bench(policy, lambda _body: next(rest), identity=who)


def text(case: Bench, **params: Any) -> tuple[str, bool]:
    sent = case.send(ASK, **params)
    outcome = sent.result.outcome
    assert isinstance(outcome, Response)
    return outcome.message.text, not sent.bodies


def test_a_heartbeat_is_answered_again_and_bills_nothing() -> None:
    case = bench(answer("quiet"), answer("news"))
    assert text(case) == ("quiet", False)
    assert text(case) == ("quiet", True)
    last = case.send(ASK)
    finished = last.result.finished
    assert (finished.status, finished.cost, finished.attempts) == ("answered", Cost(), 0)
    assert int(last.result.labels["x-clawmw-reused"]) > 0
    used = case.runtime.stores.ledger.used(BEAT.scope("chain"))
    assert used["calls"] == 3


def test_it_is_asked_again_when_the_answer_is_too_old() -> None:
    case = bench(answer("quiet"), answer("news"))
    assert isinstance(case.clock, Clock)
    assert text(case) == ("quiet", False)
    case.clock.now += 590
    assert text(case) == ("quiet", True)
    case.clock.now += 60
    assert text(case) == ("news", False)


@pytest.mark.parametrize(
    "first",
    [
        failing(500),
        replace(answer("cut o"), finish_reason="length"),
        replace(answer("broken"), complete=False),
        asks("search", {"q": "x"}),
        Failure("cancelled", "left"),
    ],
)
def test_what_is_no_whole_answer_is_never_given_again(first: Outcome) -> None:
    """S10: errors, truncated, broken and cancelled answers, and those that ask for tools."""
    case = bench(first, answer("fresh"))
    case.send(ASK)
    assert text(case) == ("fresh", False)


def test_nobody_else_gets_it() -> None:
    """S12: another agent or tenant, another kind, another conversation's words."""
    case = bench(answer("quiet"), answer("b"), answer("c"), answer("d"))
    assert text(case) == ("quiet", False)
    for who in (replace(BEAT, agent="other"), replace(BEAT, tenant="other")):
        case.identity = who
        assert text(case)[1] is False
    case.identity = replace(BEAT, kind=None)
    assert text(case)[1] is False


def test_an_answer_of_another_model_is_kept_under_that_model() -> None:
    """S9: what a fallback answered is not given for the first model."""
    outcomes = iter([failing(503), answer("from light"), answer("from main")])
    policy = {
        "version": 1,
        "models": {"light": "deepseek/deepseek-v4-flash"},
        "fallback": {"gpt-4o": ["light"]},
        "reuse": {"kinds": ["heartbeat"]},
        "retry": False,
    }
    case = Bench(policy, lambda _body: next(outcomes), identity=BEAT)
    assert text(case, model="gpt-4o") == ("from light", False)
    assert text(case, model="gpt-4o") == ("from main", False)


def test_off_unless_asked_for() -> None:
    case = bench(answer("a"), answer("b"), kinds=[])
    assert [text(case, temperature=0), text(case, temperature=0)] == [("a", False), ("b", False)]
    case = bench(answer("a"), answer("b"), kinds=[], deterministic=True)
    assert [text(case, temperature=0), text(case, temperature=0)] == [("a", False), ("a", True)]
    assert text(case) == ("b", False)

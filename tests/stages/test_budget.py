"""Budgets: reserved before, settled after, never overshot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clawmw.core.events import Acted
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Json, Outcome, Usage
from clawmw.testing import Bench, Sent, answer, failing

ASK = [{"role": "user", "content": "hello there"}]


def bench(budget: dict[str, Any], model: Any = None, **extra: Any) -> Bench:
    used = Usage(100, 10, 0, 0)
    return Bench(
        {"version": 1, "budget": budget, "retry": False, **extra},
        model or (lambda body: answer(usage=used)),
    )


def used(case: Bench, meter: str = "calls", chain: str = "c1") -> int:
    return case.runtime.stores.ledger.used(Identity(chain=chain).scope("chain")).get(meter, 0)


def stopped(sent: Sent) -> str | None:
    return str(sent.result.halt.because) if sent.result.halt else None


def send(case: Bench, model: str = "fake", **params: Json) -> Sent:
    return case.send(ASK, **params)


def test_calls_per_chain() -> None:
    case = bench({"chain": {"calls": 2}})
    assert [stopped(send(case)) for _ in range(4)] == [None, None] + ["budget.chain.calls"] * 2
    assert used(case) == 2
    case.identity = Identity(session="s1", chain="c2")
    assert stopped(send(case)) is None


def test_tokens_are_settled_from_usage() -> None:
    case = bench({"chain": {"input_tokens": 1000, "output_tokens": "1M"}})
    assert stopped(send(case, max_tokens=50)) is None
    assert (used(case, "input_tokens"), used(case, "output_tokens")) == (100, 10)


def test_the_worst_case_must_fit() -> None:
    case = bench({"chain": {"output_tokens": 100}})
    assert stopped(send(case, max_tokens=101)) == "budget.chain.output_tokens"
    assert stopped(send(case, max_tokens=40, n=3)) == "budget.chain.output_tokens"
    assert stopped(send(case, max_tokens=100)) is None


@pytest.mark.parametrize("value", [0, -5, True, "7", None, 1.5])
def test_a_limit_that_is_none_is_the_models_own(value: Json) -> None:
    case = bench({"chain": {"output_tokens": 100}})
    assert stopped(send(case, max_tokens=value)) == "budget.chain.output_tokens"


def test_an_answer_that_may_not_fit_is_limited_and_not_refused() -> None:
    models = {"main": {"model": "fake", "profile": "gpt-5.4"}}
    case = bench({"chain": {"usd": 1}}, models=models)
    sent = send(case)
    assert stopped(sent) is None
    limit = sent.body["max_completion_tokens"]
    price = case.runtime.profile("fake").price
    assert price is not None
    assert limit >= 4096
    assert limit * price.output < 10**9 / 3
    assert used(case, "usd") == 100 * price.input + 10 * price.output  # settled all the same
    explicit = send(case, max_tokens=100_000)
    assert 4096 <= explicit.body["max_tokens"] < 100_000
    assert "max_completion_tokens" not in explicit.body


def test_a_limit_below_the_least_is_refused() -> None:
    case = bench({"chain": {"output_tokens": 5000}})
    assert "max_tokens" not in send(case).body  # 4,096 of an unknown model fit
    assert stopped(send(case, max_tokens=6000)) is None
    case = bench({"chain": {"output_tokens": 5000}, "min_output": 5001})
    assert stopped(send(case, max_tokens=6000)) == "budget.chain.output_tokens"


def test_an_unknown_price_fails_closed_unless_allowed() -> None:
    sent = send(bench({"chain": {"usd": 5}}))
    assert stopped(sent) == "budget.unknown_price"
    assert "'fake'" in str(sent.result.halt)
    assert stopped(send(bench({"chain": {"usd": 5}, "unknown_price": "allow"}))) is None


def test_money_is_counted_at_the_profiles_price() -> None:
    models = {"main": {"model": "fake", "profile": "claude-sonnet-4-5"}}
    case = bench({"chain": {"usd": 1}}, models=models)
    assert stopped(send(case, max_tokens=50)) is None
    price = case.runtime.profile("fake").price
    assert price is not None
    assert used(case, "usd") == 100 * price.input + 10 * price.output


def test_what_was_not_reported_is_estimated() -> None:
    case = bench({"chain": {"input_tokens": "1M"}}, lambda body: answer("word " * 50))
    send(case)
    assert 0 < used(case, "input_tokens") < 100


@pytest.mark.parametrize(
    ("failure", "tokens"),
    [
        (failing(503), 0),
        (Failure("connect", "refused"), 0),
        (Failure("timeout", "too slow"), None),
        (Failure("cancelled", "left"), None),
    ],
)
def test_a_failed_call_counts_and_an_unanswered_one_is_paid_for(
    failure: Failure, tokens: int | None
) -> None:
    def model(body: Json) -> Outcome:
        return failure

    case = bench({"chain": {"calls": 5, "input_tokens": "1M"}}, model)
    send(case)
    assert used(case) == 1
    assert (used(case, "input_tokens") == 0) == (tokens == 0)


def test_a_thousand_callers_do_not_overshoot() -> None:
    case = bench({"chain": {"calls": 40, "input_tokens": "1M"}})

    def call(index: int) -> bool:
        messages = [{"role": "user", "content": f"question {index}"}]
        return case.send(messages).result.halt is None

    with ThreadPoolExecutor(32) as pool:
        admitted = sum(pool.map(call, range(1000)))
    assert admitted == 40
    assert used(case) == 40


def test_days_begin_anew() -> None:
    case = bench({"agent": {"day": {"calls": 1}}, "tenant": {"day": {"calls": 2}}})
    assert [stopped(send(case)) for _ in range(2)] == [None, "budget.agent.day.calls"]
    case.identity = Identity(agent="other", session="s", chain="c")
    assert stopped(send(case)) is None
    case.identity = Identity(agent="third", session="s", chain="c")
    assert stopped(send(case)) == "budget.tenant.day.calls"
    case.clock.now += 86_400  # type: ignore[attr-defined]
    assert stopped(send(case)) is None


def test_a_call_that_another_guard_stops_draws_nothing() -> None:
    case = bench({"chain": {"calls": 3}, "session": {"calls": 0}})
    assert stopped(send(case)) == "budget.session.calls"
    assert used(case) == 0


def test_in_observe_mode_it_counts_and_stops_nothing() -> None:
    case = bench({"chain": {"calls": 1}}, mode="observe")
    assert [stopped(send(case)) for _ in range(3)] == [None] * 3
    assert used(case) == 3
    said = [e for e in case.events if isinstance(e, Acted) and e.stage == "budget"]
    assert [(e.rule, e.would) for e in said] == [("budget.chain.calls", True)] * 2


def test_a_held_out_chain_is_still_capped() -> None:
    case = bench({"chain": {"calls": 1}}, holdout="100%")
    assert [stopped(send(case)) for _ in range(2)] == [None, "budget.chain.calls"]

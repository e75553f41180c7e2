"""Budgets over every scope at once: children, calls under way, time, nameless callers, notes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from clawmw.budgets import Budgets
from clawmw.core.effects import Charge
from clawmw.core.events import Acted, BudgetNeared, Overdrawn
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Json, Outcome, Usage
from clawmw.errors import StoreError
from clawmw.policy.load import load_policy
from clawmw.stages.guard.budget.scopes import Named
from clawmw.testing import Bench, Clock, Sent, answer, failing

ASK = [{"role": "user", "content": "hello there"}]
PRICED = {"main": {"model": "fake", "profile": "gpt-5.4"}}


def bench(budget: Json = None, model: Any = None, **extra: Any) -> Bench:
    policy: dict[str, Any] = {"version": 1, "retry": False, "breaker": False, **extra}
    if budget is not None:
        policy["budget"] = budget
    usage = Usage(100, 10, 0, 0)
    return Bench(policy, model or (lambda _: answer(usage=usage)), Clock(step=0.001))


def used(case: Bench, chain: str, meter: str = "calls") -> int:
    scope = Identity(chain=chain).scope("chain")
    return case.runtime.stores.ledger.used(scope, case.clock()).get(meter, 0)


def as_(chain: str, parent: str | None = None, **more: Any) -> Identity:
    return Identity(session=f"s-{chain}", chain=chain, parent=parent, **more)


def send(case: Bench, who: Identity | None = None, **params: Json) -> Sent:
    case.identity = who or case.identity
    return case.send(ASK, **params)


def rule(sent: Sent) -> str | None:
    return str(sent.result.halt.because) if sent.result.halt else None


def events(case: Bench, kind: type[Any]) -> list[Any]:
    return [e for e in case.events if isinstance(e, kind)]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Json]:
    return "memory" if request.param == "memory" else {"disk": str(tmp_path / "store")}


# --- children draw on the parent's allowance ------------------------------------------------------


def test_b6_children_of_three_generations_share_one_allowance(store: Json) -> None:
    """B6: depth 3, fan-out 10; each names its own parent alone, and only once."""
    case = bench({"chain": {"calls": 50}}, store=store)
    assert rule(send(case, as_("root"))) is None
    admitted = 1
    for child in range(10):
        admitted += rule(send(case, as_(f"c{child}", "root"))) is None
        for grandchild in range(10):
            who = as_(f"g{child}.{grandchild}", f"c{child}")
            admitted += rule(send(case, who)) is None
            admitted += rule(send(case, as_(f"g{child}.{grandchild}"))) is None
    assert admitted == 50
    assert used(case, "root") == 50
    refused = send(case, as_("g9.9"))
    assert rule(refused) == "budget.chain.calls"
    assert "chain root, which this one belongs to" in str(refused.result.halt)
    assert refused.bodies == ()
    case.runtime.close()


def test_a_parent_that_was_refused_is_linked_all_the_same(store: Json) -> None:
    """B6: the way up does not depend on a call having been made."""
    case = bench({"chain": {"calls": 1}}, store=store)
    send(case, as_("root"))
    assert rule(send(case, as_("child", "root"))) == "budget.chain.calls"
    assert rule(send(case, as_("grandchild", "child"))) == "budget.chain.calls"
    case.runtime.close()


def test_cycles_and_deep_lines_are_bounded_and_still_meet_the_root() -> None:
    case = bench({"chain": {"calls": 200}})
    send(case, as_("a", "b"))
    send(case, as_("b", "a"))
    send(case, as_("me", "me"))
    for depth in range(100):
        send(case, as_(f"d{depth}", f"d{depth - 1}" if depth else None))
    assert used(case, "d0") == 100  # even the hundredth generation draws on the first
    assert (used(case, "me"), used(case, "b")) == (1, 2)


def test_ids_of_another_tenant_are_nobodys_parent() -> None:
    case = bench({"chain": {"calls": 1}})
    send(case, as_("root"))
    other = Identity(tenant="other", session="s", chain="c", parent="root")
    assert rule(send(case, other)) is None


# --- calls under way, time, hops ---


@pytest.mark.parametrize("calls", [100, 1000])
def test_b1_concurrent_calls_never_overshoot(calls: int) -> None:
    """B1: of 100 and of 1,000 callers that ask for half of it at once, two are let in."""
    entered: list[int] = []

    def model(body: Json) -> Outcome:
        entered.append(1)
        return answer(usage=Usage(10, 50, 0, 0))

    case = bench({"chain": {"output_tokens": 100}}, model, admission=False)

    def call(index: int) -> bool:
        messages = [{"role": "user", "content": f"question {index}"}]
        return case.send(messages, max_tokens=50).result.halt is None

    with ThreadPoolExecutor(32) as pool:
        admitted = sum(pool.map(call, range(calls)))
    assert admitted == len(entered) == 2
    assert used(case, "c1", "output_tokens") == 100


def test_calls_under_way_are_held_not_spent(store: Json) -> None:
    case = bench({"chain": {"concurrent": 1}}, store=store)
    inner: list[str | None] = []

    def model(body: Json) -> Outcome:
        if not inner:
            inner.append("")
            inner[0] = rule(send(case, as_("c1")))
        return answer()

    case.model = model
    assert [rule(send(case)) for _ in range(3)] == [None] * 3
    assert inner == ["budget.chain.concurrent"]
    assert used(case, "c1", "concurrent") == 0
    case.runtime.close()


@pytest.mark.parametrize(
    "outcome",
    [
        failing(503),
        Failure("timeout", "slow"),
        Failure("cancelled", "left"),
        Failure("connect", ""),
    ],
)
def test_a_failed_call_gives_its_place_back(outcome: Failure) -> None:
    """A7, A8: also when it was cancelled."""
    case = bench({"agent": {"concurrent": 1}}, lambda _: outcome)
    assert [rule(send(case)) for _ in range(3)] == [None] * 3


def test_a_dead_holder_gives_its_place_back_and_its_money_stays_spent(store: Json) -> None:
    """A crash counts as spent; only what was held is free again once the lease is over."""
    budget = {"chain": {"concurrent": 1, "calls": 3}, "lease": "60s"}
    case = bench(budget, store=store)

    def dying(body: Json) -> Outcome:
        raise KeyboardInterrupt

    model, case.model = case.model, dying
    with pytest.raises(KeyboardInterrupt):
        send(case)
    case.model = model
    assert rule(send(case)) == "budget.chain.concurrent"
    case.clock.now += 61  # type: ignore[attr-defined]
    assert [rule(send(case)) for _ in range(3)] == [None, None, "budget.chain.calls"]
    case.runtime.close()


def test_time_runs_from_the_chains_first_call(store: Json) -> None:
    case = bench({"chain": {"wall": "30m"}}, store=store)
    assert rule(send(case)) is None
    case.clock.now += 1799  # type: ignore[attr-defined]
    assert rule(send(case)) is None
    case.clock.now += 2  # type: ignore[attr-defined]
    refused = send(case)
    assert rule(refused) == "budget.chain.wall"
    assert "allows 30m since its first call per chain" in str(refused.result.halt)
    assert rule(send(case, as_("other"))) is None
    case.runtime.close()


def test_hops_are_how_deep_a_task_was_handed_on() -> None:
    case = bench({"chain": {"hops": 2}})
    assert [rule(send(case, as_("c1", hop=hop))) for hop in (2, 3, 1)] == [
        None,
        "budget.chain.hops",
        None,
    ]


# --- who is who ---


def test_a_policy_without_a_budget_has_limits() -> None:
    case = bench()
    ledger = case.runtime.stores.ledger
    ledger.settle("earlier", (), 0.0)
    for scope, most, name in [
        ("chain:default\x1fc1", 500, "chain.calls"),
        ("agent:default\x1fdefault\x1f2027-01-15", 5000, "agent.day.calls"),
        ("tenant:default\x1f2027-01-15", 20000, "tenant.day.calls"),
    ]:
        left = most - ledger.used(scope).get("calls", 0)
        ledger.raise_limit(scope, "calls", 0, 0.0)
        assert rule(send(case)) is None
        _fill(case, scope, left - 1)
        assert rule(send(case)) == f"budget.{name}"
        ledger.reset(scope, None, 0.0)


def _fill(case: Bench, scope: str, calls: int) -> None:
    case.runtime.stores.ledger.settle(f"fill {scope}", [Charge(scope, "calls", calls)], 0.0)


def test_a_fresh_name_for_each_call_meets_the_agents_and_tenants_limit() -> None:
    case = bench({"agent": {"day": {"calls": 5}}, "tenant": {"day": {"calls": 8}}})
    stops = [rule(send(case, as_(f"fresh{i}", agent="a"))) for i in range(6)]
    assert stops == [None] * 5 + ["budget.agent.day.calls"]
    stops = [rule(send(case, as_(f"new{i}", agent=f"agent{i}"))) for i in range(4)]
    assert stops == [None] * 3 + ["budget.tenant.day.calls"]


def test_nameless_calls_share_one_bucket_whatever_they_begin_with() -> None:
    case = bench({"derived": {"day": {"calls": 3}}})
    case.identity = Identity()
    stops = [rule(case.send([{"role": "user", "content": f"task {i}"}])) for i in range(4)]
    assert stops == [None] * 3 + ["budget.derived.day.calls"]
    assert rule(send(case, as_("named"))) is None


def test_a_rule_under_agents_has_a_budget_of_its_own() -> None:
    agents = {
        "heartbeat": {"match": {"kind": "heartbeat"}, "budget": {"day": {"calls": 2}}},
        "main": {"budget": {"calls": 3}},
    }
    case = bench(agents=agents)
    beats = [rule(send(case, as_(f"h{i}", kind="heartbeat", agent=f"a{i}"))) for i in range(3)]
    assert beats == [None, None, "agents.heartbeat.budget.day.calls"]
    mains = [rule(send(case, as_(f"m{i}", agent="main"))) for i in range(4)]
    assert mains == [None] * 3 + ["agents.main.budget.calls"]
    assert rule(send(case, as_("other", agent="other"))) is None
    case.clock.now += 86_400  # type: ignore[attr-defined]
    assert rule(send(case, as_("h9", kind="heartbeat"))) is None


# --- what is reserved and charged ---


@pytest.mark.parametrize(
    ("params", "answers", "longest"),
    [
        ({"max_tokens": 100, "n": 10}, 10, 100),
        ({"max_tokens": 100, "n": 2, "best_of": 7}, 7, 100),
        ({"max_tokens": 100.0, "n": 3.0}, 3, 100),
        ({"max_tokens": 100, "n": 5000}, 5000, 100),
        ({"max_tokens": 100, "n": float("nan")}, 1, 100),
        ({"max_tokens": 100, "n": -3, "best_of": "9"}, 1, 100),
        ({"max_tokens": 100, "n": True}, 1, 100),
        ({"max_tokens": -5}, 1, 128_000),
        ({"max_tokens": float("nan")}, 1, 128_000),
        ({"max_tokens": float("inf")}, 1, 128_000),
        ({"max_tokens": 10**40}, 1, 128_000),
        ({}, 1, 128_000),
    ],
)
def test_b12_strange_limits_reserve_all_answers(
    params: dict[str, Json], answers: int, longest: int
) -> None:
    """B12: the reservation covers n times the limit, never more than the model's cap."""
    seen: list[int] = []

    def model(body: Json) -> Outcome:
        seen.append(used(case, "c1", "output_tokens"))
        return answer(usage=Usage(10, 1, 0, 0))

    case = bench({"chain": {"output_tokens": "1G"}}, model, models=PRICED)
    cap = case.runtime.profile("fake").max_output
    assert cap == 128_000
    send(case, **params)
    assert seen == [answers * longest]
    assert used(case, "c1", "output_tokens") == 1


def test_b11_usage_above_its_reservation_is_charged_reported_and_closes_the_scope() -> None:
    """B11: the provider bills ten times max_tokens; the next call is refused."""
    case = bench({"chain": {"output_tokens": 500}}, lambda _: answer(usage=Usage(10, 1000, 0, 0)))
    assert rule(send(case, max_tokens=100)) is None
    assert used(case, "c1", "output_tokens") == 1000
    [over] = events(case, Overdrawn)
    assert (over.meter, over.reserved, over.used) == ("output_tokens", 100, 1000)
    refused = send(case, max_tokens=1)
    assert rule(refused) == "budget.chain.output_tokens"
    assert refused.bodies == ()  # B21


def test_b13_every_kind_of_token_has_its_price() -> None:
    """B13: read from the cache at a tenth, reasoning as output."""
    usage = Usage(1000, 50, 900, 0, reasoning_tokens=40)
    case = bench({"chain": {"usd": 5}}, lambda _: answer(usage=usage), models=PRICED)
    send(case, max_tokens=100)
    price = case.runtime.profile("fake").price
    assert price is not None
    expected = 100 * price.input + 900 * price.cache_read + 50 * price.output
    assert used(case, "c1", "usd") == expected


def test_b14_b15_an_unknown_price_is_refused_and_a_free_model_passes_a_spent_cap() -> None:
    """B14, B15, litellm#10973: but it still counts as a call."""
    case = bench({"chain": {"usd": "0.000001", "calls": 2}, "min_output": 1}, models=PRICED)
    assert rule(send(case, max_tokens=10)) == "budget.chain.usd"
    profile = case.runtime.profile

    def free_of_charge(model: str) -> Any:
        found = profile("fake")
        assert found.price is not None
        nothing = dict.fromkeys(("input", "output", "cache_read", "cache_write"), 0)
        return replace(found, price=replace(found.price, **nothing))

    case.runtime.profile = free_of_charge
    _spend(case)
    assert [rule(send(case, max_tokens=10)) for _ in range(3)] == [None, None, "budget.chain.calls"]
    assert rule(send(bench({"agent": {"day": {"usd": 5}}}))) == "budget.unknown_price"


def _spend(case: Bench) -> None:
    scope = Identity(chain="c1").scope("chain")
    case.runtime.stores.ledger.settle("before", [Charge(scope, "usd", 10**9)], 0.0)


def test_b16_retries_and_fallbacks_each_reserve_and_the_cap_holds() -> None:
    """B16: three attempts a call, seven calls allowed: the eighth attempt is not made."""
    case = bench({"chain": {"calls": 7}}, lambda _: failing(503), retry={"attempts": 3})
    made = [len(send(case).bodies) for _ in range(4)]
    assert made == [3, 3, 1, 0]
    assert used(case, "c1") == 7


def test_limits_of_one_call_need_no_ledger() -> None:
    case = bench({"call": {"output_tokens": 5000, "input_tokens": 400}}, models=PRICED)
    assert send(case, max_tokens=9000).body["max_tokens"] == 5000
    assert 4096 <= send(case).body["max_completion_tokens"] <= 5000
    long = [{"role": "user", "content": "word " * 2000}]
    refused = case.send(long)
    assert rule(refused) == "budget.call.input_tokens"
    assert not case.runtime.stores.ledger.used("call")
    case = bench({"call": {"calls": 2}}, lambda _: failing(503), retry={"attempts": 3})
    assert len(send(case).bodies) == 2


def test_b8_b10_a_stream_is_billed_once_by_what_it_said_or_an_estimate() -> None:
    """B8, B10: with usage, without any, and with an explicit zero."""
    for usage, low, high in [
        (Usage(100, 7, 0, 0), 7, 7),
        (None, 1, 30),
        (Usage(100, 0, 0, 0), 0, 0),
    ]:
        case = bench(
            {"chain": {"output_tokens": "1M"}}, lambda _, u=usage: answer("so " * 9, usage=u)
        )
        assert rule(send(case, stream=True)) is None
        assert low <= used(case, "c1", "output_tokens") <= high
        assert used(case, "c1") == 1


# --- nearing a limit ---


def test_a_soft_limit_is_told_once_and_appended_only(store: Json) -> None:
    """L21: what was sent before stays as it was sent."""
    case = bench({"chain": {"calls": 10}}, store=store)
    history: list[Json] = list(ASK)
    sent = []
    for turn in range(10):
        sent.append(case.send(history).body["messages"])
        history += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": f"{turn}"}]
    notes = [[m for m in messages if "[clawmw]" in str(m)] for messages in sent]
    assert [len(n) for n in notes] == [0] * 8 + [1, 1]
    assert "This task has used 8 of its 10 calls" in notes[8][0]["content"]
    for earlier, later in pairwise(sent):
        assert later[: len(earlier)] == earlier
    [near] = events(case, BudgetNeared)
    assert (near.scope, near.name, near.meter, near.limit, near.used) == (
        "chain",
        "c1",
        "calls",
        10,
        8,
    )
    case.runtime.close()


def test_a_soft_limit_can_be_off_and_comes_again_after_a_raise() -> None:
    case = bench({"chain": {"calls": 5}, "soft": 0})
    for _ in range(5):
        send(case)
    assert not events(case, BudgetNeared)
    case = bench({"chain": {"calls": 5}})
    for _ in range(5):
        send(case)
    case.runtime.stores.ledger.raise_limit(Identity(chain="c1").scope("chain"), "calls", 5, 0.0)
    for _ in range(5):
        send(case)
    assert [(e.used, e.limit) for e in events(case, BudgetNeared)] == [(4, 5), (8, 10)]


# --- pause, raise, go on ---


def test_b20_a_raised_chain_goes_on_from_the_same_step(tmp_path: Path) -> None:
    """B20: no call is made twice, and the halt names the very command."""
    store = {"disk": str(tmp_path / "store")}
    case = bench({"chain": {"calls": 3}}, store=store)
    history: list[Json] = list(ASK)
    made = 0
    for step in range(6):
        sent = case.send(history)
        if sent.result.halt is not None:
            assert step == 3
            assert "clawmw budget raise chain:c1 calls 3" in sent.result.halt.resume
            policy = load_policy({"version": 1, "budget": {"chain": {"calls": 3}}, "store": store})
            with Budgets.of(policy, case.clock) as budgets:
                assert budgets.lift(Named("chain", "c1", ""), "calls", 3) == 3
            sent = case.send(history)
            assert sent.result.halt is None
        made += len(sent.bodies)
        history += [
            {"role": "assistant", "content": f"step {step}"},
            {"role": "user", "content": "on"},
        ]
    assert made == 6
    assert used(case, "c1") == 6
    case.runtime.close()


def test_a_ledger_in_memory_names_what_can_be_done() -> None:
    case = bench({"chain": {"calls": 0}})
    halt = send(case).result.halt
    assert halt is not None
    assert halt.resume == "Raise the limit in the policy, and restart what runs it."
    with pytest.raises(StoreError, match="in memory"):
        Budgets.of(load_policy({"version": 1}), case.clock)


def test_traces_hold_no_amount_that_is_not_there() -> None:
    """Observing charges ancestors too, and says what would have been stopped."""
    case = bench({"chain": {"calls": 1}}, mode="observe")
    for _ in range(2):
        send(case, as_("child", "root"))
    assert used(case, "root") == used(case, "child") == 2
    said = [e for e in events(case, Acted) if e.stage == "budget"]
    assert [(e.rule, e.would) for e in said] == [("budget.chain.calls", True)]

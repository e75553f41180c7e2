"""What people filter and sum by: the rule that chose, both prices, loops, what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import clawmw
from clawmw.core.charges import Near
from clawmw.core.events import Acted, CallFinished
from clawmw.emulator import Emulator
from clawmw.observe.spans.rungs import budget_left, loop, models
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.observe.calls import Says


def acted(stage: str, rule: str, action: Any = "rewrite", **detail: Any) -> Acted:
    would = bool(detail.pop("would", False))
    return Acted("x", 0.0, stage, action, f"{stage}.{rule}", would, detail)


def finished(**more: Any) -> CallFinished:
    last = Says().events()[-1]
    assert isinstance(last, CallFinished)
    return replace(last, **more)


def test_the_rule_that_chose_and_both_sums() -> None:
    said = models([acted("route", "rules[0]"), acted("compress", "json")], finished(asked=90_000))
    assert said == {"clawmw.route.rule": "route.rules[0]", "clawmw.route.requested_usd": 0.00009}
    rung = models([acted("degrade", "light", "retry")], finished())
    assert rung == {"clawmw.route.rule": "degrade.light", "clawmw.degrade.rung": "light"}
    assert models([acted("route", "rules[0]", would=True)], finished()) == {}


def test_how_far_a_loop_is() -> None:
    one = acted("loop_guard", "nudge", detector="same_result", count=4)
    two = acted("loop_guard", "refuse", "answer", detector="same_result", count=8)
    assert loop([one, two]) == {
        "clawmw.loop.step": "refuse",
        "clawmw.loop.detector": "same_result",
        "clawmw.loop.count": 8,
    }
    assert loop([]) == {}


def test_what_is_left_of_the_tightest_limit() -> None:
    chain = Near("chain:default\x1falice-trip", "calls", 60, 15)
    day = Near("agent:default\x1fplanner\x1f2026-11-26", "usd", 5_000_000_000, 4_000_000_000)
    assert budget_left([chain, day]) == {
        "clawmw.budget.tightest": "agent.day.usd",
        "clawmw.budget.left": 1.0,
        "clawmw.budget.left_share": 0.2,
    }
    assert budget_left([chain])["clawmw.budget.left"] == 45
    over = replace_used(chain, 99)
    assert budget_left([over])["clawmw.budget.left"] == 0
    assert budget_left([Near("tenant:default", "concurrent", 4, 4)]) == {}


def replace_used(near: Near, used: int) -> Near:
    return near._replace(used=used)


def test_a_real_call_says_them() -> None:
    events: list[Any] = []
    policy = {
        "version": 1,
        "trace": "off",
        "models": {"light": "deepseek/deepseek-v4-flash"},
        "route": [{"when": "kind == 'title'", "to": "light"}],
        "budget": {"chain": {"calls": 4}},
    }
    with Emulator(bill="anthropic") as provider:
        policy["models"] = {
            "light": {"model": "deepseek/deepseek-v4-flash", "base_url": provider.base_url}
        }
        runtime = Runtime.of(load_policy(policy), observers=[events.append])
        with clawmw.http_client(runtime) as client:
            ask = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"x-clawmw-kind": "title", "x-clawmw-chain": "c1"}
            url = f"{provider.base_url}/chat/completions"
            client.post(url, json=ask, headers=headers).raise_for_status()
        runtime.close()
    [last] = [event for event in events if isinstance(event, CallFinished)]
    assert last.asked is not None
    assert last.cost is not None
    assert last.asked > last.cost.total
    left = budget_left(last.limits)
    assert (left["clawmw.budget.tightest"], left["clawmw.budget.left"]) == ("chain.calls", 3)

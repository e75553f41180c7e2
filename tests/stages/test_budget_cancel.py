"""Cancelled at any moment, a call is counted once, as far as it got, and holds nothing."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawmw.adapters.http import make_async_transport
from clawmw.core.identity import Identity
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

SLOTS = 2
BUDGET = {"chain": {"calls": 10_000, "output_tokens": "1G", "concurrent": 500}}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "fake",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
}


class Upstream(httpx.AsyncBaseTransport):
    """A model that takes a while, and knows how often it was asked and did answer."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked, self.answered = seconds, 0, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        self.answered += 1
        return httpx.Response(200, json=ANSWER)


@pytest.fixture(params=["memory", "disk"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    store: Any = "memory" if request.param == "memory" else {"disk": str(tmp_path / "store")}
    policy = {
        "version": 1, "trace": "off", "store": store, "budget": BUDGET,
        "retry": False, "admission": {"slots": SLOTS},
    }  # fmt: skip
    made = Runtime.of(load_policy(policy))
    yield made
    made.close()


def used(runtime: Runtime) -> dict[str, int]:
    scope = Identity(chain="c").scope("chain")
    return dict(runtime.stores.ledger.used(scope, runtime.clock()))


def through(runtime: Runtime, upstream: Upstream) -> Any:
    """All of one chain."""
    chain = Identity(session="s", chain="c")
    return make_async_transport(runtime, inner=upstream, identity=chain)


async def one(client: httpx.AsyncClient, number: int) -> None:
    body = {
        "model": "fake",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": f"{number}"}],
    }
    content = json.dumps(body).encode()
    await client.post("http://up/v1/chat/completions", content=content)


def test_calls_cancelled_at_any_moment_count_as_far_as_they_got(runtime: Runtime) -> None:
    """A real task cancellation, at a moment drawn anew for each call, some of them twice."""
    dice, upstream = random.Random(7), Upstream(0.004)

    async def cancelled(client: httpx.AsyncClient, number: int) -> None:
        task = asyncio.create_task(one(client, number))
        for _ in range(dice.choice((1, 1, 2))):
            await asyncio.sleep(dice.uniform(0, dice.choice((0.005, 0.03, 0.2))))
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def run() -> None:
        transport = through(runtime, upstream)
        async with httpx.AsyncClient(transport=transport) as client:
            for start in range(0, 120, 12):
                await asyncio.gather(*(cancelled(client, start + i) for i in range(12)))

    asyncio.run(run())
    counted = used(runtime)
    assert 0 < upstream.answered < 120
    assert counted["calls"] == upstream.asked  # each once, and none that was never sent
    assert counted["concurrent"] == 0
    unanswered = upstream.asked - upstream.answered
    worst = 3 * upstream.answered + 7 * unanswered
    # One cancelled while its answer was on the way to us counts at its worst, too.
    assert worst <= counted["output_tokens"] <= 7 * upstream.asked
    assert not any(runtime.traffic.census().values())


def test_a_step_that_runs_is_finished_before_the_cancellation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the answer is settled on disk: counted once, at what it said."""
    policy = {
        "version": 1,
        "trace": "off",
        "store": {"disk": str(tmp_path / "s")},
        "budget": BUDGET,
    }
    runtime = Runtime.of(load_policy(policy))
    entered, gate = asyncio.Event(), threading.Event()
    ledger, loop = runtime.stores.ledger, asyncio.new_event_loop()
    settle = ledger.settle

    def slow(*args: Any, **named: Any) -> None:
        loop.call_soon_threadsafe(entered.set)
        gate.wait(5)
        settle(*args, **named)

    monkeypatch.setattr(ledger, "settle", slow)
    runtime.stores.pace.took(1.0)  # it is asked by threads

    async def run() -> None:
        transport = through(runtime, Upstream(0))
        async with httpx.AsyncClient(transport=transport) as client:
            task = asyncio.create_task(one(client, 0))
            await entered.wait()
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.01)
                assert not task.done()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    assert used(runtime) == {"calls": 1, "output_tokens": 3, "input_tokens": 10, "concurrent": 0}
    runtime.close()


def test_a_task_that_is_cancelled_in_the_queue_was_never_a_call(runtime: Runtime) -> None:
    """A4: what it had reserved is free again."""
    upstream = Upstream(0.05)

    async def run() -> None:
        transport = through(runtime, upstream)
        async with httpx.AsyncClient(transport=transport) as client:
            busy = [asyncio.create_task(one(client, i)) for i in range(SLOTS)]
            while upstream.asked < SLOTS:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            waiting = [asyncio.create_task(one(client, 10 + i)) for i in range(5)]
            await asyncio.sleep(0.03)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*busy, *waiting, return_exceptions=True)

    asyncio.run(run())
    assert upstream.asked == SLOTS
    assert used(runtime)["calls"] == SLOTS
    assert used(runtime)["output_tokens"] == 3 * SLOTS


def test_a_thousand_tasks_overshoot_no_limit(runtime: Runtime) -> None:
    """B1, in asyncio: 1,000 at once against 40 calls, of which at most 8 are under way."""
    policy = {
        "version": 1, "trace": "off", "retry": False, "admission": False,
        "budget": {"chain": {"calls": 40}, "agent": {"concurrent": 8}},
    }  # fmt: skip
    runtime.reload(load_policy(policy))
    under_way, most = 0, 0

    class Counting(Upstream):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await super().handle_async_request(request)
            finally:
                under_way -= 1

    upstream = Counting(0.001)
    calls = 1000 if not runtime.stores.blocking else 200

    async def run() -> None:
        transport = through(runtime, upstream)
        async with httpx.AsyncClient(transport=transport) as client:
            await asyncio.gather(*(one(client, i) for i in range(calls)))

    asyncio.run(run())
    assert upstream.asked <= 40
    assert used(runtime)["calls"] == upstream.asked
    assert 1 <= most <= 8

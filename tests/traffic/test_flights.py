"""One call for many: whoever leaves when, everybody has an answer or asks anew."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import clawmw
from clawmw.core.effects import Publish, Share, Shared
from clawmw.core.events import Attempted, CallFinished, Event
from clawmw.core.types import Failure, Response
from clawmw.emulator import Emulator, Fault
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import answer
from clawmw.traffic.control import Guest, Traffic


class Flying(RuleBasedStateMachine):
    """Callers of two keys come, publish and leave in any order (waiters are real tasks)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.traffic = Traffic()
        self.number = 0
        self.leaders: dict[str, tuple[str, Guest]] = {}
        self.waiting: dict[str, list[asyncio.Task[Shared]]] = {"a": [], "b": []}

    def teardown(self) -> None:
        for key in list(self.leaders):
            self.publish(key, ok=True)
        self.settle()
        assert not any(self.waiting.values())
        assert set(self.traffic.census().values()) == {0}
        self.loop.close()

    def settle(self) -> None:
        """Let the tasks run; whoever leads now is known."""

        async def turns() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for key, tasks in self.waiting.items():
            for task in [t for t in tasks if t.done()]:
                tasks.remove(task)
                shared = task.result()
                if shared.leads:
                    assert key not in self.leaders
                    name, _, guest = task.get_name().partition("|")
                    self.leaders[key] = (name, self.guests[guest])

    guests: dict[str, Guest] = {}  # noqa: RUF012 - filled by `come`, by name

    @rule(key=st.sampled_from("ab"))
    def come(self, key: str) -> None:
        self.number += 1
        name = f"x{self.number}/1/single_flight/0"
        guest = self.guests[name] = self.traffic.guest(f"x{self.number}")
        task = self.loop.create_task(
            self.traffic.await_(guest, Share(key, 60.0, name)), name=f"{name}|{name}"
        )
        self.waiting[key].append(task)
        self.settle()

    @rule(key=st.sampled_from("ab"), ok=st.booleans())
    def publish(self, key: str, *, ok: bool) -> None:
        if key not in self.leaders:
            return
        name, guest = self.leaders.pop(key)
        waiting = list(self.waiting[key])
        outcome = answer("x") if ok else Failure("status", "HTTP 500", 500)
        self.traffic.perform(guest, Publish(outcome, name))
        if not ok:
            self.settle()
            assert not any(t.done() for t in waiting)  # it may try again
            guest.over(failed=True)
        self.settle()
        assert all(t.done() and t.result().outcome == outcome for t in waiting)
        assert key not in self.leaders  # the next call is fresh

    @rule(key=st.sampled_from("ab"), failed=st.booleans())
    def the_leader_leaves(self, key: str, *, failed: bool) -> None:
        """After a failed attempt, too: whoever left was not refused."""
        if key in self.leaders:
            name, guest = self.leaders.pop(key)
            if failed:
                self.traffic.perform(guest, Publish(Failure("status", "HTTP 500", 500), name))
            guest.over()
            self.settle()
            assert not self.waiting[key] or key in self.leaders

    @rule(key=st.sampled_from("ab"), index=st.integers(0, 20))
    def a_waiter_leaves(self, key: str, index: int) -> None:
        if self.waiting[key]:
            task = self.waiting[key].pop(index % len(self.waiting[key]))
            task.cancel()
            self.settle()
            assert task.cancelled()

    @invariant()
    def whoever_waits_waits_for_somebody(self) -> None:
        for key, tasks in self.waiting.items():
            assert not tasks or key in self.leaders


TestFlying = Flying.TestCase
TestFlying.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_dropped_leader_is_noticed() -> None:
    traffic = Traffic()
    leader = traffic.guest("leader")
    assert traffic.wait(leader, Share("k", 5.0, "leader/0")).leads
    del leader
    gc.collect()
    with ThreadPoolExecutor(1) as pool:
        guest = traffic.guest("next")
        assert pool.submit(traffic.wait, guest, Share("k", 5.0, "next/0")).result(3).leads
        guest.over()


# --- through the transport ---------------------------------------------------------------------


BODY: dict[str, Any] = {
    "model": "gpt-4o",
    "temperature": 0,
    "messages": [{"role": "user", "content": "hello"}],
}
SLOW = {"x-emulate": "delay=150ms"}


@pytest.fixture
def upstream() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def runtime(events: list[Event]) -> Iterator[Runtime]:
    made = Runtime.of(load_policy({"version": 1, "trace": "off"}), observers=[events.append])
    yield made
    assert set(made.traffic.census().values()) == {0}
    made.close()


def until_asked(upstream: Emulator) -> None:
    while not upstream.requests:
        time.sleep(0.005)


async def many(
    runtime: Runtime, upstream: Emulator, bodies: list[Any], **headers: str
) -> list[Any]:
    async with clawmw.async_http_client(runtime, base_url=upstream.base_url) as client:
        calls = [
            client.post("/chat/completions", json=b, headers={**SLOW, **headers}) for b in bodies
        ]
        return await asyncio.gather(*calls, return_exceptions=True)


def test_fifty_at_once_are_one_call_upstream(
    upstream: Emulator, runtime: Runtime, events: list[Event]
) -> None:
    """S1: one upstream request, fifty equal answers, and one call is billed."""
    answers = asyncio.run(many(runtime, upstream, [BODY] * 50))
    assert len(upstream.requests) == 1
    assert {a.json()["choices"][0]["message"]["content"] for a in answers} == {"hello"}
    finished = [e for e in events if isinstance(e, CallFinished)]
    assert [e.status for e in finished].count("ok") == 1
    assert [e.status for e in finished].count("answered") == 49
    assert sum(e.cost.total for e in finished if e.cost) == next(
        e.cost.total for e in finished if e.status == "ok" and e.cost
    )
    assert sum(a.headers.get("x-clawmw-shared") == "1" for a in answers) == 49


def test_samples_stay_samples(upstream: Emulator, runtime: Runtime) -> None:
    warm = {**BODY, "temperature": 0.7}
    two = {**BODY, "n": 2}
    stored = {**BODY, "store": True}
    asyncio.run(many(runtime, upstream, [warm, warm, two, two, stored, stored]))
    assert len(upstream.requests) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"tool_choice": "none"},
        {"seed": 7},
        {"response_format": {"type": "json_object"}},
        {"stop": ["x"]},
        {"unheard_of": 1},
        {"user": "ann"},
        {"messages": [{"role": "user", "content": "hello", "name": "ann"}]},
    ],
)
def test_whatever_differs_is_another_call(
    upstream: Emulator, runtime: Runtime, change: dict[str, Any]
) -> None:
    """S5: by any field, known or not."""
    asyncio.run(many(runtime, upstream, [BODY, {**BODY, **change}]))
    assert len(upstream.requests) == 2


def test_another_key_or_beta_is_another_call(upstream: Emulator, runtime: Runtime) -> None:
    async def run() -> None:
        named = ({"authorization": "Bearer a"}, {"authorization": "Bearer b"}, {"openai-beta": "x"})
        await asyncio.gather(*(many(runtime, upstream, [BODY], **h) for h in named))

    asyncio.run(run())
    assert len(upstream.requests) == 3


def test_a_failure_is_told_to_all_and_the_next_call_is_fresh(
    upstream: Emulator, runtime: Runtime, events: list[Event]
) -> None:
    """S4."""
    upstream.fail_next(Fault(status=400, delay=0.15))
    answers = asyncio.run(many(runtime, upstream, [BODY] * 5))
    assert [a.status_code for a in answers] == [400] * 5
    assert len(upstream.requests) == 1
    assert asyncio.run(many(runtime, upstream, [BODY]))[0].status_code == 200
    assert len([e for e in events if isinstance(e, Attempted)]) == 2


def test_what_the_first_tries_again_is_tried_once_for_all(
    upstream: Emulator, runtime: Runtime
) -> None:
    """A bad moment upstream costs one more request, and nobody is worse off for having waited."""
    upstream.fail_next(Fault(status=503, delay=0.15))
    answers = asyncio.run(many(runtime, upstream, [BODY] * 20))
    assert [a.status_code for a in answers] == [200] * 20
    assert len(upstream.requests) == 2


def test_who_waits_gets_what_the_first_one_fell_back_to(upstream: Emulator) -> None:
    policy = {
        "version": 1,
        "trace": "off",
        "retry": False,
        "models": {"light": {"model": "gpt-4o-mini", "base_url": upstream.base_url}},
        "fallback": {"gpt-4o": ["light"]},
    }
    runtime = Runtime.of(load_policy(policy))
    upstream.fail_next(Fault(status=503, delay=0.15))
    answers = asyncio.run(many(runtime, upstream, [BODY] * 5))
    assert [a.status_code for a in answers] == [200] * 5
    assert {a.json()["model"] for a in answers} == {"gpt-4o-mini"}
    assert len(upstream.requests) == 2
    runtime.close()


def test_when_all_leave_the_upstream_call_ends(upstream: Emulator, runtime: Runtime) -> None:
    """S7: within a second nothing is under way, and no one asked in the others' place."""

    async def run() -> float:
        late = {"x-emulate": "delay=5s"}
        calls = asyncio.create_task(many(runtime, upstream, [BODY] * 5, **late))
        await asyncio.sleep(0.3)
        assert runtime.traffic.census()["flights"] == 1
        began = asyncio.get_running_loop().time()
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) < 1.0
    assert len(upstream.requests) <= 1
    assert set(runtime.traffic.census().values()) == {0}


def test_when_the_leader_is_cancelled_another_asks(upstream: Emulator, runtime: Runtime) -> None:
    async def run() -> Any:
        leader = asyncio.create_task(many(runtime, upstream, [BODY]))
        await asyncio.to_thread(until_asked, upstream)
        others = asyncio.create_task(many(runtime, upstream, [BODY] * 4))
        await asyncio.sleep(0.05)
        leader.cancel()
        return await others

    answers = asyncio.run(run())
    assert [a.status_code for a in answers] == [200] * 4
    assert len(upstream.requests) == 2


def test_a_stream_gets_what_a_plain_call_got(upstream: Emulator, runtime: Runtime) -> None:
    answers = asyncio.run(many(runtime, upstream, [BODY, {**BODY, "stream": True}]))
    assert len(upstream.requests) == 1
    streamed = next(a for a in answers if "event-stream" in a.headers["content-type"])
    assert "hello" in streamed.text
    assert streamed.text.rstrip().endswith("[DONE]")


def test_threads_share_with_each_other(upstream: Emulator, runtime: Runtime) -> None:
    gate = threading.Barrier(8)

    def ask(_: int) -> int:
        with clawmw.http_client(runtime, base_url=upstream.base_url) as client:
            gate.wait(5)
            return client.post("/chat/completions", json=BODY, headers=SLOW).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [200] * 8
    assert len(upstream.requests) == 1


def test_it_is_a_response_that_is_shared() -> None:
    assert isinstance(answer("x"), Response)

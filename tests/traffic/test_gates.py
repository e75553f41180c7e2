"""Threads and event loops at one gate; who leaves, however, leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.core.effects import Admit, Lanes, Leave
from clawmw.core.events import Event, Waited
from clawmw.core.identity import Identity, Wishes
from clawmw.emulator import Emulator
from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import Bench
from clawmw.traffic.control import Guest, Traffic

ONE = Lanes(slots=1)


def admit(name: str, patience: float = 5.0) -> Admit:
    return Admit("up", patience, lanes=ONE, id=name)


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    made = Traffic()
    yield made
    assert set(made.census().values()) == {0}


def take(traffic: Traffic, name: str) -> Guest:
    guest = traffic.guest(name)
    assert traffic.wait(guest, admit(name)).granted
    return guest


def test_threads_and_tasks_share_one_slot(traffic: Traffic) -> None:
    most, now, lock = [0], [0], threading.Lock()

    def enter() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])

    def leave(guest: Guest, name: str) -> None:
        with lock:
            now[0] -= 1
        traffic.perform(guest, Leave(id=name))

    def thread(number: int) -> None:
        guest = take(traffic, f"thread {number}")
        enter()
        time.sleep(0.002)
        leave(guest, f"thread {number}")

    async def task(number: int) -> None:
        guest = traffic.guest(f"task {number}")
        assert (await traffic.await_(guest, admit(f"task {number}"))).granted
        enter()
        await asyncio.sleep(0.002)
        leave(guest, f"task {number}")

    async def tasks() -> None:
        await asyncio.gather(*(task(n) for n in range(20)))

    with ThreadPoolExecutor(22) as pool:
        futures = [pool.submit(thread, n) for n in range(20)]
        futures += [pool.submit(asyncio.run, tasks())]
        for future in futures:
            future.result(20)
    assert most == [1]


def test_a_cancelled_waiter_leaves_no_entry_even_when_it_was_just_let_in(traffic: Traffic) -> None:
    """A4: cancelled at any moment, the slot is there for the next."""

    async def run() -> None:
        for delay in [0.0, 0.0005, 0.001, 0.002] * 15:
            holder = traffic.guest("holder")
            await traffic.await_(holder, admit("holder"))
            waiting = asyncio.create_task(traffic.await_(traffic.guest("w"), admit("w")))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(delay, waiting.cancel)
            await asyncio.sleep(0.001)
            traffic.perform(holder, Leave(id="holder"))
            try:
                await waiting
            except asyncio.CancelledError:
                continue
            traffic.gates.over({"w": "up"})
        take(traffic, "last").over()

    asyncio.run(run())


def test_who_waits_too_long_is_told_so(traffic: Traffic) -> None:
    holder = take(traffic, "holder")
    began = time.monotonic()
    answer = traffic.wait(traffic.guest("w"), admit("w", 0.05))
    assert (answer.granted, answer.reason) == (False, "late")
    assert time.monotonic() - began < 1
    holder.over()


def test_a_dropped_exchange_gives_its_slot_back(traffic: Traffic) -> None:
    """A8, A10: whatever became of its holder, the slot is there again."""
    holder = take(traffic, "holder")
    del holder
    gc.collect()
    take(traffic, "next").over()


def test_an_exchange_that_is_over_waits_no_longer(traffic: Traffic) -> None:
    """A4: told from elsewhere, while another thread waits for it."""
    holder, waiting = take(traffic, "holder"), traffic.guest("w")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(traffic.wait, waiting, admit("w"))
        while not traffic.census()["queued"]:
            time.sleep(0.001)
        waiting.over()
        assert not future.result(5).granted
    holder.over()


def test_a_loop_closed_over_its_waiters_keeps_no_slot(traffic: Traffic) -> None:
    """A4: nobody cancelled them, and nobody will ever run them."""
    holder = take(traffic, "holder")

    async def wait(name: str) -> None:
        await traffic.await_(traffic.guest(name), admit(name))

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(wait(f"w{n}")) for n in range(5)]
    loop.run_until_complete(asyncio.sleep(0))
    assert traffic.census()["queued"] == 5
    loop.close()
    holder.over()
    take(traffic, "next").over()
    for task in tasks:  # else it complains when it is collected
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_threads_and_loops_that_give_up_at_any_moment_lose_no_slot(traffic: Traffic) -> None:
    """A4: timeouts and real cancellations race with grants, in two loops and four threads."""
    lanes = Lanes(slots=2, waiting=8)

    def ask(name: str, patience: float) -> Admit:
        return Admit("up", patience, lanes=lanes, id=name)

    def thread(number: int) -> None:
        dice = random.Random(number)
        for turn in range(40):
            name = f"thread {number}/{turn}"
            guest = traffic.guest(name)
            if traffic.wait(guest, ask(name, dice.uniform(0, 0.004))).granted:
                time.sleep(dice.uniform(0, 0.001))
            guest.over()

    async def task(name: str, dice: random.Random) -> None:
        guest = traffic.guest(name)
        try:
            async with asyncio.timeout(dice.uniform(0, 0.004)):
                if (await traffic.await_(guest, ask(name, 5))).granted:
                    await asyncio.sleep(dice.uniform(0, 0.001))
        except TimeoutError:
            return
        finally:
            guest.over()

    async def tasks(number: int) -> None:
        dice = random.Random(number)
        for turn in range(10):
            await asyncio.gather(*(task(f"task {number}/{turn}/{n}", dice) for n in range(8)))

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(thread, n) for n in range(4)]
        futures += [pool.submit(asyncio.run, tasks(n)) for n in range(2)]
        for future in futures:
            future.result(30)
    assert (traffic.census()["slots"], traffic.census()["queued"]) == (0, 0)


# --- through the transport -----------------------------------------------------------------------


POLICY: dict[str, Any] = {
    "version": 1,
    "trace": "off",
    "admission": {"slots": 1, "max_wait": "2s"},
}
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def test_a_stream_left_in_the_middle_frees_its_slot_at_once() -> None:
    """A7: at most one at a time; a stream is abandoned, the next call goes at once."""
    with Emulator() as emulator:
        runtime = Runtime.of(load_policy(POLICY))
        with clawmw.http_client(runtime, base_url=emulator.base_url) as client:
            slow = {"x-emulate": "chunk-delay=200ms"}
            for _ in range(3):
                with client.stream(
                    "POST", "/chat/completions", json={**BODY, "stream": True}, headers=slow
                ) as response:
                    next(response.iter_raw())
                began = time.monotonic()
                assert client.post("/chat/completions", json=BODY).status_code == 200
                assert time.monotonic() - began < 1
        assert set(runtime.traffic.census().values()) == {0}
        runtime.close()


def test_upstream_trouble_of_every_kind_gives_the_slot_back() -> None:
    """A8: 502, 504, resets, empty and broken answers, and a caller that is cancelled."""
    faults = ("status=502", "status=504", "reset-after=0", "empty", "html", "truncate-after=1")
    events: list[Event] = []
    with Emulator() as emulator:
        runtime = Runtime.of(
            load_policy({**POLICY, "retry": False, "breaker": False}), observers=[events.append]
        )

        async def run() -> None:
            async with clawmw.async_http_client(runtime, base_url=emulator.base_url) as client:
                for fault in faults:
                    for stream in (False, True):
                        try:
                            await client.post(
                                "/chat/completions",
                                json={**BODY, "stream": stream},
                                headers={"x-emulate": fault},
                            )
                        except httpx.HTTPError:
                            continue
                slow = {"x-emulate": "delay=500ms"}
                call = client.post("/chat/completions", json=BODY, headers=slow)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(call, 0.05)
                assert (await client.post("/chat/completions", json=BODY)).status_code == 200

        asyncio.run(run())
        assert set(runtime.traffic.census().values()) == {0}
        assert not [e for e in events if isinstance(e, Waited) and e.refused]
        runtime.close()


def test_a_call_whose_deadline_passes_in_the_queue_never_goes_out() -> None:
    """A11: the upstream does not see it; the caller is told when to ask again, the trace why."""
    events: list[Event] = []

    def odd(event: Event) -> None:
        events.append(event)
        raise RuntimeError("an observer that always fails")  # A10

    with Emulator() as emulator:
        runtime = Runtime.of(load_policy({**POLICY, "retry": False}), observers=[odd])
        with clawmw.http_client(runtime, base_url=emulator.base_url) as client:
            headers = {"x-emulate": "chunk-delay=100ms"}
            body = {**BODY, "stream": True}
            with client.stream("POST", "/chat/completions", json=body, headers=headers) as first:
                next(first.iter_raw())
                late = {"x-clawmw-deadline": "0.1"}
                refused = client.post("/chat/completions", json=BODY, headers=late)
            assert refused.status_code == 503
            assert float(refused.headers["retry-after"]) >= 1
            assert len(emulator.requests) == 1
            assert client.post("/chat/completions", json=BODY).status_code == 200
        waited = [e for e in events if isinstance(e, Waited)]
        assert [e.refused for e in waited] == ["late"]
        assert set(runtime.traffic.census().values()) == {0}
        runtime.close()


@pytest.mark.parametrize("said", ["5", "null", "[1]", "1e9", "nan", "", "x" * 10_000, "-1"])
def test_an_odd_priority_or_deadline_is_as_if_not_said(said: str) -> None:
    """A5: typed and clamped, never a TypeError."""
    with Emulator() as emulator:
        runtime = Runtime.of(load_policy(POLICY))
        headers = {"x-clawmw-priority": said, "x-clawmw-deadline": said}
        with clawmw.http_client(runtime, base_url=emulator.base_url) as client:
            for _ in range(2):
                answer = client.post("/chat/completions", json=BODY, headers=headers)
                assert answer.status_code == 200
        runtime.close()


def test_the_first_rule_that_matches_says_the_class_and_a_caller_does_not_override_it() -> None:
    rules = {
        "night": {"match": {"agent": "cron", "kind": "batch"}, "priority": "background"},
        "cron": {"priority": "chain"},
    }
    case = Bench({"version": 1, "agents": rules})
    admission = next(s for s in case.runtime.pipeline.stages if s.traits.name == "admission")
    asked: list[str] = []
    begin = admission.before

    def before(request: Any, slot: Any, ctx: Any) -> Any:
        asked.append(admission._rank(ctx))  # type: ignore[attr-defined]
        return begin(request, slot, ctx)

    admission.before = before  # type: ignore[method-assign]
    urgent = Wishes(priority="interactive")
    for who in (
        Identity(session="s", chain="c", agent="cron", kind="batch", wishes=urgent),
        Identity(session="s", chain="c", agent="cron"),
        Identity(session="s", chain="c", agent="other", kind="batchy", wishes=urgent),
    ):
        case.identity = who
        case.send(BODY["messages"])
    assert asked == ["background", "chain", "interactive"]


def test_a_priority_of_the_policy_is_one_of_the_classes() -> None:
    load_policy({"version": 1, "agents": {"cron": {"priority": "background"}}})
    with pytest.raises(PolicyError, match="priority"):
        load_policy({"version": 1, "agents": {"cron": {"priority": 5}}})

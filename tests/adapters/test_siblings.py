"""Calls that begin alike and start at once: one sends first, the others wait for it, a while."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.core.effects import Join
from clawmw.core.events import Acted, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.traffic.leaders import Lead, Leaders
from tests.conftest import tool

SYSTEM = "".join(f"Rule {i}: of {i * 7} tickets, sell {i}. " for i in range(200))


class Counted(Leaders):
    """Leaders that open a gate once so many callers wait."""

    def __init__(self, most: int, gate: threading.Event) -> None:
        super().__init__()
        self.waiting, self._left, self._gate = 0, most, gate

    def _enter(self, lead: Lead, join: Join) -> Any:
        found = super()._enter(lead, join)
        if not isinstance(found, str):
            self.waiting += 1
            self._left -= 1
            if self._left == 0:
                self._gate.set()
        return found


class Gated(httpx.HTTPTransport):
    """Holds the leader's request until the gate is open."""

    def __init__(self, siblings: Siblings) -> None:
        super().__init__()
        self.siblings = siblings

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = json.loads(request.content)["messages"][-1]["content"][0]["text"]
        self.siblings.sent.append(name)
        if name == "leader":
            self.siblings.leading.set()
            assert self.siblings.gate.wait(30)
            if self.siblings.breaks:
                raise httpx.ConnectError("no route")
        response = super().handle_request(request)
        response.read()
        self.siblings.answered.append(name)
        return response


class AsyncGated(httpx.AsyncHTTPTransport):
    """The async twin."""

    def __init__(self, siblings: Siblings) -> None:
        super().__init__()
        self.siblings = siblings

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = json.loads(request.content)["messages"][-1]["content"][0]["text"]
        self.siblings.sent.append(name)
        if name == "leader":
            self.siblings.leading.set()
            while not self.siblings.gate.is_set():  # noqa: ASYNC110 - a thread may set it
                await asyncio.sleep(0.01)
        response = await super().handle_async_request(request)
        await response.aread()
        self.siblings.answered.append(name)
        return response


class Siblings:
    """Agents under one policy, and the order in which they asked and were answered."""

    def __init__(self, provider: Emulator, followers: int = 3, **policy: Any) -> None:
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.url = provider.base_url + "/chat/completions"
        self.leading, self.gate, self.breaks = threading.Event(), threading.Event(), False
        self.runtime.traffic.leaders = Counted(followers, self.gate)
        self.sent: list[str] = []
        self.answered: list[str] = []

    def body(self, name: str, **extra: Any) -> bytes:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": name}]
        rest = {"tools": [tool("read")], **extra}
        return json.dumps({"model": "claude-sonnet-4-6", "messages": messages, **rest}).encode()

    def post(self, name: str, transport: Any = None, **extra: Any) -> float:
        """Ask, and when the answer was complete."""
        who = Identity(session=name, chain=name)
        inner = transport or Gated(self)
        with clawmw.http_client(self.runtime, identity=who, transport=inner) as client:
            client.post(self.url, content=self.body(name, **extra)).raise_for_status()
        return time.monotonic()

    async def apost(self, client: httpx.AsyncClient, name: str) -> None:
        headers = {"x-clawmw-session": name}
        answer = await client.post(self.url, content=self.body(name), headers=headers)
        answer.raise_for_status()

    def at_once(self) -> None:
        """The leader, and three that start while it is under way."""
        with ThreadPoolExecutor(4) as pool:
            leader = pool.submit(self.post, "leader")
            assert self.leading.wait(30)
            rest = [pool.submit(self.post, f"sibling {i}") for i in range(3)]
            for future in rest:
                future.result(30)
            self.gate.set()
            leader.result(30)

    @property
    def told(self) -> int:
        return sum(isinstance(e, Acted) and e.rule == "prompt_cache.wait" for e in self.events)


@pytest.fixture
def provider() -> Iterator[Emulator]:
    with Emulator(bill="anthropic") as emulator:
        yield emulator


def test_followers_send_once_the_leaders_answer_has_begun(provider: Emulator) -> None:
    case = Siblings(provider)
    case.at_once()  # the gate opens when all three wait
    assert case.answered[0] == "leader"
    assert sorted(case.answered[1:]) == ["sibling 0", "sibling 1", "sibling 2"]
    assert case.told == 3
    case.post("another")  # the prefix is warm: nobody waits
    assert case.told == 3


def test_who_may_not_wait_does_not(provider: Emulator) -> None:
    case = Siblings(provider, prompt_cache={"wait": 0})
    case.at_once()
    assert case.answered[-1] == "leader"
    assert case.told == 0


def test_patience_ends(provider: Emulator) -> None:
    case = Siblings(provider, followers=9, prompt_cache={"wait": "100ms"})
    case.at_once()
    assert case.answered[-1] == "leader"


def test_a_leader_that_fails_holds_nobody(provider: Emulator) -> None:
    case = Siblings(provider)
    case.breaks = True
    with pytest.raises(httpx.ConnectError):
        case.at_once()
    assert sorted(case.answered) == ["sibling 0", "sibling 1", "sibling 2"]
    assert case.told == 3


def test_a_stream_counts_from_its_first_byte(provider: Emulator) -> None:
    case = Siblings(provider)
    provider._world.brain = lambda _body: Reply(text="word " * 9)  # type: ignore[misc]
    provider.fail_next(Fault(chunk_delay=0.25))
    plain = httpx.HTTPTransport
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(case.post, "leader", plain(), stream=True)
        while not provider.requests:
            time.sleep(0.01)
        follower = pool.submit(case.post, "follower", plain(), stream=True)
        assert follower.result(30) < leader.result(30)


@pytest.mark.parametrize("disk", [False, True])
def test_async_callers_wait_without_a_thread(
    provider: Emulator, tmp_path: Path, disk: bool
) -> None:
    """More of them than a pool has threads."""
    store = {"store": {"disk": str(tmp_path / "s")}} if disk else {}
    case = Siblings(provider, followers=12, prompt_cache={"wait": "20s"}, **store)

    async def everyone() -> None:
        inner = AsyncGated(case)
        async with clawmw.async_http_client(case.runtime, transport=inner) as client:
            leader = asyncio.create_task(case.apost(client, "leader"))
            while not case.leading.is_set():  # noqa: ASYNC110 - a thread may set it
                await asyncio.sleep(0.01)
            rest = (case.apost(client, f"sibling {i}") for i in range(12))
            await asyncio.gather(leader, *rest)

    asyncio.run(everyone())
    assert case.answered[0] == "leader"
    assert len(case.answered) == 13
    assert case.told == 12
    case.runtime.close()


# --- the leaders themselves ------------------------------------------------------------------


def test_one_leads_until_its_answer_begins() -> None:
    now = [0.0]
    leaders = Leaders(lambda: now[0])
    first, second = leaders.lead(), leaders.lead()
    assert leaders.join(first, Join("k", 5.0, 300.0)) == "led"
    assert leaders.join(first, Join("k", 5.0, 300.0)) == "led"  # tried again
    assert leaders.join(second, Join("k", 0.01, 300.0)) == "late"
    assert leaders.join(second, Join("other", 5.0, 300.0)) == "led"
    timer = threading.Timer(0.05, first.begun)
    timer.start()
    assert leaders.join(second, Join("k", 5.0, 300.0)) == "followed"
    assert leaders.join(second, Join("k", 5.0, 300.0)) == "warm"
    now[0] = 301.0  # cold again
    assert leaders.join(second, Join("k", 5.0, 300.0)) == "led"
    first.over(ok=False)  # no longer its prefix
    assert leaders.join(first, Join("k", 0.01, 300.0)) == "late"
    second.over(ok=False)
    assert leaders.join(first, Join("k", 5.0, 300.0)) == "led"


def test_a_leader_that_is_gone_is_taken_over() -> None:
    now = [0.0]
    leaders = Leaders(lambda: now[0])
    leaders.join(leaders.lead(), Join("k", 5.0))
    now[0] = 6.0
    assert leaders.join(leaders.lead(), Join("k", 5.0)) == "led"


def test_prefixes_remembered_are_bounded_and_wake_who_waits() -> None:
    leaders = Leaders()
    first = leaders.lead()
    leaders.join(first, Join("k", 5.0))
    many = leaders.lead()
    timer = threading.Timer(
        0.05, lambda: [leaders.join(many, Join(f"k{i}", 5.0)) for i in range(1024)]
    )
    timer.start()
    assert leaders.join(leaders.lead(), Join("k", 5.0)) == "followed"
    timer.join()
    first.begun()
    assert len(leaders._prefixes) == 1024

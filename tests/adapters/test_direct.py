"""The exchange under a framework's hook: messages in, messages out, one owner a call."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.adapters.direct import Answered, Asked, Direct
from clawmw.adapters.http import async_http_client, http_client
from clawmw.core.events import CallFinished, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Reply
from clawmw.errors import Refused
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

TABLE = (
    "[" + ",".join(f'{{"id": {i}, "name": "row {i}", "state": "done"}}' for i in range(400)) + "]"
)
ASK = {"role": "user", "content": "How many rows are done?"}
TURN = [
    ASK,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "rows", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": TABLE},
]
DONE = {
    "id": "x",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "400"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}
WHO = Identity(session="s", chain="c")


class Case:
    """A runtime, and what it told its observers."""

    def __init__(self, **policy: Any) -> None:
        self.events: list[Event] = []
        loaded = load_policy({"version": 1, "trace": "off", **policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.direct = Direct(self.runtime, WHO)
        self.sent: list[Asked] = []

    def send(self, asked: Asked) -> dict[str, Any]:
        self.sent.append(asked)
        return DONE

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]


@pytest.fixture
def case() -> Iterator[Case]:
    found = Case(compress="lossless")
    yield found
    assert not [e for e in found.events if isinstance(e, StageFailed)]
    found.runtime.close()


def test_what_the_policy_leaves_alone_is_named_by_its_place(case: Case) -> None:
    body = {"model": "m", "messages": [ASK], "temperature": 0, "odd": {"kept": True}}
    answered = case.direct.call(body, case.send)
    assert case.sent[0].body == body
    assert case.sent[0].messages == ((0, ASK),)
    assert (answered.body, answered.changed) == (DONE, False)
    assert case.finished[0].usage is not None
    assert case.finished[0].usage.input_tokens == 9


def test_a_reduced_message_comes_as_a_new_one(case: Case) -> None:
    body = {
        "model": "m",
        "messages": TURN,
        "tools": [{"type": "function", "function": {"name": "rows"}}],
    }
    case.direct.call(body, case.send)
    places = [place for place, _ in case.sent[0].messages]
    assert places == [0, 1, None]
    changed = case.sent[0].messages[2][1]
    assert changed["tool_call_id"] == "c1"
    assert len(changed["content"]) < len(TABLE) / 2
    assert body["messages"][2]["content"] == TABLE, "the caller's own is as it was"
    assert case.sent[0].body["messages"][2] == changed


def test_a_stopped_call_says_why_and_nothing_is_sent() -> None:
    case = Case(budget={"chain": {"calls": 1}})
    case.direct.call({"model": "m", "messages": [ASK]}, case.send)
    answered = case.direct.call({"model": "m", "messages": [ASK]}, case.send)
    assert len(case.sent) == 1
    assert answered.halt is not None
    assert answered.body["choices"][0]["message"]["content"] == str(answered.halt)
    with pytest.raises(Refused, match=r"budget\.chain"):
        answered.granted()
    case.runtime.close()


class OverloadedError(Exception):
    """As SDKs name theirs."""

    status_code = 503


def test_what_send_raises_is_tried_again_and_then_reaches_the_caller() -> None:
    case = Case(retry={"attempts": 2})
    errors = [OverloadedError("busy"), OverloadedError("busy")]

    def send(asked: Asked) -> dict[str, Any]:
        raise errors[len(case.sent) - 1] if not case.sent.append(asked) else AssertionError

    with pytest.raises(OverloadedError) as caught:
        case.direct.call({"model": "m", "messages": [ASK]}, send)
    assert caught.value is errors[1]
    assert len(case.sent) == 2
    assert case.finished[0].status == "failed"
    case.runtime.close()


def test_a_cancelled_task_settles(case: Case) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def send(asked: Asked) -> dict[str, Any]:
            begun.set()
            await asyncio.sleep(60)
            return DONE

        task = asyncio.create_task(case.direct.acall({"model": "m", "messages": [ASK]}, send))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [e.status for e in case.finished] == ["cancelled"]


def test_a_bug_of_ours_lets_the_call_through(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(case.runtime, "perform", broken)
        answered = case.direct.call({"model": "m", "messages": [ASK]}, case.send)
    assert answered == Answered(DONE, changed=False)
    case.events.clear()


def test_switched_off_and_what_cannot_be_read_pass(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {"model": "m", "messages": [{"role": "nobody"}]}
    assert case.direct.call(odd, case.send).body is DONE
    monkeypatch.setenv("CLAWMW_OFF", "1")
    assert case.direct.call({"model": "m", "messages": [ASK]}, case.send).body is DONE
    assert not case.finished


def test_who_waits_for_the_same_call_hears_that_it_failed() -> None:
    case = Case(single_flight={}, retry=False)
    body = {"model": "m", "messages": [ASK], "temperature": 0, "seed": 1}

    async def main() -> list[Any]:
        async def send(asked: Asked) -> dict[str, Any]:
            case.sent.append(asked)
            await asyncio.sleep(0.05)
            raise OverloadedError("busy")

        calls = [case.direct.acall(dict(body), send) for _ in range(3)]
        return await asyncio.gather(*calls, return_exceptions=True)

    failed = asyncio.run(main())
    assert len(case.sent) == 1
    assert sorted(type(error).__name__ for error in failed) == [
        "ClawmwError",
        "ClawmwError",
        "OverloadedError",
    ]
    assert "the same call, made by another task, failed (503)" in map(str, failed)
    case.runtime.close()


# --- one owner --------------------------------------------------------------------------------


def test_a_transport_below_lets_the_claimed_call_through_and_no_other() -> None:
    case = Case()
    with Emulator(brain=lambda _: Reply("ok")) as emulator:
        url = f"{emulator.base_url}/chat/completions"
        with http_client(case.runtime) as client:

            def judged(asked: Asked) -> dict[str, Any]:
                judge = [{"role": "user", "content": f"Is this safe? {ASK['content']}"}]
                client.post(url, json={"model": "judge", "messages": judge})
                for _ in range(2):  # the framework's own retry is the same call
                    answer = client.post(url, json=asked.body)
                return answer.json()

            case.direct.call({"model": "m", "messages": [ASK]}, judged)
        assert len(emulator.requests) == 3
    models = sorted(e.model for e in case.finished)
    assert models == ["judge", "m"], "the judge's call is its own, the claimed one counts once"
    case.runtime.close()


def test_a_claim_holds_though_the_framework_wraps_what_a_tool_returned() -> None:
    """ADK's models send `{"result": ...}` for what a tool returned as text."""
    case = Case()
    with (
        Emulator(brain=lambda _: Reply("ok")) as emulator,
        http_client(case.runtime) as client,
    ):

        def send(asked: Asked) -> dict[str, Any]:
            *first, last = asked.body["messages"]
            wrapped = {**last, "content": json.dumps({"result": last["content"]})}
            body = {**asked.body, "messages": [*first, wrapped]}
            answer = client.post(f"{emulator.base_url}/chat/completions", json=body)
            found: dict[str, Any] = answer.json()
            return found

        case.direct.call({"model": "m", "messages": TURN}, send)
    assert len(case.finished) == 1
    case.runtime.close()


def test_a_task_started_below_makes_calls_of_its_own() -> None:
    case = Case()

    async def main(url: str) -> None:
        async with async_http_client(case.runtime) as client:

            async def send(asked: Asked) -> dict[str, Any]:
                other = {"model": "side", "messages": [{"role": "user", "content": "aside"}]}
                aside = asyncio.create_task(client.post(url, json=other))
                answer = await client.post(url, json=asked.body)
                await aside
                return answer.json()

            await case.direct.acall({"model": "m", "messages": [ASK]}, send)

    with Emulator(brain=lambda _: Reply("ok")) as emulator:
        asyncio.run(main(f"{emulator.base_url}/chat/completions"))
    assert sorted(e.model for e in case.finished) == ["m", "side"]
    case.runtime.close()


# --- who calls --------------------------------------------------------------------------------


def test_calling_says_who_calls_to_every_transport_below() -> None:
    case = Case()
    with (
        Emulator(brain=lambda _: Reply("ok")) as emulator,
        http_client(case.runtime, identity=Identity(tenant="acme", agent="plain")) as client,
    ):

        def post() -> httpx.Response:
            body = {"model": "m", "messages": [ASK]}
            found: httpx.Response = client.post(f"{emulator.base_url}/chat/completions", json=body)
            return found

        post()
        with (
            clawmw.calling(agent="outer", session="t1"),
            clawmw.calling(agent="inner"),
            ThreadPoolExecutor() as pool,
        ):
            pool.submit(contextvars.copy_context().run, post).result()
    who = [e.identity for e in case.finished]
    assert [(w.tenant, w.agent) for w in who] == [("acme", "plain"), ("acme", "inner")]
    assert who[1].session == "t1"
    with pytest.raises(TypeError, match="colour"), clawmw.calling(colour="red"):
        pass
    case.runtime.close()

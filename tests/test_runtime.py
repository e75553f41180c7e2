"""The runtime: effects performed once, and what happens when a store cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawmw.core.effects import Write
from clawmw.core.events import CallFinished, Degraded
from clawmw.core.identity import Identity
from clawmw.core.types import Message, Role, ToolCall
from clawmw.errors import StoreError
from clawmw.ownership import Token, Tokens
from clawmw.policy.load import load_policy
from clawmw.runtime import shared
from clawmw.testing import Bench, answer
from tests.conftest import rows, tool, turn

ASK = {"role": "user", "content": "hello"}
TOOLS = [tool("read")]
HISTORY = [ASK, *turn("c", "read", {}, rows(300))]


def fail(*args: Any, **kwargs: Any) -> Any:
    raise StoreError("state.sqlite: the disk is full; free some space")


def test_a_lost_race_is_run_again_and_counts_once() -> None:
    case = Bench({"version": 1, "budget": {"chain": {"calls": 5, "input_tokens": "1M"}}})
    commit = case.runtime.stores.slots.commit
    lost: list[int] = []

    def racing(writes: Any, now: float) -> bool:
        if len(lost) < 2:
            lost.append(1)
            return False
        return commit(writes, now)

    case.runtime.stores.slots.commit = racing  # type: ignore[method-assign]
    sent = case.send(HISTORY, tools=TOOLS)
    assert len(sent.bodies) == 1
    used = case.runtime.stores.ledger.used(Identity(chain="c1").scope("chain"))
    assert used["calls"] == 1
    assert used["input_tokens"] < 20_000


def test_who_always_loses_goes_on_and_says_so() -> None:
    case = Bench({"version": 1})
    case.runtime.stores.slots.commit = lambda *a: False  # type: ignore[method-assign]
    sent = case.send(HISTORY, tools=TOOLS)
    assert len(sent.bodies) == 1
    assert any(isinstance(e, Degraded) for e in sent.events)


def test_a_full_disk_refuses_what_is_capped_with_one_clear_line() -> None:
    case = Bench({"version": 1, "budget": {"chain": {"calls": 5}}})
    case.runtime.stores.ledger.reserve = fail  # type: ignore[method-assign]
    sent = case.send(HISTORY, tools=TOOLS)
    assert sent.bodies == ()
    assert "the disk is full; free some space" in str(sent.result.halt)


@pytest.mark.parametrize("home", ["slots.load", "slots.commit", "evidence.append", "blobs.put"])
def test_a_full_disk_leaves_the_rest_in_memory(home: str) -> None:
    case = Bench({"version": 1, "prompt_cache": False})
    store, method = home.split(".")
    setattr(getattr(case.runtime.stores, store), method, fail)
    first = case.send(HISTORY, tools=TOOLS)
    later = [*HISTORY, {"role": "assistant", "content": "."}, ASK]
    second = case.send(later, tools=TOOLS)
    assert len(first.body["messages"][2]["content"]) < 8000 < len(rows(300))
    assert second.body["messages"][:3] == first.body["messages"]
    degraded = [e for e in case.events if isinstance(e, Degraded)]
    assert {e.store for e in degraded} == {store}
    assert "disk is full" in degraded[0].error


def test_what_was_sent_outlives_the_process_on_disk(tmp_path: Any) -> None:
    policy = {"version": 1, "store": {"disk": str(tmp_path / "kept")}, "prompt_cache": False}
    first = Bench(policy)
    sent = first.send(HISTORY, tools=TOOLS).body["messages"]
    first.runtime.close()
    changed = Bench({**policy, "compress": "off"})
    later = [*HISTORY, {"role": "assistant", "content": "."}, ASK]
    assert changed.send(later, tools=TOOLS).body["messages"][:3] == sent
    changed.runtime.close()


def test_a_reload_while_a_call_is_under_way() -> None:
    case = Bench({"version": 1})
    raw = load_policy({"version": 1, "trace": "off", "compress": False, "dedupe": False})

    def model(body: Any) -> Any:
        case.runtime.reload(raw)
        return answer()

    case.model = model
    first = case.send(HISTORY, tools=TOOLS).body["messages"]
    later = [*HISTORY, *turn("d", "read", {"x": 1}, rows(200, 9))]
    second = case.send(later, tools=TOOLS).body["messages"]
    assert second[:3] == first
    assert second[-1] == later[-1]


def test_many_calls_of_one_session_at_once_are_all_remembered() -> None:
    from concurrent.futures import ThreadPoolExecutor

    case = Bench({"version": 1, "prompt_cache": False, "loop_guard": False})

    def call(index: int) -> Any:
        history = [*HISTORY, *turn(f"x{index}", "read", {"i": index}, rows(80, index))]
        case.send(history, tools=TOOLS)
        return history

    with ThreadPoolExecutor(16) as pool:
        histories = list(pool.map(call, range(64)))
    for history in histories:
        again = case.restart().send(history, tools=TOOLS)
        assert all(step.recorded for step in again.result.history.steps)
        assert not [e for e in again.events if isinstance(e, Degraded)]


def test_an_observer_that_fails_is_not_asked_why() -> None:
    case = Bench({"version": 1})

    def observer(event: Any) -> None:
        raise RuntimeError

    case.runtime.observers = (observer, *case.runtime.observers)
    assert case.send(HISTORY, tools=TOOLS).bodies
    assert case.events


def test_an_unreadable_slot_is_as_if_never_kept() -> None:
    case = Bench({"version": 1})
    scope = case.identity.scope("session")
    for name, value in (("account", [1]), ("journal", {"x": 1})):
        case.runtime.stores.slots.commit([Write((scope, name), value, 0)], 0.0)
    assert case.send(HISTORY, tools=TOOLS).bodies


def test_a_task_that_nobody_names_is_a_new_chain_when_it_begins_again() -> None:
    case = Bench({"version": 1, "budget": {"chain": {"calls": 2}}})
    case.identity = Identity()

    def run() -> list[bool]:
        later = [ASK, {"role": "assistant", "content": "."}, ASK]
        return [case.send(m).result.halt is None for m in ([ASK], later, later)]

    assert run() == [True, True, False]
    assert run() == [False, False, False]  # at machine speed it is the same task
    case.clock.now += 60  # type: ignore[attr-defined]
    assert run() == [True, True, False]
    chains = {e.identity.chain for e in case.events if isinstance(e, CallFinished)}
    assert len(chains) == 2


def test_one_runtime_a_policy_in_a_process() -> None:
    policy = {"version": 1, "trace": "off", "budget": {"chain": {"calls": 7}}}
    assert shared(policy) is shared(dict(policy))
    assert shared(policy) is not shared({**policy, "compress": False})


def test_a_token_lets_its_own_request_through_once() -> None:
    token = Token("x", b"body")
    assert not token.take(b"other")
    assert token.take(b"body")
    assert not token.take(b"body")


def test_a_header_lets_its_own_request_through_once(tmp_path: Any) -> None:
    mine, theirs = Tokens.of_user(tmp_path / "a"), Tokens.of_user(tmp_path / "b")
    assert (tmp_path / "a" / "owner.key").stat().st_mode & 0o777 == 0o600
    value = mine.header("x-1", b"body")
    again = Tokens.of_user(tmp_path / "a")
    assert theirs.take(value, b"body") is None
    assert again.take(value, b"other") is None
    assert again.take(value, b"body") == "x-1"
    assert again.take(value, b"body") is None
    for forged in ("", "a.b", value[:-1], value.replace("x-1", "x-2"), "é.é.é.é"):
        assert again.take(forged, b"body") is None


def test_calls_of_one_session_at_once_end_well() -> None:
    from concurrent.futures import ThreadPoolExecutor

    case = Bench({"version": 1, "prompt_cache": False})

    def call(index: int) -> Any:
        history = [*HISTORY, *turn(f"x{index % 3}", "read", {"i": index % 3}, rows(80, index % 3))]
        return case.send(history, tools=TOOLS).body["messages"]

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(call, range(60)))
    assert len({json.dumps(s[2]) for s in sent}) == 1
    assert len({json.dumps(s) for s in sent}) == 3


def test_a_wire_answer_with_a_call_is_read() -> None:
    from clawmw.testing import asks

    call = ToolCall("call_1", "read", "{}")
    assert asks("read", {}).message == Message(Role.ASSISTANT, (call,))


def test_the_tenant_comes_from_the_policy_and_never_from_a_call() -> None:
    case = Bench({"version": 1, "tenant": "acme"})
    case.identity = Identity()
    case.send([ASK])
    request = case.runtime.decode("openai.chat", b'{"model":"m","messages":[{"role":"user"}]}')
    live = case.runtime.begin(request, {"x-clawmw-tenant": "other", "x-clawmw-agent": "a"})
    live.run.close()
    [done] = [e for e in case.events if isinstance(e, CallFinished)]
    assert done.identity.tenant == "acme"

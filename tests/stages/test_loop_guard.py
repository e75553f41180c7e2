"""A loop is nudged, refused and stopped; work that moves is left alone."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from clawmw.core.events import Acted, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.types import ToolCall
from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.stages.guard.loop.normal import signature
from clawmw.stages.guard.loop.streaks import repeats
from clawmw.testing import Bench, Sent
from tests.conftest import tool, turn

TOOLS = [tool("read"), tool("edit"), tool("test")]
ASK = {"role": "user", "content": "mend the build"}


def bench(**extra: Any) -> Bench:
    return Bench({"version": 1, "compress": False, "dedupe": False, "expand": False, **extra})


def walk(case: Bench, steps: list[tuple[str, dict[str, Any], str]]) -> list[Sent]:
    """Send the growing history, one call a step."""
    messages: list[Any] = [ASK]
    sent = []
    for index, (name, arguments, result) in enumerate(steps):
        messages = [*messages, *turn(f"c{index}", name, arguments, result)]
        sent.append(case.send(messages, tools=TOOLS))
    return sent


def rules(sent: Sent) -> list[str]:
    return [e.rule for e in sent.events if isinstance(e, Acted) and e.stage == "loop_guard"]


def test_same_call_same_result_is_nudged_refused_and_stopped() -> None:
    case = bench()
    sent = walk(case, [("read", {"path": "a"}, "same")] * 18)
    said = [rules(s) for s in sent]
    assert said[:3] == [[], [], []]
    assert said[3] == ["loop_guard.nudge"]
    assert said[4:7] == [[], ["loop_guard.slow"], ["loop_guard.slow"]]
    assert said[7] == ["loop_guard.refuse"]
    assert said[-1] == ["loop_guard.stop"]
    assert "the same result 4 times" in sent[3].body["messages"][-1]["content"]
    assert all(not s.bodies for s in sent[7:])
    halt = sent[7].result.halt
    assert halt is not None
    assert "gave the same result 8 times" in str(halt)


def test_the_nudge_stays_where_it_was() -> None:
    sent = walk(bench(), [("read", {"path": "a"}, "same")] * 6)
    for earlier, later in itertools.pairwise(sent):
        before = earlier.body["messages"]
        assert later.body["messages"][: len(before)] == before


def test_a_new_message_of_the_user_starts_anew() -> None:
    case = bench()
    messages: list[Any] = [ASK]
    for index in range(8):
        messages = [*messages, *turn(f"c{index}", "read", {}, "same")]
        last = case.send(messages, tools=TOOLS)
    assert last.result.halt is not None
    messages = [*messages, {"role": "assistant", "content": "stopped"}, ASK]
    assert case.send(messages, tools=TOOLS).result.halt is None


def test_the_same_call_many_times_at_once_is_one_turn() -> None:
    pair = [p for i in range(9) for p in turn(f"c{i}", "read", {}, "same")]
    calls = [p["tool_calls"][0] for p in pair[::2]]
    both = {"role": "assistant", "content": None, "tool_calls": calls}
    assert bench().send([ASK, both, *pair[1::2]], tools=TOOLS).result.halt is None


def test_a_nudge_never_comes_between_a_call_and_its_result() -> None:
    case = bench(loop_guard={"nudge": 2, "refuse": 50, "stop": 60})
    pair = turn("a", "read", {}, "same") + turn("b", "read", {}, "same")
    both = {**pair[0], "tool_calls": [*pair[0]["tool_calls"], *pair[2]["tool_calls"]]}
    half = case.send([ASK, *turn("x", "read", {}, "same"), both, pair[1]], tools=TOOLS)
    assert len(half.body["messages"]) == 5
    whole = case.send([ASK, *turn("x", "read", {}, "same"), both, pair[1], pair[3]], tools=TOOLS)
    roles = [m["role"] for m in whole.body["messages"]]
    assert roles[-4:] == ["assistant", "tool", "tool", "user"]


def test_the_chain_stays_stopped_for_every_conversation_in_it() -> None:
    case = bench(loop_guard={"nudge": 2, "refuse": 3, "stop": 4})
    walk(case, [("read", {}, "same")] * 5)
    case.identity = Identity(session="another", chain="c1")
    assert rules(case.send([ASK], tools=TOOLS)) == ["loop_guard.stop"]
    case.identity = Identity(session="another", chain="c2")
    assert rules(case.send([ASK], tools=TOOLS)) == []


def test_a_loop_goes_on_after_compaction_and_in_another_process() -> None:
    case = bench()
    walk(case, [("read", {"path": "a"}, "same")] * 5)
    other = case.restart()
    sent = []
    messages: list[Any] = [{"role": "user", "content": "summary: the file was read"}]
    for index in range(4):
        messages = [*messages, *turn(f"n{index}", "read", {"path": "a"}, "same")]
        sent.append(other.send(messages, tools=TOOLS))
    assert "loop_guard.refuse" in rules(sent[2])


@pytest.mark.parametrize(
    "steps",
    [
        [("read", {"page": i}, f"page {i}") for i in range(40)],
        [("read", {"path": f"f{i}"}, "ok") for i in range(40)],
        [("read", {}, f"polled at {i}") for i in range(40)],
        [
            step
            for i in range(20)
            for step in (("edit", {"line": i}, "edited"), ("test", {}, "1 failed"))
        ],
    ],
    ids=["paging", "many files", "a poll that moves", "edit and test"],
)
def test_work_that_moves_is_left_alone(steps: list[tuple[str, dict[str, Any], str]]) -> None:
    assert not [rule for sent in walk(bench(), steps) for rule in rules(sent)]


def test_two_calls_in_turn_with_the_same_results_are_a_loop() -> None:
    steps = [("read", {}, "a"), ("test", {}, "b")] * 10
    said = [rule for sent in walk(bench(), steps) for rule in rules(sent)]
    assert "loop_guard.refuse" in said


def test_a_call_sent_again_by_a_retrying_client_is_one_call() -> None:
    case = bench()
    messages = [ASK, *turn("c", "read", {}, "x")]
    for _ in range(10):
        assert rules(case.send(messages, tools=TOOLS)) == []


def test_conversations_of_one_chain_do_not_mix() -> None:
    case = bench()
    for index in range(20):
        case.identity = Identity(session=f"s{index % 5}", chain="c1")
        history = [ASK, *turn("c", "read", {}, "same")]
        assert rules(case.send(history, tools=TOOLS)) == []


def test_signatures_see_through_key_order_and_wrapping() -> None:
    one = signature(ToolCall("1", "read", '{"a": 1, "b": 2}'))
    assert one == signature(ToolCall("2", "read", '{"b":2,"a":1}'))
    assert one != signature(ToolCall("2", "read", '{"b":2}'))
    wrapped = json.dumps({"id": "read", "args": {"b": 2, "a": 1}})
    assert one == signature(ToolCall("3", "tool_call", wrapped))
    assert signature(ToolCall("4", "read", "{broken"))


@pytest.mark.parametrize(
    ("values", "count"),
    [("", 0), ("a", 1), ("aaaa", 4), ("aab", 1), ("aabaa", 2), ("ababab", 3), ("abca", 1)],
)
def test_repeats_count_since_something_new_was_seen(values: str, count: int) -> None:
    assert repeats(list(values)) == count


def test_when_evidence_cannot_be_kept_anywhere_the_call_is_refused() -> None:
    case = bench()

    def broken(*args: Any) -> Any:
        raise RuntimeError("secret text")

    case.runtime.stores.evidence.append = broken  # type: ignore[method-assign]
    case.runtime._make_spare = None
    sent = case.send([ASK, *turn("c", "read", {}, "x")], tools=TOOLS)
    assert sent.result.halt is not None
    assert "secret" not in str(sent.result.halt)
    [failed] = [e for e in sent.events if isinstance(e, StageFailed)]
    assert (failed.stage, failed.closed) == ("loop_guard", True)


@pytest.mark.parametrize("steps", [{"nudge": 20}, {"stop": 5}, {"refuse": 6, "stop": 5}])
def test_steps_that_are_not_in_order_are_refused(steps: dict[str, int]) -> None:
    with pytest.raises(PolicyError, match="nudge <= refuse <= stop must hold"):
        load_policy({"version": 1, "loop_guard": steps})

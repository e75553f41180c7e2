"""The fold, its record, the journal and the digests they hang on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.core.canon import Ids
from clawmw.core.fold import History, chain, reference
from clawmw.core.journal import Entry, Journal
from clawmw.core.prefix import common_prefix, digests
from clawmw.core.types import Message, Request
from clawmw.testing import Bench
from tests.conftest import log, rows, tool, turn

CODEC = OpenAIChat()
TOOLS = [tool("read")]


def decode(messages: list[dict[str, Any]], **extra: Any) -> Request:
    return CODEC.decode(json.dumps({"model": "m", "messages": messages, **extra}).encode())


def ends(messages: list[dict[str, Any]]) -> list[str]:
    return chain(History(), decode(messages).messages)[0]


def test_digests_ignore_what_providers_ignore() -> None:
    plain = [{"role": "user", "content": "hi"}, *turn("call_fake0002", "f", {"a": 1}, "x")]
    block = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    dressed = [{"role": "user", "content": [block]}, *turn("callfake0002", "f", {"a": 1}, "x")]
    renamed = [{"role": "user", "content": "hi"}, *turn("other", "f", {"a": 1}, "x")]
    assert ends(plain) == ends(dressed) == ends(renamed)


def test_digests_tell_apart_what_matters() -> None:
    seen = {
        ends([{"role": "user", "content": "a"}])[-1],
        ends([{"role": "system", "content": "a"}])[-1],
        ends([{"role": "user", "content": "a "}])[-1],
        ends([{"role": "user", "content": [{"type": "text", "text": t} for t in ("", "a")]}])[-1],
        ends(turn("c", "f", {}, "x"))[-1],
        ends(turn("c", "f", {}, "y"))[-1],
        ends(turn("c", "g", {}, "x"))[-1],
        ends([*turn("c", "f", {}, "x")[:1], {"role": "tool", "tool_call_id": "?", "content": "x"}])[
            -1
        ],
    }
    assert len(seen) == 8


def test_doubled_ids_pair_in_order() -> None:
    ids = Ids()
    assert (ids.call("a-1"), ids.call("a1"), ids.call("b")) == (0, 1, 2)
    assert [ids.result(r) for r in ("a1", "b", "a_1", "a1", "zz")] == [0, 2, 1, 1, -1]


def test_a_reference_is_keyed_to_its_session() -> None:
    assert reference("session:t\x1fs1", 1, "text") == reference("session:t\x1fs1", 1, "text")
    assert reference("session:t\x1fs1", 1, "text") != reference("session:t\x1fs2", 1, "text")
    assert reference("session:t\x1fs1", 1, "text") != reference("session:u\x1fs1", 1, "text")


def test_work_is_done_for_new_messages_only() -> None:
    bench = Bench({"version": 1, "compress": "balanced"})
    folded: list[int] = []
    stage = next(s for s in bench.runtime.pipeline.stages if s.traits.name == "compress")
    fold = stage.fold  # type: ignore[attr-defined]

    def counting(state: Any, message: Message, parts: Any, ctx: Any) -> Any:
        folded.append(len(parts))
        return fold(state, message, parts, ctx)

    stage.fold = counting  # type: ignore[attr-defined]
    messages = [{"role": "user", "content": "go"}]
    for index in range(10):
        messages = [*messages, *turn(f"c{index}", "read", {"n": index}, rows(50, index))]
        folded.clear()
        bench.send(messages, tools=TOOLS)
        assert index == 0 or len(folded) == 2


def test_a_transient_last_message_moves_nothing() -> None:
    bench = Bench({"version": 1, "compress": "balanced"})
    messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    before: list[Any] = []
    for index in range(5):
        messages = [*messages, *turn(f"c{index}", "read", {"n": index}, log(200 + index))]
        tail = {"role": "user", "content": f"<state {index}>"}
        sent = bench.send([*messages, tail], tools=TOOLS).body["messages"]
        assert sent[: len(before)] == before
        assert sent[-1] == tail
        before = sent[:-1]
        totals = bench.events[-1].totals  # type: ignore[union-attr]
        assert index == 0 or totals.sent_cached > 0


def test_a_fork_keeps_what_both_branches_share() -> None:
    bench = Bench({"version": 1, "compress": "balanced", "dedupe": {"floor": 20}})
    base = [{"role": "user", "content": "go"}, *turn("c", "read", {}, rows(60))]
    one = [*base, *turn("d", "read", {"x": 1}, rows(60))]
    other = [*base, *turn("d", "read", {"x": 2}, rows(60)), *turn("e", "read", {}, rows(61))]
    first = bench.send(one, tools=TOOLS).body["messages"]
    second = bench.send(other, tools=TOOLS).body["messages"]
    assert second[:3] == first[:3]
    alone = Bench(bench.policy).send(other, tools=TOOLS).body["messages"]
    assert second == alone


def test_compaction_by_the_agent_starts_anew() -> None:
    bench = Bench({"version": 1, "dedupe": {"floor": 20}, "compress": False})
    result = rows(30)
    long = [
        {"role": "user", "content": "go"},
        *turn("a", "read", {}, result),
        *turn("b", "read", {}, result),
    ]
    assert "the same as" in bench.send(long, tools=TOOLS).body["messages"][-1]["content"]
    compacted = [{"role": "user", "content": "summary of it"}, *turn("b", "read", {}, result)]
    assert bench.send(compacted, tools=TOOLS).body["messages"][-1]["content"] == result


@given(st.lists(st.binary(max_size=30), max_size=4), st.text(max_size=5), st.text(max_size=5))
@settings(max_examples=40)
def test_a_journal_survives_json(wires: list[bytes], anchor: str, name: str) -> None:
    journal = Journal().plus(Entry(anchor, "x", name, tuple(wires)))
    assert Journal.from_json(json.loads(json.dumps(journal.to_json()))) == journal
    assert journal.plus(Entry(anchor, "y", name, ())) == journal


def test_an_unreadable_journal_is_an_empty_one() -> None:
    for broken in (None, 7, [[1]], [["a", "b", "c", [7]]], {"x": 1}):
        assert Journal.from_json(broken) == Journal()


def test_prefix_blocks_begin_with_the_tools() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    one, two = decode(messages, tools=TOOLS), decode(messages, tools=[tool("other")])
    longer = decode([*messages, {"role": "assistant", "content": "a"}], tools=TOOLS)
    assert common_prefix(digests(one), digests(two)) == 0
    assert common_prefix(digests(one), digests(longer)) == 3


def test_a_session_replayed_into_a_new_process_has_the_same_history() -> None:
    bench = Bench({"version": 1, "compress": "aggressive"})
    messages = [{"role": "user", "content": "go"}, *turn("a", "read", {}, log(400))]
    first = bench.send(messages, tools=TOOLS).result.history
    again = bench.restart().send(messages, tools=TOOLS).result.history
    assert [s.sent for s in again.steps] == [s.sent for s in first.steps]
    assert again.sums == first.sums
    assert all(step.recorded for step in replace(again).steps)

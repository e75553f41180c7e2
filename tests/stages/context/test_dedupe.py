"""`dedupe`: what repeats is sent once, and nothing of it is lost."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.fold import FoldContext
from clawmw.core.types import Message, Role, Text, ToolCall, ToolResult
from clawmw.stages.context.compress.notation import decode_json
from clawmw.stages.context.dedupe.seen import LINES, SHOWN, SOURCES, Layers, Seen
from clawmw.stages.context.dedupe.stage import Dedupe, DedupeConfig
from tests.stages.context.compress.notation_decoder import as_pairs, decode

NOTE = re.compile(r"… (\d+) lines as in result (\d+)(?:, \w+)?, from its line (\d+) on …")
CONTEXT = FoldContext("session:t\x1fs", True)


class Talk:
    """A conversation as dedupe sees it, and what it sends."""

    def __init__(self, **config: Any) -> None:
        self.stage = Dedupe(DedupeConfig(**config))
        self.state = self.stage.start()
        self.results: list[str] = []

    def result(self, text: str, name: str = "read") -> str:
        """What the next tool result becomes."""
        self.results.append(text)
        call = ToolCall(f"c{len(self.results)}", name, "{}")
        self.stage.fold(self.state, Message(Role.ASSISTANT, (call,)), (), CONTEXT)
        return self._fold(Message(Role.TOOL, (ToolResult(call.id, text),)))

    def user(self, text: str) -> str:
        """What a user's message becomes."""
        return self._fold(Message(Role.USER, (Text(text),)))

    def _fold(self, message: Message) -> str:
        replaced = self.stage.fold(self.state, message, (0,), CONTEXT)
        part = message.parts[0]
        assert isinstance(part, Text | ToolResult)
        return replaced[0].text if replaced else part.text

    def unfolded(self, sent: str) -> str:
        """`sent` with every note replaced by the lines it names."""

        def lines(note: re.Match[str]) -> str:
            count, source, first = map(int, note.groups())
            return "\n".join(self.results[source - 1].split("\n")[first - 1 : first - 1 + count])

        return NOTE.sub(lines, sent)


def source(seed: int, lines: int = 60) -> str:
    return "\n".join(f"    value_{seed}_{i} = compute(order, {i * seed})" for i in range(lines))


def test_a_whole_result_is_sent_once() -> None:
    talk = Talk()
    assert talk.result(source(3)) == source(3)
    assert talk.result(source(3)) == "[clawmw: the same as result 1, read]"
    assert talk.result("ok") == talk.result("ok") == "ok"


def test_a_file_read_again_after_an_edit_shows_the_change() -> None:
    talk = Talk()
    before = source(3)
    after = before.replace("value_3_30 = compute(order, 90)", "value_3_30 = checked(order)")
    talk.result(before)
    sent = talk.result(after)
    assert sent.split("\n") == [
        "… 30 lines as in result 1, read, from its line 1 on …",
        "    value_3_30 = checked(order)",
        "… 29 lines as in result 1, read, from its line 32 on …",
    ]
    assert talk.unfolded(sent) == after


def test_a_record_fetched_again_shows_the_changed_fields() -> None:
    talk = Talk()
    order: dict[str, Any] = {"id": "A17", "state": "open", "total": 12.50, "note": "leave " * 30}
    order["history"] = [{"at": "2026-01-02", "by": "Ann"}]
    talk.result(json.dumps(order), "get_order")
    order["state"] = "paid"
    order["history"].append({"at": "2026-01-03", "by": "Bo"})
    order["receipt"] = "R-9"
    sent = talk.result(json.dumps(order), "pay")
    assert sent == (
        "[clawmw: as result 1, get_order, but for these fields] "
        "{id:A17,state:paid,history:[… 1 as there …,{at:2026-01-03,by:Bo}],receipt:R-9}"
    )
    other = json.dumps({**order, "id": "A18"})
    assert talk.result(other) == other


def test_a_field_that_is_gone_is_no_small_change() -> None:
    talk = Talk()
    talk.result(json.dumps({"id": 1, "a": "x" * 200, "b": 2}))
    less = json.dumps({"id": 1, "a": "x" * 200})
    assert talk.result(less) == less


def test_a_document_a_user_pastes_again_is_referred_to_and_the_question_stays() -> None:
    talk = Talk()
    talk.user(f"Summarise this:\n{source(5)}")
    sent = talk.user(f"And who wrote it?\n{source(5)}")
    assert sent.startswith(
        "And who wrote it?\n… 60 lines as in user message 1, from its line 2 on …"
    )
    assert talk.user("yes, go on") == talk.user("yes, go on") == "yes, go on"


@pytest.mark.parametrize("text", ["[clawmw: the same as result 1, read]", "json:[2 rows: a\n1\n2]"])
def test_our_own_words_are_left_alone(text: str) -> None:
    talk = Talk(floor=1)
    assert [talk.result(text * 1) for _ in range(3)] == [text] * 3


def test_near_can_be_switched_off() -> None:
    talk = Talk(near=False)
    talk.result(source(3))
    changed = source(3) + "\nlast"
    assert talk.result(changed) == changed
    assert talk.result(changed) == "[clawmw: the same as result 2, read]"


lines = st.sampled_from([f"line number {n} of the file" for n in range(12)] + ["", "}", "    x"])
texts = st.lists(lines, min_size=1, max_size=40).map("\n".join)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=6))
def test_every_line_can_be_found(results: list[str]) -> None:
    talk = Talk(floor=1, margin=0.0)
    for text in results:
        sent = talk.result(text)
        if sent.startswith("[clawmw: the same as result "):
            first = int(sent.split("result ")[1].split(",")[0])
            assert talk.results[first - 1] == text
        else:
            assert talk.unfolded(sent) == text
            assert len(sent) <= len(text)


fields = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.one_of(st.integers(0, 3), st.text("xy", max_size=40)),
    min_size=4,
)


@settings(deadline=None)
@given(fields, fields)
def test_every_field_can_be_found(one: dict[str, Any], other: dict[str, Any]) -> None:
    talk = Talk(floor=1, margin=0.0)
    pad = {"id": "K1", "pad": "p" * 150}
    talk.result(json.dumps({**pad, **one}))
    text = json.dumps({**pad, **one, **other})
    sent = talk.result(text)
    if sent.startswith("[clawmw: as result 1"):
        changed = dict(decode(sent.partition("] ")[2]))
        merged = {**dict(as_pairs(json.dumps({**pad, **one}))), **changed}
        assert merged == dict(as_pairs(text))
        assert decode_json(text)


def test_a_history_can_be_continued_twice() -> None:
    seen = Seen().plus("result 1", source(1).split("\n"), ())
    left = seen.plus("result 2", source(2).split("\n"), ())
    right = seen.plus("result 2", source(4).split("\n"), ())
    assert [run.label for run in left.runs(source(2).split("\n"))] == ["result 2"]
    assert list(right.runs(source(2).split("\n"))) == []
    assert [run.label for run in right.runs(source(1).split("\n"))] == ["result 1"]


def test_memory_is_bounded_and_the_newest_is_known() -> None:
    layers: Layers[int] = Layers(100)
    for number in range(5_000):
        layers = layers.plus({number: number})
        assert layers.size() <= 200
    assert layers.get(4_999) == 4_999
    assert layers.get(0) is None
    assert LINES <= 50_000


def test_alike_lines_take_linear_time() -> None:
    talk = Talk()
    text = "the same line again\n" * 20_000
    talk.result(text + "a")
    began = time.thread_time()
    talk.result(text + "b")
    assert time.thread_time() - began < 1.0


def test_a_session_of_very_long_results_keeps_to_its_bounds() -> None:
    def held(state: dict[str, Any]) -> tuple[int, int]:
        seen = state["seen"]
        return seen.places.size(), seen.sources.size()

    def result(number: int) -> str:
        return "\n".join(f"{number}: value of sensor {i} is {i * number}" for i in range(20_000))

    talk = Talk()
    sizes = []
    for number in range(10):
        talk.result(result(number))
        sizes.append(held(talk.state))
    assert max(places for places, _ in sizes) <= LINES
    assert max(sources for _, sources in sizes) <= SOURCES * SHOWN
    assert "as in result 10" in talk.result(result(9) + "\nand one line more")
    talk.result("\n".join(f"{i} is a line of its own" for i in range(150_000)))
    places, sources = held(talk.state)
    assert places <= LINES
    assert sources <= SOURCES * SHOWN


def test_a_session_of_very_many_results_keeps_to_its_bounds() -> None:
    seen = Seen()
    for number in range(2 * SOURCES):
        seen = seen.plus(f"result {number}", [f"line {number} of many"] * 40, ())
    assert seen.sources.size() <= SOURCES * SHOWN
    assert seen.places.size() <= LINES
    assert [run.label for run in seen.runs([f"line {number} of many"])] == [f"result {number}"]

"""Window pressure: what goes, in which order, and what it says when nothing can."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.core.events import EpochBegan
from clawmw.core.types import Message, Role
from clawmw.testing import Bench, Sent
from tests.conftest import tool, turn

TOOLS = [tool("read")]
SMALL = {"fake": {"model": "fake", "profile": "ernie-4.0-turbo-8k"}}
"""8,192 tokens; its price is not known."""


def policy(**more: Any) -> dict[str, Any]:
    return {"version": 1, "models": SMALL, "compress": False, "dedupe": False, **more}


def page(number: int, lines: int = 30) -> str:
    return "\n".join(f"{number}-{i}: {i * 7919 % 9973} paid {i * 31 % 89}" for i in range(lines))


def rounds(*results: str, same: bool = False) -> list[dict[str, Any]]:
    talk: list[dict[str, Any]] = [{"role": "user", "content": "Begin."}]
    for number, result in enumerate(results):
        talk += turn(f"c{number}", "read", {"page": 0 if same else number}, result)
    return talk


def messages(sent: Sent) -> tuple[Message, ...]:
    return OpenAIChat().decode(sent.bodies[0]).messages


def rules(sent: Sent) -> list[str]:
    acted = [e for e in sent.events if type(e).__name__ == "Acted"]
    return [e.rule for e in acted if e.stage == "window"]  # type: ignore[union-attr]


def test_with_room_nothing_is_done_and_an_unknown_limit_is_none() -> None:
    talk = rounds(*map(page, range(4)))
    sent = Bench(policy()).send(talk, tools=TOOLS)
    assert sent.bodies == (sent.wire,)
    long = rounds(*(page(n, 2000) for n in range(9)))
    unknown = Bench({**policy(), "models": {}}).send(long, tools=TOOLS)
    assert unknown.bodies == (unknown.wire,)


def test_the_room_leaves_place_for_the_longest_answer() -> None:
    talk = rounds(*map(page, range(12)))  # about 5,600 tokens
    assert not rules(Bench(policy()).send(talk, tools=TOOLS, max_tokens=500))
    assert rules(Bench(policy()).send(talk, tools=TOOLS, max_tokens=4000))


def test_first_deeper_forms_then_superseded_ones_then_the_oldest_results() -> None:
    deeper = policy(compress="balanced", expand=True)
    talk = rounds(*(page(n, 170) for n in range(9)))
    sent = Bench({**deeper, "window": {"to": "70%"}}).send(talk, tools=TOOLS)
    assert rules(sent) == ["window.deeper"]
    again = rounds(*map(page, range(12)), same=True)
    assert rules(Bench(policy(expand=True)).send(again, tools=TOOLS)) == ["window.superseded"]
    sent = Bench(policy(expand=True)).send(rounds(*map(page, range(12))), tools=TOOLS)
    assert rules(sent) == ["window.results"]
    told = [m.text for m in messages(sent) if m.role is Role.TOOL]
    marked = [text.startswith("[clawmw_expand r") for text in told]
    assert marked == sorted(marked, reverse=True), "the oldest first"
    assert any(marked)
    assert not all(marked)


def test_then_the_oldest_rounds_as_a_whole_and_they_can_be_asked_for() -> None:
    talk: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "The task."},
    ]
    for number in range(8):
        talk += [
            {"role": "assistant", "content": f"Thought {number}. " * 150},
            {"role": "user", "content": f"Go on with {number}."},
        ]
    bench = Bench(policy(expand=True))
    sent = bench.send(talk, tools=TOOLS)
    assert rules(sent) == ["window.rounds"]
    found = messages(sent)
    assert [m.text for m in found[:2]] == ["Be brief.", "The task."]
    assert found[-1].text == "Go on with 7."
    assert found[2].text.startswith("[clawmw_expand r0")
    ref = found[2].text.split()[1].rstrip(":")
    scope = bench.identity.scope("session")
    original = bench.runtime.stores.blobs.get(scope, ref, bench.clock())
    assert original
    assert original.decode().startswith("assistant: Thought 0.")
    # The next call keeps it, also in another process.
    longer = [*talk, {"role": "assistant", "content": "Ok."}, {"role": "user", "content": "So?"}]
    for process in (bench, bench.restart()):
        assert messages(process.send(longer, tools=TOOLS))[: len(found)] == found


def test_without_the_means_to_ask_a_marker_is_a_plain_cut() -> None:
    sent = Bench(policy(expand=False)).send(rounds(*map(page, range(12))), tools=TOOLS)
    told = messages(sent)[2].text
    assert told.startswith("[clawmw: an older result of ")
    assert "clawmw_expand" not in json.dumps(sent.body)


def test_what_cannot_fit_is_refused_with_the_reason() -> None:
    huge = [{"role": "user", "content": "word " * 9000}]
    sent = Bench(policy()).send(huge, tools=TOOLS)
    halt = sent.result.halt
    assert halt
    assert not sent.bodies
    assert str(halt.because) == "window.full"
    assert "4,096 tokens of input" in halt.limit
    assert "(estimated)" in halt.used
    assert "larger window" in halt.resume
    assert not [e for e in sent.events if isinstance(e, EpochBegan)]


def test_a_newest_result_that_is_too_large_can_only_be_asked_for() -> None:
    talk = rounds(page(1), page(2, 3000))
    assert Bench(policy(expand=False)).send(talk, tools=TOOLS).result.halt
    told = messages(Bench(policy(expand=True)).send(talk, tools=TOOLS))[-1].text
    assert told.startswith("[clawmw_expand r2")


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_observing_leaves_it_to_the_provider(mode: str) -> None:
    talk = [{"role": "user", "content": "word " * 9000}]
    sent = Bench(policy(window={"mode": mode})).send(talk, tools=TOOLS)
    assert bool(sent.bodies) == (mode == "observe")

"""The laws of stages where the dialect is Responses, and where its provider holds the history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given

from clawmw.codecs.openai_responses import DIALECT
from clawmw.core.events import Acted, StageFailed
from clawmw.core.types import Json, Outcome, Response
from clawmw.emulator.responses_input import Known, as_chat, validate
from clawmw.laws import check_prefix
from clawmw.stages.base import registered
from clawmw.testing import Bench, Sent, acted, answer, rewrote
from tests.codecs.responses import REASONING, as_items
from tests.codecs.responses import tool as flat
from tests.codecs.test_openai_responses_stream import read, sound
from tests.conftest import histories, rows
from tests.laws.strategies import Session, drawn, sessions
from tests.laws.test_stages import CASES, MODELS, ON, laws, only

TOOLS = [flat("search"), flat("read"), flat("tool_call")]


class Responses(Bench):
    """A bench of this dialect. The model sees what the provider would: a whole conversation."""

    dialect: ClassVar[str] = DIALECT

    def shaped(
        self, messages: Sequence[Json], tools: Sequence[Json], params: Mapping[str, Json]
    ) -> dict[str, Json]:
        """See `Bench.shaped`: a system prompt goes into `instructions`."""
        said = list(messages)
        body: dict[str, Json] = {"model": "fake", **params}
        if said and said[0]["role"] == "system":
            body["instructions"] = said.pop(0)["content"]
        body["input"] = as_items(said)
        return {**body, "tools": list(tools)} if tools else body


class Given(Bench):
    """The same, of items as they are given."""

    dialect: ClassVar[str] = DIALECT

    def shaped(
        self, messages: Sequence[Json], tools: Sequence[Json], params: Mapping[str, Json]
    ) -> dict[str, Json]:
        """See `Bench.shaped`."""
        return {"model": "fake", "input": list(messages), "tools": list(tools), **params}


def model(body: dict[str, Json]) -> Outcome:
    """`drawn`, of a body of this dialect; one that its provider would refuse fails the test."""
    raw = json.dumps({k: v for k, v in body.items() if k != "previous_response_id"}).encode()
    return drawn(as_chat(validate(raw, Known()), Known()))


def numbered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls under ids of their own: this provider takes no doubled ones."""
    text, count = [], 0
    for message in messages:
        message = json.loads(json.dumps(message))
        for place, call in enumerate(message.get("tool_calls") or ()):
            call["id"] = f"{call['id']}_{count}_{place}"
        if message.get("tool_calls"):
            waiting = [call["id"] for call in message["tool_calls"]]
            count += 1
        elif message["role"] == "tool":
            message["tool_call_id"] = waiting.pop(0)
        text.append(message)
    return text


def check(session: Session, policy: dict[str, Any]) -> Counter[str]:
    """A session's laws; how often each stage acted."""
    benches = [Responses(policy, model, identity=session.identity) for _ in range(2)]
    seen: Counter[str] = Counter()
    before: Sent | None = None
    for messages in histories(numbered(session.messages)):
        sent = benches[0].send(messages, tools=TOOLS, **session.params)
        benches[1] = benches[1].restart()  # type: ignore[assignment]  # of its own class
        fresh = benches[1].send(messages, tools=TOOLS, **session.params)
        assert sent.bodies == fresh.bodies, "law: same bytes in any process"
        failed = [event for event in sent.events if isinstance(event, StageFailed)]
        assert not failed, f"a stage failed: {failed}"
        seen.update(acted(sent))
        if not sent.bodies:
            continue
        if not acted(sent):
            assert sent.bodies[0] == sent.wire, "law: an unchanged body goes byte for byte"
        for step in sent.result.history.steps:
            assert step.sent_tokens <= step.raw_tokens, "law: reducers never add tokens"
        codec = benches[0].runtime.codecs[DIALECT]
        for one, other in pairwise([codec.decode(body) for body in sent.bodies]):
            check_prefix(one, other, cached=True)
        if before is not None and not rewrote(sent):
            earlier, now = codec.decode(before.bodies[0]), codec.decode(sent.bodies[0])
            check_prefix(earlier, now, cached=False)
        if sent.stream and isinstance(sent.result.outcome, Response):
            last = sound(read(sent.stream))
            calls = [i["call_id"] for i in last["output"] if i["type"] == "function_call"]
            assert calls == [c.id for c in sent.result.outcome.message.tool_calls]
        before = sent
    return seen


@pytest.mark.parametrize("case", ["compress", "dedupe", "expand", "prompt_cache, breakpoints"])
def test_a_stage_alone(case: str) -> None:
    name, fake = CASES[case]
    seen: Counter[str] = Counter()

    @given(session=sessions)
    @laws(12)
    def run(session: Session) -> None:
        seen.update(check(session, only(name, fake)))

    run()
    assert seen[name] >= 5, f"the laws hold for nothing: {seen}"


def test_all_stages_together() -> None:
    seen: Counter[str] = Counter()
    fake = {"model": "fake", "profile": "gpt-5.6"}

    @given(session=sessions)
    @laws(15)
    def run(session: Session) -> None:
        seen.update(check(session, {"version": 1, "models": MODELS | {"fake": fake}, **ON}))

    run()
    for name in ("compress", "dedupe", "expand", "loop_guard", "route", "prompt_cache"):
        assert seen[name] >= 5, f"the laws hold for nothing: {seen}"


# --- where the provider holds the history ------------------------------------------------------

HOLDING: list[dict[str, Any]] = [
    {"previous_response_id": "resp_1"},
    {"conversation": {"id": "conv_1"}},
    {"background": True},
]
BUSY: dict[str, Any] = {
    **ON,
    "budget": {"chain": {"calls": 10_000}, "soft": "1%"},
    "fallback": {"fake": ["light"]},
    "degrade": {"ladder": ["compress", "light", "refuse"], "soft": "1%"},
    "loop_guard": {"nudge": 2, "refuse": 90, "stop": 100},
}


@pytest.mark.parametrize("name", [*sorted(registered()), "all"])
def test_what_the_provider_holds_goes_out_in_the_caller_s_bytes(name: str) -> None:
    """No registered stage changes what is said of it, or whom it is said to."""
    policy: dict[str, Any] = {"version": 1, "models": MODELS}
    for section in registered():
        policy[section] = BUSY.get(section, True) if name in (section, "all") else False

    @given(session=sessions)
    @laws(3)
    def run(session: Session) -> None:
        for index, extra in enumerate(HOLDING):
            bench = Responses(policy, lambda body: answer(), identity=session.identity)
            for messages in histories(session.messages):
                params = {**session.params, **extra}
                sent = bench.send(messages, tools=TOOLS, **params)
                assert set(sent.bodies) == {sent.wire}, f"{name}, {index}"
                totals = sent.result.finished.totals
                assert totals.raw == totals.sent == totals.would
                assert not [e for e in sent.events if isinstance(e, StageFailed)]

    run()


def test_an_item_that_stands_for_another_is_held_too() -> None:
    said = [
        {"role": "user", "content": "go"},
        {"type": "item_reference", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": rows(200)},
    ]
    sent = Given({"version": 1, "models": MODELS, **ON}, lambda body: answer()).send(
        said, tools=TOOLS
    )
    assert sent.request.held
    assert sent.bodies == (sent.wire,)
    assert not [e for e in sent.events if isinstance(e, Acted)]


def test_reasoning_goes_back_untouched_whatever_else_is_reduced() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": rows(300)}
    said = [{"role": "user", "content": "go"}, REASONING, call, result]
    sent = Given({"version": 1, "models": MODELS, **ON}, lambda body: answer()).send(
        said, tools=TOOLS
    )
    assert sent.body["input"][:3] == said[:3]
    assert len(sent.body["input"][3]["output"]) < len(rows(300)) / 3


def test_a_built_in_tools_call_and_its_result_are_never_parted() -> None:
    """Of the window's leaving out, too: the provider refuses one without the other."""
    screen = {"type": "computer_screenshot", "image_url": "data:,"}
    action = {"type": "computer_call", "id": "cu_1", "call_id": "cc", "action": {"type": "wait"}}
    shown = {"type": "computer_call_output", "call_id": "cc", "output": screen}
    said: list[dict[str, Any]] = [{"role": "user", "content": "go"}, action, shown]
    for index in range(12):
        said.append({"role": "assistant", "content": f"Step {index}. " + "word " * 600})
        said.append({"role": "user", "content": f"go on {index}"})
    models = {"fake": {"model": "fake", "profile": "ernie-4.0-turbo-8k"}}
    sent = Given({"version": 1, "models": models}, lambda body: answer()).send(said, tools=TOOLS)
    assert rewrote(sent)
    assert len(sent.body["input"]) < len(said)
    assert action in sent.body["input"]
    assert shown in sent.body["input"]

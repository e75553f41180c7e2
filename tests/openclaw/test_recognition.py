"""OpenClaw recognised by what it sends: kinds, chains, wrapped tools, and the message that goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from clawmw.core.drive import drive
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.events import CallStarted, ToolReturned
from clawmw.core.identity import identify
from clawmw.core.story import is_transient
from clawmw.core.types import Outcome
from clawmw.stages.context.expand import NAME
from clawmw.testing import Bench, Sent, answer, asks, check_session
from tests.conftest import log, rows
from tests.openclaw import shapes
from tests.openclaw.shapes import called, deferred, headers, later, opening, tail

MODELS = {"light": {"model": "small"}, "fake": {"model": "fake", "profile": "claude-sonnet-4-6"}}
KINDS = [
    ("heartbeat", [opening(shapes.HEARTBEAT)]),
    ("subagent", [opening(shapes.SUBAGENT, "agent:main:subagent:77c4", "s-2")]),
    ("announce", [opening("hi"), *called(1, "ls", {}, "x"), later(shapes.ANNOUNCE)]),
    (
        "review",
        [opening("x", "agent:main:internal-session-effects:skill-workshop-review_1", "s-3")],
    ),
    (None, [opening("please read note.txt")]),
    (None, [opening(shapes.HEARTBEAT), {"role": "assistant", "content": "-"}, later("and now?")]),
]


class Wire:
    """Calls as they come over the wire: a body, headers, and nothing said beside them."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        self.bench = Bench({"version": 1, "models": MODELS, **policy})
        self.bodies: list[dict[str, Any]] = []

    def ask(self, body: dict[str, Any], said: Mapping[str, str]) -> Result:
        runtime = self.bench.runtime
        wire = json.dumps(body).encode()
        live = runtime.begin(runtime.decode("openai.chat", wire), said)

        def call(effect: Call) -> Called:
            self.bodies.append(json.loads(live.codec.encode(effect.request)))
            return Called(answer(), self.bench.clock(), self.bench.clock())

        return live.ended(drive(live.run, live.perform, call))

    @property
    def started(self) -> list[CallStarted]:
        return [event for event in self.bench.events if isinstance(event, CallStarted)]


@pytest.mark.parametrize(("kind", "messages"), KINDS, ids=lambda v: v if isinstance(v, str) else "")
def test_what_kind_of_call_it_is(kind: str | None, messages: list[Any]) -> None:
    """Also in the middle of its tool calls."""
    for more in ((), called(8, "read", {"path": "a"}, "text")):
        body = json.dumps(shapes.request(*messages, *more)).encode()
        who = identify(Bench({"version": 1}).runtime.decode("openai.chat", body), headers())
        assert (who.kind, who.agent, who.client) == (kind, "main", "openclaw")
        assert not who.derived


def test_a_policy_gives_heartbeats_another_model_and_a_purse_of_their_own() -> None:
    rule = {"match": {"kind": "heartbeat"}, "model": "light", "budget": {"day": {"calls": 2}}}
    wire = Wire({"agents": {"hb": rule}, "refusal": "message"})
    beat = [opening(shapes.HEARTBEAT)]
    for number in range(3):
        wire.ask(shapes.request(*beat), headers(trace=f"a{number}"))
    assert [body["model"] for body in wire.bodies] == ["small", "small"]
    ended = wire.ask(shapes.request(opening("what is new?")), headers(trace="b0"))
    assert (wire.bodies[-1]["model"], ended.halt) == ("fake", None)


def test_a_route_holds_from_a_tool_call_to_its_result() -> None:
    """The last message is never the result here: behind it comes the one that is said anew."""
    wire = Wire({"route": [{"when": "messages < 5", "to": "light"}]})
    said = [opening("please read note.txt")]
    wire.ask(shapes.request(*said), headers())
    said += called(1, "read", {"path": "note.txt"}, "x")
    wire.ask(shapes.request(*said), headers())
    said += [{"role": "assistant", "content": "done"}, later("thanks")]
    wire.ask(shapes.request(*said), headers(trace="cd"))
    assert [body["model"] for body in wire.bodies] == ["small", "small", "fake"]


def test_a_sub_agent_is_of_its_parents_chain_and_under_its_limit() -> None:
    wire = Wire({"budget": {"chain": {"calls": 3}}})
    parent = [opening("spawn", "agent:main:x")]
    spawn = {"task": "say hello", "mode": "run"}
    child = [opening(shapes.SUBAGENT, "agent:main:subagent:77c4", "s-2")]
    turn = [*parent, *deferred(1, "sessions_spawn", spawn, '{"status": "accepted"}')]
    told = [*turn, {"role": "assistant", "content": "on it"}, later(shapes.ANNOUNCE)]
    ends = [wire.ask(shapes.request(*said), headers()) for said in (parent, child, turn, told)]
    assert [end.halt is None for end in ends] == [True, True, True, False]
    who = [event.identity for event in wire.started]
    assert {one.chain for one in who} == {"ab" * 16}
    assert [one.session for one in who] == ["s-1", "s-2", "s-1", "s-1"]
    assert [one.kind for one in who] == [None, "subagent", None, "announce"]
    # Its trace names the tool, not the one it is wrapped in.
    seen = [event.name for event in wire.bench.events if isinstance(event, ToolReturned)]
    assert set(seen) == {"sessions_spawn"}
    # The next turn has another trace, and limits of its own.
    assert wire.ask(shapes.request(*told, later("and?")), headers(trace="ef")).halt is None


@pytest.mark.parametrize(("same", "stopped"), [(True, True), (False, False)])
def test_a_loop_is_seen_through_the_wrapping(same: bool, stopped: bool) -> None:
    """All deferred tools are one tool by name: what is called stands in its arguments."""
    wire = Wire({"loop_guard": {"nudge": 2, "refuse": 3, "stop": 4}})
    said, halts = [opening("search")], []
    for number in range(6):
        halts.append(wire.ask(shapes.request(*said), headers()).halt)
        query = "x" if same else f"page {number}"
        result = "nothing found" if same else f"page {number}: " + "word " * number
        said += deferred(number, "web_search", {"query": query}, result)
    assert any(halt is not None for halt in halts) is stopped


# --- the message that is said anew with each call -----------------------------------------------

BUSY = "\n".join(f"{line}" for line in log(400).splitlines())
TASK = [
    opening("find the cheapest ticket and watch the worker"),
    *called(1, "exec", {"command": "tickets"}, rows(300)),
    *called(2, "process", {"action": "log"}, BUSY),
    *called(3, "process", {"action": "log"}, BUSY),
]


def bodies(profile: str, **policy: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What a session asks with, and what is sent for it, call by call."""
    model = {"fake": {"model": "fake", "profile": profile}}
    bench = Bench({"version": 1, "models": model, **policy})
    found = []
    for end in range(1, len(TASK) + 1, 2):
        asked = shapes.request(*TASK[:end], running=BUSY)
        sent = bench.send(asked["messages"], tools=shapes.TOOLS)
        found.append((asked, sent.body))
    return found


@pytest.mark.parametrize("profile", ["claude-sonnet-4-6", "gpt-5.6", "gpt-4o", "deepseek-v4"])
@pytest.mark.parametrize("compress", ["balanced", "aggressive"])
def test_it_goes_as_it_came_and_bears_no_mark(profile: str, compress: str) -> None:
    """Though all of it was shown before, and though it is last, where marks pay most."""
    for asked, sent in bodies(profile, compress=compress, dedupe={"floor": 20}):
        assert sent["messages"][-1] == asked["messages"][-1]


def test_what_comes_before_it_is_reduced_marked_and_kept() -> None:
    sent = [body for _, body in bodies("claude-sonnet-4-6")]
    for one, other in pairwise(sent):
        before, now = ([_plain(m) for m in body["messages"]] for body in (one, other))
        assert now[: len(before) - 1] == before[:-1]
    assert len(json.dumps(sent[-1])) < 0.5 * len(json.dumps(shapes.request(*TASK, running=BUSY)))
    marked = [i for i, m in enumerate(sent[-1]["messages"]) if "cache_control" in json.dumps(m)]
    assert marked[-1] == len(sent[-1]["messages"]) - 2


def _plain(message: dict[str, Any]) -> tuple[str, str]:
    content = message["content"]
    blocks = content if isinstance(content, list) else [{"text": content}]
    return message["role"], "".join(block["text"] or "" for block in blocks)


def test_what_clawmw_says_stays_though_it_goes() -> None:
    """Anchored behind it, an answer to the model would be gone with the next call."""
    left = [asks(NAME, {"ref": "", "query": "tkt_100150"}, id="x1")]

    def model(body: dict[str, Any]) -> Outcome:
        reference = json.dumps(body["messages"]).partition(f"[{NAME} ")[2][:20].partition(":")[0]
        if not left:
            return answer("done")
        left.clear()
        return asks(NAME, {"ref": reference, "query": "tkt_100150"}, id="x1")

    bench = Bench({"version": 1, "compress": "balanced"}, model)

    def send(*messages: Any) -> Sent:
        asked = shapes.request(*messages)["messages"]
        return bench.send(asked, tools=shapes.TOOLS)

    first = send(*TASK[:3])
    assert len(first.bodies) == 2
    second = send(*TASK[:3], {"role": "assistant", "content": "done"}, later("thanks"))
    before, now = (json.loads(body)["messages"] for body in (first.bodies[-1], second.bodies[0]))
    assert "tkt_100150" in json.dumps(before[4:-1])
    assert now[: len(before) - 1] == before[:-1]
    assert before[-1] == now[-1] == tail()


def test_the_laws_hold_with_it() -> None:
    policy = {
        "version": 1,
        "compress": {"level": "aggressive", "floor": 30},
        "dedupe": {"floor": 20},
        "loop_guard": {"nudge": 2, "refuse": 8, "stop": 16},
        "budget": {"chain": {"calls": 4}},
        "models": {"fake": {"model": "fake", "profile": "claude-sonnet-4-6"}},
    }
    calls = [
        shapes.request(*TASK[:end], running=f"job {end}\n{BUSY}")["messages"]
        for end in range(1, len(TASK) + 1, 2)
    ]
    acted = check_session(policy, calls, tools=shapes.TOOLS)
    assert all(acted[stage] for stage in ("compress", "prompt_cache", "budget"))


def test_only_a_user_message_that_begins_so_is_one() -> None:
    decode = Bench({"version": 1}).runtime.decode
    body = shapes.request(opening(f"what is {tail()['content'][0]['text']}?"))
    messages = decode("openai.chat", json.dumps(body).encode()).messages
    assert [is_transient(message) for message in messages] == [False, False, True]

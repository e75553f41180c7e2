"""Public fakes and laws: what a third party's stage, store or adapter is tested with.

::

    bench = Bench({"version": 1, "compress": "balanced"})
    sent = bench.send(messages, tools=tools)
    assert sent.body["messages"][-1] == messages[-1]

`Bench` runs calls through a policy exactly as live ones go, against a model that is a
plain function. `check_call` and `check_session` hold what was sent against the laws that
all stages keep.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import adrive, drive
from clawmw.core.effects import Call, Called
from clawmw.core.engine import Result
from clawmw.core.events import Event
from clawmw.core.fold import History, chain
from clawmw.core.identity import Identity
from clawmw.core.prefix import tools_digest
from clawmw.core.types import (
    Failure,
    Json,
    Message,
    Outcome,
    Request,
    Response,
    Role,
    Text,
    ToolCall,
    Usage,
)
from clawmw.policy.load import load_policy
from clawmw.runtime import Live, Runtime

__all__ = [
    "Bench",
    "Clock",
    "Model",
    "Sent",
    "answer",
    "asks",
    "check_call",
    "check_session",
    "failing",
]

Model = Callable[[dict[str, Json]], Outcome]
"""A model: the wire body it is sent, and what it answers."""


class Clock:
    """A clock that only moves when told to; one second a reading by default."""

    def __init__(self, start: float = 1_800_000_000.0, step: float = 1.0) -> None:
        self.now, self.step = start, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def answer(text: str = "ok", *, usage: Usage | None = None) -> Response:
    """A model's plain answer."""
    return Response(Message(Role.ASSISTANT, (Text(text),)), usage, "stop", "fake")


def asks(name: str, arguments: Mapping[str, Json], *, id: str = "call_1") -> Response:
    """A model's answer that calls one tool."""
    call = ToolCall(id, name, json.dumps(arguments))
    return Response(Message(Role.ASSISTANT, (call,)), None, "tool_calls", "fake")


@dataclass(frozen=True, slots=True)
class Sent:
    """One call as it went: every body that was sent, and how it ended."""

    bodies: tuple[bytes, ...]
    result: Result
    events: tuple[Event, ...]

    @property
    def body(self) -> dict[str, Json]:
        """The first body sent, decoded. IndexError when the call was stopped before it."""
        return json.loads(self.bodies[0])  # type: ignore[no-any-return]


@dataclass
class Bench:
    """A policy at work on calls that never leave the process."""

    policy: Mapping[str, Any]
    model: Model = field(default=lambda _body: answer())
    clock: Callable[[], float] = field(default_factory=Clock)
    identity: Identity = field(default_factory=lambda: Identity(session="s1", chain="c1"))
    runtime: Runtime = field(init=False)
    events: list[Event] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        loaded = load_policy({"trace": "off", **self.policy})
        self.runtime = Runtime.of(loaded, observers=[self.events.append])
        self.runtime.clock = self.clock

    def restart(self) -> Bench:
        """The same policy and stores in a process that remembers nothing."""
        other = Bench(self.policy, self.model, self.clock, self.identity)
        other.runtime.stores = self.runtime.stores
        return other

    def send(self, messages: Sequence[Json], *, tools: Sequence[Json] = (), **params: Json) -> Sent:
        """One call, driven in sync."""
        live, bodies, start = self._begin(messages, tools, params)
        result = live.ended(drive(live.run, live.perform, self._caller(live, bodies)))
        return Sent(tuple(bodies), result, tuple(self.events[start:]))

    async def asend(
        self, messages: Sequence[Json], *, tools: Sequence[Json] = (), **params: Json
    ) -> Sent:
        """One call, driven in async."""
        live, bodies, start = self._begin(messages, tools, params)
        call = self._caller(live, bodies)

        async def acall(effect: Call) -> Called:
            await asyncio.sleep(0)
            return call(effect)

        result = live.ended(await adrive(live.run, live.aperform, acall))
        return Sent(tuple(bodies), result, tuple(self.events[start:]))

    def _begin(
        self, messages: Sequence[Json], tools: Sequence[Json], params: Mapping[str, Json]
    ) -> tuple[Live, list[bytes], int]:
        body: dict[str, Json] = {"model": "fake", "messages": list(messages), **params}
        if tools:
            body["tools"] = list(tools)
        wire = json.dumps(body, ensure_ascii=True).encode()
        request = self.runtime.decode(DIALECT, wire)
        return self.runtime.begin(request, {}, self.identity), [], len(self.events)

    def _caller(self, live: Live, bodies: list[bytes]) -> Callable[[Call], Called]:
        def call(effect: Call) -> Called:
            body = live.codec.encode(effect.request)
            bodies.append(body)
            started = self.clock()
            return Called(self.model(json.loads(body)), started, self.clock())

        return call


# --- laws ----------------------------------------------------------------------------------


def check_call(bench: Bench, raw: Sequence[Json], sent: Sent) -> None:
    """The laws of one call. Raises AssertionError naming the law.

    Tool calls and results stay paired; the system prompt and the last user message
    survive; reducing adds no tokens to any message.
    """
    if not sent.bodies:
        return
    messages = sent.body["messages"]
    _check_pairs(raw, messages)
    system = [m for m in raw if m["role"] in ("system", "developer")]
    kept = [_plain(m) for m in messages]
    assert all(_plain(m) in kept for m in system), "law: the system prompt survives"
    users = [m for m in raw if m["role"] == "user"]
    if users:
        assert _plain(users[-1]) in kept, "law: the last user message survives"
    for step in sent.result.history.steps:
        assert step.sent_tokens <= step.raw_tokens, "law: reducers never add tokens"


def _plain(message: Mapping[str, Json]) -> tuple[str, str]:
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(block.get("text", "") for block in content)
    return message["role"], content or ""


def _check_pairs(raw: Sequence[Json], sent: Sequence[Json]) -> None:
    """Every call and result of the agent's is there, in order, each under its own id."""

    def ids(messages: Sequence[Json]) -> list[str]:
        found = []
        for message in messages:
            found += ["call " + str(c.get("id")) for c in message.get("tool_calls") or ()]
            if message["role"] == "tool":
                found.append("result " + str(message.get("tool_call_id")))
        return found

    left = iter(ids(sent))
    assert all(any(one == other for other in left) for one in ids(raw)), (
        "law: tool calls and results stay paired"
    )


def check_session(
    policy: Mapping[str, Any], calls: Sequence[Sequence[Json]], tools: Sequence[Json] = ()
) -> None:
    """The laws of a session. `calls` are the histories an agent sends, one a call.

    Same in, same out, in any process and driven either way; input unchanged; the sent
    prefix is kept; a call made again is the same call.
    """
    frozen = json.dumps(calls)
    first, other = Bench(policy), Bench(policy)
    forgetful = Bench(policy)
    before: Request | None = None
    cached = False
    for messages in calls:
        sent = first.send(messages, tools=tools)
        check_call(first, messages, sent)
        again = asyncio.run(other.asend(messages, tools=tools))
        assert sent.bodies == again.bodies, "law: sync equals async, same in same out"
        forgetful = forgetful.restart()
        fresh = forgetful.send(messages, tools=tools)
        assert sent.bodies == fresh.bodies, "law: same bytes in any process"
        assert _kinds(sent) == _kinds(fresh), "law: a recorded run replays to the same events"
        if sent.bodies:
            now = first.runtime.codecs[DIALECT].decode(sent.bodies[0])
            if before is not None:
                _check_prefix(before, now, cached=cached)
            least = first.runtime.profile("fake").cache.min_tokens
            before, cached = now, sent.result.finished.totals.sent >= least
    assert json.dumps(calls) == frozen, "law: the input is unchanged"


def _check_prefix(before: Request, now: Request, *, cached: bool) -> None:
    """Messages are kept always; the tools unless no provider had cached the prefix yet."""
    one, two = (chain(History(), request.messages)[0] for request in (before, now))
    assert two[: len(one)] == one, "law: the sent prefix is kept"
    if cached:
        assert tools_digest(before.tools) == tools_digest(now.tools), "law: the tools are kept"


def _kinds(sent: Sent) -> list[str]:
    """Events without what is different by nature: names of exchanges and times."""
    return [
        f"{type(event).__name__} {getattr(event, 'rule', '')} {getattr(event, 'status', '')}"
        for event in sent.events
    ]


def failing(status: int = 503) -> Failure:
    """A provider's refusal as a value."""
    return Failure("status", f"HTTP {status}", status, b'{"error": {"message": "busy"}}')

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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.codec import Codec
from clawmw.core.drive import adrive, drive
from clawmw.core.effects import Append, Call, Called, Commit, Effect, PutBlob, Reserve, Settle
from clawmw.core.engine import Result
from clawmw.core.events import Acted, EpochBegan, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.prefix import tools_digest
from clawmw.core.tap import Tap
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
from clawmw.laws import (
    check_pairs,
    check_prefix,
    check_stream,
    frozen,
    left_out,
    results,
    said,
    size,
    told,
)
from clawmw.policy.load import load_policy
from clawmw.runtime import Live, Runtime
from clawmw.traffic.control import Traffic

__all__ = [
    "Bench",
    "Clock",
    "Model",
    "Sent",
    "StrictRuntime",
    "acted",
    "answer",
    "asks",
    "check_call",
    "check_session",
    "failing",
    "rewrote",
]

Model = Callable[[dict[str, Json]], Outcome]
"""A model: the wire body it is sent, and what it answers."""


class Clock:
    """A clock that only moves when told to; one second a reading by default."""

    def __init__(self, start: float = 1_800_000_000.0, step: float = 1.0) -> None:
        self.now, self.step = start, step
        self.readings = self.names = 0

    def __call__(self) -> float:
        self.now += self.step
        self.readings += 1
        return self.now

    def read(self) -> float:
        """The time without what readings moved it: the same however often it was read."""
        return self.now - self.readings * self.step

    def name(self, _now: float) -> str:
        """An exchange's id; waits are drawn from it, so the same run has the same ones."""
        self.names += 1
        return f"x{self.names}"

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


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

    request: Request
    """What the agent asked for, as it was decoded."""
    wire: bytes
    """The body it asked with."""
    bodies: tuple[bytes, ...]
    result: Result
    events: tuple[Event, ...]
    stream: bytes = b""
    """What the reader of a stream was given."""

    @property
    def body(self) -> dict[str, Json]:
        """The first body sent, decoded. IndexError when the call was stopped before it."""
        return json.loads(self.bodies[0])  # type: ignore[no-any-return]  # a body is a mapping


@dataclass
class Bench:
    """A policy at work on calls that never leave the process."""

    dialect: ClassVar[str] = DIALECT
    policy: Mapping[str, Any]
    model: Model = field(default=lambda _body: answer())
    clock: Callable[[], float] = field(default_factory=Clock)
    identity: Identity = field(default_factory=lambda: Identity(session="s1", chain="c1"))
    runtime_class: type[Runtime] = Runtime
    runtime: Runtime = field(init=False)
    events: list[Event] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        loaded = load_policy({"trace": "off", **self.policy})
        self.runtime = self.runtime_class.of(loaded, observers=[self.events.append])
        self.runtime.clock = self.clock
        if isinstance(self.clock, Clock):  # waiting takes no time but on this clock
            self.runtime.name = self.clock.name
            self.runtime.traffic = Traffic(self.clock.read, self.clock.sleep, lambda: 0.5)

    def restart(self) -> Bench:
        """The same policy and stores in a process that remembers nothing."""
        other = type(self)(self.policy, self.model, self.clock, self.identity, self.runtime_class)
        other.runtime.stores = self.runtime.stores
        other.runtime.traffic = self.runtime.traffic  # upstreams are as well as they were
        return other

    @property
    def codec(self) -> Codec:
        """What reads the dialect."""
        return self.runtime.codecs[self.dialect]

    def send(self, messages: Sequence[Json], *, tools: Sequence[Json] = (), **params: Json) -> Sent:
        """One call, driven in sync."""
        return self.send_body(self.shaped(messages, tools, params))

    def send_body(self, body: Mapping[str, Json]) -> Sent:
        """One call with such a body, driven in sync."""
        going = self._begin(body)
        live = going.live
        return going.sent(live.ended(drive(live.run, live.perform, going.call)))

    async def asend(
        self, messages: Sequence[Json], *, tools: Sequence[Json] = (), **params: Json
    ) -> Sent:
        """One call, driven in async."""
        going = self._begin(self.shaped(messages, tools, params))
        live = going.live

        async def call(effect: Call) -> Called:
            await asyncio.sleep(0)
            return going.call(effect)

        return going.sent(live.ended(await adrive(live.run, live.aperform, call)))

    def _begin(self, body: Mapping[str, Json]) -> _Going:
        wire = json.dumps(body, ensure_ascii=True).encode()
        live = self.runtime.begin(self.runtime.decode(self.dialect, wire), {}, self.identity)
        return _Going(self, live, wire, len(self.events))

    def shaped(
        self, messages: Sequence[Json], tools: Sequence[Json], params: Mapping[str, Json]
    ) -> dict[str, Json]:
        """The body of a call; whoever tests another dialect makes it otherwise."""
        body: dict[str, Json] = {"model": "fake", "messages": list(messages), **params}
        return {**body, "tools": list(tools)} if tools else body


@dataclass
class _Going:
    """One call under way: what was sent so far, and what its reader was given."""

    bench: Bench
    live: Live
    wire: bytes
    start: int
    bodies: list[bytes] = field(default_factory=list)
    stream: list[bytes] = field(default_factory=list)
    tap: Tap | None = None

    def call(self, effect: Call) -> Called:
        """Ask the model; an answer to a stream comes through its tap, in pieces."""
        body = self.live.codec.encode(effect.request)
        self.bodies.append(body)
        started = self.bench.clock()
        outcome = self.bench.model(json.loads(body))
        if effect.tap is not None and isinstance(outcome, Response):
            self.tap, codec = effect.tap, self.live.codec
            data = codec.opening(outcome) + codec.closing(outcome, outcome.usage)
            size = max(len(data) // 7, 1)  # no piece is a frame
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            self.stream += [self.tap.feed(piece) for piece in pieces]
            rest, outcome = self.tap.end(complete=True)
            self.stream.append(rest)
        return Called(outcome, started, self.bench.clock())

    def sent(self, result: Result) -> Sent:
        """The call, once it is over."""
        if self.tap is not None and isinstance(result.outcome, Response):
            self.stream.append(self.tap.close(result.outcome))
        events = tuple(self.bench.events[self.start :])
        stream = b"".join(self.stream)
        return Sent(self.live.request, self.wire, tuple(self.bodies), result, events, stream)


# --- laws ----------------------------------------------------------------------------------


class StrictRuntime(Runtime):
    """Performs what has an id twice, and shows a stage its slot as JSON brings it back."""

    def perform(self, live: Live, effect: Effect) -> Any:
        """One effect, as a runtime that crashed in between would have it."""
        if isinstance(effect, Append | Reserve | Settle | PutBlob):
            super().perform(live, effect)
        if isinstance(effect, Commit):
            for write in effect.writes:
                assert json.loads(json.dumps(write.value)) == write.value, (
                    "law: a slot survives JSON"
                )
        return super().perform(live, effect)


def check_call(bench: Bench, sent: Sent) -> None:
    """The laws of one call. Raises AssertionError naming the law.

    Tool calls and results stay paired; the system prompt and the last user message
    survive (but for a stage that says it folds users' texts); reducing adds no tokens to any
    message; the decoded request is unchanged;
    where nothing is done the agent's bytes are sent; an attempt goes on from the last.
    """
    asked = bench.codec.decode(sent.wire)
    assert frozen(asked) == frozen(sent.request), "law: the input is unchanged"
    failed = [event for event in sent.events if isinstance(event, StageFailed)]
    assert not failed, f"a stage failed: {failed}"
    if not sent.bodies:
        return
    attempts = [bench.codec.decode(body) for body in sent.bodies]
    messages, steps = attempts[0].messages, sent.result.history.steps
    pairs = zip(asked.messages, steps, strict=True)
    check_pairs([m for m, step in pairs if not left_out(step)], messages)
    kept = said(messages)
    system = [m for m in asked.messages if m.role is Role.SYSTEM]
    assert all(text in kept for text in said(system)), "law: the system prompt survives"
    users = [m for m in asked.messages if m.role is Role.USER]
    shortened = any(f.traits.shortens == "texts" for f, _ in bench.runtime.pipeline.folders)
    if users and not shortened:
        assert all(text in kept for text in said(users[-1:])), "law: the last user message survives"
    for step in steps:
        assert step.sent_tokens <= step.raw_tokens or left_out(step), (
            "law: reducers never add tokens"
        )
    gone = [step for step in steps if left_out(step)]
    assert sum(s.sent_tokens for s in gone) <= sum(s.raw_tokens for s in gone), (
        "law: reducers never add tokens"
    )
    if not acted(sent) and size(attempts[0]) == size(asked):
        assert sent.bodies[0] == sent.wire, "law: an unchanged body goes byte for byte"
    if sent.stream and isinstance(sent.result.outcome, Response):
        check_stream(bench.codec, sent.stream, sent.result.outcome.message)
    for one, other in pairwise(attempts):
        check_prefix(one, other, cached=True)


def rewrote(sent: Sent) -> bool:
    """Whether an epoch began with this call: only then may a sent prefix move."""
    return any(isinstance(e, EpochBegan) and not e.would for e in sent.events)


def acted(sent: Sent) -> Counter[str]:
    """How often each stage did something to a call: decided, or reduced a result."""
    found = Counter(e.stage for e in sent.events if isinstance(e, Acted) and not e.would)
    for step in sent.result.history.steps:
        if step.form is not None and step.form.whole is not None:
            found[step.form.whole.by.partition(".")[0]] += 1
        found.update(part.by.partition("@")[0].partition(".")[0] for part in step.parts.values())
    return found


def check_session(
    policy: Mapping[str, Any],
    calls: Sequence[Sequence[Json]],
    *,
    model: Model = lambda _body: answer(),
    identity: Identity = Identity(session="s1", chain="c1"),  # noqa: B008 - frozen
    idle: float = 0.0,
    bench: type[Bench] = Bench,
    **params: Json,
) -> Counter[str]:
    """The laws of a session. `calls` are the histories an agent sends, one a call.

    Same in, same out, in any process, driven either way, whatever is performed twice, with
    the same events; the sent prefix is kept, but for an epoch; a process that lost its stores
    folds alike; what was sent is not reduced again. `model` must depend on the body it is sent
    alone. `idle`: seconds that pass before each call. `bench`: of another dialect.
    Returns how often each stage acted, so that a test can see that it did.
    """
    clocks = [Clock(), Clock(), Clock()]
    first, other, forgetful = (
        bench(policy, model, clock, identity, runtime)
        for clock, runtime in zip(clocks, (Runtime, StrictRuntime, Runtime), strict=True)
    )
    seen: Counter[str] = Counter()
    before: Request | None = None
    cached = False
    for messages in calls:
        for clock in clocks:
            clock.now += idle
        sent = first.send(messages, **params)
        check_call(first, sent)
        seen.update(acted(sent))
        again = asyncio.run(other.asend(messages, **params))
        assert sent.bodies == again.bodies, "law: sync equals async, twice performed counts once"
        assert told(sent.events) == told(again.events), "law: sync equals async in events, too"
        forgetful = forgetful.restart()
        fresh = forgetful.send(messages, **params)
        assert sent.bodies == fresh.bodies, "law: same bytes in any process"
        assert told(sent.events) == told(fresh.events), "law: a run replays to the same events"
        if not sent.bodies:
            continue
        now = first.codec.decode(sent.bodies[0])
        if before is not None and not rewrote(sent):
            check_prefix(before, now, cached=cached)
        least = first.runtime.profile("fake").cache.min_tokens
        before, cached = now, sent.result.finished.totals.sent >= least
        if size(now) == size(sent.request) and sent.result.history.epoch is None:
            lost, seconds = (bench(policy, identity=identity) for _ in range(2))
            _check_alike(now, lost, lost.send(messages, **params))
            _check_once(seconds, now, {**sent.body, "tools": list(tools)})
    return seen


def _check_alike(now: Request, bench: Bench, lost: Sent) -> None:
    """A process that lost its stores sends the same messages and tools."""
    if not lost.bodies:
        return
    other = bench.codec.decode(lost.bodies[0])
    assert now.messages == other.messages, "law: the fold needs no stores"
    assert tools_digest(now.tools) == tools_digest(other.tools), "law: nor do the tools"


def _check_once(bench: Bench, now: Request, body: Mapping[str, Json]) -> None:
    """What was sent, taken for the agent's own history, has the same results when sent."""
    sent = bench.send_body(body)
    if sent.bodies:
        again = bench.codec.decode(sent.bodies[0])
        assert results(now.messages) == results(again.messages), (
            "law: reducing twice is reducing once"
        )


def failing(status: int = 503) -> Failure:
    """A provider's refusal as a value."""
    return Failure("status", f"HTTP {status}", status, b'{"error": {"message": "busy"}}')

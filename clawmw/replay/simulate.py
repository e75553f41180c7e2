"""Runs recorded calls through a policy exactly as live calls go, and keeps what came of each.

Every call is decoded, begun and driven by a `Runtime`, with memory stores of its own world
and a clock that moves a few seconds a call; the recorded assistant message is the answer.

A guard that stops a call: the record cannot show what the agent would have done instead, so
the call is counted as recorded, sent as the policy sends it with that guard aside. When what
was stopped is the chain, the agent or the tenant, nothing more would have been sent: this
call and the rest of the run are counted as stopped, on neither side of the figures.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from clawmw.core.drive import drive
from clawmw.core.effects import Call as Sending
from clawmw.core.effects import Called, Effect, PutBlob
from clawmw.core.engine import Result
from clawmw.core.events import Acted, CallFinished, Degraded, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.money import simulate
from clawmw.core.prefix import common_prefix
from clawmw.core.types import Message, Request, Response, Role, Text
from clawmw.policy.models import Policy, StoreConfig
from clawmw.replay import records
from clawmw.replay.bill import Prefixes, Sized
from clawmw.replay.provenance import Need, context, needs, occurs
from clawmw.replay.records import CODEC, Run
from clawmw.replay.tokens import Counter
from clawmw.runtime import Live, Runtime
from clawmw.stages.context.expand import NAME as EXPAND

__all__ = ["CallRecord", "Needed", "Replayer", "RunRecord"]

_EPOCH = 1_767_225_600.0
_THINKING = 2.0
_BETWEEN = 3.0
"""Seconds a call takes and the agent takes between calls: no provider's cache goes cold."""
_ENDS_ALL = ("chain", "agent", "tenant")
_NO_ANSWER = Message(Role.ASSISTANT, (Text(""),))


@dataclass(frozen=True, slots=True)
class Needed:
    """A needed literal and where the sent request has it."""

    need: Need
    where: str
    """`context`, `reachable` or `lost`."""
    ref: str = ""
    """The reference it can be asked back with."""


@dataclass(slots=True)
class CallRecord:
    """One call, as recorded and as sent."""

    step: int
    request: Request
    raw: Sized
    raw_hit: int
    """Leading blocks (tools, messages) that an earlier call of the run had too."""
    raw_body: bytes
    sent: tuple[tuple[Sized, int], ...] = ()
    """What went out, one entry an attempt, each with its hit."""
    sent_body: bytes | None = None
    """The first attempt's body."""
    rewrites: int = 0
    needed: tuple[Needed, ...] = ()
    output: int = 0
    """Tokens of the recorded answer."""
    reported: int | None = None
    cpu_us: int = 0
    """CPU time of clawmw: decoding, deciding, encoding; not the counting done here."""


@dataclass(slots=True)
class RunRecord:
    """One run, replayed."""

    run: Run
    calls: list[CallRecord] = field(default_factory=list)
    stopped: int = 0
    """Calls not counted because the policy ended the chain before them."""
    stopped_tokens: int = 0
    refused: int = 0
    """Calls a guard refused; counted as recorded."""
    decisions: Tally[str] = field(default_factory=Tally)
    """Calls by policy rule that decided something in them."""
    failures: Tally[str] = field(default_factory=Tally)
    """Stages that raised, stores that failed."""
    mechanisms: Tally[str] = field(default_factory=Tally)
    """Tokens not sent by what cut them, as clawmw itself estimates."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Originals stored, by reference."""


@dataclass(slots=True)
class _Clock:
    now: float = _EPOCH

    def __call__(self) -> float:
        return self.now


class _Watch:
    """CPU time of this thread, while it is not paused."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = time.thread_time()

    def stop(self) -> None:
        if self._since is not None:
            self.spent += time.thread_time() - self._since
            self._since = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()


class Replayer:
    """Replays runs, one after the other, under one policy."""

    def __init__(self, policy: Policy, counter: Counter) -> None:
        # A replay must not spend the user's real budgets or fill their real folders.
        self._policy = policy.model_copy(update={"store": StoreConfig()})
        self._counter = counter
        self._clock = _Clock()
        self._events: list[Event] = []
        self._world: tuple[str, Runtime] | None = None

    def run(self, run: Run) -> RunRecord:
        """Replay one run."""
        record = RunRecord(run)
        replay = _Replay(record, self._runtime(run), self._clock, self._counter, self._events)
        for call in run.calls:
            if record.stopped:
                record.stopped += 1
                record.stopped_tokens += Sized.of(CODEC.decode(call.body()), self._counter).total
            else:
                replay.call(call)
        return record

    def _runtime(self, run: Run) -> Runtime:
        """A runtime with fresh stores for each world."""
        if run.world and self._world is not None and self._world[0] == run.world:
            return self._world[1]
        runtime = Runtime.of(self._policy, observers=[self._events.append])
        runtime.clock = self._clock
        self._world = (run.world, runtime)
        return runtime


class _Replay:
    """One run under way."""

    def __init__(
        self,
        record: RunRecord,
        runtime: Runtime,
        clock: _Clock,
        counter: Counter,
        events: list[Event],
    ) -> None:
        self.record, self.runtime, self.clock = record, runtime, clock
        self.counter, self.events = counter, events
        name = f"{record.run.source}/{record.run.id}"
        self.identity = Identity(session=name, chain="" if record.run.chained else name)
        self.raw_cache, self.sent_cache = Prefixes(), Prefixes()
        self.previous: tuple[Sized, Sized] | None = None
        self.decoded: Request | None = None
        self.attempts: list[tuple[Sized, int]] = []
        self.bodies: list[bytes] = []

    def call(self, call: records.Call) -> None:
        """One recorded call; adds to the record."""
        body = call.body()
        answer = CODEC.message(call.answer) if call.answer else _NO_ANSWER
        output = self.counter.message(answer) if call.answer else 0
        watch = _Watch()
        self.attempts, self.bodies = [], []
        watch.start()
        request = self.runtime.decode("openai.chat", body)
        result = self._drive(request, call, (answer, output), watch)
        watch.stop()
        self._events(result)
        guards = self.runtime.pipeline
        halted = result.halt
        while result.halt is not None and result.halt.scope not in _ENDS_ALL:
            guard = result.halt.because.section
            stages = tuple(s for s in self.runtime.pipeline.stages if s.traits.name != guard)
            if len(stages) == len(self.runtime.pipeline.stages):
                break
            self.runtime.pipeline = replace(self.runtime.pipeline, stages=stages)
            result = self._drive(request, call, (answer, output), _Watch())
            self._events(result)
        self.runtime.pipeline = guards
        self.clock.now += _BETWEEN
        raw = Sized.of(request, self.counter)
        if result.halt is not None:
            self.record.stopped += 1
            self.record.stopped_tokens += raw.total
            return
        self.record.refused += halted is not None
        hit = self.raw_cache.hit(raw)
        done = CallRecord(call.step, request, raw, hit, body)
        done.output, done.reported = output, call.reported
        done.cpu_us = round(watch.spent * 1e6)
        if self.attempts:
            done.sent, done.sent_body = tuple(self.attempts), self.bodies[0]
            done.rewrites = self._rewrites(raw)
            done.needed = tuple(self._needed(request, answer))
            self.previous = (raw, self.attempts[-1][0])
        self.record.calls.append(done)

    def _drive(
        self, request: Request, call: records.Call, answer: tuple[Message, int], watch: _Watch
    ) -> Result:
        """The exchange, as an adapter runs it; the record answers."""
        live = self.runtime.begin(request, call.headers, self.identity)

        def perform(effect: Effect) -> Any:
            if isinstance(effect, PutBlob):
                self.record.blobs[effect.ref] = effect.data
            return live.perform(effect)

        def send(sending: Sending) -> Called:
            sent = live.codec.encode(sending.request)
            with watch.paused():
                return self._answered(live, sent, answer)

        return live.ended(drive(live.run, perform, send))

    def _answered(self, live: Live, body: bytes, answer: tuple[Message, int]) -> Called:
        """Count what was sent, from its bytes alone, and answer with the record."""
        earlier = (self.decoded,) if self.decoded is not None else ()
        self.decoded = CODEC.decode(body, earlier)
        sized = Sized.of(self.decoded, self.counter)
        hit = self.sent_cache.hit(sized)
        self.attempts.append((sized, hit))
        self.bodies.append(body)
        message, output = answer
        usage = simulate(
            self.runtime.profile(sized.model).cache,
            prefix_tokens=sized.prefix(hit),
            input_tokens=sized.total,
            output_tokens=output,
        )
        started = self.clock.now
        self.clock.now += _THINKING
        reason = "tool_calls" if message.tool_calls else "stop"
        return Called(Response(message, usage, reason, sized.model), started, self.clock.now)

    def _events(self, result: Result) -> None:
        record = self.record
        rules = {e.rule for e in self.events if isinstance(e, Acted) and not e.would}
        record.decisions.update(rules)
        for event in self.events:
            if isinstance(event, StageFailed):
                record.failures[f"{event.stage}: {event.error}"] += 1
            elif isinstance(event, Degraded):
                record.failures[f"{event.store}: {event.error}"] += 1
            elif isinstance(event, CallFinished) and result.halt is None:
                record.mechanisms.update(dict(event.totals.by_mechanism))
        self.events.clear()

    def _rewrites(self, raw: Sized) -> int:
        """How many attempts moved a prefix that the agent itself had kept.

        Judged on the bodies sent: where the agent only appended, everything sent before must
        stand; where it changed something itself, everything up to there.
        """
        if self.previous is None:
            return 0
        raw_before, sent_before = self.previous
        kept = common_prefix(raw_before.digests, raw.digests)
        whole = kept == len(raw_before.digests)
        moved = 0
        for sized, _ in self.attempts:
            shared = common_prefix(sent_before.digests, sized.digests)
            moved += shared < (len(sent_before.digests) if whole else kept)
            sent_before, whole = sized, True
        return moved

    def _needed(self, request: Request, answer: Message) -> Iterator[Needed]:
        """Each needed literal, and whether the (last) body sent has it."""
        found = needs(request, answer)
        if not found or self.decoded is None:
            return
        text = context(self.decoded.messages)
        can_ask = any(tool.name == EXPAND for tool in self.decoded.tools)
        refs = [ref for ref in self.record.blobs if ref in text] if can_ask else []
        for need in found:
            if occurs(need.literal, text):
                yield Needed(need, "context")
            elif ref := self._reference(need.literal, refs):
                yield Needed(need, "reachable", ref)
            else:
                yield Needed(need, "lost")

    def _reference(self, literal: str, refs: Sequence[str]) -> str:
        """The reference in the context whose stored original has the literal."""
        scope = self.identity.scope("session")
        for ref in refs:
            data = self.runtime.stores.blobs.get(scope, ref, self.clock.now)
            if data is not None and occurs(literal, data.decode("utf-8", "surrogatepass")):
                return ref
        return ""

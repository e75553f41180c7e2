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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from clawmw.core.drive import drive
from clawmw.core.effects import Call as Sending
from clawmw.core.effects import Called, Effect, PutBlob
from clawmw.core.engine import Result
from clawmw.core.events import Acted, CallFinished, Degraded, EpochBegan, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.money import simulate
from clawmw.core.prefix import common_prefix
from clawmw.core.types import Message, Request, Response, Role, Text
from clawmw.policy.models import Policy, StoreConfig
from clawmw.replay import records
from clawmw.replay.answers import Answer, results, sought
from clawmw.replay.bill import Prefixes, Sized
from clawmw.replay.integrity import Integrity, Judge, paired
from clawmw.replay.provenance import Placed, needs, placed, texts
from clawmw.replay.records import CODEC, Run
from clawmw.replay.tokens import Counter
from clawmw.runtime import Runtime
from clawmw.stages.context.expand import NAME as EXPAND

__all__ = ["CallRecord", "Keep", "Replayer", "RunRecord", "rewrites"]

_EPOCH = 1_767_225_600.0
_THINKING = 2.0
_BETWEEN = 3.0
"""Seconds a call takes and the agent takes between calls: no provider's cache goes cold."""
_ENDS_ALL = ("chain", "agent", "tenant")
_NO_ANSWER = Message(Role.ASSISTANT, (Text(""),))


@dataclass(slots=True)
class CallRecord:
    """One call, as recorded and as sent."""

    step: int
    messages: tuple[Message, ...]
    """As recorded."""
    raw: Sized
    raw_hit: int
    """Leading blocks (tools, messages) that an earlier call of the run had too."""
    sent: tuple[tuple[Sized, int], ...] = ()
    """What went out, one entry an attempt, each with its hit; none when the policy answered."""
    rewrites: int = 0
    priced: int = 0
    """Of the rewrites of this call, those that an epoch priced; `rewrites` has the others."""
    needed: tuple[Placed, ...] = ()
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
    integrity: Integrity = field(default_factory=Integrity)
    answer: Answer | None = None
    """Where the answer its labels name was when it was due."""


Keep: TypeAlias = Callable[[CallRecord, bytes, bytes | None], None]
"""Shown each call with the body recorded and the (first) body sent."""


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

    def run(self, run: Run, keep: Keep | None = None) -> RunRecord:
        """Replay one run; `keep` is shown each call as it is done."""
        record = RunRecord(run)
        runtime = self._runtime(run)
        replay = _Replay(record, runtime, self._clock, self._counter, self._events, keep)
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
        keep: Keep | None,
    ) -> None:
        self.record, self.runtime, self.clock = record, runtime, clock
        self.counter, self.events, self.keep = counter, events, keep
        name = f"{record.run.source}/{record.run.id}"
        self.identity = Identity(session=name, chain="" if record.run.chained else name)
        self.raw_cache, self.sent_cache = Prefixes(), Prefixes()
        self.previous: tuple[Sized, Sized] | None = None
        self.decoded: Request | None = None
        self.judge = Judge()
        self.attempts: list[tuple[Sized, int]] = []
        self.bodies: list[bytes] = []
        self.priced = False
        """An epoch began with this call."""

    def call(self, call: records.Call) -> None:
        """One recorded call; adds to the record."""
        body, watch = call.body(), _Watch()
        answer = CODEC.message(call.answer) if call.answer else _NO_ANSWER
        output = self.counter.message(answer) if call.answer else 0
        self.attempts, self.bodies, self.priced = [], [], False
        watch.start()
        request = self.runtime.decode("openai.chat", body)
        result = self._drive(request, call, (answer, output), watch)
        watch.stop()
        self._take_events(result)
        refused = result.halt is not None
        if result.halt is not None:
            result = self._without_guards(result, request, call, (answer, output))
        self.clock.now += _BETWEEN
        raw = Sized.of(request, self.counter)
        if result.halt is not None:
            self.record.stopped += 1
            self.record.stopped_tokens += raw.total
            return
        self.record.refused += refused
        hit = self.raw_cache.hit(raw)
        done = CallRecord(call.step, request.messages, raw, hit, tuple(self.attempts))
        done.output, done.reported = output, call.reported
        done.cpu_us = round(watch.spent * 1e6)
        if self.attempts:
            sent = [sized for sized, _ in self.attempts]
            moved = rewrites(self.previous, raw, sent, self._least)
            done.priced = moved if self.priced else 0
            done.rewrites = moved - done.priced
            done.needed = tuple(self._needed(request, answer))
            self.previous = (raw, self.attempts[-1][0])
            self._judge(request, call.step)
        if call.counted:
            self.record.calls.append(done)
        if self.keep is not None and call.counted:
            self.keep(done, body, self.bodies[0] if self.bodies else None)

    def _without_guards(
        self, result: Result, request: Request, call: records.Call, answer: tuple[Message, int]
    ) -> Result:
        """The call as it would go if the guards that refused it had not, one after the other."""
        everyone = self.runtime.pipeline
        while result.halt is not None and result.halt.scope not in _ENDS_ALL:
            before = self.runtime.pipeline.stages
            section = result.halt.because.section
            stages = tuple(stage for stage in before if stage.traits.name != section)
            if len(stages) == len(before):
                break
            self.runtime.pipeline = replace(everyone, stages=stages)
            result = self._drive(request, call, answer, _Watch())
            self._take_events(result)
        self.runtime.pipeline = everyone
        return result

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
                return self._answered(sent, answer)

        return live.ended(drive(live.run, perform, send))

    def _answered(self, body: bytes, answer: tuple[Message, int]) -> Called:
        """Count what was sent, from its bytes alone, and answer with the record."""
        earlier = (self.decoded,) if self.decoded is not None else ()
        self.decoded = CODEC.decode(body, earlier)
        sized = Sized.of(self.decoded, self.counter)
        hit = self.sent_cache.hit(sized)
        self.attempts.append((sized, hit))
        self.bodies.append(body)
        # A record made under clawmw may ask to expand: it must not be told to ask again.
        message, output = answer if len(self.attempts) == 1 else (_NO_ANSWER, 0)
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

    def _take_events(self, result: Result) -> None:
        record = self.record
        acted = [e for e in self.events if isinstance(e, Acted)]
        record.decisions.update({e.rule + " (observed)" * e.would for e in acted})
        for event in self.events:
            if isinstance(event, StageFailed):
                record.failures[f"{event.stage}: {event.error}"] += 1
            elif isinstance(event, Degraded):
                record.failures[f"{event.store}: {event.error}"] += 1
            elif isinstance(event, EpochBegan):
                self.priced = self.priced or not event.would
            elif isinstance(event, CallFinished) and result.halt is None:
                record.mechanisms.update(dict(event.totals.by_mechanism))
        self.events.clear()

    def _least(self, model: str) -> int:
        return self.runtime.profile(model).cache.min_tokens

    def _needed(self, request: Request, answer: Message) -> list[Placed]:
        """Each needed literal, and where the (last) body sent has it."""
        found = needs(request, answer)
        if not found or self.decoded is None:
            return []
        return placed(found, self.decoded.messages, self._originals())

    def _originals(self) -> dict[str, str]:
        """What the model can ask for, by reference; nothing where it has no means to ask."""
        if self.decoded is None or all(tool.name != EXPAND for tool in self.decoded.tools):
            return {}
        scope = self.identity.scope("session")
        originals = {}
        for ref in self.record.blobs:
            data = self.runtime.stores.blobs.get(scope, ref, self.clock.now)
            if data is not None:
                originals[ref] = data.decode("utf-8", "surrogatepass")
        return originals

    def _judge(self, request: Request, step: int) -> None:
        """Whether records stand in what was sent, and the answer, if it is due at this step."""
        if self.decoded is None:
            return
        run, sent = self.record.run, self.decoded.messages
        for original, text in paired(request.messages, sent):
            self.record.integrity += self.judge.judge(original, text)
        if run.answers and step == run.answer_due:
            shown = "\n".join(texts(sent))
            held = [text for ref, text in self._originals().items() if ref in shown]
            raw = results(request.messages)
            self.record.answer = sought(run.answers, raw, results(sent), held)


def rewrites(
    previous: tuple[Sized, Sized] | None,
    raw: Sized,
    attempts: Sequence[Sized],
    least: Callable[[str], int],
) -> int:
    """How many attempts moved a prefix that the agent itself had kept.

    Judged on the bodies sent: where the agent only appended, everything sent before must stand;
    where it changed something itself, everything up to there. Below the shortest prefix its
    provider caches (`least`, by model) there was nothing to lose. `previous`: the call before
    this one, as recorded and as sent.
    """
    if previous is None:
        return 0
    raw_before, sent_before = previous
    kept = common_prefix(raw_before.digests, raw.digests)
    whole = kept == len(raw_before.digests)
    moved = 0
    for sized in attempts:
        stands = len(sent_before.digests) if whole else kept
        shared = common_prefix(sent_before.digests, sized.digests)
        moved += shared < stands and sent_before.prefix(stands) >= least(sent_before.model)
        sent_before, whole = sized, True
    return moved

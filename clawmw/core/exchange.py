"""What one exchange knows while it runs, and the small things all its phases need."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from inspect import isgenerator
from typing import Any, Literal, TypeAlias, cast

from clawmw.core.account import Sending, totals
from clawmw.core.bill import Bill
from clawmw.core.breakpoints import lifetime
from clawmw.core.decisions import Because, Decision, Halt
from clawmw.core.effects import (
    Admit,
    Append,
    Called,
    Effect,
    Leave,
    Permit,
    Publish,
    Report,
    Reserve,
    Settle,
    Share,
)
from clawmw.core.epoch import deepened, referred
from clawmw.core.events import (
    Acted,
    Action,
    Degraded,
    Event,
    StageFailed,
    Totals,
)
from clawmw.core.fold import FoldContext
from clawmw.core.journal import Entry
from clawmw.core.moved import Moved, since
from clawmw.core.pipeline import Pipeline
from clawmw.core.prefix import tools_digest, tools_tokens, warm
from clawmw.core.render import Replacement
from clawmw.core.setup import Result, Run, Setup
from clawmw.core.spending import Spending
from clawmw.core.stage import Context, Effects, Mode, Stage, Tried
from clawmw.core.state import Cached, State
from clawmw.core.story import is_transient
from clawmw.core.stream import StreamWriter
from clawmw.core.types import Message, Outcome, Request, Usage
from clawmw.errors import StoreError

__all__ = ["Exchange", "Pipeline", "Result", "Run", "Setup"]

_PLAIN: Mapping[str, str] = {}

Phase: TypeAlias = Literal["fold", "before", "chunk", "after"]


class Exchange:
    """The running exchange: its values, and how a stage is asked."""

    def __init__(self, request: Request, pipeline: Pipeline, setup: Setup) -> None:
        self.raw = request
        self.raw_tools = tools_digest(request.tools)
        self.pipeline = pipeline.held if request.held else pipeline
        self.setup = setup
        self.now = setup.now
        self.attempt = 1
        self.made = 0
        """Calls that went to a model."""
        self.tried: list[Tried] = []
        self.called: Called | None = None
        """The attempt on the wire that just ended."""
        self.bills: list[Bill] = []
        """What the attempts on the wire are billed."""
        self.committed = False
        """What must be remembered of what is sent was written."""
        self.ran: list[Stage] = []
        self.stop: Halt | None = None
        self.final = False
        """No stage may answer the stop with another attempt."""
        self.answer: Outcome | None = None
        self.events: list[Event] = []
        self.target = ""
        """The model that a `Retry` said to ask."""
        self.spending = Spending()
        self.labels: dict[str, str] = {}
        """Headers that tell the caller what was done."""
        self.silent: Usage | None = None
        """What silent attempts used."""
        self.writer: StreamWriter | None = None
        """What writes a streamed answer to its reader."""
        self.decoded: dict[bytes, Message] = {}
        """Journal messages by their wire."""
        self.held_out = pipeline.mode != "observe" and pipeline.held_out(setup.identity)
        self.observing = pipeline.mode == "observe" or self.held_out
        self.state: State
        self.kept = request
        """The request as the stages that run once a call left it."""
        self.based: tuple[Message, ...] = ()
        """The messages that those stages were given."""
        self.adds = 0
        """Estimated tokens by which they made the history longer."""
        self.totals = Totals(0, 0, 0, 0, 0)
        self.expected: tuple[int, Moved | None] = (0, None)
        """Tokens the provider should read from its cache, and what may have kept it from that."""
        self._offered: bool | None = None
        self._hiding: bool | None = None
        self._cached: Cached | None = None
        self._contexts: dict[Mode, tuple[Request, State, Context]] = {}

    def acts(self, stage: Stage) -> bool:
        """Whether a stage does what it decides, or only says it.

        A chain that is held out goes raw, but its caps hold: they are no saving to be measured.
        """
        if self.observing and not (self.held_out and stage.traits.on_error == "closed"):
            return False
        return self.pipeline.modes.get(stage.traits.name, "enforce") == "enforce"

    def owner(self, stage: Stage) -> str:
        """The scope of a stage's slot."""
        return self.setup.identity.scope(stage.traits.slot or "session")

    def ask(
        self,
        stage: Stage,
        phase: Literal["before", "after"],
        ask: Callable[[Context], object],
        request: Request,
    ) -> Generator[Effect, Any, Decision | None]:
        """One phase of one stage; None when it failed and that is allowed to pass."""
        try:
            answer = ask(self.context(stage, request))
            if isgenerator(answer):
                answer = yield from self._tagged(stage, cast(Effects, answer))
        except Exception as error:  # noqa: BLE001 - whatever a stage raises must not reach the agent
            closed = phase == "before" and stage.traits.on_error == "closed" and self.acts(stage)
            self.failed(stage.traits.name, phase, error, closed=closed)
            return self.closed(stage, error) if closed else None
        return cast(Decision, answer)

    def _tagged(
        self, stage: Stage, phase: Generator[Effect, Any, Decision]
    ) -> Generator[Effect, Any, Decision]:
        """Pass a stage's effects on, each with an id of its own."""
        number = 0
        # What runs once a call does so once, even when it is decided anew for another attempt.
        attempt = self.attempt if stage.traits.runs == "attempt" else 1
        base = f"{self.setup.exchange}/{attempt}/{stage.traits.name}"
        step: Callable[[], Effect] = partial(next, phase)
        while True:
            try:
                effect = step()
            except StopIteration as done:
                return cast(Decision, done.value)
            if isinstance(effect, Append | Reserve | Admit | Permit | Share) and not effect.id:
                effect = replace(effect, id=f"{base}/{number}")
            elif isinstance(effect, Settle | Leave | Report | Publish) and not effect.id:
                effect = replace(effect, id=f"{base}/0")  # of what was asked for first
            number += 1
            try:
                given = yield effect
                self.spending.seen(effect, given)
                step = partial(phase.send, given)
            except StoreError as error:
                step = partial(phase.throw, error)

    def closed(self, stage: Stage, error: Exception) -> Halt:
        """The refusal of a guard that could not do its work."""
        reason = str(error) if isinstance(error, StoreError) else type(error).__name__
        return Halt(
            Because(stage.traits.name, "on_error"),
            "",
            "no call whose limits cannot be checked",
            reason,
            "Mend the cause or switch the stage off in the policy.",
        )

    def journaled(
        self,
        stage: Stage,
        messages: tuple[Message, ...],
        request: Request,
        *,
        passing: bool = False,
    ) -> Request:
        """Add messages after the history, and to the journal; `passing`: now only.

        Not where the provider holds the history: that goes on in the caller's words alone.

        They stand before a last message that comes anew with each call: the next one lacks it,
        and would lack what follows it. A full journal keeps nothing more: what comes then is
        passing, and an event says so.
        """
        if not messages or self.observing or self.raw.held:
            return request
        if not self.state.history.settled():
            return request
        state, codec = self.state, self.setup.codec
        sealed = tuple(codec.seal(message) for message in messages)
        wire = tuple(message.wire or b"" for message in sealed)
        name = f"{self.setup.exchange}/{self.attempt}/{stage.traits.name}"
        if state.journal.full and not passing:
            self.events.append(Degraded(self.setup.exchange, self.now, "journal", "full"))
            passing = True
        steps, end = state.history.steps, len(request.messages)
        tail = len(steps) > 1 and is_transient(steps[-1].raw)
        if tail and request.messages[-1:] and is_transient(request.messages[-1]):
            end -= 1
        anchor = steps[-2] if tail else steps[-1]
        state.journal = state.journal.plus(
            Entry(anchor.digest, stage.traits.name, name, wire, passing)
        )
        state.journal_changed = state.journal_changed or not passing
        before, behind = request.messages[:end], request.messages[end:]
        return replace(request, messages=(*before, *sealed, *behind))

    def cached(self, model: str) -> Cached:
        """What the model's provider holds of the history; worked out once a state."""
        state, known = self.state, self._cached
        at = (id(state.history), id(state.account))
        if known is None or known.model != model or known.now != self.now or known.at != at:
            last = state.account.for_model(model)
            count = warm(state.history, last, self.setup.profile(model).cache, self.now)
            plan = state.account.plan(model, state.history, count, self.now)
            held = (state.history, state.account)  # so that their identities stay theirs
            known = self._cached = Cached(model, self.now, at, held, last, count, plan)
        return known

    def sending(self, request: Request) -> Sending:
        """How the request is sent, to be remembered."""
        entries, rules = len(self.state.journal.entries), self.setup.profile(request.model).cache
        return Sending(
            self.cached(request.model).plan, entries, self.totals.sent, lifetime(request, rules)
        )

    def context(self, stage: Stage, request: Request) -> Context:
        """What a stage may know; the same for all that see the same request."""
        mode: Mode = "enforce" if self.acts(stage) else "observe"
        known = self._contexts.get(mode)
        if known is not None and known[0] is request and known[1] is self.state:
            return known[2]
        context = self._context(request, mode)
        self._contexts[mode] = (request, self.state, context)
        return context

    def forget_contexts(self) -> None:
        """Time has passed, or the attempt is another."""
        self._contexts.clear()

    def _context(self, request: Request, mode: Mode) -> Context:
        state, setup = self.state, self.setup
        cached, steps = self.cached(request.model), state.history.steps
        count, last = cached.count, cached.last
        return Context(
            self.now,
            setup.identity,
            setup.exchange,
            self.attempt,
            setup.seed,
            mode,
            state.history,
            setup.profile,
            setup.codec,
            sent_tokens=self._weight(request),
            warm_tokens=steps[count - 1].upto.sent if count else 0,
            cache=cached.plan,
            last_model=state.account.warm[0].model if state.account.warm else None,
            last_tools=last.tools if last else None,
            tools_changed=last is not None and last.raw_tools != self.raw_tools,
            can_expand=bool(state.account.can_expand),
            can_offer=state.account.can_expand is False and self.offered(),
            may_hide=self.hiding(),
            account=state.account,
            deepen=self._deeper,
            referred=self._referred,
            tried=tuple(self.tried),
            called=self.called,
            bill=self.bills[-1] if self.called is not None else None,
            stopped=self.stop,
            target=self.target,
            place=self.setup.place,
        )

    def _weight(self, request: Request) -> int:
        """Tokens of the context; what the provider holds of it, as far as that is known."""
        state, earlier = self.state, self.raw.earlier
        held = earlier.tokens or 0 if earlier is not None else 0
        return tools_tokens(request.tools) + state.history.sums.sent + state.added + held

    def can_offer(self) -> bool:
        """Whether the model can be given the means to ask, and a folder would use them."""
        return self.hiding() and self.offered()

    def hiding(self) -> bool:
        """Whether a folder may cut something."""
        if self._hiding is None:
            self._hiding = any(self.acts(stage) for stage in self.pipeline.hiding)
        return self._hiding

    def offered(self) -> bool:
        """Whether this call's model can be given the means to ask for what is cut."""
        if self._offered is None:
            offers = self.pipeline.offers
            self._offered = any(self.acts(s) and offer.offered(self.raw) for s, offer in offers)
        return self._offered

    def _deeper(self, place: int) -> Mapping[int, Replacement]:
        history = self.state.history
        scope, step = self.setup.identity.scope("session"), history.steps[place]
        can = bool(self.state.account.can_expand) or self.offered()
        ctx = FoldContext(scope, can, self.raw.tools)
        acting = [stage for stage, _ in self.pipeline.folders if self.acts(stage)]
        folders = [
            (stage.traits.name, folder, history.states[acting.index(stage)])
            for stage, folder in self.pipeline.deepeners
            if stage in acting
        ]
        return deepened(step, folders, ctx, lambda name, e: self.failed(name, "fold", e))

    def _referred(self) -> frozenset[int]:
        return referred(self.state.history, [r for _, r in self.pipeline.referrers])

    def total(self, request: Request) -> Totals:
        """The weight of the call's context."""
        state = self.state
        rules = self.setup.profile(request.model).cache
        return totals(state.account, self.raw, request, state.history, state.added, rules, self.now)

    def expect(self, request: Request) -> tuple[int, Moved | None]:
        """What the call before has left in the cache, and what moved since; see `expected`."""
        rules, state = self.setup.profile(request.model).cache, self.state
        last = state.account.for_model(request.model)
        if last is None or not self.totals.sent_cacheable or not last.holds(rules, self.now):
            return 0, None
        earlier = self.setup.history.messages if self.setup.history else ()
        moved = since(last, request.tools, state.history, earlier)
        return (last.sent if moved else self.totals.sent_cached), moved

    def failed(self, stage: str, phase: Phase, error: Exception, *, closed: bool = False) -> None:
        """Note that a stage raised. Only the type is told: the text could hold content."""
        name = type(error).__name__
        self.events.append(StageFailed(self.setup.exchange, self.now, stage, phase, name, closed))

    def said(
        self,
        stage: Stage,
        action: Action,
        because: Because,
        detail: Mapping[str, str] = _PLAIN,
        *,
        done: bool = True,
    ) -> None:
        """Note what a stage decided, and whether it was done."""
        self.events.append(
            Acted(
                self.setup.exchange,
                self.now,
                stage.traits.name,
                action,
                str(because),
                not (done and self.acts(stage)),
                {**because.detail, **detail},
            )
        )

"""The stage: what is new goes to the evidence, the detectors judge it, the worst case decides.

Evidence is kept per conversation, so that parallel ones do not mix and none pushes another's out,
and per chain for what only the chain shows: who spoke to whom, and that it was stopped. It is
appended atomically and lies in the stores, so a loop goes on across processes, compaction and
models. A call costs its new results and a look at a bounded window.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from clawmw.core.codec import Codec
from clawmw.core.decisions import Because, Decision, Halt, Pass, Rewrite
from clawmw.core.effects import Append, Commit, Effect, Load, Note, Sleep, Slot, Write
from clawmw.core.events import Acted, Action
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.stream import Cut, Extra, StreamEvent, TextDelta, ToolDelta
from clawmw.core.types import Json, Message, Outcome, Request, Response, Role, Text
from clawmw.stages.base import Build, Registration
from clawmw.stages.guard.loop import chant, notes, rings, talk
from clawmw.stages.guard.loop.config import LoopGuardConfig
from clawmw.stages.guard.loop.found import DETECTORS, STEPS, Found, Step
from clawmw.stages.guard.loop.normal import words
from clawmw.stages.guard.loop.progress import stalled
from clawmw.stages.guard.loop.streaks import streak

__all__ = ["REGISTRATION", "LoopGuard", "LoopGuardConfig"]

_LONGEST = 30.0
"""Seconds that a call is made to wait, at most."""
_OPENING = 16
"""Messages among which a conversation that has begun has an answer."""
_TRIES = 4
"""How often a stop is written where others write, too."""
_CUT = "\n\n[clawmw] This answer repeated itself and was cut here."
_NUDGE = "[clawmw] So far {}. {}"
_ADVICE = {
    "tool": "Use only the tools you were given, or answer with what you have.",
    "monologue": "Tell the user where you are, or finish.",
    "echo": "Do not reply to this again: say what is new, or end the conversation.",
    "ring": "Hand on only what is new; if there is nothing, answer with what you have and end.",
}
_OTHERWISE = (
    "Repeating it will not help: try something else, or answer with what you have and say what "
    "is missing."
)


class LoopGuard:
    """See the module. Its slot, one a chain, says that the chain was stopped, and as what."""

    traits: ClassVar[StageTraits] = StageTraits(
        "loop_guard", slot="chain", on_error="closed", runs="call", above=("expand",)
    )

    def __init__(self, config: LoopGuardConfig) -> None:
        self.config = config

    # --- before the call -----------------------------------------------------------------------

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Effects:
        """Add what is new to the evidence, and judge the conversation by it."""
        if slot is not None:
            return self._halt(_stopped(slot), "stop")
        who, most = ctx.identity, self.config.hops
        if who.hop > most and self.config.limit("hops") != "off":
            found = Found("hops", who.hop, self.config.stop, "the task was handed on {} times")
            return (yield from self._decided(found, notes.NOTHING, ctx))
        steps, fresh = ctx.history.steps, ctx.history.fresh()
        named = "chain" not in who.derived
        new = notes.gathered(request, ctx, fresh, known=False)
        scope = _scope(ctx)
        if len(fresh) == len(steps):
            if not new:  # it begins: there is nothing to judge it by
                return (yield from self._begun(ctx, notes.NOTHING)) if named and steps else Pass()
            if (yield Append(scope, (), 1)):
                new = notes.gathered(request, ctx, fresh, known=True)
        window: tuple[Note, ...] = yield Append(scope, new, self.config.window)
        looks = self._gate(ctx, len(fresh))
        if not looks and _moves(new, window):
            return Pass()
        seen = notes.read(window, ctx.exchange)
        spoken = any(note.kind[0] == "u" for note in new)
        worst = self._judged(seen, len(new), spoken=spoken, looks=looks)
        if named and spoken and (worst is None or worst.weight < self.config.refuse):
            return (yield from self._begun(ctx, seen, worst))
        return (yield from self._decided(worst, seen, ctx))

    def _judged(self, seen: notes.Seen, new: int, *, spoken: bool, looks: bool) -> Found | None:
        """The worst that the detectors see in a conversation."""
        config = self.config
        found: list[Found | None] = []
        if seen.values:
            found += [streak(seen.values, new), stalled(seen.values)]
        if seen.turns and (spoken or not new):
            found.append(talk.echo(seen.turns))
            found.append(talk.speed(seen.turns, config.turns, config.within, config.stop))
        if looks:
            last = max((i for i, v in enumerate(seen.values) if v[0] == "u"), default=-1)
            found.append(talk.monologue(seen.places[last + 1 :], config.monologue))
        return max((one for one in found if one is not None), key=config.reach, default=None)

    def _begun(self, ctx: Context, seen: notes.Seen, found: Found | None = None) -> Effects:
        """Somebody spoke to this agent: the chain's walk goes on."""
        who, last = ctx.identity, ctx.history.steps[-1]
        begins = not any(step.raw.role is Role.ASSISTANT for step in ctx.history.steps[:_OPENING])
        agent = who.agent if who.agent != "default" else who.session
        said = rings.Visit(agent, begins, seen.progressed(), words(last.raw.text), ctx.now)
        window: tuple[Note, ...] = yield Append(
            f"{who.scope('chain')}\x1fwalk", (rings.visit(last.digest[:16], said),), rings.WALK
        )
        ring = rings.ring(rings.visits(window))
        both = [one for one in (found, ring) if one is not None]
        worst = max(both, key=self.config.reach, default=None)
        return (yield from self._decided(worst, seen, ctx))

    def _gate(self, ctx: Context, fresh: int) -> bool:
        """Whether it is time to look for a monologue: at every N/4 results."""
        every = self.config.monologue // talk.GATE
        if not every or self.config.limit("monologue") == "off":
            return False
        steps = ctx.history.steps
        before = len(steps) - fresh
        earlier = steps[before - 1].upto.count if before else 0
        return earlier // every != ctx.history.sums.count // every

    # --- the steps -----------------------------------------------------------------------------

    def _decided(self, found: Found | None, seen: notes.Seen, ctx: Context) -> Effects:
        """Do what is to be done at so many, and as far as the detector may go."""
        if found is None:
            return Pass()
        weight = found.weight + seen.refused  # whoever insists is a turn further
        limit = self.config.limit(found.detector)
        asked = self.config.step(weight)
        step = min(asked, limit, key=STEPS.index)
        if step == "off":
            return Pass()
        if step == "observe":
            return Pass(events=(_acted(found, asked, ctx, would=True),))
        if step in ("refuse", "stop"):
            if ctx.mode == "enforce":
                yield from self._insisted(found, step, ctx)
            return self._halt(found, step)
        if step == "slow" and ctx.mode == "enforce":
            over = weight - self.config.slow + 1
            yield Sleep(min(self.config.delay * over, _LONGEST))
        tell = not seen.nudged and ctx.history.settled()
        if tell:
            yield Append(_scope(ctx), (notes.told("n", ctx),), 1)
            text = _NUDGE.format(found.text, _ADVICE.get(found.detector, _OTHERWISE))
            note = (Message(Role.USER, (Text(text),)),)
            return Rewrite(_because(found, "nudge"), journal=note)
        return Rewrite(_because(found, "slow")) if step == "slow" else Pass()

    def _insisted(self, found: Found, step: Step, ctx: Context) -> Generator[Effect, Any, None]:
        """Remember that a call was refused, or that the chain is stopped."""
        if step == "refuse":
            yield Append(_scope(ctx), (notes.told("!", ctx),), 1)
            return
        key = (ctx.identity.scope("chain"), self.traits.name)
        for _ in range(_TRIES):  # many stop a chain at once; one of them is enough
            slots: list[Slot] = yield Load((key,))
            stopped = Write(key, {"stopped": found.detector}, slots[0].version)
            if slots[0].value is not None or (yield Commit((stopped,))):
                return

    def _halt(self, found: Found, step: Step) -> Halt:
        scope, limit = "conversation", self.config.refuse
        resume = "Go on with another tool, other arguments, or an answer."
        if step == "stop":
            scope, limit = "chain", self.config.stop
            resume = "Start a new task to go on."
        least = f"fewer than {limit} repeats"
        if found.detector == "hops":
            least = f"{self.config.hops} hand-overs"
        return Halt(_because(found, step), scope, least, found.text, resume)

    # --- the answer ----------------------------------------------------------------------------

    def watches(self, request: Request, codec: Codec) -> bool:
        """Every stream of prose; structured output is alike line by line and all right."""
        return self.config.limit("chant") not in ("off", "observe") and _prose(request)

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """End a stream that chants."""
        match event:
            case TextDelta(text):
                inner = state.setdefault("text", {})
            case Extra(_, text):
                inner = state.setdefault("thought", {})
            case ToolDelta():
                state["tools"] = True
                return (event,)
            case _:
                return (event,)
        if text and "tools" not in state and chant.fed(text, inner):
            return Cut("loop_guard.chant", (event, TextDelta(_CUT)))
        return (event,)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Cut a finished answer that ended in a chant, as its stream would have been."""
        limit = self.config.limit("chant")
        if not isinstance(outcome, Response) or limit == "off" or not _prose(request):
            return Pass()
        parts = outcome.message.parts
        text = parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else ""
        if not chant.chanting(text[-chant.MOST :]):
            return Pass()
        end = chant.begins(text)
        if end is None:
            return Pass()
        found = Found("chant", chant.HITS, 0, "an answer repeated itself {} times")
        if request.stream or limit == "observe":  # the reader of a stream has it, cut, already
            would = limit == "observe" or ctx.mode == "observe"
            return Pass(events=(_acted(found, "cut", ctx, would=would),))
        shorter = Message(Role.ASSISTANT, (Text(text[:end] + _CUT),))
        return Rewrite(_because(found, "cut"), response=replace(outcome, message=shorter))


def _scope(ctx: Context) -> str:
    """Where a conversation's evidence is: under its chain, where that has a name.

    A chain that nobody named begins anew with each message of a human, and with compaction.
    """
    who = ctx.identity
    if "chain" in who.derived:
        return f"{who.scope('session')}\x1floops"
    return f"{who.scope('chain')}\x1f{who.session}\x1floops"


def _moves(new: Sequence[Note], window: Sequence[Note]) -> bool:
    """Whether what is new is so plainly new that no detector need look: the usual case."""
    if not new or any(note.kind[0] != "r" for note in new):
        return False
    values = [note.value for note in window]
    for note in new:
        kind = note.value[26:]
        if kind not in ("", "s") or values.count(note.value) > 1:
            return False
        before = values[-1 - len(new) : -len(new)]
        if kind == "s" and before and before[0][13:25] == note.value[13:25]:
            return False
    return True


def _prose(request: Request) -> bool:
    """Whether the answer is for people; structured output is alike and all right."""
    return not request.structured


def _stopped(slot: Json) -> Found:
    """What a chain was stopped for, as its slot has it."""
    detector = slot.get("stopped") if isinstance(slot, dict) else None
    found = next((known for known in DETECTORS if known == detector), DETECTORS[0])
    return Found(found, 0, 0, "the chain was stopped as a loop before")


def _because(found: Found, rule: str) -> Because:
    return Because("loop_guard", rule, {"detector": found.detector, "count": found.count})


def _acted(found: Found, rule: str, ctx: Context, *, would: bool) -> Acted:
    """What was done, or would have been, for the trace."""
    action: Action = "halt" if rule in ("refuse", "stop") else "rewrite"
    detail = {"detector": found.detector, "count": found.count}
    name = "loop_guard"
    return Acted(ctx.exchange, ctx.now, name, action, f"{name}.{rule}", would, detail)


def _build(config: LoopGuardConfig, build: Build) -> LoopGuard:
    return LoopGuard(config)


REGISTRATION = Registration("loop_guard", LoopGuardConfig, _build)

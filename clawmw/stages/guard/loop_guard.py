"""`loop_guard`: the same call with the same result, again and again, is not progress.

Evidence is kept per chain, so a loop is seen across agents, processes and compaction; it
is counted per conversation, and starts anew whenever that conversation sees something new.
Steps: a note to the model, no further model call, the end of the chain.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from clawmw.core.decisions import Because, Halt, Pass, Rewrite
from clawmw.core.effects import Append, Note
from clawmw.core.stage import Context, Effects, Quiet, StageTraits
from clawmw.core.types import Json, Message, Request, Role, Text, ToolCall
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.units import Count

__all__ = ["REGISTRATION", "LoopGuard", "LoopGuardConfig", "repeats", "signature"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STOP = Note("stop", "")
_LOOK_BACK = 64
"""Calls looked at to find the one that a result answers."""


class LoopGuardConfig(StageConfig):
    """Stop an agent that repeats itself."""

    nudge: Count = 4
    """Tell the model at this many identical calls with identical results."""
    refuse: Count = 8
    """Make no further model call from this many on."""
    stop: Count = 16
    """Stop the whole chain at this many."""
    window: Count = 256
    """How many of a chain's newest tool calls are looked at."""

    @model_validator(mode="after")
    def _one_after_the_other(self) -> LoopGuardConfig:
        if self.nudge <= self.refuse <= self.stop:
            return self
        raise PydanticCustomError(
            "loop_guard",
            "the steps come one after the other, so nudge <= refuse <= stop must hold; here "
            "they are {nudge}, {refuse} and {stop}",
            {"nudge": self.nudge, "refuse": self.refuse, "stop": self.stop},
        )


def signature(call: ToolCall) -> str:
    """Digest of what is asked: the tool and its arguments, key order and wrapping aside.

    OpenClaw wraps most of its tools as `tool_call {"id": name, "args": {...}}`.
    """
    name = call.name
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments.strip()
    if name == "tool_call" and isinstance(arguments, dict) and "id" in arguments:
        name, arguments = str(arguments["id"]), arguments.get("args", {})
    text = json.dumps([name, arguments], sort_keys=True, ensure_ascii=False)
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def repeats(values: Sequence[str]) -> int:
    """How often the newest value occurred since something new was last seen."""
    if not values:
        return 0
    seen: set[str] = set()
    newest_first_seen = 0
    for index, value in enumerate(values):
        if value not in seen:
            seen.add(value)
            newest_first_seen = index
    return values[newest_first_seen:].count(values[-1])


class LoopGuard(Quiet):
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "loop_guard", on_error="closed", runs="call", above=("expand",)
    )

    def __init__(self, config: LoopGuardConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Effects:
        """Add what is new to the chain's evidence, and judge the conversation by it."""
        mine = _digest(ctx.identity.session)
        scope = ctx.identity.scope("chain")
        notes = tuple(Note(mine, pair) for pair in (*_new_words(ctx), *_new_pairs(ctx)))
        window: tuple[Note, ...] = yield Append(scope, notes, self.config.window)
        if any(note.kind == _STOP.kind for note in window):
            return self._halt("stop", self.config.stop, "the chain was stopped as a loop before")
        # One result may be seen by several calls at once; its place in the history tells.
        places = dict.fromkeys(note.value for note in window if note.kind == mine)
        values = [place.partition("@")[0] for place in places]
        count = repeats(values)
        if count >= self.config.refuse:
            # A refused call is one more turn of the loop: whoever insists is stopped.
            last: tuple[Note, ...] = (Note(mine, f"{values[-1]}@{ctx.exchange}"),)
            rule = "refuse"
            if count >= self.config.stop:
                rule = "stop"
                last = (_STOP,) if ctx.mode == "enforce" else ()
            yield Append(scope, last, self.config.window)
            limit = self.config.stop if rule == "stop" else self.config.refuse
            said = f"the same tool call gave the same result {count} times"
            return self._halt(rule, limit, said)
        new = sum(note.value.partition("@")[0] == values[-1] for note in notes) if values else 0
        if count - new < self.config.nudge <= count:
            text = _NUDGE.format(count)
            return Rewrite(
                Because("loop_guard", "nudge"), journal=(Message(Role.USER, (Text(text),)),)
            )
        return Pass()

    def _halt(self, rule: str, limit: int, used: str) -> Halt:
        scope = "chain" if rule == "stop" else "conversation"
        resume = (
            "Start a new task to go on."
            if rule == "stop"
            else "Go on with another tool, other arguments, or an answer."
        )
        because = Because("loop_guard", rule)
        return Halt(because, scope, f"fewer than {limit} repeats", used, resume)


_NUDGE = (
    "[clawmw] The last tool call was made {} times with the same arguments and gave the same "
    "result each time. Repeating it will not help: try something else, or answer with what "
    "you have."
)


def _new_words(ctx: Context) -> list[str]:
    """A new user message: whatever was repeated before, the conversation has moved on.

    Not in a history first seen whole: compaction makes one, and a loop outlives it.
    """
    fresh = ctx.history.fresh()
    said = [step for step in fresh if step.raw.role is Role.USER]
    if not said or len(fresh) == len(ctx.history.steps):
        return []
    return [f"user {said[-1].digest[:16]}@"]


def _new_pairs(ctx: Context) -> list[str]:
    """`call/result@place` for each tool result this call shows for the first time."""
    fresh = ctx.history.fresh()
    if len(fresh) == len(ctx.history.steps):
        # A history first seen whole (a review, a fork, a restart elsewhere) was not made
        # under our eyes: only its last round is this conversation's doing.
        calls_at = [i for i, step in enumerate(fresh) if step.raw.tool_calls]
        fresh = fresh[calls_at[-1] :] if calls_at else ()
    if not any(step.raw.tool_results for step in fresh):
        return []
    wanted = {r.call_id for step in fresh for r in step.raw.tool_results}
    wanted -= {c.id for step in fresh for c in step.raw.tool_calls}
    calls: dict[str, ToolCall] = {}
    for step in reversed(ctx.history.steps[: -len(fresh)]):
        if wanted <= calls.keys() or len(calls) > _LOOK_BACK:
            break
        calls = {c.id: c for c in step.raw.tool_calls} | calls
    pairs = []
    for step in fresh:
        calls.update({c.id: c for c in step.raw.tool_calls})
        for index, result in enumerate(step.raw.tool_results):
            call = calls.get(result.call_id) or ToolCall("", result.name or "", "{}")
            text = _ANSI.sub("", result.text).strip()
            pairs.append(f"{signature(call)}/{_digest(text)}@{step.digest[:16]}.{index}")
    # The same call made several times at once is one turn of a loop.
    turns = {pair.partition("@")[0]: pair for pair in pairs}
    return list(turns.values())


def _build(config: LoopGuardConfig, build: Build) -> LoopGuard:
    return LoopGuard(config)


REGISTRATION = Registration("loop_guard", LoopGuardConfig, _build)

"""The evidence of a conversation: what each call shows for the first time, in a line each.

A note's kind is its place in the history, so that one result seen by several calls at once, or
by a client that sends again, counts once: `r` for a tool's result, `u` for words, `!` a call
refused here, `n` a note to the model. Values:

- a result: `call/result/class`, two digests and what `normal.failure` says (`s`: long);
- words: `u/pair/flags`; `pair` stands for the answer before and the words. `q`: they came as fast
  as a machine's, or no answer was before them, so that they are new the first time only; `x`: they
  say that something failed. What an agent adds to each call by itself is no words.

Its own words are no evidence, in whatever role they come back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.effects import Note
from clawmw.core.fold import Step
from clawmw.core.stage import Context
from clawmw.core.story import TRANSIENT
from clawmw.core.types import Request, Role, ToolCall, ToolResult
from clawmw.stages.guard.loop.normal import digest, failure, ours, plain, signature, words
from clawmw.stages.guard.loop.progress import LONG
from clawmw.stages.guard.loop.streaks import news
from clawmw.stages.guard.loop.talk import QUICK, Turn

__all__ = ["NOTHING", "Seen", "gathered", "read", "told"]

_LOOK_BACK = 64
"""Messages looked at to find the call that a result answers, or the answer before words."""
_TRANSIENT = (TRANSIENT, "<system-reminder>")
"""How begins what agents put behind the history of each call."""
_THOUGHTS = frozenset({"think", "sequentialthinking"})
"""Tools that only take a thought down: no progress, and no repetition."""
_ROUNDS = 64
"""Rounds that are taken over from a history first seen whole."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A conversation's evidence, oldest first."""

    places: tuple[str, ...]
    values: tuple[str, ...]
    """Of results and words, as the detectors want them."""
    turns: tuple[Turn, ...]
    """Words since the newest result that was new."""
    refused: int
    """Calls refused since anything new was seen."""
    nudged: bool
    """Whether the model was told since."""

    def progressed(self) -> bool:
        """Whether a new result came between the newest words and those before."""
        values = self.values
        end = len(values) - (bool(values) and values[-1][0] == "u")
        start = max((i + 1 for i in range(end) if values[i][0] == "u"), default=0)
        known = {value[13:25] for value in values[:start]}
        return any(value[13:25] not in known for value in values[start:end])


NOTHING = Seen((), (), (), 0, False)
"""The evidence of a conversation that begins."""


def gathered(
    request: Request, ctx: Context, fresh: Sequence[Step], *, known: bool
) -> tuple[Note, ...]:
    """What this call shows for the first time.

    A history first seen whole (a fork, a compaction, a restart elsewhere) was not made under our
    eyes. Where the conversation is `known`, only its last round is new; where it is not, all
    since its user's last words is taken over: a loop outlives whoever watched it. Where the
    provider holds the history, a call brings what is new alone.
    """
    steps = ctx.history.steps
    if len(fresh) == len(steps) and not request.held:
        return tuple(_results(request, _taken_over(steps, known=known), ()))
    before = steps[: len(steps) - len(fresh)]
    at = next((i for i in range(len(fresh) - 1, -1, -1) if _speaks(fresh[i])), None)
    if at is None:
        return tuple(_results(request, fresh, before))
    said = _said(ctx, fresh[at], [*before[-_LOOK_BACK:], *fresh[:at]])
    earlier = _results(request, fresh[:at], before)
    return (*earlier, *said, *_results(request, fresh[at:], (*before, *fresh[:at])))


def _speaks(step: Step) -> bool:
    """Whether a message is somebody's words."""
    message = step.raw
    if message.role is not Role.USER or message.tool_results:
        return False
    text = message.text
    return bool(text) and not text.startswith(_TRANSIENT) and not ours(text)


def _taken_over(steps: Sequence[Step], *, known: bool) -> Sequence[Step]:
    rounds, first = 0, len(steps)
    for index in range(len(steps) - 1, -1, -1):
        if _speaks(steps[index]):
            break
        if steps[index].raw.tool_calls:
            rounds, first = rounds + 1, index
            if known or rounds >= _ROUNDS:
                break
    return steps[first:]


def _said(ctx: Context, step: Step, before: Sequence[Step]) -> list[Note]:
    """The note of a user's words."""
    answer, said = "", False
    for earlier in reversed(before):
        if earlier.raw.role is Role.ASSISTANT:
            said = not earlier.raw.tool_calls
            answer = words(earlier.raw.text) if said and not ours(earlier.raw.text) else ""
            break
    answered = ctx.account.answered
    quick = not said or (answered is not None and ctx.now - answered < QUICK)
    pair = digest(answer + words(step.raw.text))
    flags = ("q" if quick else "") + ("x" if failure(step.raw.text)[:1] in ("x", "u") else "")
    return [Note(f"u{step.digest[:16]}{int(ctx.now * 10)}", f"u/{pair}/{flags}")]


def _results(request: Request, fresh: Sequence[Step], before: Sequence[Step]) -> list[Note]:
    """A note for each result; the same call made several times at once is one."""
    notes: dict[tuple[int, str], Note] = {}
    calls: dict[str, ToolCall] = {}
    turn = 0
    for step in fresh:
        index = 0
        for part in step.raw.parts:
            if isinstance(part, ToolCall):
                turn, calls[part.id] = turn + 1, part
            elif isinstance(part, ToolResult):
                call = calls.get(part.call_id) or _call(part, before, request)
                index += 1
                if call.name in _THOUGHTS or ours(part.text):
                    continue
                text = plain(part.text)
                value = f"{signature(call)}/{digest(text)}/{_class(request, call, text)}"
                notes[turn, value] = Note(f"r{_place(request, step, part)}.{index}", value)
    return list(notes.values())


def _place(request: Request, step: Step, part: ToolResult) -> str:
    """Where a result stands in the history; by its call, where only the provider knows that."""
    return digest(f"{part.call_id} {step.digest}") if request.held else step.digest[:16]


def _class(request: Request, call: ToolCall, text: str) -> str:
    """What a result is, besides new or not; see the module."""
    kind = failure(text)
    if not kind:
        return "s" if len(text) >= LONG else ""
    known = {spec.name for spec in request.tools}
    return "u" if known and call.name and call.name not in known else kind


def _call(result: ToolResult, before: Sequence[Step], request: Request) -> ToolCall:
    """The call of a result. Ids recur in real histories, so the nearest one before it counts.

    One that only the provider holds is like no other, unless its answer came through here.
    """
    for step in reversed(before[-_LOOK_BACK:]):
        for call in step.raw.tool_calls:
            if call.id == result.call_id:
                return call
    known = request.earlier.calls if request.earlier is not None else ()
    unknown = json.dumps([result.call_id]) if request.held else "{}"
    made = ToolCall("", result.name or "", unknown)
    return next((call for call in known if call.id == result.call_id), made)


def read(window: Sequence[Note], exchange: str) -> Seen:
    """What a window says. What this very exchange was told is not there yet."""
    found = {note.kind[:17] if note.kind[0] == "u" else note.kind: note for note in window}
    seen: set[str] = set()
    places, values = [], []
    turns: list[Turn] = []
    refused, nudged, halted = 0, False, 0.0
    for note in found.values():
        sign, value = note.kind[0], note.value
        if sign in "!n":
            if note.kind[1:] == exchange:
                continue
            refused += sign == "!"
            nudged = nudged or sign == "n"
            halted = int(value) / 10 if sign == "!" else halted
            continue
        if sign == "u":
            turn = Turn(value[2:14], int(note.kind[17:]) / 10, value.endswith("x"))
            turns.append(turn)
            if "q" not in value and turn.time - halted > QUICK:
                value += note.kind[1:17]  # a human's: new whatever is said
        if (now := news(value)) not in seen:
            seen.add(now)
            refused, nudged = 0, False
            turns = turns if sign == "u" else []
        places.append(note.kind)
        values.append(value)
    return Seen(tuple(places), tuple(values), tuple(turns), refused, nudged)


def told(sign: str, ctx: Context) -> Note:
    """That a call was refused (`!`), or that the model was told (`n`)."""
    return Note(sign + ctx.exchange, str(int(ctx.now * 10)))

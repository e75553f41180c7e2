"""Shorter forms of messages that were sent already, and the marker each leaves behind.

Every form is reversible where the model can ask (`clawmw_expand`); where it cannot, a marker
says plainly what is missing. What later results point at keeps its form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clawmw.core.fold import WORTH, History, Step, reference
from clawmw.core.render import Form, Replacement, applied, message_tokens
from clawmw.core.stage import Context
from clawmw.core.tokens import estimate
from clawmw.core.types import Message, Opaque, Role, Text, ToolCall, ToolResult

__all__ = ["Shorter", "deeper", "left_out", "marked", "recent", "superseded", "units"]

_GAIN = 32
"""Tokens below which another form of a part is not worth having."""
_MARGIN = 0.1
"""The least share that a part must shrink by."""
_STILL = 0.5
"""A later result supersedes an earlier one if it has at least this share of its tokens: an
error message in the place of a file does not."""


@dataclass(frozen=True, slots=True)
class Shorter:
    """A form that one message could have, and what it weighs before and after."""

    place: int
    form: Form
    before: int
    after: int
    hides: bool = True
    """Whether something is cut that a model could ask for."""
    originals: Mapping[str, str] = field(default_factory=dict)

    @property
    def gain(self) -> int:
        """Tokens less."""
        return self.before - self.after


def recent(history: History, rounds: int) -> int:
    """Index of the first message of the newest so many rounds of tool calls; at least one."""
    steps = history.steps
    for place in range(len(steps) - 1, -1, -1):
        if steps[place].raw.tool_calls:
            rounds -= 1
            if rounds <= 0:
                return place
    return 0


# --- single results --------------------------------------------------------------------------


def deeper(ctx: Context, upto: int) -> Iterator[Shorter]:
    """Results before message `upto` as the folders would have them at an epoch."""
    pointed_at = ctx.referred()
    for place, step in enumerate(ctx.history.steps[:upto]):
        if step.form is not None or step.sent_tokens < WORTH or not step.raw.tool_results:
            continue
        if place in pointed_at:
            continue
        parts = {}
        for index, part in ctx.deepen(place).items():
            now, then = estimate(_text(step, index)), estimate(part.text)
            if now - then >= max(_GAIN, _MARGIN * now):
                parts[index] = part
        if parts:
            yield _with(step, place, parts)


def superseded(ctx: Context, upto: int) -> Iterator[Shorter]:
    """Results before message `upto` whose call was made again later, with a newer result.

    Only calls with arguments: `next_page()` gives something else each time. What the newer
    result itself points at stays.
    """
    history, pointed_at = ctx.history, ctx.referred()
    newest: dict[str, Step] = {}
    found = []
    for place, index, call in reversed(list(_answered(history))):
        step = history.steps[place]
        name = _signature(call)
        if name is None:
            continue
        later = newest.setdefault(name, step)
        if later is step or place >= upto or place in pointed_at:
            continue
        now = estimate(_text(step, index))
        if later.raw_tokens < _STILL * now or is_marker(_text(step, index)):
            continue
        text = _original(step, index)
        said = f"superseded by a later `{call.name[:64]}` with the same arguments"
        part = _marker(ctx, (_ordinal(step, index), text), said, "epochs.superseded@1")
        if now - estimate(part.text) >= _GAIN:
            found.append(_with(step, place, {index: part}))
    return reversed(found)


def marked(ctx: Context, places: Sequence[int]) -> Iterator[Shorter]:
    """The results of those messages, each as a marker."""
    for place in places:
        step = ctx.history.steps[place]
        if step.form is not None and step.form.whole is not None:
            continue
        parts = {}
        for index, part in enumerate(step.raw.parts):
            if not isinstance(part, ToolResult) or is_marker(_text(step, index)):
                continue
            size = f"an older result of {estimate(part.text):,} tokens, left out for want of room"
            original = (_ordinal(step, index), part.text)
            mark = _marker(ctx, original, size, "window.result@1")
            if estimate(_text(step, index)) - estimate(mark.text) >= _GAIN:
                parts[index] = mark
        if parts:
            yield _with(step, place, parts)


def is_marker(text: str) -> bool:
    """Whether a text is a marker and nothing else."""
    return text.startswith("[clawmw") and text.endswith("]") and len(text) < 400


def _with(step: Step, place: int, parts: Mapping[int, Replacement]) -> Shorter:
    form = Form({**step.parts, **parts})
    after = message_tokens(applied(step.raw, form.parts))
    hides = any(part.ref is not None for part in parts.values())
    return Shorter(place, form, step.sent_tokens, after, hides)


def _marker(ctx: Context, original: tuple[int, str], said: str, by: str) -> Replacement:
    """The one line in the place of an original, told with its number in the conversation."""
    if not (ctx.can_expand or ctx.can_offer):
        return Replacement(f"[clawmw: {said}]", by)
    ref = reference(ctx.identity.scope("session"), *original)
    return Replacement(f"[clawmw_expand {ref}: {said}]", by, ref)


def _ordinal(step: Step, index: int) -> int:
    """The number of the result that a part is."""
    later = [part for part in step.raw.parts[index:] if isinstance(part, ToolResult)]
    return step.upto.count - len(later) + 1


def _original(step: Step, index: int) -> str:
    part = step.raw.parts[index]
    return part.text if isinstance(part, Text | ToolResult) else ""


def _text(step: Step, index: int) -> str:
    """A part's text as it is sent."""
    return step.parts[index].text if index in step.parts else _original(step, index)


def _answered(history: History) -> Iterator[tuple[int, int, ToolCall]]:
    """Each tool result as (message, part, its call); ids may be doubled."""
    waiting: dict[str, list[ToolCall]] = {}
    for place, step in enumerate(history.steps):
        for index, part in enumerate(step.raw.parts):
            if isinstance(part, ToolCall):
                waiting.setdefault(part.id, []).append(part)
            elif isinstance(part, ToolResult) and waiting.get(part.call_id):
                yield place, index, waiting[part.call_id].pop(0)


def _signature(call: ToolCall) -> str | None:
    """What tells a call from others; None for one without arguments."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None
    if not arguments or not isinstance(arguments, dict):
        return None
    return json.dumps([call.name, arguments], sort_keys=True)


# --- whole units -----------------------------------------------------------------------------


def units(history: History) -> list[range]:
    """What can be left out as a whole, oldest first: calls with their results, or one message.

    Never a system prompt, the first or the last message of the user, or the newest unit; nor what
    a model and its provider have between them (a call of a built-in tool, and its result).
    """
    steps = history.steps
    users = [place for place, step in enumerate(steps) if step.raw.role is Role.USER]
    fixed = {*users[:1], *users[-1:]}
    found: list[range] = []
    end = 0
    while end < len(steps):
        place, calls = end, len(steps[end].raw.tool_calls)
        end, results = end + 1, len(steps[end].raw.tool_results)
        while calls and end < len(steps) and steps[end].raw.tool_results:
            results += len(steps[end].raw.tool_results)
            end += 1
        form = steps[place].form
        gone = form is not None and form.whole is not None
        kept = place in fixed or gone or _bound(steps[place].raw)
        if calls == results and not kept and end < len(steps):
            found.append(range(place, end))
    return found


def _bound(message: Message) -> bool:
    """Whether something else in the request may not do without a message."""
    if message.role is Role.SYSTEM:
        return True
    opaque = any(isinstance(part, Opaque) for part in message.parts)
    return opaque and message.role is not Role.USER


def left_out(ctx: Context, gone: Sequence[range]) -> Iterator[Shorter]:
    """Those units left out, one marker for each stretch of them; short ones stay."""
    for stretch in _stretches(gone):
        steps = [ctx.history.steps[place] for place in stretch]
        text = "\n\n".join(_told(step.raw) for step in steps)
        count = f"{len(steps):,} earlier message" + "s" * (len(steps) > 1)
        size = f"{count} of {estimate(text):,} tokens in all, left out for want of room"
        mark = _marker(ctx, (steps[-1].upto.count, text), size, "window.rounds@1")
        marker = message_tokens(Message(Role.USER, (Text(mark.text),)))
        if sum(step.sent_tokens for step in steps) - marker < _GAIN:
            continue
        for place, step in zip(stretch, steps, strict=True):
            head = place == stretch.start
            form = Form(whole=mark if head else Replacement("", mark.by))
            after = marker if head else 0
            kept = {mark.ref: text} if head and mark.ref else {}
            yield Shorter(place, form, step.sent_tokens, after, head, kept)


def _stretches(gone: Sequence[range]) -> list[range]:
    found: list[range] = []
    for unit in gone:
        if found and found[-1].stop == unit.start:
            found[-1] = range(found[-1].start, unit.stop)
        else:
            found.append(unit)
    return found


def _told(message: Message) -> str:
    """A message as text."""
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return f"{message.role}: " + "\n".join([text for text in (message.text, *calls) if text])

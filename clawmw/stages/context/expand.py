"""`expand`: gives the model a tool to ask for what was cut, and answers it.

The tool is offered from a session's first call, or never in that session, so that the
tools prefix does not move. A call to it is answered here, without a trip to the agent; the
exchange is kept in the journal and put back at its place in every later call. An answer
that says nothing new (a dead reference asked for again, the same slice) is not kept.

A call without tools shares no cached prefix with the session's others, since tools come
first in every provider's prefix, and its model cannot ask: it gets originals where they
fit, and plain words for the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from clawmw.core.canon import tool_spec
from clawmw.core.codec import Codec
from clawmw.core.decisions import Because, Decision, Pass, Retry, Rewrite
from clawmw.core.effects import Append, Effect
from clawmw.core.fold import Step
from clawmw.core.memo import by_identity
from clawmw.core.render import Replacement
from clawmw.core.stage import Context, Cut, Effects, StageTraits
from clawmw.core.stream import Done, Finish, StreamEvent, ToolDelta, UsageEvent
from clawmw.core.types import (
    Json,
    Message,
    Outcome,
    Request,
    Response,
    Role,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.context.kinship import kin, original
from clawmw.stages.context.slices import Asked, slice_of
from clawmw.stages.units import Count, Duration, Size

__all__ = ["GONE", "NAME", "PARAMETERS", "REGISTRATION", "Expand", "ExpandConfig"]

NAME = "clawmw_expand"

_DESCRIPTION = "Shows what [clawmw_expand REF: ...] left out; lines: A-B"
_TEXT = {"type": "string"}
PARAMETERS: Json = {
    "type": "object",
    "properties": {"ref": _TEXT, "query": _TEXT, "lines": _TEXT, "path": _TEXT},
}
"""Without `required`, which is five tokens on every call: an ask without a reference is told so."""


Home = Literal["auto", "off", "memory", "disk"]
"""Where originals are kept."""


class ExpandConfig(StageConfig):
    """Let the model ask for what was cut."""

    blobs: Annotated[Home, BeforeValidator(lambda v: "off" if v is False else v)] = "auto"
    """Where originals are kept; `auto`: where `store` is. `off`: nowhere, so nothing is hidden."""
    retention: Duration = 7 * 86_400.0
    """How long an original is kept after it was last sent or asked for."""
    max_size: Size | None = None
    """Of all originals, oldest unused first to go; default: 1GiB on disk, 256MiB in memory."""
    most: Count = 4
    """Expansions answered in one call of the agent."""


_FUNCTION = {"name": NAME, "description": _DESCRIPTION, "parameters": PARAMETERS}
_TOKENS = tool_spec(NAME, {"type": "function", "function": _FUNCTION}).tokens
"""Of the tool's definition, as chat completions has it: no dialect says it with more."""


class _Held:
    """A streamed tool call until it is certain whose it is."""

    def __init__(self) -> None:
        self.name = ""
        self.ours: bool | None = None
        self.number: int | None = None
        self.waiting: list[ToolDelta] = []

    def add(self, event: ToolDelta) -> None:
        """One piece more."""
        self.name += event.name
        self.waiting.append(event)

    def released(self, calls: Mapping[int, _Held], *, certain: bool) -> list[ToolDelta]:
        """What may go on to the reader now; `certain`: no more of the name will come."""
        if self.ours is None and self.name and not NAME.startswith(self.name):
            self.ours = False
        if self.ours is None and self.name and certain:
            self.ours = self.name == NAME
        if self.ours is not False:
            return []
        if self.number is None:
            self.number = sum(call.number is not None for call in calls.values())
        number = self.number
        released = [e if e.index == number else replace(e, index=number) for e in self.waiting]
        self.waiting.clear()
        return released


class _Offering:
    """The tool as one dialect has it."""

    def __init__(self, codec: Codec) -> None:
        self.spec: ToolSpec = codec.tool(NAME, _DESCRIPTION, PARAMETERS)
        self.beside = by_identity(self._beside)

    def _beside(self, tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
        return (*tools, self.spec)


class Expand:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits("expand", runs="call")

    def __init__(self, config: ExpandConfig) -> None:
        self.config = config
        self._offers: dict[str, _Offering] = {}

    @property
    def tokens(self) -> int:
        """See `Offer.tokens`."""
        return _TOKENS

    def offered(self, request: Request) -> bool:
        """See `Offer.offered`: beside other tools that the model may call, for one answer."""
        if self.config.blobs == "off":
            return False
        return bool(request.tools) and request.choices == 1 and request.any_tool

    def _offer(self, codec: Codec) -> _Offering:
        """The tool in a dialect, the same object for every call."""
        made = self._offers.get(codec.dialect)
        if made is None:
            made = self._offers.setdefault(codec.dialect, _Offering(codec))
        return made

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Offer the tool, last in the list so that the others keep their place."""
        if not ctx.can_expand:
            return Pass()
        if not request.tools:
            return _uncut(request, ctx)
        if any(tool.name == NAME for tool in request.tools):
            return Pass()
        because = Because("expand", "offer")
        tools = self._offer(ctx.codec).beside(request.tools)
        offer = Rewrite(because, replace(request, tools=tools))
        note = kin(ctx.identity) if ctx.history.sums.saved else None
        return offer if note is None else _noted(offer, note)

    def watches(self, request: Request, codec: Codec) -> bool:
        """See `Streamer.watches`. A tool of that name of the agent's own is the agent's."""
        return bool(request.tools) and all(tool.name != NAME for tool in request.tools)

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """Hold our own calls back; when there are no others, also the end of the message.

        A call is held until its name is certain; the others are numbered without ours.
        """
        calls: dict[int, _Held] = state.setdefault("calls", {})
        if isinstance(event, ToolDelta):
            call = calls.setdefault(event.index, _Held())
            call.add(event)
            return call.released(calls, certain=bool(event.arguments))
        if not isinstance(event, Finish | Done | UsageEvent) or not calls:
            return (event,)
        late = [e for call in calls.values() for e in call.released(calls, certain=True)]
        if all(call.ours for call in calls.values()):
            return late
        return (*late, event)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Answer calls to our tool, if there are any."""
        if not isinstance(outcome, Response) or not outcome.complete:
            return Pass()
        if request.tools and self._offer(ctx.codec).spec not in request.tools:
            return Pass()
        calls = [c for c in outcome.message.tool_calls if c.name == NAME]
        return self._answer(calls, request, outcome, ctx) if calls else Pass()

    def _answer(
        self, calls: Sequence[ToolCall], request: Request, outcome: Response, ctx: Context
    ) -> Effects:
        results: list[tuple[ToolCall, str, bool]] = []
        for call in calls:
            text, new = yield from self._result(call, request, ctx)
            results.append((call, text, new))
        others = [c for c in outcome.message.tool_calls if c.name != NAME]
        told = [(call, text) for call, text, new in results if new]
        insists = not told and any(_said(request, text) for _, text, _ in results)
        within = ctx.attempt <= self.config.most + 1 and not insists
        if not others and within and ctx.history.settled():
            # Its own JSON: reasoning and signatures that a provider wants back are in it.
            asked = outcome.message
            given = ctx.codec.results([ToolResult(c.id, text) for c, text, _ in results])
            because = Because("expand", "answer" if told else "again")
            return Retry(because, journal=(asked, *given), silent=True, passing=not told)
        # The agent's own calls go to the agent; what we were asked goes into the next request.
        said = "\n\n".join(f"[clawmw: {_asked(c)}]\n{text}" for c, text in told)
        kept = tuple(
            p for p in outcome.message.parts if not (isinstance(p, ToolCall) and p.name == NAME)
        )
        message = Message(Role.ASSISTANT, kept)
        reason = outcome.finish_reason
        if not others:
            last = results[-1][1] if insists else _ENOUGH.format(self.config.most)
            message = Message(Role.ASSISTANT, (*kept, Text(last)))
            reason = "stop"
        rule = "answer" if others else "again" if insists else "most"
        return Rewrite(
            Because("expand", rule),
            response=replace(outcome, message=message, finish_reason=reason),
            journal=(Message(Role.USER, (Text(said),)),) if others and told else (),
        )

    def _result(
        self, call: ToolCall, request: Request, ctx: Context
    ) -> Generator[Effect, Any, tuple[str, bool]]:
        """The answer to a call, and whether it says anything that the model was not told yet."""
        if ctx.attempt > self.config.most:
            return _ENOUGH.format(self.config.most), True
        asked = Asked.written(call.arguments)
        text: str | None = yield from original(ctx.identity, asked.ref, ctx.history)
        if text is None:
            gone = GONE.format(asked.ref)
            return (_STILL.format(asked.ref), False) if _said(request, gone) else (gone, True)
        part = slice_of(text, query=asked.query, lines=asked.lines, path=asked.path)
        if len(part) > _SHORT and _said(request, part):
            return _SAME.format(asked.ref), False
        return part, True


_SHORT = 200
"""Characters up to which an answer is given again as it is."""
_ENOUGH = (
    "clawmw answers at most {} requests for cut text at a time. Go on with what you have, "
    "or run the tool again with a narrower question."
)
GONE = (
    "There is no text under the reference {!r} (it expired, or it never was). Asking again "
    "will not help: run the tool that gave it again."
)
_STILL = "Still nothing under {!r}, and there never will be: run the tool again, or do without."
_SAME = "This part of {!r} was given before and stands above: go on with it."


def _said(request: Request, text: str) -> bool:
    """Whether the model has `text` before it already, as a result or beside one."""
    return any(text in m.text for m in request.messages if m.role in (Role.TOOL, Role.USER))


def _asked(call: ToolCall) -> str:
    return f"answer to {NAME}({call.arguments[:_LONGEST]})"


_LONGEST = 400
"""Characters of a call's arguments that are told back."""


def _noted(offer: Rewrite, note: Append) -> Effects:
    """The offer, with a note of the session for those it will start."""
    yield note
    return offer


def _uncut(request: Request, ctx: Context) -> Decision:
    """Originals in place of what was cut, oldest first, up to half the model's window.

    What becomes of a message depends on those before it alone, so that such calls keep
    their own prefix.
    """
    cut = {
        id(step.sent): step
        for step in ctx.history.steps
        if any(part.ref for part in _cuts(step).values())
    }
    if not cut:
        return Pass()
    most = (ctx.profile(request.model).context_window or _WINDOW) // 2
    messages, adds = [], 0
    for message in request.messages:
        step = cut.get(id(message))
        if step is None:
            messages.append(message)
            continue
        grows = step.raw_tokens - step.sent_tokens
        whole = step.form is not None and step.form.whole is not None
        fits = not whole and step.upto.sent + adds + grows <= most
        messages.append(step.raw if fits else _plain(step))
        adds += grows if fits else 0
    because = Because("expand", "uncut")
    return Rewrite(because, replace(request, messages=tuple(messages)), adds=adds)


_WINDOW = 128_000
"""Tokens of a model's window when it is not known."""


def _cuts(step: Step) -> Mapping[int, Replacement]:
    """What stands for parts of a message, or for all of it."""
    whole = step.form.whole if step.form is not None else None
    return step.parts if whole is None else {0: whole}


def _plain(step: Step) -> Message:
    """What was sent, naming no tool."""
    sent = {i: p for i, p in _cuts(step).items() if p.ref}
    texts = {i: p.text.replace(f"[{NAME} {p.ref}: ", "[cut short: ", 1) for i, p in sent.items()}
    return step.sent.with_texts(texts)


def _build(config: ExpandConfig, build: Build) -> Expand:
    return Expand(config)


REGISTRATION = Registration("expand", ExpandConfig, _build)

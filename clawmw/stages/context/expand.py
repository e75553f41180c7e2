"""`expand`: gives the model a tool to ask for what was cut, and answers it.

The tool is offered from a session's first call, or never in that session, so that the
tools prefix does not move. A call to it is answered here, without a trip to the agent; the
exchange is kept in the journal and put back at its place in every later call.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from clawmw.core.canon import tool_spec
from clawmw.core.decisions import Because, Decision, Pass, Retry, Rewrite
from clawmw.core.effects import Effect, GetBlob
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
from clawmw.stages.context.slices import slice_of
from clawmw.stages.units import Count, Duration

__all__ = ["NAME", "REGISTRATION", "Expand", "ExpandConfig"]

NAME = "clawmw_expand"

_DESCRIPTION = "Returns what a [clawmw REF ...] marker left out; query: words to find, lines: A-B."
_TEXT = {"type": "string"}
_PARAMETERS: Json = {
    "type": "object",
    "properties": {"ref": _TEXT, "query": _TEXT, "lines": _TEXT},
    "required": ["ref"],
}


class ExpandConfig(StageConfig):
    """Let the model ask for what was cut."""

    retention: Duration = 7 * 86_400.0
    """How long originals are kept."""
    most: Count = 4
    """Expansions answered in one call of the agent."""


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
        released = [replace(event, index=self.number) for event in self.waiting]
        self.waiting.clear()
        return released


class Expand:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits("expand", runs="call")

    def __init__(self, config: ExpandConfig) -> None:
        self.config = config
        function = {"name": NAME, "description": _DESCRIPTION, "parameters": _PARAMETERS}
        self.spec: ToolSpec = tool_spec(NAME, {"type": "function", "function": function})

    @property
    def tokens(self) -> int:
        """See `Offer.tokens`."""
        return self.spec.tokens

    def offered(self, request: Request) -> bool:
        """See `Offer.offered`: beside other tools that the model may call, for one answer."""
        choice = request.params.get("tool_choice", "auto")
        return bool(request.tools) and request.choices == 1 and choice in ("auto", "required")

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Offer the tool, last in the list so that the others keep their place."""
        if not (ctx.can_expand and request.tools) or request.tools[-1] is self.spec:
            return Pass()
        if any(tool.name == NAME for tool in request.tools):
            return Pass()
        because = Because("expand", "offer")
        return Rewrite(because, replace(request, tools=(*request.tools, self.spec)))

    def watches(self, request: Request) -> bool:
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
        if request.tools and self.spec not in request.tools:
            return Pass()
        calls = [c for c in outcome.message.tool_calls if c.name == NAME]
        return self._answer(calls, outcome, ctx) if calls else Pass()

    def _answer(self, calls: Sequence[ToolCall], outcome: Response, ctx: Context) -> Effects:
        results: list[tuple[ToolCall, str]] = []
        for call in calls:
            text = yield from self._result(call, ctx)
            results.append((call, text))
        others = [c for c in outcome.message.tool_calls if c.name != NAME]
        if not others and ctx.attempt <= self.config.most + 1 and ctx.history.settled():
            # Its own JSON: reasoning and signatures that a provider wants back are in it.
            asked = outcome.message
            told = [Message(Role.TOOL, (ToolResult(c.id, text),)) for c, text in results]
            return Retry(Because("expand", "answer"), journal=(asked, *told), silent=True)
        # The agent's own calls go to the agent; what we were asked goes into the next request.
        said = "\n\n".join(f"[clawmw: {_asked(c)}]\n{text}" for c, text in results)
        kept = tuple(
            p for p in outcome.message.parts if not (isinstance(p, ToolCall) and p.name == NAME)
        )
        message = Message(Role.ASSISTANT, kept)
        reason = outcome.finish_reason
        if not others:
            message = Message(Role.ASSISTANT, (*kept, Text(_ENOUGH.format(self.config.most))))
            reason = "stop"
        return Rewrite(
            Because("expand", "answer" if others else "most"),
            response=replace(outcome, message=message, finish_reason=reason),
            journal=(Message(Role.USER, (Text(said),)),) if others else (),
        )

    def _result(self, call: ToolCall, ctx: Context) -> Generator[Effect, Any, str]:
        try:
            given = json.loads(call.arguments or "{}")
        except ValueError:
            given = {}
        given = given if isinstance(given, dict) else {}
        ref = str(given.get("ref", ""))
        if ctx.attempt > self.config.most:
            return _ENOUGH.format(self.config.most)
        data: bytes | None = yield GetBlob(ctx.identity.scope("session"), ref)
        if data is None:
            return _GONE.format(ref)
        return slice_of(
            data.decode("utf-8", "surrogatepass"),
            query=str(given.get("query") or ""),
            lines=str(given.get("lines") or ""),
        )


_ENOUGH = (
    "clawmw answers at most {} requests for cut text at a time. Go on with what you have, "
    "or run the tool again with a narrower question."
)
_GONE = (
    "There is no text under the reference {!r} (it expired, or it never was). Asking again "
    "will not help: run the tool that gave it again."
)


def _asked(call: ToolCall) -> str:
    return f"answer to {NAME}({call.arguments})"


def _build(config: ExpandConfig, build: Build) -> Expand:
    return Expand(config)


REGISTRATION = Registration("expand", ExpandConfig, _build)

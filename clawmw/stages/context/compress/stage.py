"""`compress`: a tool result is reduced once, when it first appears, and stays so.

Reduction is by content, never by tool name. What is cut is kept and can be asked for again
(`expand`); where the model has no means to ask, only lossless forms are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from clawmw.core.fold import FoldContext, Replacement, reference
from clawmw.core.stage import Quiet, StageTraits
from clawmw.core.tokens import estimate
from clawmw.core.types import Message, Role, ToolResult
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.context.compress.base import Brief, Level, reduce
from clawmw.stages.context.compress.relevance import parameters, stems
from clawmw.stages.units import Count, Share

__all__ = ["REGISTRATION", "Compress", "CompressConfig"]

REQUEST = 4000
"""Characters of a request that are read for what it asks."""

REQUESTS = 3
"""Of so many of the human's messages: `yes, do that` asks for what was asked before."""

VERSION = 2
"""Of the stage as a whole; named in every record, so that a trace tells releases apart."""


class CompressConfig(StageConfig):
    """Reduce tool results on arrival, reversibly."""

    shorthand: ClassVar[str | None] = "level"

    level: Annotated[Level, BeforeValidator(lambda v: "off" if v is False else v)] = "balanced"
    """How much may be hidden: `off`, `lossless`, `balanced` or `aggressive`."""
    floor: Count = 40
    """Results below this many estimated tokens are left alone."""
    margin: Share = 0.1
    """The least share a result must shrink by to be touched at all."""


class Compress(Quiet):
    """Folds tool results. See the module."""

    traits: ClassVar[StageTraits] = StageTraits("compress", below=("dedupe",))

    def __init__(self, config: CompressConfig) -> None:
        self.config = config

    def hides(self) -> bool:
        """See `Folder.hides`."""
        return self.config.level in ("balanced", "aggressive")

    def start(self) -> Any:
        """`#`: results so far; `q`: the human's last requests; `c:<id>`: what a call asks."""
        return {"#": 0, "q": ()}

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """See `Folder.fold`."""
        _listen(state, message)
        replaced = {}
        for index, part in enumerate(message.parts):
            if not isinstance(part, ToolResult):
                continue
            state["#"] += 1
            asked = state.pop("c:" + part.call_id, "")
            if index not in parts or estimate(part.text) < self.config.floor:
                continue
            brief = Brief(
                self.config.level if ctx.can_expand else _least(self.config.level),
                reference(ctx.scope, state["#"], part.text),
                _sought(asked, *state["q"]),
                parameters(ctx.tools),
            )
            reduced = reduce(part.text, brief, margin=self.config.margin)
            if reduced is not None:
                by = f"compress.{reduced.kind}@{VERSION}"
                replaced[index] = Replacement(
                    reduced.text, by, None if reduced.lossless else brief.ref
                )
        return replaced

    def deepen(
        self, state: Any, message: Message, part: int, ordinal: int, ctx: FoldContext
    ) -> Replacement | None:
        """See `Deepener.deepen`: as `aggressive` has it, where something may be hidden."""
        result = message.parts[part]
        if not (ctx.can_expand and self.hides() and isinstance(result, ToolResult)):
            return None
        sought = _sought(*state["q"])
        ref = reference(ctx.scope, ordinal, result.text)
        brief = Brief("aggressive", ref, sought, parameters(ctx.tools))
        reduced = reduce(result.text, brief, floor=self.config.floor, margin=self.config.margin)
        if reduced is None:
            return None
        by = f"compress.{reduced.kind}@{VERSION}"
        return Replacement(reduced.text, by, None if reduced.lossless else ref)


def _listen(state: Any, message: Message) -> None:
    """Take up what a human or a call asks for."""
    if message.role is Role.USER and message.text:
        state["q"] = (*state["q"], message.text[:REQUEST])[-REQUESTS:]
    for call in message.tool_calls:
        state["c:" + call.id] = f"{message.text[:REQUEST]} {call.arguments[:REQUEST]}"


def _sought(*texts: str) -> frozenset[str]:
    """The words of what is asked for: looked at only where a result is reduced by them."""
    return frozenset[str]().union(*map(_words, texts))


@lru_cache(64)
def _words(text: str) -> frozenset[str]:
    return frozenset(stems(text))


def _least(level: Level) -> Level:
    return "off" if level == "off" else "lossless"


def _build(config: CompressConfig, build: Build) -> Compress:
    return Compress(config)


REGISTRATION = Registration("compress", CompressConfig, _build)

"""`compress`: a tool result is reduced once, when it first appears, and stays so.

Reduction is by content, never by tool name. What is cut is kept and can be asked for again
(`expand`); where the model has no means to ask, only lossless forms are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from clawmw.core.decisions import Decision, Pass
from clawmw.core.fold import FoldContext, Replacement, reference
from clawmw.core.stage import Context, StageTraits
from clawmw.core.types import Json, Message, Outcome, Request, ToolResult
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.context.compress.base import Level, reduce
from clawmw.stages.units import Count, Share

__all__ = ["REGISTRATION", "Compress", "CompressConfig"]

VERSION = 1
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


class Compress:
    """Folds tool results. See the module."""

    traits: ClassVar[StageTraits] = StageTraits("compress", below=("dedupe",))

    def __init__(self, config: CompressConfig) -> None:
        self.config = config

    def hides(self) -> bool:
        """See `Folder.hides`."""
        return self.config.level in ("balanced", "aggressive")

    def start(self) -> Any:
        """No state: each result is reduced by itself."""
        return {}

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """See `Folder.fold`."""
        level: Level = self.config.level if ctx.can_expand else _least(self.config.level)
        replaced = {}
        for index in parts:
            part = message.parts[index]
            if not isinstance(part, ToolResult):
                continue
            ref = reference(ctx.scope, part.text)
            reduced = reduce(
                part.text, level, ref, floor=self.config.floor, margin=self.config.margin
            )
            if reduced is not None:
                by = f"compress.{reduced.kind}@{VERSION}"
                replaced[index] = Replacement(reduced.text, by, None if reduced.lossless else ref)
        return replaced

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Nothing more: the fold did it."""
        return Pass()

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Nothing to record."""
        return Pass()


def _least(level: Level) -> Level:
    return "off" if level == "off" else "lossless"


def _build(config: CompressConfig, build: Build) -> Compress:
    return Compress(config)


REGISTRATION = Registration("compress", CompressConfig, _build)

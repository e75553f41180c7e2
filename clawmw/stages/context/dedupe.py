"""`dedupe`: a tool result that came before becomes a reference to the earlier copy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from clawmw.core.decisions import Decision, Pass
from clawmw.core.fold import FoldContext, Replacement
from clawmw.core.stage import Context, StageTraits
from clawmw.core.tokens import estimate
from clawmw.core.types import Json, Message, Outcome, Request, ToolResult
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.units import Count

__all__ = ["REGISTRATION", "Dedupe", "DedupeConfig"]

VERSION = 1
_REFERENCE = "[clawmw: identical to "


class DedupeConfig(StageConfig):
    """Send a repeated tool result once."""

    floor: Count = 60
    """Results below this many estimated tokens are left alone: a reference is not free."""


class Dedupe:
    """Folds exact repeats. The state maps a text's digest to the result it first was."""

    traits: ClassVar[StageTraits] = StageTraits("dedupe")

    def __init__(self, config: DedupeConfig) -> None:
        self.config = config

    def hides(self) -> bool:
        """See `Folder.hides`: the earlier copy stays in the context."""
        return False

    def start(self) -> Any:
        """`#`: results so far; `c:<id>`: a call's tool; `t:<digest>`: where a text was."""
        return {"#": 0}

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """See `Folder.fold`."""
        for call in message.tool_calls:
            state["c:" + call.id] = call.name
        replaced = {}
        for index, part in enumerate(message.parts):
            if not isinstance(part, ToolResult):
                continue
            state["#"] += 1
            digest = hashlib.blake2b(part.text.encode("utf-8", "surrogatepass"), digest_size=16)
            key = "t:" + digest.hexdigest()
            first = state.get(key)
            if first is None:
                name = part.name or state.get("c:" + part.call_id) or "tool"
                state[key] = f"result {state['#']} in this conversation, from `{name}`"
            elif index in parts and estimate(part.text) >= self.config.floor:
                text = f"{_REFERENCE}{first}; read it there]"
                # What we wrote ourselves refers already; a reference to it would lead nowhere.
                if not part.text.startswith(_REFERENCE) and len(text) < len(part.text):
                    replaced[index] = Replacement(text, f"dedupe@{VERSION}")
        return replaced

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Nothing more: the fold did it."""
        return Pass()

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Nothing to record."""
        return Pass()


def _build(config: DedupeConfig, build: Build) -> Dedupe:
    return Dedupe(config)


REGISTRATION = Registration("dedupe", DedupeConfig, _build)

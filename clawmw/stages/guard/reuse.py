"""`reuse`: an answer that was given to the very same call a while ago.

Off unless the policy names kinds of call, or asks for it where the caller wants the same answer
every time. Kept for one tenant, agent, model and key; never an error, a broken stream, or an
answer that asks for tools. A reused answer bills nothing and says how old it is.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import Field

from clawmw.core.decisions import Answer, Because, Decision, Halt, Pass
from clawmw.core.effects import GetBlob, PutBlob
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Json, Message, Outcome, Request, Response, Role, Text, Usage
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.sameness import deterministic, key, replayable
from clawmw.stages.units import Duration

__all__ = ["REGISTRATION", "Reuse", "ReuseConfig"]

_LARGEST = 256 * 1024
"""Characters of an answer that is worth keeping."""
_ENDS = frozenset({"stop", "end_turn"})
"""How a whole answer ends; `length` is a truncated one."""


class ReuseConfig(StageConfig):
    """Give an earlier answer to the very same call."""

    kinds: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Kinds of call whose answers may be given again, such as `heartbeat`."""
    deterministic: bool = False
    """Whether calls at temperature 0 or with a seed are among them."""
    ttl: Annotated[Duration, Field(gt=0)] = 600.0
    """How old an answer may be."""
    stale: Annotated[Duration, Field(gt=0)] = 86_400.0
    """How old it may be where `degrade` asks for one."""


class Reuse:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "reuse", below=("budget", "fallback"), above=("breaker", "admission")
    )

    def __init__(self, config: ReuseConfig) -> None:
        self.config = config

    def _applies(self, request: Request, ctx: Context) -> bool:
        config = self.config
        named = ctx.identity.kind in config.kinds
        asked = named or (config.deterministic and deterministic(request))
        return asked and ctx.mode == "enforce" and replayable(request)

    def _lacking(self, request: Request, ctx: Context) -> bool:
        return request.reuse == "must" and ctx.mode == "enforce"

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Answer with what is kept, if something is."""
        if self._applies(request, ctx):
            return self._look(request, ctx)
        return _none_kept(request) if self._lacking(request, ctx) else Pass()

    def _look(self, request: Request, ctx: Context) -> Effects:
        scope, name = ctx.identity.scope("tenant"), key(request, ctx)
        most = self.config.stale if request.reuse else self.config.ttl
        for bucket in (0, 1):
            data: bytes | None = yield GetBlob(scope, _ref(name, ctx.now, most, bucket))
            kept = _read(data)
            if kept is None or not 0 <= (age := ctx.now - kept["at"]) <= most:
                continue
            message = Message(Role.ASSISTANT, (Text(kept["text"]),))
            usage = Usage(0, 0, 0, 0)
            response = Response(message, usage, kept["end"], kept["model"], kept["id"])
            rule = "ttl" if age <= self.config.ttl else "stale"
            told = f"{age:.0f}" if rule == "ttl" else f"{age:.0f}; stale"
            return Answer(Because("reuse", rule), response, labels={"x-clawmw-reused": told})
        return _none_kept(request) if request.reuse == "must" else Pass()

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Keep the answer, if it is one to be given again."""
        if ctx.called is None or not isinstance(outcome, Response):
            return Pass()
        return self._keep(request, outcome, ctx) if self._applies(request, ctx) else Pass()

    def _keep(self, request: Request, answer: Response, ctx: Context) -> Effects:
        text, whole = answer.message.text, answer.complete and answer.finish_reason in _ENDS
        plain = all(isinstance(part, Text) for part in answer.message.parts)
        if whole and plain and len(text) <= _LARGEST:
            kept = {
                "at": ctx.now,
                "text": text,
                "end": answer.finish_reason,
                "model": answer.model,
                "id": answer.id,
            }
            name, data = key(request, ctx), json.dumps(kept).encode()
            for lifetime in sorted({self.config.ttl, self.config.stale}):
                ref = _ref(name, ctx.now, lifetime, 0)
                yield PutBlob(ctx.identity.scope("tenant"), ref, data)
        return Pass()


def _ref(name: str, now: float, lifetime: float, back: int) -> str:
    """Where an answer of now is kept for a lifetime, or one of so many lifetimes ago."""
    return f"reuse-{name}-{lifetime:g}-{int(now // lifetime) - back}"


def _none_kept(request: Request) -> Halt:
    name = request.target or request.model
    return Halt(
        Because("reuse", "none"),
        f"upstream {name}",
        "an earlier answer where it cannot be reached",
        f"{name} cannot be reached, and no earlier answer to this very call is kept",
        "Ask again later, or name the kind of call under reuse.kinds so that answers are kept.",
        kind="busy",
    )


def _read(data: bytes | None) -> dict[str, Any] | None:
    """What was kept; None when it cannot be read."""
    try:
        kept = json.loads(data) if data else None
        whole = isinstance(kept, dict) and isinstance(kept["text"], str) and kept["at"] + 0.0
        return kept if whole else None
    except (ValueError, KeyError, TypeError):
        return None


def _build(config: ReuseConfig, build: Build) -> Reuse:
    return Reuse(config)


REGISTRATION = Registration("reuse", ReuseConfig, _build)

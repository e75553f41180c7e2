"""`fallback`: other models to ask when one cannot answer now.

After the retries, or at once where the breaker is open or no slot came free. Between a tool call
and its result no model of another family takes over: it would not know the call's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import model_validator

from clawmw.core.decisions import Because, Decision, Pass, Retry, Rewrite
from clawmw.core.stage import Context, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request
from clawmw.errors import PolicyError
from clawmw.stages.base import Build, ModelRef, Registration, StageConfig
from clawmw.stages.failures import asked_by, trouble
from clawmw.stages.references import ModelName

__all__ = ["REGISTRATION", "Fallback", "FallbackConfig"]


class FallbackConfig(StageConfig):
    """Other models to ask when one cannot answer now: `fallback: {main: [light, local]}`."""

    models: Mapping[str, tuple[ModelName, ...]] = {}
    """By model (a name under `models`, or an id as it stands on the wire): whom to ask instead, in
    order. May be written without `models:`."""

    @model_validator(mode="before")
    @classmethod
    def _bare_models(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "models" in value:
            return value
        own = {k: v for k, v in value.items() if k in cls.model_fields}
        models = {k: [v] if isinstance(v, str) else v for k, v in value.items() if k not in own}
        return {**own, "models": models}


class Fallback:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "fallback", needs="history", below=("route",), above=("retry",)
    )

    def __init__(self, chains: Mapping[str, tuple[ModelRef, ...]]) -> None:
        self.chains = chains
        self.models = {other.name: other for chain in chains.values() for other in chain}

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Ask the model that is its turn, once the first could not answer."""
        other = self.models.get(ctx.target) or self._still(request, ctx)
        if other is None or request.target == other.name:
            return Pass()
        asked = replace(request, model=other.id, target=other.name)
        label = {"x-clawmw-fallback": other.name}
        return Rewrite(Because("fallback", other.name), asked, labels=label)

    def _still(self, request: Request, ctx: Context) -> ModelRef | None:
        """The model that took over, while it waits for the result of a tool it asked for."""
        asker = asked_by(request, ctx) if ctx.attempt == 1 else None
        if asker is None or asker == request.model or ctx.identity.wishes.pinned:
            return None
        chain = self.chains.get(request.target) or self.chains.get(request.model) or ()
        return next((other for other in chain if other.id == asker), None)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        """Go on to the next model, if there is one."""
        if not self.chains or not isinstance(outcome, Failure) or ctx.identity.wishes.pinned:
            return Pass()
        busy = ctx.stopped is not None and ctx.stopped.kind == "busy"
        unsent = outcome.kind == "refused" and ctx.stopped is None  # its dialect cannot say it
        if not (busy or unsent) and trouble(outcome) not in ("throttled", "transient"):
            return Pass()
        other = next(self._left(request, ctx), None)
        if other is None:
            return Pass()
        return Retry(Because("fallback", other.name), target=other.name, at_once=busy or unsent)

    def _left(self, request: Request, ctx: Context) -> Iterator[ModelRef]:
        """The models that were not asked so far."""
        first = ctx.tried[0]
        asked = {(t.model, t.target) for t in ctx.tried}
        asker = asked_by(request, ctx)
        family = ctx.profile(asker or first.model).family
        for other in self.chains.get(first.target) or self.chains.get(first.model) or ():
            if (other.id, other.name) in asked:
                continue
            if asker is None or ctx.profile(other.id).family == family:
                yield other


def _build(config: FallbackConfig, build: Build) -> Fallback:
    chains: dict[str, tuple[ModelRef, ...]] = {}
    for name, others in config.models.items():
        unknown = [other for other in others if other not in build.models]
        if unknown:
            known = ", ".join(sorted(build.models)) or "none are defined"
            where = f"fallback.{name}"
            raise PolicyError(f"no model {unknown[0]!r} under `models` ({known})", where=where)
        found = tuple(build.models[other] for other in others)
        chains[name] = found
        if name in build.models:
            chains.setdefault(build.models[name].id, found)
    return Fallback(chains)


REGISTRATION = Registration("fallback", FallbackConfig, _build)

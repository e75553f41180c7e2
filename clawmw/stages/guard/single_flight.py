"""`single_flight`: the same call, made several times at once, is made once.

Only where the caller asked for the same answer every time (temperature 0, a seed) or the policy
names the kind, and never where a call has effects or wants several samples. Who waits gets the
whole answer when it is complete, as a stream where it asked for one, and pays for nothing but
the call it made. Retries and fallbacks are the first one's: the others get what it came to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from clawmw.core.decisions import Answer, Because, Decision, Pass
from clawmw.core.effects import Publish, Share, Shared
from clawmw.core.stage import Context, Effects, StageTraits
from clawmw.core.types import Failure, Json, Outcome, Request, Usage
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.sameness import deterministic, key, replayable
from clawmw.stages.units import Duration

__all__ = ["REGISTRATION", "SingleFlight", "SingleFlightConfig"]


class SingleFlightConfig(StageConfig):
    """Make the same call once when it is asked several times at once."""

    kinds: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Kinds of call that share an answer though it is not said to be the same every time."""
    patience: Duration = 120.0
    """How long a call waits for another one's answer; then it is made itself."""

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("kinds"), str):
            return {**value, "kinds": [value["kinds"]]}
        return value


class SingleFlight:
    """See the module."""

    traits: ClassVar[StageTraits] = StageTraits(
        "single_flight", below=("budget", "reuse"), above=("breaker", "admission")
    )

    def __init__(self, config: SingleFlightConfig) -> None:
        self.config = config

    def _applies(self, request: Request, ctx: Context) -> bool:
        asked = deterministic(request) or ctx.identity.kind in self.config.kinds
        return asked and ctx.mode == "enforce" and replayable(request)

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Make the call, or wait for who makes it."""
        if ctx.attempt > 1 or not self._applies(request, ctx):
            return Pass()
        return self._share(request, ctx)

    def _share(self, request: Request, ctx: Context) -> Effects:
        shared: Shared = yield Share(key(request, ctx), self.config.patience)
        outcome = shared.outcome
        if outcome is None:
            return Pass()
        if not isinstance(outcome, Failure):
            outcome = replace(outcome, usage=Usage(0, 0, 0, 0), body=None)
        return Answer(Because("single_flight", ""), outcome, labels={"x-clawmw-shared": "1"})

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Tell those who wait."""
        if ctx.called is None or not self._applies(request, ctx):
            return Pass()
        return self._publish(outcome)

    def _publish(self, outcome: Outcome) -> Effects:
        whole = isinstance(outcome, Failure) or outcome.complete
        cancelled = isinstance(outcome, Failure) and outcome.kind == "cancelled"
        yield Publish(outcome if whole and not cancelled else None)
        return Pass()


def _build(config: SingleFlightConfig, build: Build) -> SingleFlight:
    return SingleFlight(config)


REGISTRATION = Registration("single_flight", SingleFlightConfig, _build)

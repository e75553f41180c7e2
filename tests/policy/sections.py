"""Stages made for these tests, so that they hold whatever the built-in ones become."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from clawmw.core.decisions import Decision, Pass
from clawmw.core.stage import StageTraits
from clawmw.errors import PolicyError
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.references import ModelName
from clawmw.stages.units import Count, Duration, Share, Size, Usd


class Squeeze(StageConfig):
    """Make things smaller. And more besides."""

    shorthand: ClassVar[str | None] = "level"
    level: Literal["gentle", "hard"] = "gentle"
    least: Share = 0.1
    largest: Size = 1024


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    when: str
    to: ModelName


class Steer(StageConfig):
    """Send calls elsewhere."""

    shorthand: ClassVar[str | None] = "rules"
    rules: tuple[Rule, ...] = ()


class Caps(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    calls: Annotated[Count, Field(gt=0)] | None = None
    usd: Usd | None = None
    wall: Duration | None = None


class Limit(StageConfig):
    """Stop what costs too much."""

    chain: Caps = Caps(calls=60)
    window: Caps | Literal["auto"] = "auto"


class Rare(StageConfig):
    """Only where asked for."""


class Working:
    """A stage that does nothing, in its place."""

    traits: ClassVar[StageTraits]

    def before(self, *_: Any) -> Decision:
        return Pass()

    def after(self, *_: Any) -> Decision:
        return Pass()


def stage(name: str, **traits: Any) -> Any:
    return type(name, (Working,), {"traits": StageTraits(name, **traits)})()


def _steer(config: Steer, build: Build) -> Any:
    for index, rule in enumerate(config.rules):
        if "(" in rule.when:
            raise PolicyError("does not compile", where=f"steer[{index}].when")
    return stage("steer", below=("squeeze",))


STAGES = {
    r.section: r
    for r in (
        Registration("squeeze", Squeeze, lambda config, build: stage("squeeze")),
        Registration("steer", Steer, _steer),
        Registration("limit", Limit, lambda config, build: stage("limit", below=("steer",))),
        Registration("rare", Rare, lambda config, build: stage("rare", runs="call"), default=False),
    )
}

"""How a stage joins a policy: its config section, its factory, its registration.

A built-in stage is named in `BUILTIN`; anyone else's announces itself under the entry
point group `clawmw.stages`, whose value is a `Registration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from clawmw.core.stage import Stage
from clawmw.errors import PolicyError

__all__ = ["BUILTIN", "Build", "ModelRef", "Registration", "StageConfig", "register", "registered"]

BUILTIN: Mapping[str, str] = {
    "loop_guard": "clawmw.stages.guard.loop.stage",
    "expand": "clawmw.stages.context.expand",
    "dedupe": "clawmw.stages.context.dedupe.stage",
    "compress": "clawmw.stages.context.compress.stage",
    "route": "clawmw.stages.model.route",
    "epochs": "clawmw.stages.context.epochs",
    "window": "clawmw.stages.context.window",
    "prompt_cache": "clawmw.stages.context.prompt_cache",
    "budget": "clawmw.stages.guard.budget.stage",
    "reuse": "clawmw.stages.guard.reuse",
    "single_flight": "clawmw.stages.guard.single_flight",
    "retry": "clawmw.stages.guard.retry",
    "breaker": "clawmw.stages.guard.breaker",
    "fallback": "clawmw.stages.guard.fallback",
    "degrade": "clawmw.stages.guard.degrade",
    "admission": "clawmw.stages.guard.admission",
}
"""Section -> module, whose `REGISTRATION` says the rest."""


class StageConfig(BaseModel):
    """What every section takes. `false` or `off` switches a stage off, `true` on."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    shorthand: ClassVar[str | None] = None
    """The field that a bare value stands for: `compress: balanced`."""

    enabled: bool = True
    """Whether the stage runs at all."""
    mode: Literal["enforce", "observe"] | None = None
    """`observe`: say in the trace what it would do, do nothing. Default: the policy's mode."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if value is None or value is True:
            return {}
        if value is False or value == "off":  # YAML 1.1 reads a bare `off` as false
            return {"enabled": False}
        if cls.shorthand and not isinstance(value, Mapping):
            return {cls.shorthand: value}
        return value


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as the policy names it. `id` is what goes on the wire."""

    name: str
    id: str
    base_url: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What a stage may need of the rest of the policy to be built."""

    models: Mapping[str, ModelRef] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The rules under `agents` as plain data; a `budget` in one as the limits it holds."""
    durable: bool = False
    """Whether what is kept outlives the process: `store: {disk: ...}`."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A section of the policy and the stage behind it."""

    section: str
    config: type[StageConfig]
    build: Callable[[Any, Build], Stage]
    default: bool = True
    """Whether the stage runs when the policy does not mention it."""


_added: dict[str, Registration] = {}


def register(registration: Registration) -> None:
    """Make a stage known to this process's policies; a package names it as an entry point.

    Raises `PolicyError` for a section that is taken.
    """
    if registration.section in registered():
        raise PolicyError(f"there is a stage {registration.section!r} already")
    _added[registration.section] = registration
    registered.cache_clear()


@cache
def registered() -> Mapping[str, Registration]:
    """Every stage that can be named in a policy, built-in ones first.

    Raises `PolicyError` naming an entry point that cannot be loaded.
    """
    found: dict[str, Registration] = {}
    for section, module in BUILTIN.items():
        found[section] = import_module(module).REGISTRATION
    for point in entry_points(group="clawmw.stages"):
        try:
            registration = point.load()
            found.setdefault(registration.section, registration)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise PolicyError(f"the stage {point.value!r} cannot be loaded: {reason}") from error
    return found | _added

"""`route`: sends light work to a light model, by rule.

The first rule whose condition holds decides. A route is never changed between a tool call
and its result: the model that asked reads the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from clawmw.core.decisions import Because, Decision, Pass, Rewrite
from clawmw.core.stage import Context, Quiet, StageTraits
from clawmw.core.story import is_transient
from clawmw.core.types import Json, Request
from clawmw.errors import PolicyError
from clawmw.stages.base import Build, ModelRef, Registration, StageConfig
from clawmw.stages.references import ModelName

__all__ = ["REGISTRATION", "Route", "RouteConfig"]


class Rule(BaseModel):
    """One rule. `when` is a CEL expression over the variables named in `Route`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    when: str
    """The condition, such as `kind in ['title', 'summary']`."""
    to: ModelName
    """A name under `models`."""


class RouteConfig(StageConfig):
    """Which calls go to which model."""

    shorthand: ClassVar[str | None] = "rules"

    rules: tuple[Rule, ...] = ()
    """Asked in order; the first that holds decides. None: the agent's own choice stays."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A rule ready to be asked."""

    name: str
    program: Any
    to: ModelRef


class Route(Quiet):
    """See the module. Conditions may use `kind`, `agent`, `model`, `tokens`, `messages`,
    `tools` (how many), `stream`.
    """

    traits: ClassVar[StageTraits] = StageTraits("route", slot="session", needs="history")

    def __init__(self, rules: tuple[_Compiled, ...]) -> None:
        self.rules = rules

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        """Send the call where the first matching rule says."""
        if not self.rules:
            return Pass()
        newest = next(m for m in reversed(request.messages) if not is_transient(m))
        if newest.tool_results:
            held = slot.get("to") if isinstance(slot, Mapping) else None
            if ctx.tried:  # the result is of a tool of ours, within this very exchange
                held = ctx.tried[0].target
            rule = next((r for r in self.rules if r.to.name == held), None)
        else:
            rule = next((r for r in self.rules if self._holds(r, request, ctx)), None)
        kept = {"to": rule.to.name if rule else None}
        changed = None if slot == kept or (slot is None and rule is None) else kept
        if rule is None or (rule.to.id == request.model and rule.to.base_url is None):
            return Pass(slot=changed)
        routed = replace(request, model=rule.to.id, target=rule.to.name)
        return Rewrite(Because("route", rule.name), routed, slot=changed)

    def _holds(self, rule: _Compiled, request: Request, ctx: Context) -> bool:
        facts = {
            "kind": ctx.identity.kind or "",
            "agent": ctx.identity.agent,
            "model": request.model,
            "tokens": ctx.sent_tokens,
            "messages": len(request.messages),
            "tools": len(request.tools),
            "stream": request.stream,
        }
        return rule.program.execute(facts) is True


def _compile(rule: Rule, index: int, models: Mapping[str, ModelRef]) -> _Compiled:
    import cel  # half a second to import: only where a policy routes

    where = f"route[{index}]"
    try:
        program = cel.compile(rule.when)
    except Exception as error:
        reason = str(error).splitlines()[0]
        message = f"`when` is not a valid CEL expression: {reason}"
        raise PolicyError(message, where=f"{where}.when") from error
    if rule.to not in models:
        known = ", ".join(sorted(models)) or "none are defined"
        raise PolicyError(f"no model {rule.to!r} under `models` ({known})", where=f"{where}.to")
    return _Compiled(f"rules[{index}]", program, models[rule.to])


def _build(config: RouteConfig, build: Build) -> Route:
    rules = [_compile(rule, i, build.models) for i, rule in enumerate(config.rules)]
    return Route((*_of_agents(build), *rules))


def _of_agents(build: Build) -> list[_Compiled]:
    """The models that `agents` gives to kinds and agents, as rules before all others."""
    found = []
    for name, agent in build.agents.items():
        if not agent.get("model"):
            continue
        match = {key: value for key, value in (agent.get("match") or {}).items() if value}
        conditions = [
            f"{key} in {json.dumps([value] if isinstance(value, str) else list(value))}"
            for key, value in (match or {"agent": name}).items()
        ]
        rule = Rule(when=" && ".join(conditions), to=agent["model"])
        found.append(replace(_compile(rule, 0, build.models), name=f"agents.{name}"))
    return found


REGISTRATION = Registration("route", RouteConfig, _build)

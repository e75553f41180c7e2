"""From a flow to a plan: everything it refers to is there, every expression is compiled.

A plan is what a runner executes; it knows nothing of any graph library. All problems raise
PolicyError with the place in the policy and, where a name is close to a known one, the
suggestion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from clawmw.errors import PolicyError
from clawmw.flow.expr import Arguments, Condition, Template, did_you_mean
from clawmw.flow.models import AgentSpec, Flow, Step
from clawmw.flow.tools import Tool, Toolbox

__all__ = ["AgentPlan", "Plan", "StepPlan", "make_plan"]


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """An agent with its instructions read and its tools resolved."""

    name: str
    system: str
    model: str
    tools: tuple[str, ...]
    """Names of single tools."""
    calls: int
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step with its expressions compiled."""

    id: str
    where: str
    json: bool
    max: int
    when: Condition | None = None
    each: Condition | None = None
    rounds: int = 1
    until: Condition | None = None
    tool: str | None = None
    args: Arguments | None = None
    agent: AgentPlan | None = None
    prompt: Template | None = None
    model: str = ""
    calls: int = 0
    """Model calls in one turn."""
    calls_where: str = ""
    """Where that limit stands in the policy."""
    conversation: str = ""
    """The history it continues; with a list and no name given, each item has its own."""
    shared: bool = False
    """Whether the conversation was named."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A flow ready to run."""

    name: str
    where: str
    steps: tuple[StepPlan, ...]
    inputs: Mapping[str, Any]
    limit: int
    """Super-steps of one run."""
    output: Template | None
    tools: Mapping[str, Tool] = field(default_factory=dict)
    offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Conversation -> names of the tools every call in it carries."""

    def step(self, step_id: str) -> StepPlan:
        """The step of that id; KeyError if there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def after(self, step_id: str) -> StepPlan | None:
        """The step that follows; None after the last."""
        index = [step.id for step in self.steps].index(step_id) + 1
        return self.steps[index] if index < len(self.steps) else None


def make_plan(
    name: str,
    flow: Flow,
    *,
    models: Collection[str],
    tools: Toolbox | None = None,
    base: Path | None = None,
) -> Plan:
    """Check `flow` and compile it.

    `models` are the names under the policy's `models:`. Without `tools` (nothing was
    imported) single tools of a module are taken on trust. `base` is the policy's folder.
    """
    where = f"flows.{name}"
    _unique_ids(flow, where)
    offer = _Offer(flow, tools, where)
    agents = {
        agent: _agent(agent, spec, f"{where}.agents.{agent}", offer, models, base)
        for agent, spec in flow.agents.items()
    }
    steps, reads = [], {}
    for index, spec in enumerate(flow.steps):
        place = f"{where}.steps[{index}]"
        step = _step(spec, place, agents, models)
        if step.tool is not None:
            offer.single(step.tool, f"{place}.tool")
        steps.append(step)
        reads[spec.id] = dict(_reads(step))
    _check_order(reads, where)
    output = None
    if flow.output is not None:
        output = Template(flow.output, f"{where}.output", ("input", "steps"))
        for read in sorted(output.steps - set(reads)):
            raise _unknown("step", read, reads, f"{where}.output")
    return Plan(
        name=name,
        where=where,
        steps=tuple(steps),
        inputs=dict(flow.input),
        limit=flow.limits.steps,
        output=output,
        tools=offer.by_name,
        offered=_offered(steps),
    )


class _Offer:
    """What tools there are, by source and by name."""

    def __init__(self, flow: Flow, tools: Toolbox | None, where: str) -> None:
        self._where = where
        if tools is None:
            self._sources: Mapping[str, tuple[str, ...]] = {
                name: ((name,) if source.call else ()) for name, source in flow.tools.items()
            }
            self.by_name: Mapping[str, Tool] = {}
            self._sure = all(source.call for source in flow.tools.values())
        else:
            self._sources = {name: tuple(t.name for t in box) for name, box in tools.items()}
            self.by_name = {t.name: t for box in tools.values() for t in box}
            self._sure = True
        self._singles = {tool for names in self._sources.values() for tool in names}

    def single(self, name: str, place: str) -> str:
        if self._sure and name not in self._singles:
            raise _unknown("tool", name, self._singles, place)
        return name

    def resolve(self, names: Iterable[str], place: str) -> tuple[str, ...]:
        """Single tools, in the order named, each once."""
        found: dict[str, None] = {}
        for index, name in enumerate(names):
            if name in self._sources:
                found.update(dict.fromkeys(self._sources[name]))
            elif self._sure and name not in self._singles:
                known = {*self._sources, *self._singles}
                raise _unknown("tool", name, known, f"{place}[{index}]")
            else:
                found[name] = None
        return tuple(found)


def _agent(
    name: str,
    spec: AgentSpec,
    place: str,
    offer: _Offer,
    models: Collection[str],
    base: Path | None,
) -> AgentPlan:
    if spec.model not in models:
        raise _unknown("model", spec.model, models, f"{place}.model")
    return AgentPlan(
        name=name,
        system=_system(spec, place, base),
        model=spec.model,
        tools=offer.resolve(spec.tools, f"{place}.tools"),
        calls=spec.limits.calls,
        params=dict(spec.params),
    )


def _system(spec: AgentSpec, place: str, base: Path | None) -> str:
    if spec.system_file is None:
        return spec.system or ""
    path = (base or Path()) / spec.system_file
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not UTF-8 text"
        where = f"{place}.system_file"
        raise PolicyError(f"{where}: cannot read {str(path)!r}: {reason}", where=where) from None


def _step(
    spec: Step, place: str, agents: Mapping[str, AgentPlan], models: Collection[str]
) -> StepPlan:
    names = ("input", "steps")
    body = (*names, "item", "index") if spec.for_each is not None else names
    rounds = (*body, "round", "output") if spec.repeat is not None else body
    common: dict[str, Any] = {
        "id": spec.id,
        "where": place,
        "json": spec.output == "json",
        "max": spec.max,
        "when": None if spec.when is None else Condition(spec.when, f"{place}.when", names),
    }
    if spec.for_each is not None:
        common["each"] = Condition(spec.for_each, f"{place}.for_each", names)
    if spec.repeat is not None:
        common["rounds"] = spec.repeat.max
        common["until"] = Condition(spec.repeat.until, f"{place}.repeat.until", rounds)
    if spec.tool is not None:
        args = Arguments(spec.args, f"{place}.args", rounds)
        return StepPlan(**common, tool=spec.tool, args=args)
    agent = agents.get(spec.agent or "")
    if agent is None:
        raise _unknown("agent", spec.agent or "", agents, f"{place}.agent")
    if spec.model is not None and spec.model not in models:
        raise _unknown("model", spec.model, models, f"{place}.model")
    owner = place if spec.limits else f"{place.partition('.steps[')[0]}.agents.{agent.name}"
    return StepPlan(
        **common,
        agent=agent,
        prompt=Template(spec.prompt or "", f"{place}.prompt", rounds),
        model=spec.model or agent.model,
        calls=spec.limits.calls if spec.limits else agent.calls,
        calls_where=f"{owner}.limits.calls",
        conversation=spec.conversation or spec.id,
        shared=spec.conversation is not None,
    )


def _reads(step: StepPlan) -> Iterable[tuple[str, str]]:
    """(step it reads, where it says so)."""
    parts = ("when", step.when), ("for_each", step.each), ("repeat.until", step.until)
    for label, part in (*parts, ("prompt", step.prompt), ("args", step.args)):
        if part is not None:
            for name in sorted(part.steps):
                yield name, f"{step.where}.{label}"


def _check_order(reads: Mapping[str, Mapping[str, str]], where: str) -> None:
    """Every step reads only what ran before it."""
    for read in reads.values():
        for name, place in read.items():
            if name not in reads:
                raise _unknown("step", name, reads, place)
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as e:
        ring = list(reversed(e.args[1]))  # graphlib goes from the step read to its reader
        hint = " (a step's own output is `output`, with `repeat`)" if len(ring) == 2 else ""
        raise PolicyError(
            f"{where}.steps: a cycle: {' reads '.join(ring)}{hint}", where=f"{where}.steps"
        ) from None
    done: set[str] = set()
    for step, read in reads.items():
        for name, place in read.items():
            if name not in done:
                raise PolicyError(
                    f"{place}: reads step {name!r}, which runs later; put {name!r} before {step!r}",
                    where=place,
                )
        done.add(step)


def _unique_ids(flow: Flow, where: str) -> None:
    seen: dict[str, int] = {}
    for index, step in enumerate(flow.steps):
        if step.id in seen:
            place = f"{where}.steps[{index}].id"
            raise PolicyError(
                f"{place}: {step.id!r} is the id of steps[{seen[step.id]}] already", where=place
            )
        seen[step.id] = index


def _offered(steps: Iterable[StepPlan]) -> Mapping[str, tuple[str, ...]]:
    """The tools of every agent in a conversation, in the order the agents speak."""
    found: dict[str, dict[str, None]] = {}
    for step in steps:
        if step.agent is not None:
            found.setdefault(step.conversation, {}).update(dict.fromkeys(step.agent.tools))
    return {name: tuple(tools) for name, tools in found.items()}


def _unknown(kind: str, name: str, known: Collection[str], place: str) -> PolicyError:
    return PolicyError(f"{place}: unknown {kind} {name!r}{did_you_mean(name, known)}", where=place)

"""A policy, resolved, as facts to show: stages in their order, defaults, agents, warnings.

Stages are built to learn their order, never run. Nothing touches the network: prices come
from the dated facts that ship with clawmw.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from clawmw.core.ordering import order
from clawmw.core.stage import Stage
from clawmw.policy.advice import warnings_for
from clawmw.policy.load import Stages, digest
from clawmw.policy.models import Policy, for_stages
from clawmw.policy.spoken import reached
from clawmw.providers.load import profile_for
from clawmw.stages.base import Registration, StageConfig, registered

__all__ = ["AgentView", "Explanation", "ModelView", "Setting", "StageView", "explain"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the policy, in its writer's units; `default`: not in the file."""

    name: str
    value: Any
    default: bool


@dataclass(frozen=True, slots=True)
class StageView:
    """A section at work, or switched off."""

    section: str
    does: str
    """One sentence."""
    mode: Literal["enforce", "observe", "off"]
    written: bool
    """Whether the file names the section."""
    runs: Literal["call", "attempt"] | None
    """Once a call or once an attempt; None when it is off."""
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class ModelView:
    """A named model and what its tokens cost: USD per million, None where nobody knows."""

    name: str
    model: str
    profile: str
    base_url: str | None
    reached: str | None
    """In which dialects its server is spoken to, or by what; None: as the caller speaks to its
    own."""
    input_usd: float | None
    cached_usd: float | None
    output_usd: float | None
    as_of: str | None


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent rule that can hold for a call; empty `agents` or `kinds`: for all."""

    rule: str
    agents: tuple[str, ...]
    kinds: tuple[str, ...]
    model: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything `clawmw explain` shows."""

    digest: str
    mode: str
    agent: str | None
    """The agent it is about; None: all of them."""
    stages: tuple[StageView, ...]
    """Running ones in their order on the way down, then those switched off."""
    models: tuple[ModelView, ...]
    agents: tuple[AgentView, ...]
    general: tuple[Setting, ...]
    flows: tuple[str, ...]
    warnings: tuple[str, ...]


def explain(
    policy: Policy, *, agent: str | None = None, stages: Stages | None = None
) -> Explanation:
    """What `policy` means; with `agent`, of the agent rules only those that can hold for it.

    Raises `PolicyError` where a stage cannot be built or two stages' orders conflict.
    """
    known = registered() if stages is None else stages
    running = _running(policy, known)
    views = [_stage(policy, known[stage.traits.name], stage) for stage in running]
    at_work = {view.section for view in views}
    views += [_stage(policy, r, None) for s, r in known.items() if s not in at_work]
    return Explanation(
        digest=digest(policy),
        mode=policy.mode,
        agent=agent,
        stages=tuple(views),
        models=tuple(_models(policy)),
        agents=tuple(_agents(policy, agent)),
        general=tuple(_general(policy)),
        flows=tuple(policy.flows),
        warnings=tuple(warnings_for(policy)),
    )


def _running(policy: Policy, known: Mapping[str, Registration]) -> tuple[Stage, ...]:
    materials = for_stages(policy)
    return order(
        known[section].build(config, materials)
        for section, config in policy.stages.items()
        if config.enabled and section in known
    )


def _stage(policy: Policy, registration: Registration, stage: Stage | None) -> StageView:
    config = policy.stages[registration.section]
    return StageView(
        section=registration.section,
        does=_sentence(config),
        mode=(config.mode or policy.mode) if stage else "off",
        written=registration.section in policy.written,
        runs=stage.traits.runs if stage else None,
        settings=tuple(_settings(config, skip=("enabled", "mode"))),
    )


def _sentence(config: StageConfig) -> str:
    """What the config says of itself (`describe()`), else the first sentence about its class."""
    describe = getattr(config, "describe", None)
    if callable(describe):
        return str(describe())
    text = " ".join(inspect.cleandoc(type(config).__doc__ or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."


def _settings(
    config: BaseModel, prefix: str = "", *, skip: tuple[str, ...] = (), default: bool = False
) -> Iterator[Setting]:
    dumped = config.model_dump(mode="json")
    for name in type(config).model_fields:
        if name in skip:
            continue
        value, path = getattr(config, name), prefix + name
        unsaid = default or name not in config.model_fields_set
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{path}.", default=unsaid)
        else:
            yield Setting(path, dumped[name], unsaid)


def _models(policy: Policy) -> Iterator[ModelView]:
    for name, entry in policy.models.items():
        profile = profile_for(entry.profile or entry.model)
        price = profile.price
        yield ModelView(
            name=name,
            model=entry.model,
            profile=profile.name,
            base_url=entry.base_url,
            reached=reached(entry),
            # nano-USD a token is a thousandth of a USD a million tokens
            input_usd=price.input / 1000 if price else None,
            cached_usd=price.cache_read / 1000 if price else None,
            output_usd=price.output / 1000 if price else None,
            as_of=price.as_of if price else None,
        )


def _agents(policy: Policy, agent: str | None) -> Iterator[AgentView]:
    for name, rule in policy.agents.items():
        agents = rule.about(name)
        if agent is None or not agents or agent in agents:
            yield AgentView(name, agents, rule.match.kinds, rule.model)


def _general(policy: Policy) -> Iterator[Setting]:
    shown = ("mode", "refusal", "timeout", "holdout", "trace", "store")
    yield from _settings(policy, skip=tuple(set(Policy.model_fields) - set(shown)))

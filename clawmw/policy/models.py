"""A policy as frozen values: what the YAML says, with every default filled in.

Models describe, they build nothing. The docstring under each field is what `clawmw schema`
and an editor show for it. Stage sections are described beside their stages.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from clawmw.core.effects import Rank
from clawmw.flow.models import Flow
from clawmw.policy.fields import (
    EnvName,
    FrozenMap,
    Model,
    Name,
    Names,
    Text,
    Url,
    checked_url,
    empty,
    or_bare,
)
from clawmw.policy.tracing import TraceConfig
from clawmw.stages.base import Build, ModelRef, StageConfig
from clawmw.stages.guard.budget.limits import Daily
from clawmw.stages.references import ModelName
from clawmw.stages.units import Duration, Share

__all__ = [
    "AgentRule",
    "GatewayConfig",
    "General",
    "Match",
    "ModelEntry",
    "NotifyConfig",
    "Policy",
    "RedactConfig",
    "StoreConfig",
    "Timeouts",
    "TraceConfig",
    "for_stages",
]


class ModelEntry(Model):
    """A model under a name of its own. A bare text is its `model`."""

    model: Text
    """The model's id as litellm writes it (`provider/model`), or as its server knows it."""
    base_url: Url | None = None
    """Where an OpenAI- or Anthropic-compatible server answers; default: the provider's own place,
    through litellm where it is neither OpenAI nor Anthropic. Without `api_key_env`, a call that
    is on its way to a gateway or an aggregator stays there: those know many models."""
    profile: Text | None = None
    """The model or provider family whose prices and caching rules hold; default: by id."""
    api_key_env: EnvName | None = None
    """The environment variable that holds the key; without a base_url by default the provider's
    usual one. Keys themselves never go in a policy."""
    dialect: Literal["openai.chat", "openai.responses", "anthropic.messages"] | None = None
    """What its server speaks; calls in another dialect are translated. Default: by the address
    (api.anthropic.com, or one that ends in /anthropic: anthropic.messages; api.openai.com: both of
    OpenAI's), without one by the provider in `model`, else openai.chat."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_bare(handler(core), {"type": "string", "minLength": 1})


class Match(Model):
    """Which calls an agent rule is about; every given key must match."""

    agent: Names | None = None
    """Agents by the name they call under. Default: the rule's own name, unless `kind` is set."""
    kind: Names | None = None
    """Kinds of call, as the agent states them: `heartbeat`, `title`, `summary` ..."""

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents named, one or many; none: not asked about."""
        return _listed(self.agent)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds named, one or many; none: not asked about."""
        return _listed(self.kind)


def _listed(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


class AgentRule(Model):
    """What holds for one kind of caller. The first rule that matches a call is the one used."""

    match: Match = Match()
    """Who this rule is about."""
    model: ModelName | None = None
    """The model that answers these calls: a name under `models`."""
    priority: Rank | None = None
    """Their class in the queue before a model (`admission`); default: by what they are."""

    budget: Daily | None = None
    """What these calls may use together, besides the limits that hold for all."""

    def about(self, name: str) -> tuple[str, ...]:
        """The agents this rule, called `name` in the policy, is about; none: any."""
        return self.match.agents or (() if self.match.kinds else (name,))


def _webhook(value: str) -> str:
    url = urlsplit(checked_url(value))
    if url.scheme == "http" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise PydanticCustomError("webhook", "expected https; http only to this machine itself")
    return value


def _command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise PydanticCustomError(
            "command", "cannot be split into words: {why}", {"why": str(error).lower()}
        ) from None
    if not words:
        raise PydanticCustomError("command", "expected a program")
    return value


class NotifyConfig(Model):
    """Who is told when a chain is stopped, a budget is near its limit, a breaker opens."""

    command: Annotated[Text, AfterValidator(_command)] | None = None
    """A command that gets one JSON object on standard input; run without a shell, in the policy's
    folder."""
    webhook: Annotated[Text, AfterValidator(_webhook)] | None = None
    """A URL that the same JSON is posted to."""
    every: Annotated[Duration, Field(gt=0)] = 600.0
    """The same news is told at most once in this time."""


class RedactConfig(Model):
    """Secrets that no model is sent and nothing is kept of, should they stand in a call's text.

    Found as exact values, in every form in which text carries them; a mark with the variable's name
    stands instead. The keys of `models` are among them.
    """

    env: tuple[EnvName, ...]
    """The environment variables that hold them, each at least 8 characters long."""


class StoreConfig(Model):
    """Where counters, slots and cut originals live."""

    disk: Text | None = None
    """A folder for them; without it they live in memory and end with the process."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if value == "memory" or value is None:
            return {}
        if isinstance(value, str):
            raise PydanticCustomError(
                "store", "expected memory or {example}", {"example": "{disk: FOLDER}"}
            )
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_bare(handler(core), {"const": "memory"})


_PATH = re.compile(r"[\w.:@~*-]+(/[\w.:@~*-]+)*", re.ASCII)


def _path(value: str) -> str:
    path = value.removeprefix("/").removeprefix("v1/")
    if _PATH.fullmatch(path) and not {".", ".."} & set(path.split("/")):
        return path
    raise PydanticCustomError(
        "path", "expected a path below the base URL, such as files or batches/*"
    )


class GatewayConfig(Model):
    """How `clawmw serve` deals with what is no model call."""

    paths: tuple[Annotated[Text, AfterValidator(_path)], ...] = ("responses/*",)
    """Paths below the base URL that are handed on to the upstream as they are, neither guarded nor
    counted; `*` stands for anything. By default those of an answer that the upstream has stored;
    any other path is 404."""


class Timeouts(Model):
    """How long a model's server is waited for. A client's own timeouts hold where shorter."""

    first_byte: Annotated[Duration, Field(gt=0)] = 600.0
    """Until an answer begins; models think for minutes. Comments in a stream are no beginning."""
    idle: Annotated[Duration, Field(gt=0)] = 300.0
    """Without anything more, once it began."""


class General(Model):
    """Everything a policy may say besides its stages."""

    version: Literal[1]
    """The version of this format: 1."""
    mode: Literal["enforce", "observe"] = "enforce"
    """`observe`: send the agent's own bytes and only say in the trace what would be done."""
    models: FrozenMap[ModelEntry] = Field(default_factory=empty)
    """Names for models, to be used in the rest of the policy."""
    agents: FrozenMap[AgentRule] = Field(default_factory=empty)
    """Who is calling, and what holds for them. The first rule that matches is used."""
    tenant: Name = "default"
    """Whose calls these are: nothing is shared with another tenant. Never read from a call."""
    refusal: Literal["auto", "message", "error"] = "auto"
    """What a stopped call gets: an assistant message that names the rule, or an error (402 for
    what the policy limits, 503 for what is busy). `auto`: the message for agents that people chat
    with (OpenClaw, Claude Code, Codex, OpenCode), unless they ask for structured output or force
    a tool; the error for all others. The header `x-clawmw-refusal` says it for one call.
    """
    timeout: Timeouts = Timeouts()
    """How long a model's server is waited for."""
    gateway: GatewayConfig = GatewayConfig()
    """What `clawmw serve` hands on besides model calls."""
    holdout: Share = 0.0
    """The share of chains that go untouched, so that savings can be measured against them."""
    trace: TraceConfig = TraceConfig()
    """What is written down about each call."""
    notify: NotifyConfig = NotifyConfig()
    """Who is told when something was stopped or is near its limit."""
    redact: RedactConfig | None = None
    """Secrets to be replaced in what is sent and kept, wherever an agent's text holds them."""
    store: StoreConfig = StoreConfig()
    """Where counters, slots and cut originals live: `memory`, or `{disk: FOLDER}`."""
    flows: FrozenMap[Flow] = Field(default_factory=empty)
    """Tasks done by several agents in steps, run by `clawmw flow run NAME`."""


class Policy(General):
    """A whole policy, resolved: `stages` holds every section, written or not."""

    stages: FrozenMap[StageConfig] = Field(default_factory=empty)
    """The config of each registered stage by section; sections stand at the top of the YAML."""
    written: frozenset[str] = frozenset()
    """The stage sections that the file names; the others are defaults."""
    folder: str | None = None
    """The folder of the file, where relative paths in it begin; None for text and mappings."""


def for_stages(policy: Policy) -> Build:
    """What the policy says that a stage may need to be built."""
    return Build(
        models={
            name: ModelRef(name, entry.model, entry.base_url, entry.profile)
            for name, entry in policy.models.items()
        },
        agents={n: {**r.model_dump(), "budget": r.budget} for n, r in policy.agents.items()},
        durable=policy.store.disk is not None,
    )

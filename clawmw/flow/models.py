"""The orchestration DSL: what stands under `flows:` in a policy.

::

    flows:
      trip:
        input: {city: null, budget: 2000}
        tools: {trip: {from: my_tools}}
        agents:
          planner: {system: You plan trips., model: main, tools: [trip], limits: {calls: 8}}
        steps:
          - {id: plan, agent: planner, prompt: "A day in {{ input.city }}."}
          - {id: check, agent: planner, model: light, prompt: "Check: {{ steps.plan.output }}"}

Models describe only; `clawmw.flow.plan` checks what they refer to and compiles it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["AgentSpec", "CallLimits", "Flow", "FlowLimits", "Repeat", "Step", "ToolSource"]

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}")


def _identifier(value: str) -> str:
    if IDENTIFIER.fullmatch(value):
        return value
    raise ValueError("this name goes into expressions: letters, digits and _, at most 48")


def _name(value: str) -> str:
    if NAME.fullmatch(value):
        return value
    raise ValueError("a name is made of letters, digits and _ . - (at most 48)")


Identifier = Annotated[str, AfterValidator(_identifier)]
"""A name that can stand in an expression: `steps.<id>.output`."""
Name = Annotated[str, AfterValidator(_name)]
"""A name that can stand in a header."""
Positive = Annotated[int, Field(ge=1)]

RESERVED_PARAMS = frozenset({"model", "messages", "tools", "stream", "stream_options", "n"})


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CallLimits(_Described):
    """Limits of one agent at work."""

    calls: Positive = 20
    """Model calls in one turn (one prompt, with all the tool calls that follow from it)."""


class FlowLimits(_Described):
    """Limits of a whole run."""

    steps: Positive = 200
    """Super-steps of the graph: each prompt, model call and batch of tool calls is one."""


class Repeat(_Described):
    """A step run again until it is good enough."""

    max: Positive
    """Rounds at most; after the last one the flow goes on, and the step's record says so."""
    until: str
    """CEL condition over `output` (this round's), `round` (from 1), `input`, `steps`, `item`."""


class AgentSpec(_Described):
    """Who works: instructions, a model and tools."""

    system: str | None = None
    """The system prompt, as it stands (no template, so that the prompt's prefix stays the same)."""
    system_file: str | None = None
    """A file that holds the system prompt; relative to the policy."""
    model: str
    """A name under the policy's `models:`."""
    tools: tuple[str, ...] = ()
    """Names under `tools:` (all tools of that source) or names of single tools in them."""
    params: Mapping[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, such as `temperature` or `max_tokens`."""
    limits: CallLimits = CallLimits()
    """How much the agent may do in one turn."""

    @model_validator(mode="after")
    def _consistent(self) -> AgentSpec:
        if self.system is not None and self.system_file is not None:
            raise ValueError("give `system` or `system_file`, not both")
        if reserved := sorted(RESERVED_PARAMS & set(self.params)):
            raise ValueError(f"`params` may not set `{reserved[0]}`: the flow does")
        return self


class ToolSource(_Described):
    """Where tools come from. Only modules named here are ever imported.

    Short forms: `module` for `{from: module}`, `module:function` for `{call: module:function}`.
    """

    module: str | None = Field(default=None, alias="from")
    """A module with `TOOLS` (a list of OpenAI tool schemas) and `call_tool(name, arguments)`."""
    call: str | None = None
    """One function, as `module:function`; it is called with the arguments as keywords."""
    description: str | None = None
    """What the model reads about the function. Default: its docstring."""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of the arguments. Default: from the function's signature."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"call": value} if ":" in value else {"from": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> ToolSource:
        if (self.module is None) == (self.call is None):
            raise ValueError("give either `from: module` or `call: module:function`")
        if self.call is not None and not all(self.call.partition(":")):
            raise ValueError("`call` is written module:function")
        if self.module is not None and (self.description or self.parameters):
            raise ValueError("`description` and `parameters` go with `call`")
        return self


class Step(_Described):
    """One step: an agent's turn, or one call of a tool."""

    id: Identifier
    """Its name; later steps read `steps.<id>.output`."""
    agent: str | None = None
    """A name under the flow's `agents:`."""
    prompt: str | None = None
    """Template over `input`, `steps.<id>.output`, `item`, `index`; with `repeat` also `round` and
    `output`, the round before's (none in the first)."""
    tool: str | None = None
    """The name of a tool, for a step without an agent."""
    args: Mapping[str, Any] = Field(default_factory=dict)
    """The tool's arguments: templates; `"{{ one.expression }}"` keeps its type."""
    for_each: str | None = None
    """CEL expression that gives a list; the step runs once for each `item`, in order."""
    max: Positive = 20
    """How long the list of `for_each` may be; a longer one stops the run."""
    repeat: Repeat | None = None
    """Run again until a condition holds, a bounded number of times."""
    when: str | None = None
    """CEL condition over `input` and `steps`; where it is false the step is skipped."""
    model: str | None = None
    """The model of this step, instead of the agent's."""
    conversation: Identifier | None = None
    """Steps that name the same conversation continue one history. Default: one of its own.
    Its first system prompt stays; another agent's instructions come as a user message, and the
    tools of all its agents are offered on every call, so that the prompt's prefix never moves."""
    output: Literal["text", "json"] = "text"
    """`json`: the answer is JSON, alone or in a code fence; expressions can look into it."""
    limits: CallLimits | None = None
    """Limits of this step, instead of the agent's."""

    @model_validator(mode="after")
    def _consistent(self) -> Step:
        if (self.agent is None) == (self.tool is None):
            raise ValueError("a step names either an `agent` or a `tool`")
        if self.agent is not None and self.prompt is None:
            raise ValueError("a step with an `agent` needs a `prompt`")
        given = self.model_fields_set
        for_agents = {"prompt", "model", "conversation", "limits"} & given
        if self.tool is not None and for_agents:
            raise ValueError(f"`{min(for_agents)}` goes with an `agent`, not with a `tool`")
        if self.agent is not None and "args" in given:
            raise ValueError("`args` goes with a `tool`")
        if "max" in given and self.for_each is None:
            raise ValueError("`max` goes with `for_each`; of a repeat it is `repeat: {max: ...}`")
        return self


class Flow(_Described):
    """Agents and the ordered steps they take."""

    description: str = ""
    """What the flow is for."""
    input: Mapping[Identifier, Any] = Field(default_factory=dict)
    """Its inputs and their defaults; one without a default (null) has to be given."""
    agents: Mapping[Name, AgentSpec] = Field(default_factory=dict)
    """Agents by name."""
    tools: Mapping[Name, ToolSource] = Field(default_factory=dict)
    """Tool sources by name."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """What happens, in this order."""
    output: str | None = None
    """Template of the flow's result. Default: the output of the last step that ran."""
    limits: FlowLimits = FlowLimits()
    """Limits of one run, counted over all its resumptions."""

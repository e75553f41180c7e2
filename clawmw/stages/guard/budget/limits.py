"""The section `budget`: what each scope may use, and what holds where nobody says.

The defaults stop what runs away and let ordinary agents be. They are in calls and tokens,
which are known of every model; a default in USD would refuse all models without a price.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from clawmw.stages.base import StageConfig
from clawmw.stages.units import Count, Duration, Share, Usd

__all__ = ["AgentLimits", "BudgetConfig", "Daily", "Limits", "TaskLimits"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CallLimits(_Model):
    """What one call may use. `null`: no limit."""

    calls: Count | None = None
    """Attempts, retries and expansions included."""
    input_tokens: Count | None = None
    """Input tokens, cached ones included."""
    output_tokens: Count | None = None
    """Output tokens, reasoning included; a longer answer is limited to it."""
    usd: Usd | None = None
    """Money, in USD, by the price table."""


class Limits(CallLimits):
    """What a scope may use. `null`: no limit."""

    calls: Count | None = None
    """Model calls, retries and expansions included."""
    output_tokens: Count | None = None
    """Output tokens, reasoning included."""
    concurrent: Count | None = None
    """Calls under way at once."""


class TaskLimits(Limits):
    """What a task may use. `null`: no limit."""

    wall: Duration | None = None
    """Time since its first call."""
    hops: Count | None = None
    """How many agents the task may be handed through, one after the other."""


class ChainLimits(TaskLimits):
    """What a chain may use, the chains it started included. `null`: no limit."""

    calls: Count | None = 500
    """Model calls, retries and expansions included. By default what Google's ADK has, the
    highest default among agent frameworks (OpenAI's has 10, Pydantic AI 50)."""
    input_tokens: Count | None = 100_000_000
    """Input tokens, cached ones included. By default 500 calls of 200,000."""


class SessionLimits(TaskLimits):
    """What a conversation may use: for good, and each day."""

    day: Limits = Limits()
    """What may be used on one day; it begins at midnight UTC."""


class Daily(Limits):
    """What may be used for good, and each day."""

    day: Limits = Limits()
    """What may be used on one day; it begins at midnight UTC."""


class AgentDay(Limits):
    """What an agent may use on one day. `null`: no limit."""

    calls: Count | None = 5_000
    """Model calls, retries and expansions included. By default ten full tasks: a busy coding
    agent makes some hundred calls a day, a runaway a thousand an hour."""


class AgentLimits(Daily):
    """What an agent may use: for good, and each day."""

    day: AgentDay = AgentDay()
    """What may be used on one day; it begins at midnight UTC."""


class TenantDay(Limits):
    """What a tenant may use on one day. `null`: no limit."""

    calls: Count | None = 20_000
    """Model calls, retries and expansions included. By default four agents at their limit."""


class TenantLimits(Daily):
    """What a tenant may use: for good, and each day."""

    day: TenantDay = TenantDay()
    """What may be used on one day; it begins at midnight UTC."""


class DerivedDay(Limits):
    """What nameless calls may use on one day. `null`: no limit."""

    calls: Count | None = 2_000
    """Model calls, retries and expansions included."""


class DerivedLimits(Daily):
    """What nameless calls may use: for good, and each day."""

    day: DerivedDay = DerivedDay()
    """What may be used on one day; it begins at midnight UTC."""


class BudgetConfig(StageConfig):
    """Limits on calls, tokens, money, time and calls under way; all of them hold at once."""

    call: CallLimits = CallLimits()
    """One call of the agent, with its retries."""
    chain: ChainLimits = ChainLimits()
    """One task, with all agents and conversations it involves. A chain that another one started
    draws on that one's allowance, too, and on those above it."""
    session: SessionLimits = SessionLimits()
    """One conversation."""
    agent: AgentLimits = AgentLimits()
    """One agent."""
    tenant: TenantLimits = TenantLimits()
    """Everything under one tenant."""
    derived: DerivedLimits = DerivedLimits()
    """An agent's calls that name neither session nor chain, together: a new name for each call
    must not be a new allowance."""
    soft: Share = 0.8
    """From this share of a limit on, an event says so and the model is told once, so that it can
    come to an end. `0`: never."""
    unknown_price: Literal["refuse", "allow"] = "refuse"
    """What a USD limit does with a model whose price is not known: `refuse` or `allow`."""
    min_output: Count = 4096
    """A call whose longest answer does not fit is made with a lower limit on it, never below
    this; then it is refused."""
    lease: Duration = 900.0
    """A reservation not settled after this long counts as spent, and is no call under way."""

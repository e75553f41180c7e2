"""The OpenAI Agents SDK under a policy, in two lines.

::

    config = RunConfig(model_provider=clawmw.agents.Provider("policy.yaml"))
    result = await Runner.run(agent, "How much is it?", run_config=config)

Names are loaded when first used; they need `pip install "clawmw[agents]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.extras import named

if TYPE_CHECKING:
    from clawmw.adapters.openai_agents import Provider as Provider
    from clawmw.adapters.openai_agents import model as model

_HOMES = {"Provider": "clawmw.adapters.openai_agents", "model": "clawmw.adapters.openai_agents"}

__all__ = ["Provider", "model"]


def __getattr__(name: str) -> Any:
    return named(__name__, _HOMES, name, "agents")

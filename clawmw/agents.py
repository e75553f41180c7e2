"""The OpenAI Agents SDK under a policy, in two lines.

::

    config = RunConfig(model_provider=clawmw.agents.Provider("policy.yaml"))
    result = await Runner.run(agent, "How much is it?", run_config=config)

Names are loaded when first used; they need `pip install "clawmw[agents]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.adapters import openai_agents as _home

if TYPE_CHECKING:
    from clawmw.adapters.openai_agents import Provider as Provider
    from clawmw.adapters.openai_agents import model as model

__all__ = ["Provider", "model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_home, name)

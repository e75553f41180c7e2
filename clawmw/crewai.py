"""CrewAI under a policy, in two lines.

::

    llm = clawmw.crewai.llm("openai/gpt-5.6", "policy.yaml")
    agent = Agent(role="analyst", goal="...", backstory="...", llm=llm)

It is loaded when first used, and needs `pip install "clawmw[crewai]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.extras import named

if TYPE_CHECKING:
    from clawmw.adapters.crewai import llm as llm

_HOMES = {"llm": "clawmw.adapters.crewai"}

__all__ = ["llm"]


def __getattr__(name: str) -> Any:
    return named(__name__, _HOMES, name, "crewai")

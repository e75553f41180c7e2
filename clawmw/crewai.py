"""CrewAI under a policy, in two lines.

::

    llm = clawmw.crewai.llm("openai/gpt-5.6", "policy.yaml")
    agent = Agent(role="analyst", goal="...", backstory="...", llm=llm)

It needs `pip install "clawmw[crewai]"`.
"""

from __future__ import annotations

from clawmw.adapters.crewai import llm

__all__ = ["llm"]

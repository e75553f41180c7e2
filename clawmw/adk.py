"""Google's Agent Development Kit under a policy, in two lines.

::

    plugin = clawmw.adk.Plugin("policy.yaml")
    runner = InMemoryRunner(agent, plugins=[plugin])

Names are loaded when first used; they need `pip install "clawmw[adk]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.extras import named

if TYPE_CHECKING:
    from clawmw.adapters.adk import Plugin as Plugin
    from clawmw.adapters.adk import model as model

_HOMES = {"Plugin": "clawmw.adapters.adk", "model": "clawmw.adapters.adk"}

__all__ = ["Plugin", "model"]


def __getattr__(name: str) -> Any:
    return named(__name__, _HOMES, name, "adk")

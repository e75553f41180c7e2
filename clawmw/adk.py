"""Google's Agent Development Kit under a policy, in two lines.

::

    plugin = clawmw.adk.Plugin("policy.yaml")
    runner = InMemoryRunner(agent, plugins=[plugin])

Names are loaded when first used; they need `pip install "clawmw[adk]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.adapters import adk as _home

if TYPE_CHECKING:
    from clawmw.adapters.adk import Plugin as Plugin
    from clawmw.adapters.adk import model as model

__all__ = ["Plugin", "model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_home, name)

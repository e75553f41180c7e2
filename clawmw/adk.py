"""Google's Agent Development Kit under a policy, in two lines.

::

    plugin = clawmw.adk.Plugin("policy.yaml")
    runner = InMemoryRunner(agent, plugins=[plugin])

Names are loaded when first used; they need `pip install "clawmw[adk]"`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clawmw.adapters.adk import Plugin as Plugin
    from clawmw.adapters.adk import model as model

_HOMES = {"Plugin": "clawmw.adapters.adk", "model": "clawmw.adapters.adk"}

__all__ = ["Plugin", "model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clawmw.adk' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""pydantic-ai under a policy, in two lines.

::

    agent = Agent(model, capabilities=[clawmw.pydantic_ai.Capability("policy.yaml")])

Names are loaded when first used; they need `pip install "clawmw[pydantic-ai]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.extras import named

if TYPE_CHECKING:
    from clawmw.adapters.pydantic_ai import Capability as Capability
    from clawmw.adapters.pydantic_ai import Stopped as Stopped
    from clawmw.adapters.pydantic_ai import model as model

_HOMES = dict.fromkeys(("Capability", "Stopped", "model"), "clawmw.adapters.pydantic_ai")

__all__ = ["Capability", "Stopped", "model"]


def __getattr__(name: str) -> Any:
    return named(__name__, _HOMES, name, "pydantic-ai")

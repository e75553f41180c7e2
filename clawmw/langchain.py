"""LangChain and LangGraph under a policy, in two lines.

::

    agent = create_agent(model, tools, middleware=[clawmw.langchain.Middleware("policy.yaml")])
    model = clawmw.langchain.model(ChatOpenAI(model="gpt-5.6"), "policy.yaml")   # in plain nodes

Names are loaded when first used; `Middleware` needs `pip install "clawmw[langchain]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clawmw.extras import named

if TYPE_CHECKING:
    from clawmw.adapters.langchain import Middleware as Middleware
    from clawmw.adapters.langchain_model import model as model

_HOMES = {"Middleware": "clawmw.adapters.langchain", "model": "clawmw.adapters.langchain_model"}

__all__ = ["Middleware", "model"]


def __getattr__(name: str) -> Any:
    return named(__name__, _HOMES, name, "langchain")

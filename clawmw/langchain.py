"""LangChain and LangGraph under a policy, in two lines.

::

    agent = create_agent(model, tools, middleware=[clawmw.langchain.Middleware("policy.yaml")])
    model = clawmw.langchain.model(ChatOpenAI(model="gpt-5.6"), "policy.yaml")   # in plain nodes

Names are loaded when first used; `Middleware` needs `pip install "clawmw[langchain]"`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clawmw.adapters.langchain import Middleware as Middleware
    from clawmw.adapters.langchain_model import model as model

_HOMES = {"Middleware": "clawmw.adapters.langchain", "model": "clawmw.adapters.langchain_model"}

__all__ = ["Middleware", "model"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clawmw.langchain' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

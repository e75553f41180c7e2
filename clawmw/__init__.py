"""clawmw: policy-driven middleware that makes AI agents affordable and safe to leave alone.

Two lines put it in front of an agent's model calls::

    import clawmw
    client = clawmw.wrap(OpenAI(), "policy.yaml")

Names are loaded when first used; importing this package does nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clawmw.adapters.calling import calling as calling
    from clawmw.adapters.http import async_http_client as async_http_client
    from clawmw.adapters.http import http_client as http_client
    from clawmw.adapters.install import install as install
    from clawmw.adapters.propagation import received as received
    from clawmw.adapters.propagation import trace_environment as trace_environment
    from clawmw.adapters.propagation import trace_headers as trace_headers
    from clawmw.adapters.propagation import trace_meta as trace_meta
    from clawmw.adapters.sdk import wrap as wrap
    from clawmw.core.identity import Identity as Identity
    from clawmw.errors import ClawmwError as ClawmwError
    from clawmw.errors import PolicyError as PolicyError
    from clawmw.policy.load import load_policy as load_policy
    from clawmw.policy.models import Policy as Policy
    from clawmw.runtime import Runtime as Runtime

__version__ = "0.1.0"

_HOMES = {
    "ClawmwError": "clawmw.errors",
    "Identity": "clawmw.core.identity",
    "Policy": "clawmw.policy.models",
    "PolicyError": "clawmw.errors",
    "Runtime": "clawmw.runtime",
    "async_http_client": "clawmw.adapters.http",
    "calling": "clawmw.adapters.calling",
    "http_client": "clawmw.adapters.http",
    "install": "clawmw.adapters.install",
    "load_policy": "clawmw.policy.load",
    "received": "clawmw.adapters.propagation",
    "trace_environment": "clawmw.adapters.propagation",
    "trace_headers": "clawmw.adapters.propagation",
    "trace_meta": "clawmw.adapters.propagation",
    "wrap": "clawmw.adapters.sdk",
}

__all__ = [
    "ClawmwError",
    "Identity",
    "Policy",
    "PolicyError",
    "Runtime",
    "__version__",
    "async_http_client",
    "calling",
    "http_client",
    "install",
    "load_policy",
    "received",
    "trace_environment",
    "trace_headers",
    "trace_meta",
    "wrap",
]


_MODULES = ("adk", "agents", "crewai", "langchain", "litellm", "pydantic_ai")
"""Modules for one framework each: what they need is mostly an extra."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"clawmw.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'clawmw' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

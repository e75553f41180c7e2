"""`clawmw.wrap(client)`: an SDK's client whose calls run under the policy.

::

    client = clawmw.wrap(OpenAI(), "policy.yaml")

It is of the same type and has the same settings. Calls go through the very HTTP client that it
was made with, so proxies, certificates, hooks and transports of the user's own stay in place.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from clawmw.adapters.http import Flavour, flavour_of, make_async_transport, make_transport
from clawmw.adapters.transport import Base
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError
from clawmw.policy.models import Policy
from clawmw.runtime import Runtime, shared

__all__ = ["wrap"]

T = TypeVar("T")

_SIGNING = (
    "openai.lib.bedrock",
    "anthropic.lib.bedrock",
    "anthropic.lib.aws",
    "anthropic.lib.vertex",
)
"""Modules of the SDKs whose clients sign what they send, or name the model in its path."""


def wrap(
    client: T,
    policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml",
    identity: Identity | None = None,
) -> T:
    """A client like `client` whose model calls run under `policy`; `client` stays as it is.

    Takes the clients of the openai SDK (2 and 3; Azure's too) and of the anthropic SDK (2), sync
    and async, and a plain `httpx` or `httpx2` client. `policy`: a path, a mapping, a `Policy` or
    a `Runtime`; the same policy is one runtime in this process, so that its limits are shared.
    A client that is under this policy already, for this caller, is given back as it is; one under
    another policy is decided about by the policy it is wrapped in last.

    Both share one HTTP client: closing either closes it, as with the SDK's own `with_options`.

    Raises `PolicyError`, and `ClawmwError` for what is no such client or signs its own requests.
    """
    http = client if flavour_of(client) else getattr(client, "_client", None)
    flavour = flavour_of(http)
    if flavour is None or not hasattr(http, "_transport_for_url"):
        raise ClawmwError(
            f"wrap takes a client of the openai or anthropic SDK, not {type(client).__qualname__}; "
            "what has an HTTP client of its own takes clawmw.http_client(...), and "
            "clawmw.install(...) covers the rest"
        )
    if _signs(client):
        raise ClawmwError(
            f"{type(client).__qualname__} signs its requests or names the model in their path: "
            "the policy cannot decide about them; use the provider's OpenAI- or "
            "Anthropic-compatible endpoint, or clawmw.litellm"
        )
    runtime = shared(policy)
    under = getattr(http, "_transport", None)
    if isinstance(under, Base) and under.runtime is runtime and identity in (None, under.identity):
        return client
    given: Any = client
    twin = _twin(http, flavour, runtime, identity)
    made: T = twin if http is client else given.with_options(http_client=twin)
    return made


def _signs(client: Any) -> bool:
    if getattr(client, "_provider", None) is not None:  # openai's name for those
        return True
    modules = [base.__module__ for base in type(client).__mro__]
    return any(module.startswith(_SIGNING) for module in modules)


def _twin(http: Any, flavour: Flavour, runtime: Runtime, identity: Identity | None) -> Any:
    """An HTTP client with everything that `http` has, which sends through `http`'s transports."""
    is_async = isinstance(http, import_module(flavour).AsyncClient)
    make = make_async_transport if is_async else make_transport
    kind: Any = type(http)
    twin: Any = object.__new__(_kind(kind))
    twin.__dict__.update(http.__dict__)
    inner = _inner(flavour, is_async)(http)
    twin._transport = make(runtime, flavour=flavour, inner=inner, identity=identity)
    twin._mounts = {}  # those of `http` are asked below
    return twin


@cache
def _kind(kind: Hashable) -> Any:
    """The same class, but for closing what it shares when it is collected, as SDKs' own do."""
    base: Any = kind
    return type(base.__name__, (base,), {"__del__": lambda _self: None, "__module__": __name__})


class _Through:
    """Sends through another client's transports: its proxies and mounts hold.

    It keeps that client alive: an SDK's own client closes its connections when collected.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def handle_request(self, request: Any) -> Any:
        return self.client._transport_for_url(request.url).handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        return await self.client._transport_for_url(request.url).handle_async_request(request)

    def close(self) -> None:
        self.client.close()

    async def aclose(self) -> None:
        await self.client.aclose()


@cache
def _inner(flavour: Flavour, is_async: bool) -> Any:
    module = import_module(flavour)
    base = module.AsyncBaseTransport if is_async else module.BaseTransport
    return type("Through", (_Through, base), {})

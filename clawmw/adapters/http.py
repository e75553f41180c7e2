"""`clawmw.http_client(...)`: an HTTP client whose transport runs the policy.

Made for both `httpx` and `httpx2` (their classes are unrelated) by one factory. A request
that is no model call passes untouched, and so does everything when `CLAWMW_OFF=1`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, TypeAlias

from clawmw.adapters.streaming import AsyncReading, Reading
from clawmw.adapters.transport import AsyncTransport, Transport
from clawmw.core.identity import Identity
from clawmw.runtime import Runtime, shared

__all__ = [
    "Flavour",
    "async_http_client",
    "http_client",
    "make_async_transport",
    "make_transport",
]

Flavour: TypeAlias = Literal["httpx", "httpx2"]


def http_client(
    policy: Any,
    *,
    flavour: Flavour = "httpx",
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """An `httpx.Client` (or `httpx2.Client`) whose model calls run under `policy`.

    `policy`: a path, a mapping, a `Policy` or a `Runtime`. `transport`: what to send with
    (default: the flavour's own). `options` go to the client. Raises `PolicyError`.
    """
    module = import_module(flavour)
    inner = transport or module.HTTPTransport(**_inner_options(options))
    wrapped = make_transport(shared(policy), flavour=flavour, inner=inner, identity=identity)
    return module.Client(transport=wrapped, **_client_options(module, options))


def async_http_client(
    policy: Any,
    *,
    flavour: Flavour = "httpx",
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """The async twin of `http_client`."""
    module = import_module(flavour)
    inner = transport or module.AsyncHTTPTransport(**_inner_options(options))
    wrapped = make_async_transport(shared(policy), flavour=flavour, inner=inner, identity=identity)
    return module.AsyncClient(transport=wrapped, **_client_options(module, options))


def _inner_options(options: dict[str, Any]) -> dict[str, Any]:
    """What of a client's options is the transport's to know; taken out of `options`."""
    if "mounts" in options:
        raise TypeError("mounts would go around the policy; wrap what they lead to as `transport`")
    names = ("verify", "cert", "http1", "http2", "limits", "trust_env", "proxy")
    return {name: options.pop(name) for name in names if name in options}


def _client_options(module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    """Model calls take minutes: the clients' default of 5 seconds would cut them."""
    return {"timeout": module.Timeout(600.0, connect=10.0), **options}


def make_transport(
    runtime: Runtime,
    *,
    flavour: Flavour = "httpx",
    inner: Any = None,
    identity: Identity | None = None,
) -> Any:
    """A sync transport that runs the policy over `inner` (default: the flavour's own)."""
    module = import_module(flavour)
    return _classes(flavour)[0](runtime, inner or module.HTTPTransport(), identity)


def make_async_transport(
    runtime: Runtime,
    *,
    flavour: Flavour = "httpx",
    inner: Any = None,
    identity: Identity | None = None,
) -> Any:
    """The async twin of `make_transport`."""
    module = import_module(flavour)
    return _classes(flavour)[1](runtime, inner or module.AsyncHTTPTransport(), identity)


@cache
def _classes(flavour: Flavour) -> tuple[Any, Any]:
    """The two transport classes of one flavour: our methods on its base classes."""
    module = import_module(flavour)
    reading = type("Reading", (Reading, module.SyncByteStream), {})
    areading = type("AsyncReading", (AsyncReading, module.AsyncByteStream), {})
    return (
        type(
            "ClawmwTransport",
            (Transport, module.BaseTransport),
            {"module": module, "reading": reading},
        ),
        type(
            "ClawmwAsyncTransport",
            (AsyncTransport, module.AsyncBaseTransport),
            {"module": module, "reading": areading},
        ),
    )

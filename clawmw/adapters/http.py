"""`clawmw.http_client(...)`: an HTTP client whose transport runs the policy.

Made for both `httpx` and `httpx2` (their classes are unrelated) by one factory. A request
that is no model call passes untouched, and so does everything when `CLAWMW_OFF=1`.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

from clawmw.adapters.streaming import AsyncReading, Reading
from clawmw.adapters.transport import AsyncTransport, Transport
from clawmw.core.identity import Identity
from clawmw.runtime import Runtime, shared

__all__ = [
    "FLAVOURS",
    "Flavour",
    "async_http_client",
    "flavour_of",
    "http_client",
    "make_async_transport",
    "make_transport",
]

Flavour: TypeAlias = Literal["httpx", "httpx2"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
_SDKS = ("anthropic", "openai")


def http_client(
    policy: Any,
    *,
    flavour: Flavour | None = None,
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """An `httpx.Client` (or `httpx2.Client`) whose model calls run under `policy`.

    `policy`: a path, a mapping, a `Policy` or a `Runtime`. `transport`: what to send with
    (default: the flavour's own). `options` go to the client. Raises `PolicyError`.

    `flavour`: which library; by default that of `transport` and `options`, else the one that
    the SDKs imported so far (openai, anthropic) use themselves, if they agree; else `httpx`.
    """
    flavour = flavour or _fitting(transport, *options.values())
    module = import_module(flavour)
    inner = transport or module.HTTPTransport(**_inner_options(options))
    wrapped = make_transport(shared(policy), flavour=flavour, inner=inner, identity=identity)
    return module.Client(transport=wrapped, **_client_options(module, options))


def async_http_client(
    policy: Any,
    *,
    flavour: Flavour | None = None,
    identity: Identity | None = None,
    transport: Any = None,
    **options: Any,
) -> Any:
    """The async twin of `http_client`."""
    flavour = flavour or _fitting(transport, *options.values())
    module = import_module(flavour)
    inner = transport or module.AsyncHTTPTransport(**_inner_options(options))
    wrapped = make_async_transport(shared(policy), flavour=flavour, inner=inner, identity=identity)
    return module.AsyncClient(transport=wrapped, **_client_options(module, options))


def flavour_of(thing: Any) -> Flavour | None:
    """The library that a client, a transport or an option is of, by its bases; None: neither.

    (What `__module__` says is no help: the SDKs put their own name there.)
    """
    kind = thing if isinstance(thing, type) else type(thing)
    for name in FLAVOURS:
        module = sys.modules.get(name)
        if any(getattr(module, base.__name__, None) is base for base in kind.__mro__):
            return name
    return None


def _fitting(*given: Any) -> Flavour:
    """The flavour of what is given, else of the SDKs' own clients where they agree."""
    found = {flavour_of(thing) for thing in given} - {None}
    if not found:
        loaded = [sys.modules[name] for name in _SDKS if name in sys.modules]
        found = {flavour_of(getattr(sdk, "DefaultHttpxClient", None)) for sdk in loaded}
    only = found.pop() if len(found) == 1 else None
    return only or "httpx"


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

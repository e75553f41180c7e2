"""`clawmw.install("policy.yaml")`: every HTTP client of this process, without touching any.

Both flavours' clients ask for a transport before they send; from then on they are handed one
that runs the policy over theirs. So it covers clients made before and after, whatever their
transport: the flavour's own, a proxy's, aiohttp's (litellm's default for async calls).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from clawmw.adapters import wire
from clawmw.adapters.http import FLAVOURS, Flavour, make_async_transport, make_transport
from clawmw.adapters.transport import Base
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError
from clawmw.policy.models import Policy
from clawmw.runtime import Runtime, shared

__all__ = ["Installed", "install"]

_ASKED = "_transport_for_url"
_changing = threading.Lock()
_now: list[Installed] = []
"""The one that is installed, if any."""


class Installed:
    """A policy over the model calls of this process, until `uninstall()` or the block's end.

    `before`: the same policy was installed already, so that a block's end leaves it there.
    """

    def __init__(
        self, runtime: Runtime, identity: Identity | None, before: Installed | None = None
    ) -> None:
        self.runtime = runtime
        self.identity = identity
        self.before = before
        self.active = True
        self._patched: list[tuple[type, Callable[..., Any], Callable[..., Any]]] = []

    def uninstall(self) -> None:
        """Calls go as they did before. Once is enough; further calls do nothing."""
        if self.before is not None:
            self.before.uninstall()
        with _changing:
            self.active = False
            for kind, ours, theirs in self._patched:
                if getattr(kind, _ASKED) is ours:  # else somebody else patched it since
                    setattr(kind, _ASKED, theirs)
            self._patched.clear()
            if self in _now:
                _now.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.before is None:
            self.uninstall()

    def patch(self, kind: type, over: Callable[[Any], Any]) -> None:
        """Have the clients of a class send through `over` of their transport."""
        theirs = getattr(kind, _ASKED)

        def asked(client: Any, url: Any) -> Any:
            inner = theirs(client, url)
            if not self.active or isinstance(inner, Base):
                return inner
            transport = over(inner)
            transport.shared = True
            transport.decides = not wire.to_gateway(str(url))
            return transport

        setattr(kind, _ASKED, asked)
        self._patched.append((kind, asked, theirs))


def install(
    policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml",
    identity: Identity | None = None,
) -> Installed:
    """From now on the model calls of this process run under `policy`. Undo with `uninstall()`,
    or use it as a context manager.

    Looked at are requests by `httpx` and `httpx2` clients whose path is a model call's
    (`/chat/completions` and the like), to any host: compatible servers have any name. A client
    that has a policy of its own (`clawmw.wrap`, `clawmw.http_client`) keeps it, and what goes to
    the gateway named by CLAWMW_GATEWAY is the gateway's to decide. CLAWMW_OFF=1 passes all.

    Not covered, since it makes no such request: boto3 (Bedrock), grpc and google-genai (Vertex,
    Gemini's own API), requests, urllib3 and aiohttp by themselves, litellm's routes in Rust
    (LITELLM_RUST), websockets (realtime), other processes. For these there is the gateway.

    The same policy again is the same; raises `ClawmwError` for another one while this one is
    installed, and `PolicyError`.
    """
    runtime = shared(policy)
    with _changing:
        if _now:
            if (_now[0].runtime, _now[0].identity) != (runtime, identity):
                raise ClawmwError(
                    "another policy is installed in this process; call uninstall() on what its "
                    "install() gave, or give single clients a policy with clawmw.wrap(client, ...)"
                )
            return Installed(runtime, identity, _now[0])
        installed = Installed(runtime, identity)
        for flavour in FLAVOURS:
            module = _module(flavour)
            if module is not None:
                _patch(installed, flavour, module)
        _now.append(installed)
    return installed


def _module(flavour: Flavour) -> ModuleType | None:
    """Imported now, if it is there at all: who imports it later finds it as it is left here."""
    try:
        return import_module(flavour)
    except ImportError:
        return None


def _patch(installed: Installed, flavour: Flavour, module: ModuleType) -> None:
    runtime, identity = installed.runtime, installed.identity

    def over(inner: Any) -> Any:
        return make_transport(runtime, flavour=flavour, inner=inner, identity=identity)

    def aover(inner: Any) -> Any:
        return make_async_transport(runtime, flavour=flavour, inner=inner, identity=identity)

    installed.patch(module.Client, over)
    installed.patch(module.AsyncClient, aover)

"""The emulator as a server on loopback, in a thread of this process."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clawmw.core.types import Usage
from clawmw.emulator import messages, responses
from clawmw.emulator.app import Received, World, application
from clawmw.emulator.brains import BRAINS, echo
from clawmw.emulator.faults import Fault
from clawmw.emulator.reply import Brain
from clawmw.errors import ClawmwError

__all__ = ["Emulator", "PortInUse"]

HOST = "127.0.0.1"
START_S = 10.0


class PortInUse(ClawmwError):
    """The port asked for is taken."""


class Emulator:
    """A model provider at `base_url` while the `with` block lasts.

    `brain` is a callable or a registered name, `bill` a provider family or model whose
    prices and caching rules hold (None: those of each request's model), `clock` what the
    prompt cache ages by, `log` a file that gets one JSON line a request (0600), `port` 0
    for any free one. Raises PortInUse when the port is taken.
    """

    def __init__(
        self,
        *,
        bill: str | None = None,
        brain: Brain | str | None = None,
        port: int = 0,
        log: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = BRAINS[brain]() if isinstance(brain, str) else brain or echo()
        self._skew = 0.0
        self._port = port
        self._connections: dict[tuple[str, int], Any] = {}
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._world = World(
            brain=chosen,
            bill=bill,
            clock=lambda: clock() + self._skew,
            log=_private(log),
            reset=self._reset,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return f"http://{HOST}:{self._port}/v1"

    @property
    def root_url(self) -> str:
        """What an Anthropic client takes as `base_url`."""
        return f"http://{HOST}:{self._port}"

    @property
    def requests(self) -> list[Received]:
        """Every chat request received so far, oldest first."""
        return self._world.requests

    @property
    def usages(self) -> list[Usage]:
        """What was billed so far, oldest first."""
        return [r.usage for r in self._world.requests if r.usage is not None]

    def fail_next(self, *faults: Fault) -> None:
        """Misbehave on the next requests: the first fault on the first, and so on."""
        self._world.faults.fail_next(*faults)

    def advance(self, seconds: float) -> None:
        """Let the prompt cache age without waiting."""
        self._skew += seconds

    def start(self) -> None:
        """Listen, and return when requests are answered."""
        sock = _listen(self._port)
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            application(self._world, *responses.routes(self._world), *messages.routes(self._world)),
            http=_tracked(self._connections),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=server.run,
            kwargs={"sockets": [sock]},
            name="clawmw-emulator",
            daemon=True,
        )
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                sock.close()
                raise ClawmwError(f"the emulator did not start on port {self._port}")
            time.sleep(0.002)

    def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=START_S)
        self._server = self._thread = None

    def _reset(self, client: Any) -> None:
        """Reset a connection: linger 0 makes the kernel send RST instead of FIN."""
        transport = self._connections.get(tuple(client)) if client else None
        if transport is not None:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()


def _tracked(connections: dict[tuple[str, int], Any]) -> type[H11Protocol]:
    """uvicorn's protocol, remembering each open connection by its client address."""

    class Tracked(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connections[transport.get_extra_info("peername")[:2]] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.pop(self.client, None)
            super().connection_lost(exc)

    return Tracked


def _listen(port: int) -> socket.socket:
    # With proto given, asyncio sets TCP_NODELAY on what is accepted; without, 40 ms stalls.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen(128)
    except OSError as e:
        sock.close()
        raise PortInUse(
            f"cannot listen on {HOST}:{port}: {e.strerror or e}; choose another port"
        ) from None
    return sock


def _private(log: str | Path | None) -> Path | None:
    """The log file, made readable by its owner only."""
    if log is None:
        return None
    path = Path(log)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.fchmod(file, 0o600)
    finally:
        os.close(file)
    return path

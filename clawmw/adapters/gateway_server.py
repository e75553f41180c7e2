"""The gateway's web server: a socket of our own, a bounded drain, no access log."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import uvicorn

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_guard import App, Guard, is_loopback, known_hosts
from clawmw.errors import ClawmwError

__all__ = ["DRAIN_SECONDS", "Served", "Server", "listen"]

DRAIN_SECONDS = 5
"""How long calls under way may take to finish once the gateway is told to stop."""
IDLE_SECONDS = 75
"""How long a caller's connection may idle; longer than clients keep theirs, so that it is
never the gateway that closes one just as a request comes in."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ClawmwError` saying what is in the way."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ClawmwError(f"--host {host}: this machine knows no such address") from None
    family, kind, proto, _, address = found[0]
    # With proto given, asyncio sets TCP_NODELAY on what is accepted; without, 40 ms stalls.
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise ClawmwError(_in_the_way(error, host, port)) from None
    return sock


def _in_the_way(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use on {host}; choose another --port, or end what holds it"
        case errno.EACCES:
            return f"port {port} is not open to this user; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"--host {host}: this machine has no such address"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror}"


class Server(uvicorn.Server):
    """uvicorn, stopped gently by the first signal and at once by the second.

    `app`: what stands between the guard and the gateway, and calls the gateway's.
    """

    def __init__(
        self,
        gateway: Gateway,
        sock: socket.socket,
        *,
        token: str | None = None,
        allow_hosts: Iterable[str] = (),
        stopping: Callable[[int], None] = lambda _in_flight: None,
        app: App | None = None,
    ) -> None:
        self.gateway = gateway
        self.sock = sock
        self.stopping = stopping
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where it serves, once it does."""
        host, port = sock.getsockname()[:2]
        if not is_loopback(host) and token is None:
            raise ClawmwError(f"{host} can be reached from other machines; that needs a token")
        # Any handler keeps Python's last resort from printing tracebacks to the terminal.
        logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
        guard = Guard(app or gateway.app, known_hosts(host, port, allow_hosts), token)
        config = uvicorn.Config(
            guard,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        super().__init__(config)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        self.loop = loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        main = threading.current_thread() is threading.main_thread()
        for number in numbers if main else ():
            loop.add_signal_handler(number, self._told_to_stop)
        try:
            await self._serve(sockets or [self.sock])
            await self.gateway.aclose()
        finally:
            for number in numbers if main else ():
                loop.remove_signal_handler(number)

    def _told_to_stop(self) -> None:
        if not self.should_exit:
            self.should_exit = True
            self.stopping(self.gateway.counts.in_flight)
            return
        self.force_exit = True
        for connection in list(self.server_state.connections):
            # Each call under way sees its caller leave, and is settled.
            connection.transport.abort()


class Served:
    """A gateway on loopback in a thread of this process, while the `with` block lasts.

    `app`: what stands between the guard and the gateway, and calls the gateway's.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        port: int = 0,
        token: str | None = None,
        app: App | None = None,
    ) -> None:
        self.gateway = gateway
        self.server = Server(gateway, listen("127.0.0.1", port), token=token, app=app)
        self.port: int = self.server.sock.getsockname()[1]
        self._thread = threading.Thread(target=self.server.run, name="clawmw-gateway", daemon=True)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ClawmwError(f"the gateway did not start on port {self.port}")
            time.sleep(0.002)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.should_exit = True
        self._thread.join(DRAIN_SECONDS + 5)

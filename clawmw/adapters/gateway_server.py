"""The gateway's web server: a socket of our own, a bounded drain, no access log."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_guard import App, Guard, is_loopback, known_hosts
from clawmw.adapters.gateway_socket import BACKLOG, listen
from clawmw.adapters.in_thread import InThread
from clawmw.errors import ClawmwError

__all__ = ["DRAIN_SECONDS", "Served", "Server"]

DRAIN_SECONDS = 5
"""How long calls under way may take to finish once the gateway is told to stop."""
HEAD_SECONDS = 30.0
"""How long a request may take until its head is here; its body has a time of its own."""
IDLE_SECONDS = 75
"""How long a caller's connection may idle; longer than clients keep theirs, so that it is
never the gateway that closes one just as a request comes in."""
AT_ONCE = 4
"""Connections taken in one go: of many that come together, other workers are to get theirs."""


class Connection(H11Protocol):
    """A caller's connection; one whose request has not begun to be served in time is closed.

    Without it, whoever sends a byte now and then holds a connection for good (Slowloris).
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller is there."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some of a request is there."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        served = cycle is not None and not cycle.response_complete
        if served and self._late is not None:
            self._late.cancel()
            self._late = None
        elif not served:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)


class Server(uvicorn.Server):
    """uvicorn, stopped gently by the first signal and at once by the second.

    `app`: what stands between the guard and the gateway, and calls the gateway's. What may be set
    before it serves: `ready`, called once it does; `beside`, run as a task meanwhile; `again`, for
    SIGHUP; `stopping`, told how many calls are under way then; `parent`, a socket whose end says
    that whoever started this process is gone.
    """

    def __init__(
        self,
        gateway: Gateway,
        sock: socket.socket,
        *,
        token: str | None = None,
        allow_hosts: Iterable[str] = (),
        app: App | None = None,
        drain: int = DRAIN_SECONDS,
    ) -> None:
        self.gateway = gateway
        self.sock = sock
        self.stopping: Callable[[int], None] = lambda _in_flight: None
        self.ready: Callable[[], None] = lambda: None
        self.beside: Callable[[], Awaitable[None]] | None = None
        self.again: Callable[[], None] | None = None
        self.parent: socket.socket | None = None
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
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=AT_ONCE,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=drain,
        )
        super().__init__(config)

    def encrypt(self, certificate: Path, key: Path | None) -> None:
        """Serve TLS. Raises `ClawmwError` for files that make none."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", "") or "no PEM"
            named = f"{certificate}, {key}" if key else str(certificate)
            raise ClawmwError(f"--tls-cert, --tls-key: {named}: {reason}".lower()) from None
        self.config.ssl_certfile, self.config.ssl_keyfile = certificate, key

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self.sock.listen(BACKLOG)  # the event loop's own number is how many it takes in one go
        self.ready()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        self.loop = loop = asyncio.get_running_loop()
        handlers = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop}
        if self.again is not None:
            handlers[signal.SIGHUP] = self.again
        if threading.current_thread() is not threading.main_thread():
            handlers.clear()
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        if self.parent is not None:
            loop.add_reader(self.parent, self._orphaned)
        beside = asyncio.ensure_future(self.beside()) if self.beside is not None else None
        try:
            await self._serve(sockets or [self.sock])
            await self.gateway.aclose()
        finally:
            if beside is not None:
                beside.cancel()
            for number in handlers:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Take no more calls and finish those under way; told again, end at once."""
        if not self.should_exit:
            self.should_exit = True
            self.stopping(self.gateway.counts.in_flight)
            return
        self.force_exit = True
        for connection in list(self.server_state.connections):
            # Each call under way sees its caller leave, and is settled.
            connection.transport.abort()

    def _orphaned(self) -> None:
        assert self.loop is not None
        assert self.parent is not None
        self.loop.remove_reader(self.parent)
        if not self.should_exit:
            self.stop()


class Served(InThread):
    """A gateway on loopback in a thread of this process, while the `with` block lasts.

    `app`: what stands between the guard and the gateway, and calls the gateway's.
    """

    what = "the gateway"
    drain = DRAIN_SECONDS

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
        super().__init__(self.server, self.server.sock.getsockname()[1])

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

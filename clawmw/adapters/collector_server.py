"""The collector's web server: as the gateway's, with less to wait for when it stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterable

import uvicorn

from clawmw.adapters.collector import Collector
from clawmw.adapters.gateway_guard import Guard, is_loopback, known_hosts
from clawmw.adapters.gateway_server import AT_ONCE, IDLE_SECONDS, Connection
from clawmw.adapters.gateway_socket import BACKLOG, listen
from clawmw.adapters.in_thread import InThread
from clawmw.errors import ClawmwError

__all__ = ["Collecting", "CollectorServer"]

_DRAIN_SECONDS = 3


class CollectorServer(uvicorn.Server):
    """Serves on a listening socket until SIGINT or SIGTERM, and then returns."""

    def __init__(
        self,
        collector: Collector,
        sock: socket.socket,
        *,
        token: str | None = None,
        allow_hosts: Iterable[str] = (),
    ) -> None:
        self.sock = sock
        host, port = sock.getsockname()[:2]
        if not is_loopback(host) and token is None:
            raise ClawmwError(f"{host} can be reached from other machines; that needs a token")
        logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
        guard = Guard(collector, known_hosts(host, port, allow_hosts), token, what="collector")
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
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self.sock.listen(BACKLOG)  # the event loop's own number is how many it takes in one go

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; requests under way are finished."""
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            await self._serve(sockets or [self.sock])
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Take no more requests; told again, end at once."""
        self.force_exit, self.should_exit = self.should_exit, True


class Collecting(InThread):
    """A collector on loopback in a thread of this process, while the `with` block lasts."""

    what = "the collector"
    drain = _DRAIN_SECONDS

    def __init__(self, collector: Collector, *, port: int = 0, token: str | None = None) -> None:
        self.collector = collector
        self._sock = listen("127.0.0.1", port)
        self.server = CollectorServer(collector, self._sock, token=token)
        super().__init__(self.server, self._sock.getsockname()[1])

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.port}"

    def ended(self) -> None:
        """The port is free again."""
        self._sock.close()

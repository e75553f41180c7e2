"""The web server of `clawmw ui`: one socket, no access log, gone at the first Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn

from clawmw.adapters.gateway_guard import is_loopback, known_hosts
from clawmw.adapters.gateway_socket import listen
from clawmw.adapters.in_thread import InThread
from clawmw.adapters.ui import Ui
from clawmw.adapters.ui_guard import UiGuard
from clawmw.errors import ClawmwError

__all__ = ["UiServed", "UiServer"]

_DRAIN_SECONDS = 1
_IDLE_SECONDS = 30


class UiServer(uvicorn.Server):
    """uvicorn with our socket; `ready` is called once it serves."""

    def __init__(
        self,
        ui: Ui,
        sock: socket.socket,
        *,
        token: str | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.sock = sock
        self._ready = ready
        host, port = sock.getsockname()[:2]
        if not is_loopback(host) and token is None:
            raise ClawmwError(f"{host} can be reached from other machines; that needs a token")
        # Any handler keeps Python's last resort from printing tracebacks to the terminal.
        logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
        config = uvicorn.Config(
            UiGuard(ui, known_hosts(host, port), token),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            limit_concurrency=200,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self._ready()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        for number in numbers:
            loop.add_signal_handler(number, self._stop)
        try:
            await self._serve(sockets or [self.sock])
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


class UiServed(InThread):
    """The pages on loopback in a thread of this process, while the `with` block lasts."""

    what = "the pages"
    drain = _DRAIN_SECONDS

    def __init__(self, ui: Ui, *, port: int = 0, token: str | None = None) -> None:
        self.server = UiServer(ui, listen("127.0.0.1", port), token=token)
        super().__init__(self.server, self.server.sock.getsockname()[1])

    @property
    def url(self) -> str:
        """Where the list of chains is."""
        return f"http://127.0.0.1:{self.port}/"

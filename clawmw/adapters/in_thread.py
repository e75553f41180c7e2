"""A server on loopback in a thread of this process, while a `with` block lasts."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import uvicorn

from clawmw.errors import ClawmwError

__all__ = ["InThread"]


class InThread:
    """See the module; whose `server` listens already, on `port`. `what` names it in errors."""

    what = "the server"
    drain = 5.0
    """Seconds it takes at most to end what is under way."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self._running, self.port = server, port
        self._thread = threading.Thread(target=server.run, name="clawmw-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._running.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ClawmwError(f"{self.what} did not start on port {self.port}")
            time.sleep(0.002)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.should_exit = True
        self._thread.join(self.drain + 5)
        self.ended()

    def ended(self) -> None:
        """Called when the server is over."""

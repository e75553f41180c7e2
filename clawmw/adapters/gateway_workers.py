"""Several gateways on one socket: processes that are started, watched and started again.

The parent holds the listening socket and nothing else, so that there is little in it to fail. A
worker that dies takes its own calls with it and no others'; new connections wait in the socket
for the others. A worker whose parent is gone finishes what it has and ends.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

__all__ = ["READY", "Workers"]

READY = b"r"
"""What a worker writes to its parent once it takes calls."""
STEADY_SECONDS = 5.0
"""A worker that lived so long was well."""
MOST_FAILURES = 5
"""Workers in a row that end before that; then it is no accident, and all ends."""
KILL_SECONDS = 5.0
"""How much longer than its calls a worker may take to end."""


_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which the workers count together for /metrics."""
_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Only so that the signal does not end the process."""


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    line: socket.socket
    """Ends when the worker does; and the worker's end, when this process does."""
    began: float
    ready: bool = False


class Workers:
    """See the module.

    `command` gives a worker's command line for its number, the descriptors of the listening
    socket and of its line, and whether it is to say where it listens. `drain`: seconds that
    calls under way may take once the workers are told to stop.
    """

    def __init__(
        self,
        sock: socket.socket,
        count: int,
        command: Callable[[int, int, int, bool], Sequence[str]],
        drain: float,
        say: Callable[[str], None],
    ) -> None:
        self._sock, self._count, self._command = sock, count, command
        self._drain, self._say = drain, say
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}
        """When to start a worker again."""
        self._failures = 0
        self._stops = 0
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._counts = ""

    def run(self) -> int:
        """Until told to stop; the exit code."""
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        previous = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        # They come as bytes through the socket: nothing happens in between two statements.
        before = {number: signal.signal(number, _nothing) for number in _HEEDED}
        try:
            with woken, wake, tempfile.TemporaryDirectory(prefix="clawmw-") as self._counts:
                return self._supervise(woken)
        finally:
            for worker in self._workers.values():
                worker.process.kill()
                worker.process.wait()
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _supervise(self, woken: socket.socket) -> int:
        self._start(0)  # alone, so that what is wrong is said once
        deadline = float("inf")
        code = 0
        while self._workers or self._due:
            soonest = min([deadline, *self._due.values()]) - time.monotonic()
            wait = None if soonest == float("inf") else max(soonest, 0)
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    for number in woken.recv(1024):
                        self._told(number)
                else:
                    code = self._heard(key.data) or code
            if self._stops and deadline == float("inf"):
                deadline = time.monotonic() + self._drain + KILL_SECONDS
            if time.monotonic() > deadline:
                for worker in self._workers.values():
                    worker.process.kill()
            for number in [n for n, due in self._due.items() if due <= time.monotonic()]:
                del self._due[number]
                self._start(number)
        return code if self._stops < 2 else 128 + signal.SIGINT

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (self._sock.fileno(), theirs.fileno())
            command = self._command(number, *fds, not self._announced)
            # A group of its own: Ctrl-C in the terminal is the parent's to deal with.
            env = {**os.environ, _COUNTS: self._counts}
            process = subprocess.Popen(  # noqa: S603
                command, env=env, pass_fds=fds, process_group=0
            )
        worker = _Worker(number, process, ours, time.monotonic())
        self._workers[number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _heard(self, worker: _Worker) -> int:
        """A worker is ready, or ended: the exit code that its end gives to all of us."""
        if worker.line.recv(16) == READY:
            worker.ready = self._announced = True
            missing = set(range(self._count)) - set(self._workers) - set(self._due)
            for number in sorted(missing) if not self._stops else ():
                self._start(number)
            return 0
        self._selector.unregister(worker.line)
        worker.line.close()
        del self._workers[worker.number]
        code = worker.process.wait()
        for live in Path(self._counts).glob(f"gauge_live*_{worker.process.pid}.db"):
            live.unlink()  # what it had under way is no more
        if self._stops:
            return 0
        if not self._announced:  # it has said why
            self._stops = 1
            return code if code > 0 else 1
        return self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> int:
        """Start it again, a little later each time that one does not last."""
        lasted = worker.ready and time.monotonic() - worker.began > STEADY_SECONDS
        self._failures = 0 if lasted else self._failures + 1
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        who = f"worker {worker.number} (process {worker.process.pid}) ended by {how}"
        if self._failures > MOST_FAILURES:
            self._say(f"{who}, as {MOST_FAILURES} before it; giving up")
            self._stop()
            return 1
        self._say(f"{who}; started again")
        pause = 0.1 * 2.0 ** (self._failures - 1) if self._failures > 1 else 0.0
        self._due[worker.number] = time.monotonic() + pause
        return 0

    def _told(self, number: int) -> None:
        """A signal: to read the policy again, or to stop."""
        if number == signal.SIGHUP:
            self._tell(signal.SIGHUP)
        elif number in _HEEDED:
            self._stop()

    def _stop(self) -> None:
        """First no more calls, then (told again) an end at once."""
        self._stops += 1
        self._due.clear()
        with suppress(OSError):
            self._sock.close()  # else connections would wait in it for nobody
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, number)

"""`notify:`: tells somebody when a chain was stopped, a budget is near its limit, a breaker opened.

A command gets one JSON object on standard input, a webhook the same as the body of a POST: what
happened, by which rule, whose call it was. Never content. The same news is told at most once in
`every`, and 60 in an hour at most; what is held back or fails is counted. Nothing of it delays a
call: a thread of its own tells.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clawmw.core.events import Acted, BreakerTurned, BudgetNeared, CallFinished, Event
from clawmw.errors import ClawmwError

__all__ = ["Notifier", "send"]

_SECONDS = 10.0
"""How long a command or a webhook may take."""
_AN_HOUR = 60
_AT_EXIT = 3.0
"""Seconds that a process which ends waits for what is not told yet."""
_REMEMBERED = 1024

_SUBJECT = ("event", "rule", "chain", "upstream", "scope", "name", "day", "meter")
"""What makes two news the same."""

News = Mapping[str, Any]


def send(news: News, *, command: str | None, webhook: str | None, folder: Path) -> None:
    """Tell it now. Raises `ClawmwError` saying what went wrong."""
    text = json.dumps(news, ensure_ascii=False)
    if command is not None:
        _run(command, text, folder)
    if webhook is not None:
        _post(webhook, text)


def _run(command: str, text: str, folder: Path) -> None:
    words = shlex.split(command)
    try:
        done = subprocess.Popen(  # noqa: S603 - the policy's own command, without a shell
            words,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # whatever it says is nobody's to keep
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ClawmwError(f"notify.command: {words[0]}: {error.strerror}") from None
    try:
        done.communicate(text.encode(), _SECONDS)
    except subprocess.TimeoutExpired:
        _end(done)
        raise ClawmwError(f"notify.command: {words[0]} took longer than {_SECONDS:g} s") from None
    if done.returncode:
        raise ClawmwError(f"notify.command: {words[0]} ended with code {done.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started, where the system knows groups of processes."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _post(webhook: str, text: str) -> None:
    import httpx  # only where a policy names a webhook

    try:
        headers = {"content-type": "application/json"}
        # Only the head of the answer is read: its body may be long, or never end.
        with httpx.stream(
            "POST", webhook, content=text, headers=headers, timeout=_SECONDS
        ) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClawmwError(f"notify.webhook: {type(error).__name__}") from None
    if not 200 <= status < 300:  # a redirect, too, is not followed
        raise ClawmwError(f"notify.webhook: HTTP {status}")


@dataclass
class Notifier:
    """The observer behind `notify:`."""

    command: str | None
    webhook: str | None
    folder: Path
    every: float
    clock: Callable[[], float] = time.monotonic
    told: int = 0
    held_back: int = 0
    failed: int = 0
    _queue: queue.Queue[News] = field(default_factory=lambda: queue.Queue(256))
    _last: OrderedDict[tuple[str, ...], float] = field(default_factory=OrderedDict)
    _hour: deque[float] = field(default_factory=deque)
    _stops: OrderedDict[str, Acted] = field(default_factory=OrderedDict)
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, Acted):
            if event.action == "halt" and not event.would:
                self._stops[event.exchange] = event
                if len(self._stops) > _REMEMBERED:
                    self._stops.popitem(last=False)
        elif isinstance(event, CallFinished):
            stop = self._stops.pop(event.exchange, None)
            if stop is not None and event.status == "halted":
                self._stopped(event, stop)
        elif isinstance(event, BudgetNeared):
            told = asdict(event)
            del told["exchange"]
            self._tell({"event": "budget_near", **told})
        elif isinstance(event, BreakerTurned) and event.state == "open":
            self._tell({"event": "breaker_open", "upstream": event.upstream, "time": event.time})

    def _stopped(self, finished: CallFinished, stop: Acted) -> None:
        if not stop.rule.startswith(("budget.", "loop_guard.")):
            return
        who = finished.identity
        self._tell(
            {
                "event": "stopped",
                "rule": stop.rule,
                "agent": who.agent,
                "session": who.session,
                "chain": who.chain,
                "tenant": who.tenant,
                **{name: str(value) for name, value in stop.detail.items()},
                "time": finished.time,
                "look": f"clawmw traces show {who.chain}",
            }
        )

    def _tell(self, news: News) -> None:
        """Put it in line, if it was not told a moment ago."""
        about = tuple([str(news.get(name, "")) for name in _SUBJECT])
        now = self.clock()
        with self._lock:
            while self._hour and now - self._hour[0] > 3600:
                self._hour.popleft()
            soon = now - self._last.get(about, -self.every) < self.every
            if soon or len(self._hour) >= _AN_HOUR:
                self.held_back += 1
                return
            self._last[about] = now
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
            self._hour.append(now)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="clawmw-notify", daemon=True
                )
                self._thread.start()
                atexit.register(self.flush, _AT_EXIT)
        try:
            self._queue.put_nowait(news)
        except queue.Full:
            self.failed += 1

    def _work(self) -> None:
        while True:
            news = self._queue.get()
            try:
                send(news, command=self.command, webhook=self.webhook, folder=self.folder)
                self.told += 1
            except Exception:  # noqa: BLE001 - whatever it is, the next news must be told
                self.failed += 1
            finally:
                self._queue.task_done()

    def flush(self, seconds: float) -> bool:
        """Wait until all is told; False when that took too long."""
        deadline = time.monotonic() + seconds
        while self._queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._queue.unfinished_tasks

"""Misbehaviour on request.

Three ways to ask for it: `emulator.fail_next(Fault(status=503))` in process, a header
`x-emulate: status=503, times=2`, or the same words after the model name
(`some-model?status=503&times=2`) for clients that cannot set headers.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BadDirective", "Fault", "Faults", "parse"]

_TIME = re.compile(r"^(\d+(?:\.\d+)?)(ms|s)?$")


class BadDirective(ValueError):
    """A directive that is not one of ours; the message lists those that are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How to misbehave, once. Times in seconds; the default is to behave."""

    status: int | None = None
    """Answer with this HTTP status and an error body."""
    retry_after: float | None = None
    """Send a Retry-After header (seconds)."""
    delay: float = 0.0
    """Wait before the first byte."""
    chunk_delay: float = 0.0
    """Wait before each streamed chunk."""
    reset_after: int | None = None
    """Reset the connection after that many chunks (a TCP RST); 0: before any byte."""
    truncate_after: int | None = None
    """End the stream cleanly after that many chunks, without [DONE]."""
    html: bool = False
    """Answer 200 with an HTML page, as a broken proxy does."""
    empty: bool = False
    """Answer 200 with an empty body."""
    error: bool = False
    """Answer 200 with an error in the body, in a stream as its first event (OpenRouter)."""
    comments: int = 0
    """Send so many comments before the stream, as servers do to be thought alive."""
    stall_after: int | None = None
    """Send nothing more after that many chunks, and keep the connection open."""
    pieces: int | None = None
    """Cut the stream every so many bytes, whatever is there: a character, a `data:`."""
    crlf: bool = False
    """End the stream's lines with CRLF."""
    big: int = 0
    """Put a line of so many bytes before the stream."""
    mislabel: bool = False
    """Say that a stream is plain text."""
    no_usage: bool = False
    """Leave `usage` out."""
    times: int | None = None
    """Do so for the first n requests that carry this very directive, then behave."""


class Faults:
    """The faults waiting for the next requests, and how often each directive was seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Fault] = deque()
        self._seen: dict[str, int] = {}

    def fail_next(self, *faults: Fault) -> None:
        """Line up faults: the first for the next chat request, and so on; `Fault()` behaves."""
        with self._lock:
            self._waiting.extend(faults)

    def take(self, directive: str | None) -> Fault:
        """The fault for one request: what is lined up first, then what it asks for itself."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if not directive:
                return Fault()
            fault = parse(directive)
            seen = self._seen[directive] = self._seen.get(directive, 0) + 1
            return Fault() if fault.times is not None and seen > fault.times else fault


def parse(directive: str) -> Fault:
    """A fault from `status=503, delay=200ms`; raises BadDirective on anything unknown."""
    values: dict[str, Any] = {}
    for item in re.split(r"[,;&]\s*", directive.strip()):
        name, _, value = (part.strip() for part in item.partition("="))
        key = name.replace("-", "_")
        if key not in _READ:
            known = ", ".join(sorted(k.replace("_", "-") for k in _READ))
            raise BadDirective(f"x-emulate knows no {name!r}; it knows {known}")
        try:
            values[key] = _READ[key](value)
        except ValueError:
            raise BadDirective(
                f"x-emulate: {name}={value!r} is not a {_KIND[_READ[key]]}"
            ) from None
    return Fault(**values)


def _seconds(value: str) -> float:
    found = _TIME.match(value)
    if not found:
        raise ValueError(value)
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def _status(value: str) -> int:
    status = int(value)
    if not 100 <= status <= 599:
        raise ValueError(value)
    return status


def _count(value: str) -> int:
    count = int(value)
    if count < 0:
        raise ValueError(value)
    return count


def _flag(value: str) -> bool:
    if value not in ("", "1", "true"):
        raise ValueError(value)
    return True


_READ: Mapping[str, Callable[[str], Any]] = {
    "status": _status,
    "retry_after": _seconds,
    "delay": _seconds,
    "chunk_delay": _seconds,
    "reset_after": _count,
    "truncate_after": _count,
    "html": _flag,
    "empty": _flag,
    "error": _flag,
    "comments": _count,
    "stall_after": _count,
    "pieces": _count,
    "crlf": _flag,
    "big": _count,
    "mislabel": _flag,
    "no_usage": _flag,
    "times": _count,
}
_KIND: Mapping[Callable[[str], Any], str] = {
    _seconds: "time like 200ms or 2s",
    _status: "status from 100 to 599",
    _count: "count",
    _flag: "flag (write it without a value)",
}

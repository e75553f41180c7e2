"""Spans on the wire of OTLP/HTTP, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clawmw.errors import ClawmwError

__all__ = ["BadOtlp", "Batch", "Encoding", "Value", "WireEvent", "WireSpan"]

Encoding: TypeAlias = Literal["protobuf", "json"]
Value: TypeAlias = str | bool | int | float | Sequence[str | bool | int | float]


class BadOtlp(ClawmwError):
    """A body that is not OTLP."""


@dataclass(frozen=True, slots=True)
class WireEvent:
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WireSpan:
    """A span as it is sent; ids in hexadecimal, times in nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    failed: bool = False
    client: bool = False
    """It calls something in another process."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[WireEvent, ...] = ()
    links: tuple[tuple[str, str, str], ...] = ()
    """What each is for, and the trace and span it leads to."""
    scope: str = ""
    """The library that made it."""
    service: str | None = None
    """The program that it ran in."""


@dataclass(slots=True)
class Batch:
    """What a request held."""

    spans: list[WireSpan] = field(default_factory=list)
    rejected: int = 0
    why: str = ""
    """Why some were rejected."""

    def reject(self, why: str) -> None:
        """Count a span that is not taken."""
        self.rejected += 1
        self.why = self.why or why

"""The calls that have begun and are not over yet, and what was said of each so far."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from clawmw.observe.spans.attributes import Call

__all__ = ["Open", "UnderWay"]

_MOST = 4096
"""Calls that may be open at once; the oldest are forgotten (they never finished)."""


@dataclass(slots=True)
class Open:
    """A call that has begun, and the span it began under."""

    call: Call = field(default_factory=Call)
    under: SpanContext | None = None
    foreign: trace.Span | None = None
    """That span, where another library made it for this very call."""


class UnderWay(OrderedDict[str, Open]):
    """Open calls by exchange. Each method is one step of a C type: no lock is needed."""

    def of(self, exchange: str) -> Open:
        """The call, begun now if it is new."""
        found = self.get(exchange)
        if found is None:
            found = self.setdefault(exchange, Open())
            if len(self) > _MOST:
                self.popitem(last=False)
        return found

    def over(self, exchange: str) -> Open:
        """The call, for the last time."""
        return self.pop(exchange, None) or Open()

"""What the model calls beneath a span come to."""

from __future__ import annotations

from dataclasses import dataclass, fields

from clawmw.observe.store.spanstore import SpanRow

__all__ = ["Sum", "own"]


@dataclass(slots=True)
class Sum:
    """What the model calls of a subtree come to; None until one says it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cacheable: int | None = None
    """Input tokens of the calls whose cache reads are known."""
    cost_nano: int | None = None
    saved_nano: int | None = None
    estimated: int = 0
    estimated_cost: int = 0
    unknown_usage: int = 0
    unknown_cost: int = 0

    def add(self, other: Sum) -> None:
        """Take in another subtree."""
        for name in _NAMES:
            more = getattr(other, name)
            if more is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)


_NAMES = tuple([f.name for f in fields(Sum)])


def own(span: SpanRow) -> Sum:
    """What a span itself came to: nothing, unless it is a model call."""
    if span.op != "chat":
        return Sum()
    known = span.cache_read_tokens is not None
    both = span.cost_nano is not None and span.baseline_nano is not None
    return Sum(
        span.input_tokens,
        span.output_tokens,
        span.cache_read_tokens,
        span.input_tokens if known else None,
        span.cost_nano,
        (span.baseline_nano or 0) - (span.cost_nano or 0) if both else None,
        int(span.usage_basis == "estimated"),
        int("estimated" in (span.usage_basis, span.cost_basis)),
        int(span.input_tokens is None and span.status in ("ok", "cancelled")),
        int(span.cost_nano is None or (span.assumed_nano or 0) > 0),
    )

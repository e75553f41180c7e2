"""What is known of one call, and what a telling of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clawmw.core.money import NANO, Profile
from clawmw.observe.reading.figures import clean, money
from clawmw.observe.store.outlinestore import Inside
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["Facts", "Point", "Section", "dollars", "many", "name"]


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that happened. `rule`: what of the policy decided it; "": nothing did."""

    text: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What happened of one kind, in order."""

    title: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """One call: its span, the outline of its messages where there is one, and today's prices."""

    span: SpanRow
    inside: Inside | None = None
    prices: Callable[[str], Profile] | None = None

    def get(self, key: str) -> Any:
        """An attribute of the span."""
        return self.span.attributes.get(key)

    def events(self, *names: str) -> Iterator[Mapping[str, Any]]:
        """The span's events of those names."""
        return (event for event in self.span.events if event.get("name") in names)

    def acted(self, *stages: str) -> Iterator[Mapping[str, Any]]:
        """What some stages decided."""
        for event in self.events("clawmw.acted", "clawmw.loop.capped"):
            if event.get("stage") in stages:
                yield event

    @property
    def observing(self) -> bool:
        """Nothing was done, only said."""
        return self.span.mode in ("observe", "holdout")

    @property
    def together(self) -> str:
        """What is to be said of sums over several attempts."""
        counted = self.span.attempts or 0
        return f", in all {counted} attempts together" if counted > 1 else ""

    def profile(self, model: str | None) -> Profile | None:
        """A model's prices, as they are known today."""
        if self.prices is None or not model:
            return None
        return self.prices(model)


def name(text: object) -> str:
    """A name from outside, quoted where it could be read as something else."""
    said = clean(str(text)) if text is not None else "unknown"
    return said if said and " " not in said else f"“{said}”"


def many(count: int, what: str) -> str:
    """`1 message`, `2,000 messages`, `3 replies`."""
    if count == 1:
        return f"1 {what}"
    return f"{count:,} {what[:-1]}ies" if what.endswith("ly") else f"{count:,} {what}s"


def dollars(usd: object) -> str:
    """USD as an event has them."""
    return money(round(usd * NANO)) if isinstance(usd, int | float) else "an unknown sum"

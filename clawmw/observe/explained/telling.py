"""The whole telling of a call, section by section, in the order in which things happened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeAlias

from clawmw.core.money import Profile
from clawmw.observe.explained import bill, context, deciding
from clawmw.observe.explained.facts import Facts, Point, Section
from clawmw.observe.reading.figures import clean
from clawmw.observe.store.outlinestore import inside
from clawmw.observe.store.spanstore import SpanRow, SpanStore

__all__ = ["facts_of", "tell"]

_log = logging.getLogger(__name__)
_Tells: TypeAlias = Callable[[Facts], Iterator[Point]]
_SECTIONS: tuple[tuple[str, _Tells], ...] = (
    ("Who called", deciding.caller),
    ("What was asked", context.asked),
    ("Which model", deciding.model),
    ("What was sent", context.sent),
    ("Limits and guards", deciding.guards),
    ("Attempts", deciding.attempts),
    ("The provider's cache", context.cache),
    ("What came back", deciding.came_back),
    ("What it cost", bill.cost),
    ("What was saved", bill.saved),
    ("Trouble", deciding.trouble),
)


def tell(facts: Facts) -> tuple[Section, ...]:
    """What happened to one call; sections of which nothing is known are left out."""
    told = [(title, _points(tells, facts)) for title, tells in _SECTIONS]
    return tuple([Section(title, points) for title, points in told if points])


def _points(tells: _Tells, facts: Facts) -> tuple[Point, ...]:
    """Each point once. A span may come from anybody: what cannot be read of it is said."""
    found: dict[Point, None] = {}
    try:
        for point in tells(facts):
            found[Point(clean(point.text), clean(point.rule))] = None
    except Exception as error:  # noqa: BLE001 - the other sections are of use all the same
        _log.debug("a section of a call cannot be told: %s", type(error).__name__)
        found[Point("What else was recorded of it cannot be read.")] = None
    return tuple(found)


def facts_of(
    store: SpanStore,
    span: SpanRow,
    now_ns: int,
    prices: Callable[[str], Profile] | None = None,
) -> Facts:
    """What is known of a call: its span, and the outline of its messages if there is one."""
    seen = inside(store, span.exchange, now_ns) if span.exchange else None
    return Facts(span, seen, prices)

"""What clawmw changes, measured: chains that a policy's `holdout` left raw beside the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clawmw.observe.reading.chains import Chain
from clawmw.observe.reading.listing import these
from clawmw.observe.reading.statistics import (
    ENOUGH,
    Interval,
    difference_of_shares,
    ratio_of_means,
    ratio_of_typical,
    typical,
)
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["Compared", "Holdout", "holdout"]

_MOST = 1000
"""Chains of each kind that are compared, the newest."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of raw and of governed chains."""

    name: str
    unit: str
    """`money`, `tokens`, `number`, `time` or `share`."""
    raw: float | None
    """The typical or mean raw chain's; for `share`, their share."""
    governed: float | None
    change: Interval | None
    """Governed against raw: 0.2 is 20% more (of a share: 20 points more). None: cannot be told."""

    @property
    def verdict(self) -> str:
        """`less`, `more`, or `even` where chance could have made the difference."""
        if self.change is None or not self.change.excludes(0):
            return "even"
        return "less" if self.change.high < 0 else "more"


@dataclass(frozen=True, slots=True)
class Holdout:
    """Raw chains beside governed ones of the same time."""

    raw: int
    governed: int
    measures: tuple[Compared, ...]

    @property
    def enough(self) -> bool:
        """Whether there are enough to say anything."""
        return min(self.raw, self.governed) >= ENOUGH

    @property
    def needed(self) -> int:
        """How many of each kind it takes."""
        return ENOUGH


def holdout(store: SpanStore, since_ns: int | None = None) -> Holdout | None:
    """The comparison of chains active since a time; None where no chain was left raw.

    Governed chains count from the first raw one on: what ran before `holdout` was set may have
    been other work.
    """
    raw = _those(store, "holdout", since_ns or 0)
    if not raw:
        return None
    began = min(chain.start_ns for chain in raw)
    governed = _those(store, "enforce", max(began, since_ns or 0))
    return Holdout(len(raw), len(governed), tuple(_measures(raw, governed)))


def _those(store: SpanStore, mode: str, since_ns: int) -> list[Chain]:
    """The newest chains all of whose calls ran in a mode."""
    rows = store.query(
        "SELECT trace_id FROM spans WHERE mode = ? AND end_ns >= ? "
        "GROUP BY trace_id ORDER BY max(end_ns) DESC LIMIT ?",
        (mode, since_ns, _MOST),
    )
    found = these(store, [row[0] for row in rows])
    return [chain for chain in found if chain.modes == mode]


def _measures(raw: Sequence[Chain], governed: Sequence[Chain]) -> list[Compared]:
    def usual(name: str, unit: str, of: Callable[[Chain], float | None]) -> Compared:
        before, after = _known(raw, of), _known(governed, of)
        change = _change(ratio_of_typical(before, after))
        return Compared(name, unit, typical(before), typical(after), change)

    before, after = _known(raw, _cost), _known(governed, _cost)
    bill = _change(ratio_of_means(before, after))
    bad, worse = sum(_failed(c) for c in raw), sum(_failed(c) for c in governed)
    share = worse / len(governed) if governed else None
    failures = difference_of_shares(bad, len(raw), worse, len(governed))
    return [
        usual("cost of a typical chain", "money", _cost),
        Compared("cost of the mean chain", "money", _mean(before), _mean(after), bill),
        usual("input tokens, typical", "tokens", _input),
        usual("model calls, typical", "number", lambda chain: chain.calls),
        usual("time, typical", "time", lambda chain: chain.end_ns - chain.start_ns),
        Compared("ended badly", "share", bad / len(raw), share, failures),
    ]


def _change(ratio: Interval | None) -> Interval | None:
    """A ratio as a change: 1.2 is 0.2 more."""
    return ratio and Interval(ratio.estimate - 1, ratio.low - 1, ratio.high - 1)


def _cost(chain: Chain) -> int | None:
    """What it cost, where all of it is known."""
    return None if chain.unknown_cost else chain.cost_nano


def _input(chain: Chain) -> int | None:
    """Its input tokens, where all calls reported."""
    return None if chain.unknown_usage else chain.input_tokens


def _failed(chain: Chain) -> bool:
    return chain.status != "ok"


def _known(chains: Sequence[Chain], of: Callable[[Chain], float | None]) -> list[float]:
    return [value for value in map(of, chains) if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

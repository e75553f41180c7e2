"""Measurements added up in this process, to be read when they are exported."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from clawmw.observe.metrics.bounded import Put
from clawmw.observe.metrics.instruments import Instrument

__all__ = ["Cells", "Labels", "Snapshot", "Spread", "Value"]

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram's values for one set of labels."""

    counts: tuple[int, ...]
    """One a bucket, the last for what is above all boundaries."""
    total: float
    least: float
    most: float


Value: TypeAlias = float | Spread
Snapshot: TypeAlias = dict[str, dict[Labels, Value]]
"""What cells hold, by instrument and labels."""


@dataclass(slots=True)
class _Sum:
    value: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, value: float) -> None:
        with self.lock:
            self.value += value

    def set(self, value: float) -> None:
        self.value = value

    def now(self) -> float:
        return self.value


class _Histogram:
    __slots__ = ("bounds", "counts", "least", "lock", "most", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total, self.least, self.most = 0.0, float("inf"), float("-inf")
        self.lock = threading.Lock()

    def observe(self, value: float) -> None:
        with self.lock:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.total += value
            self.least = min(self.least, value)
            self.most = max(self.most, value)

    def now(self) -> Spread:
        with self.lock:
            return Spread(tuple(self.counts), self.total, self.least, self.most)


class Cells:
    """One cell for each instrument and set of labels. Thread-safe."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[Labels, _Sum | _Histogram]] = {}
        self._lock = threading.Lock()

    def bind(self, row: Instrument, labels: Labels) -> Put:
        """What adds to, sets or fills the cell."""
        with self._lock:
            cells = self._cells.setdefault(row.name, {})
            cell = cells.get(labels)
            if cell is None:
                cell = cells[labels] = (
                    _Histogram(row.buckets) if row.kind == "histogram" else _Sum()
                )
        return _verb(cell, row)

    def of(self, name: str) -> dict[Labels, Value]:
        """What the cells of an instrument hold."""
        with self._lock:
            cells = list(self._cells.get(name, {}).items())
        return {labels: cell.now() for labels, cell in cells}

    def now(self) -> Snapshot:
        """What all cells hold."""
        with self._lock:
            names = list(self._cells)
        return {name: self.of(name) for name in names}

    def forked(self) -> None:
        """Begin anew in a forked child."""
        self._lock = threading.Lock()
        self._cells = {}


def _verb(cell: _Sum | _Histogram, row: Instrument) -> Callable[[float], None]:
    if isinstance(cell, _Histogram):
        return cell.observe
    return cell.set if row.kind == "gauge" else cell.add

"""What a conversation has shown already: its lines, and where each stands.

Every value here is immutable or shared safely, so that a history can be continued twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["ANCHOR", "Layers", "Run", "Seen", "Source"]

ANCHOR = 8
"""Characters a line must have, spaces aside, to be looked up; others only join their neighbours."""

LINES = 50_000
"""Lines remembered a conversation (measured: 144 bytes each, 7.2 MB in all); the oldest are
forgotten first. Of one text at most half as many: its first."""

SOURCES = 4096
"""Texts remembered a conversation, of `SHOWN` lines on average; with longer ones fewer."""

SHOWN = 64
"""Lines of a text, 8 bytes each: 2 MB for all texts together."""

_OWN = 32
"""What a text itself weighs, in lines."""

_V = TypeVar("_V")


class Layers(Generic[_V]):
    """A map that is only added to, as immutable layers: a copy costs nothing.

    Layers of like size are merged (as in a log-structured merge tree), so that n additions
    cost n log n and a look-up log n. Beyond `most` entries the oldest layer goes.
    """

    __slots__ = ("_layers", "_most", "_sizes")

    def __init__(
        self, most: int, layers: tuple[Mapping[int, _V], ...] = (), sizes: tuple[int, ...] = ()
    ) -> None:
        self._most = most
        self._layers = layers
        self._sizes = sizes

    def get(self, key: int) -> _V | None:
        """The newest value of `key`."""
        for layer in reversed(self._layers):
            value = layer.get(key)
            if value is not None:
                return value
        return None

    def plus(self, new: Mapping[int, _V], size: int | None = None) -> Layers[_V]:
        """The map with the entries of `new`, which count as `size` (else as many as they are)."""
        if not new:
            return self
        layers, sizes = list(self._layers), list(self._sizes)
        grown = len(new) if size is None else size
        # No layer beyond half of all, so that what is forgotten is at most that.
        while layers and sizes[-1] <= min(2 * grown, self._most // 2 - grown):
            new = {**layers.pop(), **new}
            grown = len(new) if size is None else grown + sizes[-1]
            del sizes[-1]
        layers.append(new)
        sizes.append(grown)
        while len(layers) > 1 and sum(sizes) > self._most:
            del layers[0], sizes[0]
        return Layers(self._most, tuple(layers), tuple(sizes))

    def size(self) -> int:
        """What its entries count, those included that newer ones hide."""
        return sum(self._sizes)


@dataclass(frozen=True, slots=True)
class Source:
    """A text that was shown: what to call it, and a hash of each of its lines (0: not there)."""

    label: str
    hashes: array[int]


@dataclass(frozen=True, slots=True)
class Run:
    """Lines `start` to `end` (excluded) of a new text, as shown before from line `at` on."""

    start: int
    end: int
    label: str
    at: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The lines of all sources so far."""

    places: Layers[tuple[int, int]] = field(default_factory=lambda: Layers(LINES))
    sources: Layers[Source] = field(default_factory=lambda: Layers(SOURCES * SHOWN))
    count: int = 0

    def runs(self, lines: Sequence[str]) -> Iterator[Run]:
        """The runs of `lines` that some source shows too, longest from each start, in order."""
        hashes = [hash(line) for line in lines]
        done = at = 0
        while at < len(lines):
            found = self.places.get(hashes[at]) if _weighty(lines[at]) else None
            source = self.sources.get(found[0]) if found else None
            if found is None or source is None:
                at += 1
                continue
            place, back, ahead = found[1], 0, 1
            shown = source.hashes
            while (
                at - back > done
                and place > back
                and shown[place - back - 1] == hashes[at - back - 1]
            ):
                back += 1
            while (
                at + ahead < len(lines)
                and place + ahead < len(shown)
                and shown[place + ahead] == hashes[at + ahead]
            ):
                ahead += 1
            yield Run(at - back, at + ahead, source.label, place - back)
            done = at = at + ahead

    def plus(self, label: str, lines: Sequence[str], taken: Sequence[Run]) -> Seen:
        """With a new source; the lines of `taken` runs stay known where they were."""
        hashes = array("q", [hash(line) for line in lines[: LINES // 2]])
        for run in taken:
            for index in range(run.start, min(run.end, len(hashes))):
                hashes[index] = 0
        new = {
            value: (self.count, index)
            for index, value in enumerate(hashes)
            if value and _weighty(lines[index])
        }
        source = {self.count: Source(label, hashes)}
        sources = self.sources.plus(source, _OWN + len(hashes))
        return Seen(self.places.plus(new), sources, self.count + 1)


def _weighty(line: str) -> bool:
    return len(line) >= ANCHOR and len(line.strip()) >= ANCHOR

"""Where measurements go: a place in a backend for each set of labels, of which there are only so
many.

Labels come from outside (a caller names any model), so each takes a bounded number of values; what
comes after that is `other`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from clawmw.observe.metrics.instruments import BY_NAME, Instrument
from clawmw.observe.spans.attributes import label

__all__ = ["MOST", "Bind", "Bounded", "Put", "nowhere"]

MOST = 64
"""Values of one label."""
_LONGEST = 128
_PUTS = 8192
"""Sets of labels whose place in the backend is remembered."""

Put = Callable[[float], None]
"""Takes a value: adds it, sets it or puts it in its bucket."""
Bind = Callable[[Instrument, tuple[str, ...]], Put]
"""A backend: where the values of an instrument go, for one set of labels ("": it has none)."""

_SAME = {"asked": "model", "gen_ai.request.model": "model"}
"""Labels that take the values of another one: what is `other` in one is it in both."""
_NAMED = ("model", "agent", "rule", "upstream", "asked")
"""Labels that say `none` rather than nothing."""


def nowhere(value: float) -> None:
    """Where values go that a backend does not have."""


class _Names:
    """The values of a label that were seen first; `other` for all later ones."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        name = name[:_LONGEST]
        known = self._known.get(name)
        if known is not None:
            return known
        if len(self._known) >= MOST:
            return "other"
        return self._known.setdefault(name, label(name) or "none")


class Bounded:
    """The places of one backend. Thread-safe."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind
        self._puts: dict[tuple[str, ...], Put] = {}
        self._names: defaultdict[str, _Names] = defaultdict(_Names)

    def put(self, name: str, value: float, *labels: str) -> None:
        """A value for an instrument, with a value for each of its labels."""
        key = (name, *labels)
        put = self._puts.get(key)
        if put is None:
            put = self._place(name, labels)
            if len(self._puts) >= _PUTS:  # names from outside have no end
                self._puts.clear()
            if max(map(len, labels), default=0) <= _LONGEST:
                self._puts[key] = put
        put(value)

    def _place(self, name: str, labels: tuple[str, ...]) -> Put:
        """Where the values for these labels go, once bounded."""
        instrument = BY_NAME[name]
        bounded = tuple(
            self._names[_SAME.get(key, key)](text) if text or key in _NAMED else ""
            for key, text in zip(instrument.labels, labels, strict=True)
        )
        return self._bind(instrument, bounded)

    def forget(self) -> None:
        """Ask the backend for all places again."""
        self._puts.clear()

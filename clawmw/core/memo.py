"""Results of pure functions, kept by the identity of what they were asked about.

A session sends the same tools in every call, as the same tuple: to look at them again each
time costs more than the rest of a small call. Frozen values only; what is kept holds its
argument, so that no identity is taken twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["MOST", "by_identity"]

MOST = 512
"""Arguments remembered by one function; then it begins anew."""

_K = TypeVar("_K")
_V = TypeVar("_V")


def by_identity(function: Callable[[_K], _V]) -> Callable[[_K], _V]:
    """`function`, asked once about each (frozen) argument."""
    known: dict[int, tuple[_K, _V]] = {}

    def asked(value: _K) -> _V:
        kept = known.get(id(value))
        if kept is not None and kept[0] is value:
            return kept[1]
        found = function(value)
        if len(known) >= MOST:
            known.clear()
        known[id(value)] = (value, found)
        return found

    return asked

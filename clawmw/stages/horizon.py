"""How many calls a chain still has before it, from how many the agent's earlier chains had.

Kept as a small histogram: how many chains reached their 1st, 2nd, 3rd ... call. It grows with
each call, so no end of a chain needs to be seen. Old chains fade: the counts are halved.
"""

from __future__ import annotations

from itertools import pairwise

from clawmw.core.types import Json

__all__ = ["counted", "expected"]

_BOUNDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""The calls that are counted; between them chains are taken to end evenly."""
_MOST = 256
"""Chains after which the counts are halved."""
_GOES_ON = 0.9
"""Prior: nine in ten chains make one call more, at any length: 9 are expected, always.

231 recorded runs of agents that use tools had 10 calls on average."""
_WEIGHT = 4
"""Chains that the prior counts for."""


def _reached(slot: Json | None) -> list[int]:
    kept = slot if isinstance(slot, list) and len(slot) == len(_BOUNDS) else []
    if kept and all(type(n) is int and n >= 0 for n in kept):
        return kept
    return [0] * len(_BOUNDS)


def counted(slot: Json | None, calls: int) -> list[int] | None:
    """The slot once a chain made its call number `calls`; None where that is not counted."""
    if calls not in _BOUNDS:
        return None
    reached = list(_reached(slot))
    reached[_BOUNDS.index(calls)] += 1
    return [n // 2 for n in reached] if reached[0] >= _MOST else reached


def expected(slot: Json | None, calls: int) -> float:
    """The calls to expect after a chain's call number `calls`."""
    total, alive, at = 0.0, 1.0, calls
    for (start, end), (there, further) in zip(
        pairwise(_BOUNDS), pairwise(_reached(slot)), strict=True
    ):
        if at >= end:
            continue
        step = _share(there, further, end - start) ** (1 / (end - start))
        total += alive * _sum(step, end - at)
        alive *= step ** (end - at)
        at = end
    return total + alive * _GOES_ON / (1 - _GOES_ON)


def _share(there: int, further: int, steps: int) -> float:
    """Of the chains that got to one bound, those that get to the next."""
    prior = _WEIGHT * _GOES_ON**steps
    return min((further + prior) / (there + _WEIGHT), 0.999)


def _sum(share: float, steps: int) -> float:
    """share + share^2 + ... with so many terms."""
    return share * (1 - share**steps) / (1 - share)

"""The same calls with the same results, since anything new was last seen.

Counted so, a single call, a cycle of any period and calls made in parallel or in another order
are one case: all of them are old, and one of them is old for the n-th time.
"""

from __future__ import annotations

from collections.abc import Sequence

from clawmw.stages.guard.loop.found import Found

__all__ = ["repeats", "since_new", "streak"]


def since_new(values: Sequence[str]) -> int:
    """Index of the newest value that was not there before it."""
    seen: set[str] = set()
    newest = 0
    for index, value in enumerate(values):
        if value not in seen:
            seen.add(value)
            newest = index
    return newest


def repeats(values: Sequence[str]) -> int:
    """How often the newest value occurred since something new was last seen."""
    return values[since_new(values) :].count(values[-1]) if values else 0


def streak(values: Sequence[str], new: int) -> Found | None:
    """What the newest values repeat; `new` of them came with this call.

    `values` hold words as well, which are new or they are not, and never a streak.
    """
    tail = values[since_new(values) :]
    rounds = [value for value in tail[-max(new, 1) :] if value[0] != "u"]
    if not rounds:
        return None
    count = max(tail.count(value) for value in rounds)
    every = _period(tail)
    failed = rounds[-1].rpartition("/")[2].startswith(("e", "u"))
    # To try what failed once more is worth less than to look once more.
    weight = count * 4 // 3 if failed and every <= 1 else count
    if every <= 1:
        return Found("repeat", count, weight, "the same tool call gave the same result {} times")
    said = f"the same {every} tool calls in turn gave the same results {{}} times"
    return Found("cycle", count, weight, said)


def _period(tail: Sequence[str]) -> int:
    """After how many values the newest one comes again: 1 for a plain repetition."""
    last = tail[-1]
    for back in range(2, len(tail) + 1):
        if tail[-back] == last:
            return back - 1
    return 0

"""The same calls with the same results, since anything new was last seen.

Counted so, a single call, a cycle of any period and calls made in parallel or in another order
are one case: all of them are old, and one of them is old for the n-th time. A failure is new by
its class: to be refused the same way for another name is nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence

from clawmw.stages.guard.loop.found import Found

__all__ = ["news", "repeats", "since_new", "streak"]


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

    `values` are as `notes.py` makes them; words among them are new or they are not.
    """
    keys = [news(value) for value in values]
    start = since_new(keys)
    tail = keys[start:]
    rounds = [value for value in tail[-max(new, 1) :] if value[0] != "u"]
    if not rounds:
        return None
    worst = max(rounds, key=tail.count)
    count = tail.count(worst)
    if worst[0] == "x":
        calls = {v[:12] for v, one in zip(values[start:], tail, strict=True) if one == worst}
        if len(calls) > 1:
            weight = count if count <= 4 else 4 + (count - 4) // 2  # names are tried on purpose
            return Found("stuck", count, weight, "{} tool calls failed in the same way")
        return Found("repeat", count, count * 4 // 3, "the same tool call failed {} times alike")
    every = _period(tail)
    if every <= 1:
        return Found("repeat", count, count, "the same tool call gave the same result {} times")
    count += worst in keys[max(start - every + 1, 0) : start]  # its first round, but for the last
    weight = count * 4 // 3 if every > 2 else count
    said = f"the same {every} tool calls in turn gave the same results {{}} times"
    return Found("cycle", count, weight, said)


def news(value: str) -> str:
    """What of a value is new or not: the class of a failure, else the call and its result."""
    return value[26:] if value[26:27] == "x" else value


def _period(tail: Sequence[str]) -> int:
    """After how many values the newest one comes again: 1 for a plain repetition."""
    last = tail[-1]
    for back in range(2, len(tail) + 1):
        if tail[-back] == last:
            return back - 1
    return 0

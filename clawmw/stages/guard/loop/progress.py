"""Other arguments, and no further: the same failure, the same long result, or nothing, each time.

Something new and good in between is progress; what was seen before is not. A short result that
many calls have in common ("ok") says nothing: that is a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from clawmw.stages.guard.loop.found import Found

__all__ = ["LONG", "stalled"]

LONG = 400
"""Characters from which on the same result of another call is worth noting (class `s`)."""


def stalled(values: Sequence[str]) -> Found | None:
    """How long the newest result has been no progress; `values` as `notes.py` makes them."""
    last = values[-1]
    if last[0] == "u":
        return None
    _, result, kind = last.split("/")
    if not kind:
        return None
    count, calls = 0, set()
    for index in range(len(values) - 1, -1, -1):
        value = values[index]
        if value[0] == "u":
            break
        call, given, other = value.split("/")
        if other == kind and (kind != "s" or given == result):
            count += 1
            calls.add(call)
        elif other[:1] not in ("e", "u", "n") and value not in values[:index]:
            break
    if kind == "u":
        return Found("tool", count, count * 4 // 3, "a tool that does not exist was called {} times")
    if len(calls) < 2:
        return None  # then it is a streak
    if kind[0] == "e":
        return Found("stuck", count, count, "{} tool calls in a row failed in the same way")
    if kind == "n":
        return Found("stuck", count, count // 2, "{} tool calls in a row found nothing")
    return Found("stuck", count, count // 2, "{} different tool calls gave one and the same result")

"""Other arguments, and no further: one long result, or nothing, each time; a tool that is none.

Something new and good in between is progress; what was seen before is not. A short result that
many calls have in common ("ok") says nothing: that is a batch. Failures are in `streaks.py`.
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
    kind = last[26:]
    if last[0] == "u" or kind not in ("u", "n", "s"):
        return None
    count, calls = 0, set()
    for index in range(len(values) - 1, -1, -1):
        value = values[index]
        if value[0] == "u":
            break
        other = value[26:]
        if other == kind and (kind != "s" or value[13:25] == last[13:25]):
            count += 1
            calls.add(value[:12])
        elif other in ("", "s") and value not in values[:index]:
            break
    if kind == "u":
        said = "a tool that does not exist was called {} times"
        return Found("tool", count, count * 4 // 3, said)
    if len(calls) < 2:
        return None  # then it is a streak
    if kind == "n":
        return Found("stuck", count, count // 2, "{} tool calls in a row found nothing")
    return Found("stuck", count, count // 2, "{} different tool calls gave one and the same result")

"""What a failed call says: whether it is worth making again, and when."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias

from clawmw.core.stage import Context
from clawmw.core.types import Failure, Outcome, Request

__all__ = ["Trouble", "asked_by", "retry_after", "trouble"]

Trouble: TypeAlias = Literal["throttled", "transient", "final", "none"]
"""`throttled`: the upstream had no room. `transient`: it may go well next time. `final`: it will
not. `none`: nothing is wrong with the upstream."""

_TRANSIENT = frozenset({408, 409, 425, 500, 502, 504})
_THROTTLED = frozenset({429, 503, 529})
_NOT_LATER = re.compile(rb"insufficient_quota|billing|context_length|context window", re.IGNORECASE)
"""What a 429 or 5xx says that waiting will not mend."""


def trouble(outcome: Outcome) -> Trouble:
    """What an outcome says of the upstream."""
    if not isinstance(outcome, Failure):
        return "none"
    match outcome.kind:
        case "connect" | "timeout" | "protocol":
            return "transient"
        case "status" if outcome.status in _TRANSIENT | _THROTTLED:
            if _NOT_LATER.search(outcome.body[:4096]):
                return "final"
            return "throttled" if outcome.status in _THROTTLED else "transient"
        case "status":
            return "final"
    return "none"


def asked_by(request: Request, ctx: Context) -> str | None:
    """The model whose call of a tool the request answers; None: it answers none.

    No model of another family may take over then: it would not know the call's id.
    """
    between = bool(request.messages and request.messages[-1].tool_results)
    return (ctx.account.answerer or request.model) if between else None


def retry_after(headers: Iterable[tuple[str, str]], now: float) -> float | None:
    """Seconds an upstream asks to wait, 0 or more; None: it does not, or makes no sense.

    `retry-after-ms` first, then `retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3).
    """
    said = {name.lower(): value.strip()[:64] for name, value in headers}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(said[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        return max(parsedate_to_datetime(said["retry-after"]).timestamp() - now, 0.0)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None

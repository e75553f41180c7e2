"""Whether what a wire says under clawmw's own names is of the kind clawmw writes there.

Whoever reaches the collector may send anything. A span whose figures are texts would end every
command that renders its chain, so what is of the wrong kind is left out as it comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TypeVar

from clawmw.observe.otlp.wire import Value

__all__ = ["sound", "sound_mark"]

T = TypeVar("T", bound=Value)
_PREFIX = "clawmw."
_MOST_USD = 9_000_000
"""Beyond it a double does not hold whole nano-USD."""
_LARGEST = 2.0**63
_STATUSES = ("ok", "failed", "halted", "answered", "cancelled")
_SWITCHES = frozenset({"clawmw.stopped", "clawmw.duration.unknown", "clawmw.synthetic"})
_LISTS = frozenset({"clawmw.joined_from", "clawmw.joined_agents", "clawmw.links", "clawmw.tools"})
_NAMES = frozenset({"clawmw.parent.agent", "clawmw.parent.session"})
_COUNTS = frozenset({"clawmw.messages", "clawmw.tool.result_tokens"})
_COUNTED = ("_usd", ".usd", "_ms", ".ms", "_tokens", ".tokens")
_NUMBERS = frozenset(
    [
        "tokens_before",
        "tokens_after",
        "tokens_rewritten",
        "expected_calls",
        "calls",
        "price_usd",
        "saving_usd",
        "saved_usd",
        "expected_usd",
        "number",
        "seconds",
        "used",
        "limit",
        "reserved",
        "usd",
        "read",
        "predicted",
        "index",
        "byte",
        "lost_usd",
        "detail.count",
    ]
)
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "clawmw.epoch": ("expected_calls", "tokens_before", "tokens_after"),
    "clawmw.epoch.ended": ("expected_calls", "calls"),
    "clawmw.cost.assumed": ("usd",),
    "clawmw.budget.near": ("used", "limit"),
    "clawmw.budget.overdrawn": ("used", "reserved"),
    "clawmw.cache.missed": ("predicted", "read"),
    "clawmw.attempt": ("number", "seconds"),
}
"""What an event says nothing without."""


def sound(name: str, value: Value) -> bool:
    """Whether an attribute of a span may have that value."""
    if not name.startswith(_PREFIX):
        return not name.endswith(("_usd", ".usd", "_ms", ".ms")) or _number(value, _MOST_USD * 1000)
    if name == "clawmw.status":
        return value in _STATUSES
    if name in _SWITCHES:
        return isinstance(value, bool)
    if name in _LISTS:
        return isinstance(value, tuple | list)
    if name in _NAMES:
        return isinstance(value, str)
    if name.endswith((".usd", "_usd", ".ms", "_ms")):
        return _number(value, _MOST_USD * 1000)
    if name in _COUNTS or name.endswith(_COUNTED):
        return _number(value, _LARGEST)
    return True


def sound_mark(name: str, said: Mapping[str, T]) -> dict[str, T] | None:
    """What may be kept of a span event of that name; None where nothing is left of its sense."""
    if not name.startswith(_PREFIX):
        return dict(said)
    kept = {key: value for key, value in said.items() if _fits(key, value)}
    return kept if all(key in kept for key in _NEEDED.get(name, ())) else None


def _fits(key: str, value: Value) -> bool:
    if key in _NUMBERS:
        return _number(value, _MOST_USD if key.endswith("usd") else _LARGEST)
    return isinstance(value, str | bool | int | float) or key.startswith("detail.")


def _number(value: Value, below: float) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and isfinite(value) and abs(value) < below  # type: ignore[arg-type]

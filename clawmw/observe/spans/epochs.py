"""Epochs as span events: the forecast when one begins, and later what came of it."""

from __future__ import annotations

from opentelemetry.util.types import AttributeValue

from clawmw.core.events import EpochBegan, EpochEnded
from clawmw.core.money import NANO

__all__ = ["Mark", "epoch_mark"]

Mark = tuple[str, int, dict[str, AttributeValue]]
"""A span event: name, nanoseconds since the epoch, attributes."""


def epoch_mark(event: EpochBegan | EpochEnded) -> Mark:
    """The span event; every figure in it is estimated."""
    return _began(event) if isinstance(event, EpochBegan) else _ended(event)


def _began(epoch: EpochBegan) -> Mark:
    """An epoch and its forecast; all of it estimated."""
    result: dict[str, AttributeValue] = {
        "stage": epoch.stage,
        "reason": epoch.reason,
        "tokens_before": epoch.before,
        "tokens_after": epoch.after,
        "tokens_rewritten": epoch.rewritten,
        "expected_calls": epoch.calls,
        "would": epoch.would,
        "basis": "estimated",
    }
    result |= _usd(price_usd=epoch.price, saving_usd=epoch.saving)
    return "clawmw.epoch", int(epoch.time * NANO), result


def _ended(epoch: EpochEnded) -> Mark:
    """What came of an epoch."""
    result: dict[str, AttributeValue] = {
        "calls": epoch.calls,
        "expected_calls": epoch.expected_calls,
        "basis": "estimated",
    }
    result |= _usd(saved_usd=epoch.saved, expected_usd=epoch.expected)
    return "clawmw.epoch.ended", int(epoch.time * NANO), result


def _usd(**sums: int | None) -> dict[str, AttributeValue]:
    """Sums in USD; unknown ones are left out."""
    return {name: nano / NANO for name, nano in sums.items() if nano is not None}

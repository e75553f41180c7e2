"""Numbers and names as a terminal shows them.

Unknown is `-`, never 0. `~` marks an estimate, `≥` a sum some parts of which are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

from clawmw.core.money import NANO

__all__ = ["ASCII", "UNICODE", "Glyphs", "clean", "duration", "money", "share", "tokens"]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs used beyond ASCII, and what stands for them where they cannot be shown."""

    arrow: str
    at_least: str
    bar: str
    dot: str
    branch: str
    last: str
    trunk: str
    ellipsis: str


UNICODE = Glyphs("→", "≥", "█", "·", "├── ", "└── ", "│   ", "…")
ASCII = Glyphs("->", ">=", "#", "-", "|-- ", "`-- ", "|   ", "...")


def clean(text: str) -> str:
    """A name without what could move the cursor or colour the terminal: it came off a wire."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def money(nano: int | None) -> str:
    """Nano-USD in USD: cents from a dollar on, four places below, two digits under a cent."""
    if nano is None:
        return "-"
    usd = abs(nano) / NANO
    if not nano:
        text = "0"
    elif usd >= 0.01:
        text = f"{usd:,.2f}" if usd >= 1 else f"{usd:.4f}"
    else:
        text = f"{usd:.{1 - floor(log10(usd))}f}"
    return f"{'-' if nano < 0 else ''}${text}"


def tokens(count: int | None, *, short: bool = False) -> str:
    """A count of tokens: 12,345, or short 12.3k."""
    if count is None:
        return "-"
    if not short or abs(count) < 10_000:
        return f"{count:,}"
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if abs(count) >= size:
            value = count / size
            return f"{value:.1f}{unit}" if abs(value) < 100 else f"{value:.0f}{unit}"
    return f"{count:,}"


def share(part: int | None, whole: int | None) -> str:
    """A percentage without decimals."""
    if part is None or not whole:
        return "-"
    return f"{100 * part / whole:.0f}%"


def duration(ns: int | None) -> str:
    """A time span in its natural unit."""
    if ns is None:
        return "-"
    seconds = ns / 1e9
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes:02}m"

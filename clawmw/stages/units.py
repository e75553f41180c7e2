"""Units as a policy's reader writes them: `30m`, `2M`, `1.50`, `5%`, `1GiB`.

Pydantic types for config sections. Each takes the bare number or the text with a unit and
holds one fixed thing: seconds, a count, nano-USD, a share of one, bytes. A default in a
config class is given in the held unit (`retention: Duration = 604_800.0`). A JSON dump is
in the writer's units again, so it validates to the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = [
    "Count",
    "Duration",
    "Share",
    "Size",
    "Usd",
    "parse_count",
    "parse_duration",
    "parse_share",
    "parse_size",
    "parse_usd",
    "show_count",
    "show_duration",
    "show_share",
    "show_size",
    "show_usd",
]

_NANO = 10**9
_LONGEST = 36_500 * 86_400
"""A hundred years: longer is a mistake, and would overflow dates."""
_MOST = 2**53
"""Beyond it a count is no longer exact in JSON."""
_LONGEST_NUMBER = 40
"""Digits, and the size of an exponent: what is longer is no number anyone meant."""
_RICHEST = 10**9
"""USD; above it nano-USD would leave 64 bits."""

_SECONDS: Mapping[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3_600),
    "d": Decimal(86_400),
    "w": Decimal(604_800),
}
_COUNTS: Mapping[str, int] = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
_SIZES: Mapping[str, int] = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "tb": 10**12,
}

_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)"
_DURATION = re.compile(rf"(?:{_PART}\s*)+", re.ASCII)
_PIECE = re.compile(_PART, re.ASCII)
_SCALED = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def parse_duration(value: Any) -> float:
    """Seconds of `30m`, `7d`, `250ms`, `1h30m`, or of a bare number of seconds."""
    wanted = "expected a duration such as 30m, 7d or 250ms (units: ms, s, m, h, d, w)"
    number = _number(value)
    if number is None and isinstance(value, str) and len(value) <= _LONGEST_NUMBER:
        text = value.strip()
        if _DURATION.fullmatch(text):
            number = sum(
                (Decimal(n) * _SECONDS[unit] for n, unit in _PIECE.findall(text)), Decimal(0)
            )
    if number is None:
        raise _refuse(wanted, value)
    return float(_between(number, _LONGEST, wanted, value))


def parse_count(value: Any) -> int:
    """A whole number of `35k`, `2M`, `1G`, or a bare one."""
    wanted = "expected a count such as 500, 35k or 2M"
    number = _number(value)
    if number is None:
        number = _scaled(value, _COUNTS)
    if number is None:
        raise _refuse(wanted, value)
    number = _between(number, _MOST, wanted, value)
    if number != number.to_integral_value():
        raise _refuse("expected a whole number", value)
    return int(number)


def parse_size(value: Any) -> int:
    """Bytes of `64KiB`, `1GiB`, `500MB`, or a bare number of bytes."""
    wanted = "expected a size such as 64KiB, 500MB or 1GiB"
    number = _number(value)
    if number is None:
        number = _scaled(value.lower() if isinstance(value, str) else value, _SIZES)
    if number is None:
        raise _refuse(wanted, value)
    return int(_between(number, _MOST, wanted, value))


def parse_usd(value: Any) -> int:
    """Nano-USD of a number of US dollars, exactly: `0.20` is 200,000,000."""
    wanted = "expected an amount in US dollars, a plain number such as 5 or 0.20"
    number = _number(value)
    if number is None:
        raise _refuse(wanted, value)
    nano = _between(number, _RICHEST, wanted, value) * _NANO
    if nano != nano.to_integral_value():
        raise _refuse("expected no more than nine decimals of a US dollar", value)
    return int(nano)


def parse_share(value: Any) -> float:
    """0..1 of `5%` or `0.05`. A bare 5 is refused: it could mean either."""
    wanted = "expected a share such as 5% or 0.05"
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = _number(value.strip()[:-1].strip())
        number = None if percent is None else percent / 100
    else:
        number = _number(value)
        if number is not None and 1 < number <= 100:
            raise _refuse(f"expected a share between 0 and 1; did you mean {value}%?", value)
    if number is None:
        raise _refuse(wanted, value)
    return float(_between(number, 1, f"{wanted}, between 0% and 100%", value))


def show_duration(seconds: float) -> str:
    """`30m`, `7d`, `250ms`: the largest unit that fits without a remainder."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = Decimal(str(seconds)) / _SECONDS[unit]
        if count >= 1 and count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{Decimal(str(seconds)):f}s"


def show_count(count: int) -> str:
    """`35k`, `1.5M` where that is exact, else the bare number."""
    for unit, factor in (("M", 10**6), ("k", 10**3)):
        if count >= factor and (count * 10) % factor == 0:
            return f"{count / factor:g}{unit}"
    return str(count)


def show_size(size: int) -> str:
    """`1GiB`, `64KiB` where that is exact, else the bare number of bytes."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def show_usd(nano: int) -> str:
    """`$1.00`, `$0.0005`: two decimals at least, more where they matter."""
    text = f"{Decimal(nano) / _NANO:,.9f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents:0<2}"


def show_share(share: float) -> str:
    """`5%`."""
    text = f"{Decimal(str(share)) * 100:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def _number(value: Any) -> Decimal | None:
    """`value` as an exact number, if it is one or spells one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    if isinstance(value, int):
        return Decimal(value)
    try:
        text = str(value).strip()
        number = Decimal(text) if len(text) <= _LONGEST_NUMBER else None
    except InvalidOperation:
        return None
    if number is None or not number.is_finite() or abs(number.adjusted()) > _LONGEST_NUMBER:
        return None
    return number


def _scaled(value: Any, factors: Mapping[str, int]) -> Decimal | None:
    match = _SCALED.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in factors or len(match[1]) > _LONGEST_NUMBER:
        return None
    return Decimal(match[1].replace("_", "")) * factors[match[2]]


def _between(number: Decimal, most: int, wanted: str, value: Any) -> Decimal:
    if number < 0:
        raise _refuse("expected a number that is not negative", value)
    if number > most:
        raise _refuse(f"{wanted}; this is too large", value)
    return number


def _refuse(wanted: str, value: Any) -> PydanticCustomError:
    # Braces would be read as placeholders, so the value goes in as one.
    if value is None:
        shown = "nothing"
    elif isinstance(value, str):
        shown = f'"{value}"'
    else:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
    return PydanticCustomError(
        "unit", "{wanted}, not {shown}", {"wanted": wanted, "shown": shown[:60]}
    )


def _schema(description: str, pattern: str, examples: list[Any]) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}],
            "description": description,
            "examples": examples,
        }
    )


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str, when_used="json"),
    _schema(
        "A duration: 30m, 7d, 250ms, 1h30m, or seconds.",
        r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$",
        ["30m", "7d", "250ms"],
    ),
]
"""Seconds."""

Count = Annotated[
    int,
    BeforeValidator(parse_count),
    _schema("A count: 500, 35k, 2M.", r"^\s*\d[\d_]*(\.\d+)?\s*[kKMGB]?\s*$", [500, "35k", "2M"]),
]
"""A whole number, never negative."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(show_size, return_type=str, when_used="json"),
    _schema(
        "A size: 64KiB, 500MB, 1GiB, or bytes.",
        r"^\s*\d[\d_]*(\.\d+)?\s*([kKmMgGtT]?[iI]?[bB])?\s*$",
        ["64KiB", "500MB", "1GiB"],
    ),
]
"""Bytes."""

Usd = Annotated[
    int,
    BeforeValidator(parse_usd),
    PlainSerializer(lambda nano: nano / _NANO, return_type=float, when_used="json"),
    _schema("US dollars: 5, 0.20.", r"^\s*\d+(\.\d{1,9})?\s*$", [5, 0.20]),
]
"""Nano-USD, exactly."""

Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(show_share, return_type=str, when_used="json"),
    _schema("A share: 5% or 0.05.", r"^\s*(\d+(\.\d+)?\s*%|0?\.\d+|[01])\s*$", ["5%", 0.05]),
]
"""0..1."""

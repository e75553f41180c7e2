"""Prices and limits from the table bundled with litellm, read as a file.

litellm itself is never imported here (its import takes seconds and may use the network).
The table is 3 MB and 35 ms to parse, so it is read once, on the first model that our own
facts do not know; without litellm installed there is simply nothing to find.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from clawmw.core.money import NANO, Price

__all__ = ["Entry", "find", "providers", "version"]

FILE = "model_prices_and_context_window_backup.json"
PROVIDERS = "provider_endpoints_support_backup.json"
LONG = (128_000, 200_000, 256_000, 272_000, 512_000)
"""Input sizes from which the table may list a higher price."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table says of one model id."""

    provider: str
    price: Price | None
    min_tokens: int | None
    context_window: int | None
    max_output: int | None


def find(*ids: str) -> Entry | None:
    """The entry of the first id the table knows, or None."""
    table = _table()
    for model in ids:
        if model in table:
            return _entry(table[model])
    return None


@lru_cache(maxsize=1)
def version() -> str:
    """The installed litellm's version, or "?"; read from metadata, nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("litellm")
    except PackageNotFoundError:
        return "?"


@lru_cache(maxsize=1)
def providers() -> frozenset[str]:
    """Those that litellm reaches, as the first part of a model's id names them."""
    listed = _read(PROVIDERS).get("providers")
    return frozenset(listed if isinstance(listed, dict) else ())


def _read(file: str) -> Mapping[str, Any]:
    """A file of litellm's; empty without it."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    try:
        raw = json.loads((Path(spec.origin).parent / file).read_bytes())
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Any]]:
    raw = _read(FILE)
    return {
        key.lower(): {k: v for k, v in entry.items() if _wanted(k)}
        for key, entry in raw.items()
        if isinstance(entry, dict) and entry.get("mode") in ("chat", "responses", "completion")
    }


def _wanted(key: str) -> bool:
    return key.startswith(("input_cost", "output_cost", "cache_")) or key in (
        "litellm_provider",
        "max_input_tokens",
        "max_output_tokens",
        "prompt_cache_min_tokens",
        "tiered_pricing",
    )


def _entry(raw: Mapping[str, Any]) -> Entry:
    return Entry(
        provider=str(raw.get("litellm_provider") or ""),
        price=_price(raw),
        min_tokens=_whole(raw.get("prompt_cache_min_tokens")),
        context_window=_whole(raw.get("max_input_tokens")),
        max_output=_whole(raw.get("max_output_tokens")),
    )


def _price(raw: Mapping[str, Any]) -> Price | None:
    tiers = raw.get("tiered_pricing")
    if isinstance(tiers, list) and tiers and isinstance(tiers[0], dict):
        base = _one(tiers[0])
        if base is None or len(tiers) == 1 or not isinstance(tiers[1], dict):
            return base
        start = tiers[1].get("range")
        above = _whole(start[0]) if isinstance(start, list) and start else None
        return _with_long(base, above, _one(tiers[1]))
    base = _one(raw)
    for limit in LONG:
        suffix = f"_above_{limit // 1000}k_tokens"
        if base is not None and f"input_cost_per_token{suffix}" in raw:
            return _with_long(base, limit, _one(raw, suffix))
    return base


def _with_long(base: Price, start: int | None, long: Price | None) -> Price:
    if start is None or long is None:
        return base
    return Price(
        base.input,
        base.output,
        base.cache_read,
        base.cache_write,
        base.as_of,
        base.source,
        start,
        long,
    )


def _one(raw: Mapping[str, Any], suffix: str = "") -> Price | None:
    tokens_in = _nano(raw.get(f"input_cost_per_token{suffix}"))
    tokens_out = _nano(raw.get(f"output_cost_per_token{suffix}"))
    if tokens_in is None or tokens_out is None:
        return None
    read = _nano(raw.get(f"cache_read_input_token_cost{suffix}"))
    # The table gives 0 (or nothing) where writing to the cache costs nothing on top of input.
    write = _nano(raw.get(f"cache_creation_input_token_cost{suffix}")) or tokens_in
    return Price(
        tokens_in,
        tokens_out,
        tokens_in if read is None else read,
        write,
        as_of="undated",
        source=f"litellm {version()} price table",
    )


def _nano(usd: object) -> int | None:
    """Nano-USD, rounded up: a budget must not undercount."""
    if isinstance(usd, bool) or not isinstance(usd, int | float) or usd < 0:
        return None
    exact = Decimal(repr(usd)) * NANO
    # 2.5e-09 is meant as written; 1.0000000000000001e-06 is a float's noise around 1000.
    return int(exact.quantize(Decimal("0.0001")).to_integral_value(ROUND_CEILING))


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

"""Tokens times prices, with the provider's cache arithmetic, in integer nano-USD.

Nothing here knows a provider: prices and caching rules come in as values (they are dated
data, read by `clawmw.providers.load`). Integers because sums of money must not drift;
nano-USD because the cheapest cached token costs a few of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from clawmw.core.types import Usage

__all__ = [
    "NANO",
    "CacheRules",
    "CacheStyle",
    "Cost",
    "Price",
    "Profile",
    "Ttl",
    "UsageDialect",
    "cached_tokens",
    "cost",
    "simulate",
    "uncached",
]

NANO = 1_000_000_000
"""Nano-USD in one USD."""

CacheStyle: TypeAlias = Literal["none", "automatic", "marks", "breakpoints"]
"""How a provider's prompt cache is entered.

`none`: no cache. `automatic`: any common prefix counts. `marks`: only prefixes that end at
a mark the caller set (Anthropic's `cache_control`). `breakpoints`: only prefixes that end
at a breakpoint, and the provider sets one at the end of the newest message by itself
(OpenAI from GPT-5.6).
"""

UsageDialect: TypeAlias = Literal["cached_in_input", "cached_apart"]
"""Whether the wire's input count includes cached tokens (OpenAI) or excludes them (Anthropic)."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a token costs, in nano-USD per token.

    `cache_write` equals `input` where writing is not charged apart. `long_from` and `long`:
    a call with at least that many input tokens is billed at `long` throughout.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    as_of: str
    source: str
    long_from: int | None = None
    long: Price | None = None

    def at(self, input_tokens: int) -> Price:
        """The price that holds for a call of that many input tokens."""
        if self.long is not None and self.long_from is not None and input_tokens >= self.long_from:
            return self.long
        return self


@dataclass(frozen=True, slots=True)
class Ttl:
    """A lifetime that a caller may ask for, and what writing for it costs."""

    name: str
    """As it goes on the wire: `5m`, `1h`."""
    seconds: int
    write: float
    """Price of a written token, in input prices."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How a provider caches prompts. Sizes in tokens, times in seconds.

    `ttl_s` None: kept as long as there is room, no promise given. `assumed` names the
    fields no source was found for; the provider's `usage` wins over all of them.
    """

    style: CacheStyle = "none"
    min_tokens: int = 0
    granularity: int = 1
    ttl_s: int | None = None
    max_marks: int = 0
    """The most marks of a caller's that one request may carry."""
    lookback: int = 0
    """How many blocks before a mark are compared with what was written (Anthropic), or how
    many of the newest breakpoints are (OpenAI)."""
    hint: str | None = None
    """The key that marks a block: `cache_control`, `prompt_cache_breakpoint`. None: no marks."""
    key: bool = False
    """Whether `prompt_cache_key` is taken: calls with one key go to one machine."""
    ttls: tuple[Ttl, ...] = ()
    """Lifetimes a mark may ask for, the default first; () where there is no choice."""
    bills_writes: bool = False
    assumed: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()
    """Where sources disagree: what each says. The field itself holds what was taken."""

    def ttl(self, name: str | None) -> Ttl | None:
        """The lifetime of that name; None when the provider has none such."""
        return next((t for t in self.ttls if t.name == name), None)


@dataclass(frozen=True, slots=True)
class Profile:
    """A model as its bill sees it: price, caching rules, usage dialect, limits.

    `price` None means unknown, not free.
    """

    name: str
    family: str
    price: Price | None
    cache: CacheRules
    usage_dialect: UsageDialect
    as_of: str
    sources: tuple[str, ...]
    context_window: int | None = None
    max_output: int | None = None

    def writing(self, ttl: Ttl | None) -> Profile:
        """The same model with cache writes at the price of that lifetime."""
        if ttl is None or self.price is None or not self.cache.ttls or ttl == self.cache.ttls[0]:
            return self
        return replace(self, price=_written(self.price, ttl.write))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one call in nano-USD; `input` is what was neither read from cache nor written."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """All four together."""
        return self.input + self.output + self.cache_read + self.cache_write

    @property
    def usd(self) -> float:
        """The total in USD, for display only."""
        return self.total / NANO

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


def _written(price: Price, multiple: float) -> Price:
    long = None if price.long is None else _written(price.long, multiple)
    return replace(price, cache_write=math.ceil(price.input * multiple), long=long)


def cost(usage: Usage, profile: Profile) -> Cost | None:
    """What a call cost; None when the price or a token count is unknown.

    An unreported cache read or write counts as none, so the result is then an upper bound
    for reads. A report whose parts exceed its whole is billed by its parts.
    """
    if profile.price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    price = profile.price.at(usage.input_tokens)
    read = usage.cache_read_tokens or 0
    written = usage.cache_write_tokens or 0
    fresh = max(usage.input_tokens - read - written, 0)
    return Cost(
        input=fresh * price.input,
        output=usage.output_tokens * price.output,
        cache_read=read * price.cache_read,
        cache_write=written * price.cache_write,
    )


def uncached(usage: Usage, profile: Profile) -> int | None:
    """Nano-USD that the same tokens cost where nothing is cached; None when it is not known."""
    spent = cost(replace(usage, cache_read_tokens=0, cache_write_tokens=0), profile)
    return None if spent is None else spent.total


def cached_tokens(prefix_tokens: int, rules: CacheRules) -> int:
    """Tokens a hit on a common prefix of that length is billed as read.

    0 below the provider's minimum, otherwise rounded down to its granularity.
    """
    if rules.style == "none" or prefix_tokens < max(rules.min_tokens, 1):
        return 0
    return prefix_tokens - prefix_tokens % max(rules.granularity, 1)


def simulate(
    rules: CacheRules,
    *,
    prefix_tokens: int,
    input_tokens: int,
    output_tokens: int = 0,
    marked_tokens: int | None = None,
) -> Usage:
    """The usage a provider would report for one call, as an estimate.

    `prefix_tokens`: the prefix this call has in common with an earlier, still warm one, up
    to the last place the provider can match (a mark or breakpoint, where it needs one).
    `marked_tokens`: tokens up to the last mark of this call; None when it ends in one,
    0 when it has none. Written is what lies between the hit and the last mark, billed
    only by providers that charge for writes.
    """
    read = cached_tokens(min(prefix_tokens, input_tokens), rules)
    marked = input_tokens if marked_tokens is None else min(marked_tokens, input_tokens)
    stored = cached_tokens(marked, rules)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=max(stored - read, 0) if rules.bills_writes else 0,
        basis="estimated",
    )

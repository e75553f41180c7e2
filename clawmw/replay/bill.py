"""What the calls of a run cost under a provider's rules, with and without a policy.

Caching is simulated by message-granular prefix hits against earlier calls of the run: input
side only, nothing expires, the provider's minimum length, step and multiples hold, and every
request is taken to use the cache as well as it can (where marks are needed, as if marked).
That is generous to the agent that had no clawmw, so what clawmw adds is not overstated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from clawmw.core.money import Profile, cost, simulate
from clawmw.core.prefix import digests
from clawmw.core.types import Message, Request, Usage
from clawmw.replay.tokens import MESSAGE, Counter

__all__ = ["SLICE", "Item", "Money", "Net", "Prefixes", "Sized", "bare", "price"]

SLICE = 1500
"""Tokens assumed to come back when the model asks for part of what was cut."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A request as it is counted: tools, then message by message."""

    model: str
    tokens: tuple[int, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, request: Request, counter: Counter) -> Sized:
        """Count a request; `digests` leave out what providers ignore."""
        tools = sum(counter.tool(tool) for tool in request.tools)
        messages = [counter.message(message) for message in request.messages]
        return cls(request.model, (tools, *messages), tuple(digests(request)))

    @property
    def total(self) -> int:
        """Input tokens."""
        return sum(self.tokens)

    def prefix(self, blocks: int) -> int:
        """Tokens of the first so many blocks."""
        return sum(self.tokens[:blocks])


class Prefixes:
    """What a run's earlier calls have put into their provider's cache, by model."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def hit(self, sized: Sized) -> int:
        """How many leading blocks an earlier call had too; remembers this one's."""
        seen = self._seen.setdefault(sized.model, set())
        blocks = len(sized.digests)
        while blocks and sized.digests[blocks - 1] not in seen:
            blocks -= 1
        seen.update(sized.digests[blocks:])
        return blocks


@dataclass(frozen=True, slots=True)
class Item:
    """One billed call: input tokens, and how many of them are a known prefix."""

    prefix: int
    input: int
    model: str = ""
    """The model it was routed to; "" for the profile the bill is made out under."""


@dataclass(slots=True)
class Money:
    """One profile's bill in nano-USD. None: the price of a model is unknown."""

    uncached: int | None = 0
    """As recorded, no caching at all."""
    native: int | None = 0
    """As recorded, with the provider's caching used as well as it can be."""
    clawmw: int | None = 0
    """As sent under the policy, caching included."""
    net: int | None = 0
    """`clawmw`, and what it costs to ask for what was hidden and needed."""
    bound: int | None = 0
    """A clairvoyant compressor's: tool results hold only what will be needed."""
    cached_before: int = 0
    """Tokens read from the cache, as recorded."""
    cached_after: int = 0
    tokens_before: int = 0
    tokens_after: int = 0

    def __add__(self, other: Money) -> Money:
        def both(one: int | None, two: int | None) -> Any:
            return None if one is None or two is None else one + two

        return Money(*map(both, astuple(self), astuple(other)))

    @property
    def score(self) -> float | None:
        """(raw - net) / (raw - bound): 1 is perfect, below 0 costs more than doing nothing."""
        if self.native is None or self.net is None or self.bound is None:
            return None
        room = self.native - self.bound
        return (self.native - self.net) / room if room > 0 else None


@dataclass(slots=True)
class Net:
    """The bill after paying for what was hidden, call by call.

    A needed literal that is hidden costs one more call over the same context, and a slice of
    its original that is carried from then on; a lost one costs one more call and the whole
    original again. Several in one call share the extra call.
    """

    items: list[Item] = field(default_factory=list)
    _carried: list[tuple[int, int]] = field(default_factory=list)
    """(after how many blocks, tokens) of what was fetched."""

    def call(self, sized: Sized, hit: int, model: str, fetched: Sequence[int]) -> None:
        """Add a call that needs `fetched` tokens (one entry an original) to come back first."""
        extra = sum(tokens for _, tokens in self._carried)
        cached = sum(tokens for at, tokens in self._carried if at <= hit)
        total = sized.total + extra
        self.items.append(Item(sized.prefix(hit) + cached, total, model))
        if fetched:
            self.items.append(Item(total, total + sum(fetched), model))
            self._carried.append((len(sized.tokens), sum(fetched)))


def bare(
    messages: Sequence[Message], kept: Mapping[bytes, Sequence[str]], counter: Counter
) -> list[int]:
    """Tokens of each message if tool results held nothing but the literals `kept` for them.

    `kept` is by the message's JSON.
    """
    tokens = []
    for message in messages:
        whole = counter.message(message)
        if message.tool_results:
            literals = kept.get(message.wire or b"", ())
            whole = min(whole, MESSAGE + (counter.text("\n".join(literals)) if literals else 0))
        tokens.append(whole)
    return tokens


def price(
    items: Iterable[Item], profile: Profile, routed: Callable[[str], Profile], *, cached: bool
) -> tuple[int | None, int]:
    """What the items cost under `profile` in nano-USD, and the tokens read from the cache."""
    total: int | None = 0
    read = 0
    for item in items:
        rules = routed(item.model) if item.model else profile
        usage = Usage(item.input, 0, 0, 0, basis="estimated")
        if cached:
            usage = simulate(rules.cache, prefix_tokens=item.prefix, input_tokens=item.input)
        bill = cost(usage, rules)
        total = None if bill is None or total is None else total + bill.total
        read += usage.cache_read_tokens or 0
    return total, read

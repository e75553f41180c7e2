"""Cache-prefix blocks: what a provider can reuse of a request, part by part.

Providers cache tools, then system, then messages; a change in one loses all that follow.
A `Tip` of `(tools, last prefix digests, tokens)` per model is all a session needs to
remember to say what the next call's provider still holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.canon import Ids, message_digest
from clawmw.core.fold import History
from clawmw.core.memo import by_identity
from clawmw.core.money import CacheRules
from clawmw.core.types import Json, Request, ToolSpec

__all__ = [
    "ROSTER",
    "Warm",
    "by_name",
    "common_prefix",
    "digests",
    "roster",
    "shared",
    "tools_digest",
    "tools_tokens",
    "warm",
]

ROSTER = 6
"""Letters of a tool's digest that are remembered."""
_OURS = "clawmw_"
"""How the tools that clawmw adds are named."""


@by_identity
def tools_tokens(tools: tuple[ToolSpec, ...]) -> int:
    """Estimated tokens of the tool definitions."""
    return sum(tool.tokens for tool in tools)


@by_identity
def tools_digest(tools: tuple[ToolSpec, ...]) -> str:
    """Digest of the tool definitions, order included, cache marks left out."""
    joined = ",".join(tool.digest for tool in tools)
    return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()


@by_identity
def by_name(tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
    """Tools in the one order that sessions share; those that clawmw adds stay behind."""
    return tuple(sorted(tools, key=lambda t: (t.name.startswith(_OURS), t.name, t.digest)))


def digests(request: Request) -> list[str]:
    """The cache-significant prefix digests of a request: tools first, then each message."""
    seed = bytes.fromhex(tools_digest(request.tools))
    ids, chained = Ids(), [seed.hex()]
    for message in request.messages:
        seed = message_digest(seed, message, ids)
        chained.append(seed.hex())
    return chained


def common_prefix(earlier: Sequence[str], later: Sequence[str]) -> int:
    """How many leading blocks two requests share."""
    count = 0
    for one, other in zip(earlier, later, strict=False):
        if one != other:
            break
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Warm:
    """What a model's provider is expected to hold of a session after a call."""

    model: str
    time: float
    tools: str
    """Digest of the tools as sent."""
    raw_tools: str
    """Digest of the tools as the agent gave them."""
    tips: tuple[str, ...]
    """Prefix digests of the agent's history at its end, and before its last message."""
    journal: int
    """How many journal entries were woven in."""
    known: int = 0
    """How many leading messages the cache was taken to hold when the call was made."""
    transient: bool = False
    """Whether the last message was taken for one that the agent replaces."""
    ttl_s: int | None = None
    """The lifetime that its marks asked for; None: the provider's default."""
    size: int = 0
    """How many messages the agent sent."""
    sent: int = 0
    """Estimated tokens of what was sent."""
    roster: str = ""
    """The first letters of each tool's digest, to tell which one moved."""
    epoch: str = ""
    """The epoch the history was sent under, if any."""

    def to_json(self) -> Json:
        """As JSON, for a slot."""
        tips = list(self.tips)
        tools = [self.tools, self.raw_tools]
        more = [self.transient, self.ttl_s, self.size, self.sent, self.roster, self.epoch]
        return [self.model, self.time, *tools, tips, self.journal, self.known, *more]

    @classmethod
    def from_json(cls, value: Json) -> Warm:
        """The inverse of `to_json`; reads what an earlier release wrote, too."""
        model, time, tools, raw_tools, tips, journal, known, *more = value
        return cls(model, time, tools, raw_tools, tuple(tips), journal, known, *more)

    def holds(self, rules: CacheRules, now: float) -> bool:
        """Whether the provider is expected to hold it still."""
        life = self.ttl_s if self.ttl_s is not None else rules.ttl_s
        return life is None or now - self.time <= life


@by_identity
def roster(tools: tuple[ToolSpec, ...]) -> str:
    """What a session remembers of its tools one by one; bounded."""
    return "".join(tool.digest[:ROSTER] for tool in tools[:64])


def warm(history: History, last: Warm | None, rules: CacheRules, now: float) -> int:
    """How many leading messages of `history` an earlier call sent and the cache still holds.

    0 when nothing is known, the cache has gone cold, or the history diverged before both
    remembered tips. What an epoch since then renders otherwise is not held, nor what follows.
    """
    if last is None or not last.holds(rules, now):
        return 0
    return shared(history, last)


def shared(history: History, last: Warm) -> int:
    """How many leading messages of `history` an earlier call sent, whatever became of its cache."""
    for position in range(len(history.steps), 0, -1):
        if history.steps[position - 1].digest in last.tips:
            epoch = history.epoch
            if epoch is not None and epoch.id != last.epoch:
                return min(position, epoch.first)
            return position
    return 0

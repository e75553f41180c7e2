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
from clawmw.core.types import Json, Message, Request, Role, ToolSpec

__all__ = [
    "Warm",
    "breakpoints",
    "common_prefix",
    "digests",
    "tools_digest",
    "tools_tokens",
    "warm",
]


def tools_tokens(tools: Sequence[ToolSpec]) -> int:
    """Estimated tokens of the tool definitions."""
    return sum(tool.tokens for tool in tools)


def tools_digest(tools: Sequence[ToolSpec]) -> str:
    """Digest of the tool definitions, order included, cache marks left out."""
    joined = ",".join(tool.digest for tool in tools)
    return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()


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

    def to_json(self) -> Json:
        """As JSON, for a slot."""
        tips = list(self.tips)
        tools = [self.tools, self.raw_tools]
        return [self.model, self.time, *tools, tips, self.journal, self.known]

    @classmethod
    def from_json(cls, value: Json) -> Warm:
        """The inverse of `to_json`."""
        model, time, tools, raw_tools, tips, journal, known = value
        return cls(model, time, tools, raw_tools, tuple(tips), journal, known)


def warm(history: History, last: Warm | None, ttl: float | None, now: float) -> int:
    """How many leading messages of `history` an earlier call sent and the cache still holds.

    0 when nothing is known, the cache has gone cold, or the history diverged before both
    remembered tips.
    """
    if last is None or (ttl is not None and now - last.time > ttl):
        return 0
    for position in range(len(history.steps), 0, -1):
        if history.steps[position - 1].digest in last.tips:
            return position
    return 0


def breakpoints(messages: Sequence[Message], warm_messages: int, most: int) -> list[int]:
    """Where to place cache marks, as message indices in order; at most `most`.

    The end of the request, so that the next call can read it; the last message the cache
    is expected to hold, since a provider looks back a bounded number of blocks from a mark
    (Anthropic: 20); and the end of the system prompt, which other sessions share.
    """
    places: list[int] = []
    # Anthropic refuses a mark on an empty block.
    markable = [i for i, m in enumerate(messages) if m.text.strip() and not m.tool_calls]
    system = [i for i in markable if messages[i].role is Role.SYSTEM]
    for candidates in (markable, [i for i in markable if i < warm_messages], system):
        if candidates and candidates[-1] not in places:
            places.append(candidates[-1])
    return sorted(places[:most])

"""The cache-significant form of a message, and the digests of prefixes made of it.

Providers match prompts by prefix, but not every byte counts, and agents rewrite some that
do not: cache marks come and go, a string becomes one text block, tool-call ids lose
characters or are doubled. So a digest covers the role, the texts, and calls numbered by
order; ids only pair a result with its call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from clawmw.core.tokens import estimate
from clawmw.core.types import (
    Image,
    Json,
    Message,
    Opaque,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

__all__ = [
    "MARKS",
    "Ids",
    "canonical_json",
    "mark_ttl",
    "message_digest",
    "tool_spec",
    "without_marks",
]

MARKS = frozenset({"cache_control", "prompt_cache_breakpoint"})
"""Keys that only steer caching: Anthropic's (also Qwen's, OpenRouter's) and OpenAI's (5.6+)."""

_DIGEST_BYTES = 16


@dataclass(slots=True)
class Ids:
    """Tool-call ids seen so far, and the ordinal each stands for.

    Ids are compared by their letters and digits only: OpenClaw strips the rest when it
    replays a call. A doubled id stands for its latest call that has no result yet.
    """

    count: int = 0
    open: dict[str, list[int]] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Ids:
        """An independent copy."""
        if not self.count:
            return Ids()
        return Ids(self.count, {k: list(v) for k, v in self.open.items()}, dict(self.last))

    def call(self, raw: str) -> int:
        """The ordinal of a new call."""
        key = _loose(raw)
        self.open.setdefault(key, []).append(self.count)
        self.last[key] = self.count
        self.count += 1
        return self.count - 1

    def result(self, raw: str) -> int:
        """The ordinal of the call a result belongs to; -1 when there is none."""
        key = _loose(raw)
        waiting = self.open.get(key)
        if waiting:
            ordinal = waiting.pop(0)
            if not waiting:
                del self.open[key]
            return ordinal
        return self.last.get(key, -1)


def _loose(raw: str) -> str:
    return raw if raw.isalnum() else "".join(c for c in raw if c.isalnum())


def mark_ttl(mark: Json) -> str | None:
    """The lifetime that a cache mark asks for; None: the provider's default."""
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    return ttl if isinstance(ttl, str) else None


def without_marks(value: Json) -> Json:
    """`value` without cache marks at any depth."""
    if isinstance(value, Mapping):
        return {k: without_marks(v) for k, v in value.items() if k not in MARKS}
    if isinstance(value, list):
        return [without_marks(v) for v in value]
    return value


def canonical_json(value: Json) -> str:
    """JSON with sorted keys and no cache marks: equal for equal meaning."""
    return json.dumps(
        without_marks(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )


def message_digest(before: bytes, message: Message, ids: Ids) -> bytes:
    """Digest of a prefix that ended at digest `before` and goes on with `message`.

    `ids` is updated. 16 bytes; equal digests mean equal cache-significant prefixes.
    """
    pieces = [before, message.role.encode()]
    for part in message.parts:
        match part:
            case Text(text):
                pieces.append(b"T" + text.encode("utf-8", "surrogatepass"))
            case ToolCall(call_id, name, arguments):
                head = f"C{ids.call(call_id)}\x1f{name}\x1f{arguments}"
                pieces.append(head.encode("utf-8", "surrogatepass"))
            case ToolResult(call_id, text):
                head = f"R{ids.result(call_id)}\x1f{text}"
                pieces.append(head.encode("utf-8", "surrogatepass"))
            case Image(raw) | Thinking(raw) | Opaque(raw):
                pieces.append(b"O" + canonical_json(raw).encode("utf-8", "surrogatepass"))
    # Lengths first, so that no two lists of pieces read the same.
    frame = ",".join(str(len(p)) for p in pieces).encode()
    return hashlib.blake2b(b"\x1e".join([frame, *pieces]), digest_size=_DIGEST_BYTES).digest()


def tool_spec(name: str, raw: Json) -> ToolSpec:
    """A tool definition with its digest and its estimated tokens."""
    text = canonical_json(raw)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES)
    return ToolSpec(name, raw, digest.hexdigest(), estimate(text))

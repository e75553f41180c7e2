"""A provider's prompt cache, kept over requests, and the usage it would report.

Deliberately independent of clawmw's own idea of a prefix (`clawmw.core.canon`): it judges
what is sent, so it must not share its mistakes. It is strict where providers' behaviour is
unknown: tool-call ids and the key order of tool schemas count as content. Only cache marks
do not, and a string equals one text block. Tokens are estimates.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clawmw.core.money import CacheRules, Profile, simulate
from clawmw.core.tokens import estimate
from clawmw.core.types import Usage

__all__ = ["PrefixCache", "input_tokens", "marks"]

MARKS = ("cache_control", "prompt_cache_breakpoint")
CHUNK_TOKENS = 64
"""How finely a common prefix is looked for inside a message, unless the provider is coarser."""
MESSAGE_TOKENS = 4
"""What a message's role and delimiters cost."""
BREAKPOINTS_WRITTEN = 4
MAX_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class _Unit:
    """A stretch of the prompt that providers treat as one block."""

    text: str
    tokens: int
    marked: bool
    ends_message: bool


@dataclass(frozen=True, slots=True)
class _Point:
    """A place in the prompt: everything before it, digested and counted."""

    digest: bytes
    tokens: int
    marked: bool
    ends_unit: bool
    ends_message: bool


class PrefixCache:
    """What one provider remembers of the prompts it was sent. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[bytes, float] = {}

    def bill(
        self,
        body: Mapping[str, Any],
        profile: Profile,
        *,
        tenant: str,
        now: float,
        output: int,
    ) -> Usage:
        """The usage of one call, and remember its prompt.

        A hit renews the entry. Caches are apart by tenant (API key), model, and, where the
        provider takes one, `prompt_cache_key`.
        """
        rules = profile.cache
        home = [tenant, str(body.get("model"))]
        if rules.key:
            home.append(str(body.get("prompt_cache_key")))
        points = list(_points(body, "\0".join(home), max(rules.granularity, CHUNK_TOKENS)))
        total = points[-1].tokens if points else 0
        writable = _writable(points, rules, body)
        with self._lock:
            hit = self._hit(points, rules, now)
            usage = simulate(
                rules,
                prefix_tokens=hit.tokens if hit else 0,
                input_tokens=total,
                output_tokens=output,
                marked_tokens=writable[-1].tokens if writable else 0,
            )
            until = now + (rules.ttl_s if rules.ttl_s is not None else float("inf"))
            for point in writable:
                if point.tokens >= rules.min_tokens:
                    self._until.pop(point.digest, None)
                    self._until[point.digest] = until
            if hit:
                self._until[hit.digest] = until
            while len(self._until) > MAX_ENTRIES:
                del self._until[next(iter(self._until))]
        return usage

    def _hit(self, points: list[_Point], rules: CacheRules, now: float) -> _Point | None:
        """The furthest place up to which the prompt is remembered, by the provider's rules."""
        if rules.style == "automatic":
            hit = None
            for point in points:
                if self._until.get(point.digest, 0.0) <= now and point.tokens >= rules.min_tokens:
                    break
                hit = point
            return hit
        for point in reversed(_lookup(points, rules)):
            if self._until.get(point.digest, 0.0) > now:
                return point
        return None


def input_tokens(body: Mapping[str, Any]) -> int:
    """Estimated tokens of a request: tools, messages and their frames."""
    return sum(unit.tokens for unit in _units(body))


def marks(body: Mapping[str, Any]) -> int:
    """How many blocks of a request carry a cache mark."""
    return sum(unit.marked for unit in _units(body))


def _writable(points: list[_Point], rules: CacheRules, body: Mapping[str, Any]) -> list[_Point]:
    """The places the provider would remember of this prompt."""
    if rules.style == "automatic":
        return points
    marked = [p for p in points if p.marked]
    if rules.style == "marks":
        return marked[-rules.max_marks :] if rules.max_marks else marked
    if rules.style == "breakpoints":
        options = body.get("prompt_cache_options")
        explicit = isinstance(options, dict) and options.get("mode") == "explicit"
        if explicit or not points:
            return marked[-BREAKPOINTS_WRITTEN:]
        # The provider's own breakpoint takes one of the four.
        return [*marked[-(BREAKPOINTS_WRITTEN - 1) :], points[-1]]
    return []


def _lookup(points: list[_Point], rules: CacheRules) -> list[_Point]:
    """The places the provider compares with what it remembers, in prompt order."""
    ends = [p for p in points if p.ends_unit]
    if rules.style == "breakpoints":
        return [p for p in ends if p.ends_message or p.marked][-rules.lookback :]
    if rules.style != "marks":
        return []
    found: dict[bytes, _Point] = {}
    for index, point in enumerate(ends):
        if point.marked:
            for seen in ends[max(index - rules.lookback, 0) : index + 1]:
                found[seen.digest] = seen
    return sorted(found.values(), key=lambda p: p.tokens)


def _points(body: Mapping[str, Any], home: str, chunk: int) -> Iterator[_Point]:
    """The prompt as a chain of digests, cut at blocks and at every `chunk` tokens in them."""
    chain = hashlib.blake2b(home.encode("utf-8", "surrogatepass"), digest_size=16)
    before = 0
    for unit in _units(body):
        pieces = max(unit.tokens // chunk, 1)
        size = -(-len(unit.text) // pieces)
        for piece in range(pieces):
            last = piece == pieces - 1
            text = (
                unit.text[piece * size :] if last else unit.text[piece * size : (piece + 1) * size]
            )
            chain.update(text.encode("utf-8", "surrogatepass"))
            if last:
                chain.update(b"\0")
            share = unit.tokens if last else (piece + 1) * unit.tokens // pieces
            yield _Point(
                chain.copy().digest(),
                before + share,
                marked=last and unit.marked,
                ends_unit=last,
                ends_message=last and unit.ends_message,
            )
        before += unit.tokens


def _units(body: Mapping[str, Any]) -> Iterator[_Unit]:
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        text = json.dumps(_unmarked(tool), ensure_ascii=False)
        yield _Unit(text, estimate(text), _is_marked(tool), ends_message=False)
    for message in body["messages"]:
        yield from _message_units(message)


def _message_units(message: Mapping[str, Any]) -> Iterator[_Unit]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content] if content is not None else []
    calls = message.get("tool_calls") or []
    rest = {k: v for k, v in message.items() if k not in ("content", "tool_calls", *MARKS)}
    head = json.dumps(rest, ensure_ascii=False, sort_keys=True)
    blocks = [(_block_text(p), _is_marked(p)) for p in [*parts, *calls]] or [("", False)]
    for index, (text, marked) in enumerate(blocks):
        last = index == len(blocks) - 1
        whole = f"{head}\n{text}" if index == 0 else text
        yield _Unit(
            whole,
            estimate(text) + (MESSAGE_TOKENS if index == 0 else 0),
            marked or (last and _is_marked(message)),
            ends_message=last,
        )


def _block_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and set(part) - {*MARKS} == {"type", "text"}:
        return str(part["text"])
    return json.dumps(_unmarked(part), ensure_ascii=False, sort_keys=True)


def _is_marked(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    inner = block.get("function")
    return any(block.get(m) for m in MARKS) or (inner is not block and _is_marked(inner))


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _unmarked(v) for k, v in value.items() if k not in MARKS}
    if isinstance(value, list):
        return [_unmarked(v) for v in value]
    return value

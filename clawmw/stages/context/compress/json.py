"""JSON and JSON lines: every value in a compact notation, then cut to what matters.

`lossless` only re-encodes (see `notation`). `balanced` and `aggressive` also cut, and only where
the re-encoded text is still large (see `prune`).
"""

from __future__ import annotations

from dataclasses import replace

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import (
    HEADS,
    Encoder,
    Node,
    Obj,
    decode_json,
    find_json,
    too_deep,
)
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    marker,
)
from clawmw.stages.context.compress.prune import Pruner, Within

__all__ = ["JsonReducer", "reduce_nodes"]

AROUND = 400
"""Words before and after a JSON value, such as a status line, may be so many characters each."""

WORTH = 0.8
"""What is cut must leave less than this share of the re-encoded whole, or nothing is cut."""

MAX_CHARS = 4_000_000
"""Longer texts are left to the cheaper reducers."""


class JsonReducer:
    """One JSON value, with a few words around it or not, or one JSON value a line."""

    name = "json"
    version = 1

    def __init__(self, within: Within) -> None:
        self._within = within

    def matches(self, text: str) -> bool:
        stripped = text.strip()
        if len(text) > MAX_CHARS or len(stripped) < 2:
            return False
        if stripped[0] + stripped[-1] in ("{}", "[]"):
            return True
        return "{" in stripped[:AROUND] or "[" in stripped[:AROUND]

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        before = after = ""
        head = HEADS["json"]
        try:
            node = decode_json(text)
        except ValueError:
            if (node := _json_lines(text)) is not None:
                head = HEADS["jsonl"]
            elif (found := find_json(text, AROUND)) is not None:
                start, end, node = found
                before, after = text[:start], text[end:]
            else:
                return None
        if too_deep(node):
            return None
        head = f"{before}{head}" if not before or before.endswith("\n") else f"{before}\n{head}"
        reduced = reduce_nodes(node, head, brief, self._within)
        return replace(reduced, text=reduced.text + after) if after else reduced


def _json_lines(text: str) -> Node | None:
    """The values of a text that is one JSON value a line."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if len(lines) < 2:
        return None
    try:
        nodes = decode_json("[" + ",".join(lines) + "]")
    except ValueError:
        return None
    return nodes if len(nodes) == len(lines) else None


def reduce_nodes(node: Node, head: str, brief: Brief, within: Within) -> Reduced:
    """`node` rendered after `head`, and pruned where the level allows and its size asks for it."""
    kind = "table" if isinstance(node, list) and not isinstance(node, Obj) else "json"
    encoder = Encoder()
    whole = Reduced(head + encoder.encode(node), kind, True)
    floor = LOSSY_FLOOR.get(brief.level)
    tokens = estimate(whole.text)
    if floor is None or tokens < floor:
        return whole
    pruner = Pruner(brief, within)
    pruned = pruner.cut(node, tokens, len(whole.text))
    said = pruner.said()
    if said:
        text = f"{marker(brief.ref, '; '.join(said))}\n{head}{encoder.encode(pruned)}"
        if estimate(text) < WORTH * tokens:
            return Reduced(text, kind, False)
    return whole

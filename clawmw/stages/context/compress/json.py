"""JSON and JSON lines: every value in a compact notation, then long lists cut to what matters.

`lossless` only re-encodes (see `notation`). `balanced` and `aggressive` also cut, and only where
the re-encoded text is still large: long arrays and maps keep their ends, their exceptional
records and a key for every record that is hidden; long strings keep their ends, or are reduced
as what they hold (a page, a log); deep branches keep their key names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import (
    Encoder,
    Node,
    Note,
    Num,
    Obj,
    Rows,
    decode_json,
    find_json,
    too_deep,
)
from clawmw.stages.context.compress.protocol import (
    HEADS,
    LOSSY_FLOOR,
    Brief,
    Level,
    Reduced,
    count,
    marker,
)
from clawmw.stages.context.compress.rows import Plan, flat, gaps, hidden, key_columns, notable

__all__ = ["LIMITS", "JsonReducer", "Limits", "Pruner", "reduce_nodes"]

AROUND = 400
"""Words before and after a JSON value, such as a status line, may be so many characters each."""

INNER = 6
"""A long list inside a record of a long list keeps so many items."""

WORTH = 0.75
"""What is cut must leave less than this share of the re-encoded whole, or nothing is cut."""

MAX_CHARS = 4_000_000
"""Longer texts are left to the cheaper reducers."""

Within = Callable[[str, Brief], str | None]
"""Reduces a text found inside a value; None when it is better cut as a plain string."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one level keeps. Sizes are characters of the re-encoded value."""

    list_chars: int
    """A list or map shorter than this stays whole."""
    plan: Plan
    scalars: int
    """How many items a list of plain values keeps."""
    string_chars: int
    """A string longer than this keeps its ends."""
    cell_chars: int
    """The same for a string inside a record of a long list."""
    keys_chars: int
    """How much is spent on naming the hidden records of one list by their keys."""
    depth: int
    """Objects below this depth that are longer than `branch_chars` keep only their key names."""
    branch_chars: int


LIMITS: dict[Level, Limits] = {
    "balanced": Limits(9000, Plan(8, 4, 24), 400, 2000, 300, 4500, 8, 3000),
    "aggressive": Limits(1500, Plan(3, 2, 10), 40, 400, 100, 1000, 4, 600),
}


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
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if len(lines) < 2 or lines[0].lstrip()[:1] not in ("{", "["):
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
    limits = LIMITS.get(brief.level)
    if limits is None:
        return Reduced(head + encoder.encode(node), kind, True)
    pruner = Pruner(limits, brief, within)
    whole = None
    if pruner.size(node) < 8 * LOSSY_FLOOR[brief.level]:
        whole = Reduced(head + encoder.encode(node), kind, True)
        if estimate(whole.text) < LOSSY_FLOOR[brief.level]:
            return whole
    pruned = pruner.prune(node, 0)
    if pruner.missing:
        text = f"{marker(brief.ref, ', '.join(pruner.said()))}\n{head}{encoder.encode(pruned)}"
        if whole is None or len(text) < WORTH * len(whole.text):
            return Reduced(text, kind, False)
    return whole or Reduced(head + encoder.encode(node), kind, True)


class Pruner:
    """Cuts one tree, counting what it hid."""

    def __init__(self, limits: Limits, brief: Brief, within: Within) -> None:
        self._limits = limits
        self._brief = brief
        self._within = within
        self._sizes: dict[int, int] = {}
        self.missing: dict[str, list[int]] = {}

    def said(self) -> list[str]:
        """`412 of 500 rows left out`, `3 long strings cut short` and the like."""
        return [
            f"{gone:,} of {total:,} {what} left out" if total else f"{count(gone, what)} cut short"
            for what, (gone, total) in self.missing.items()
        ]

    def prune(self, node: Node, depth: int) -> Node:
        """`node` or a smaller one in its place."""
        if isinstance(node, str):
            return (
                node
                if isinstance(node, Num) or len(node) <= self._limits.string_chars
                else self._string(node)
            )
        if not isinstance(node, list) or self.size(node) <= self._limits.branch_chars // 2:
            return node
        if isinstance(node, Obj):
            return self._object(node, depth)
        if (
            self.size(node) > self._limits.list_chars
            and len(node) > self._limits.plan.head + self._limits.plan.tail
        ):
            return self._list(node, depth)
        return [self.prune(item, depth + 1) for item in node]

    def _object(self, node: Obj, depth: int) -> Node:
        if depth >= self._limits.depth and self.size(node) > self._limits.branch_chars:
            self._miss("branch", 1, 0)
            names = [key for key, _ in node]
            return Note(f"{count(len(names), 'key')}: {', '.join(names[:40])}"[:600])
        values = [value for _, value in node]
        if len(node) > 40 and self.size(node) > self._limits.list_chars and _alike(values):
            return self._map(node, depth)
        return Obj([(key, self.prune(value, depth + 1)) for key, value in node])

    def _map(self, node: Obj, depth: int) -> Node:
        records = [flat(value) for _, value in node]
        kept = notable(records, self._limits.plan)
        entries: list[Node] = []
        for gap, index in gaps(kept, len(node)):
            if gap:
                named = [{"key": node[i][0]} for i in gap]
                entries.append(Note(hidden(named, ["key"], self._share(gap, node))))
            if index is not None:
                entries.append((node[index][0], self.prune(node[index][1], depth + 1)))
        self._miss("entries", len(node) - len(kept), len(node))
        return Rows(entries, len(node), True)

    def _list(self, node: Sequence[Node], depth: int) -> Node:
        if not any(isinstance(item, list) for item in node):
            return self._scalars(node)
        tight = [self._tight(item) for item in node]
        if sum(map(_length, tight)) <= self._limits.list_chars:
            return tight
        records = [flat(item) for item in node]
        kept = notable(records, self._limits.plan)
        if len(kept) > 0.8 * len(node):
            return tight
        columns = key_columns(records)
        entries: list[Node] = []
        for gap, index in gaps(kept, len(node)):
            if gap:
                room = self._share(gap, node)
                entries.append(Note(hidden([records[i] for i in gap], columns, room)))
            if index is not None:
                entries.append(tight[index])
        self._miss("rows", len(node) - len(kept), len(node))
        return Rows(entries, len(node))

    def _tight(self, node: Node) -> Node:
        """A record of a long list with its long strings and inner lists cut."""
        most = self._limits.cell_chars
        if isinstance(node, str):
            if isinstance(node, Num) or len(node) <= most:
                return node
            self._miss("long value", 1, 0)
            keep = most * 2 // 3
            return f"{node[:keep]}… {len(node) - keep:,} more characters …"
        if not isinstance(node, list) or self.size(node) <= most:
            return node
        if isinstance(node, Obj):
            return Obj([(key, self._tight(value)) for key, value in node])
        if len(node) > INNER and self.size(node) > 3 * most:
            self._miss("inner items", len(node) - INNER, len(node))
            return [*map(self._tight, node[:INNER]), Note(f"{len(node) - INNER:,} more")]
        return [self._tight(item) for item in node]

    def _share(self, gap: Sequence[int], node: Sequence[Node]) -> int:
        return self._limits.keys_chars * len(gap) // len(node)

    def _scalars(self, node: Sequence[Node]) -> Node:
        keep = self._limits.scalars
        cut = [self.prune(item, 0) for item in node]
        if len(node) <= keep:
            return cut
        head = keep * 3 // 4
        self._miss("items", len(node) - keep, len(node))
        return [*cut[:head], Note(f"{len(node) - keep:,} items"), *cut[len(node) - (keep - head) :]]

    def _string(self, text: str) -> Node:
        inner = self._within(text, self._brief)
        if inner is not None:
            self._miss("long string", 1, 0)
            return inner
        keep = self._limits.string_chars // 2
        self._miss("long string", 1, 0)
        return f"{text[:keep]} … {len(text) - 2 * keep:,} characters … {text[-keep:]}"

    def _miss(self, what: str, hidden: int, total: int) -> None:
        seen = self.missing.setdefault(what, [0, 0])
        seen[0] += hidden
        seen[1] += total

    def size(self, node: Node) -> int:
        """About how many characters `node` takes when rendered."""
        if isinstance(node, str):
            return len(node)
        if not isinstance(node, list):
            return 4
        size = self._sizes.get(id(node))
        if size is None:
            if isinstance(node, Obj):
                size = 2 + sum([len(key) + 2 + self.size(value) for key, value in node])
            else:
                size = 2 + sum([1 + self.size(value) for value in node])
            self._sizes[id(node)] = size
        return size


def _length(node: Node) -> int:
    """As `Pruner.size`, for nodes that do not outlive the call."""
    if isinstance(node, str):
        return len(node)
    if isinstance(node, Obj):
        return 2 + sum([1 + _length(value) for _, value in node])
    return 2 + sum([1 + _length(value) for value in node]) if isinstance(node, list) else 4


def _alike(values: Sequence[Node]) -> bool:
    """Whether a map's values are of one kind, so that it is a table by key and not a record."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 2 or (len(kinds) == 2 and Obj in kinds):
        return False
    if kinds == {Obj}:
        shapes = {tuple([key for key, _ in value]) for value in values if value is not None}
        return len(shapes) <= max(3, len(values) // 10)
    return True

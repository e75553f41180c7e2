"""Cuts a JSON-like value to a size: which values, records and columns stay.

Room is shared out from the top: small values are kept, larger ones get equal shares, and what
was asked for, or what the agent's tools take as a parameter, gets more. Of a long list some
records stay whole (what was asked for, failures, odd ones, the ends); the others are named by
their key, their label and what tools take, as far as they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from clawmw.stages.context.compress.notation import Node, Note, Num, Obj, Rows
from clawmw.stages.context.compress.protocol import Brief, count, keys_room, room
from clawmw.stages.context.compress.relevance import hit, relevance, stems
from clawmw.stages.context.compress.rows import (
    Plan,
    flat,
    gaps,
    in_short,
    naming_columns,
    notable,
)

__all__ = ["Pruner", "Within", "plan_of"]

Within: TypeAlias = Callable[[str, Brief], str | None]
"""Reduces a text found inside a value; None when it is better cut as a plain string."""

SHORT = 40
"""Characters of a value that is not worth cutting."""
CELL = 64
"""Characters of a text that a cut record keeps at least."""
WHOLE = 0.8
"""The share of a list's room that is for whole records."""
MAP = 12
"""An object of more like values is a table by key."""
READ = 2000
"""Characters of one value that are read for what was asked."""


def plan_of(space: int, width: int) -> Plan:
    """How many records of `width` characters `space` characters hold, and which."""
    most = max(3, int(WHOLE * space) // max(width, 1))
    return Plan(min(2, most // 3), 1, most - min(2, most // 3) - 1)


class Pruner:
    """Cuts one tree, counting what it hid."""

    def __init__(self, brief: Brief, within: Within) -> None:
        self._brief = brief
        self._tokens = self._total = 0
        self._scale = 1.0
        self._within = within
        self._sizes: dict[int, int] = {}
        self.missing: dict[str, list[int]] = {}
        self.columns: dict[str, None] = {}

    def said(self) -> list[str]:
        """`412 of 500 rows left out`, `3 long texts cut short` and the like."""
        said = [_said(what, *counts) for what, counts in self.missing.items() if counts[0]]
        if self.columns:
            names = list(self.columns)
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            said.append(f"columns left out: {', '.join(names[:6])}{more}")
        return said

    def cut(self, node: Node, tokens: int, chars: int) -> Node:
        """The value, which takes `tokens` and `chars` when rendered, cut to what should stay."""
        self._tokens, self._scale, self._total = tokens, chars / tokens, self.size(node)
        # What a value takes when rendered is less than its size where keys become a header.
        scale = self._scale * max(self._total / chars, 1.0)
        return self.prune(node, int(room(tokens, self._brief.level, named=True) * scale))

    def prune(self, node: Node, space: int) -> Node:
        """`node`, or what of it fits `space` characters."""
        if isinstance(node, str):
            return node if isinstance(node, Num) else self._string(node, space)
        if not isinstance(node, list) or self.size(node) <= space:
            return node
        if not isinstance(node, Obj):
            plain = not any(isinstance(item, list) for item in node)
            return self._scalars(node, space) if plain else self._list(node, space)
        if len(node) > MAP and _alike([value for _, value in node]):
            return self._map(node, space)
        return self._object(node, space)

    def _object(self, node: Obj, space: int) -> Node:
        names = sum(len(key) + 2 for key, _ in node)
        if names > space // 2 and len(node) > MAP:
            return self._wide(node, space)
        weights = [self._weight(key, value) for key, value in node]
        sizes = [self.size(value) for _, value in node]
        shares = _shares(sizes, weights, space - names)
        return Obj(
            [
                (key, self._child(value, share))
                for (key, value), share in zip(node, shares, strict=True)
            ]
        )

    def _child(self, node: Node, space: int) -> Node:
        """As `prune`, but a branch with no room to speak of gives only what it is."""
        if isinstance(node, list) and space < SHORT < self.size(node):
            self._miss("branch", 1, 0)
            if isinstance(node, Obj):
                names = ", ".join([key for key, _ in node[:8]])
                return Note(f"{count(len(node), 'key')}: {names}"[:120])
            return Note(count(len(node), "item"))
        return self.prune(node, max(space, SHORT))

    def _wide(self, node: Obj, space: int) -> Node:
        """An object of very many keys: those that matter, and how many others."""
        order = sorted(range(len(node)), key=lambda i: (-self._weight(*node[i]), i))
        kept: list[int] = []
        for index in order:
            space -= len(node[index][0]) + 2 + min(self.size(node[index][1]), SHORT)
            if space < 0:
                break
            kept.append(index)
        entries: list[Node] = []
        for gap, at in gaps(sorted(kept), len(node)):
            if gap:
                entries.append(Note(count(len(gap), "key")))
            if at is not None:
                entries.append((node[at][0], self._child(node[at][1], SHORT)))
        self._miss("keys", len(node) - len(kept), len(node))
        return Rows(entries, len(node), True)

    def _weight(self, key: str, value: Node) -> float:
        """How much larger a value's share is: asked for, or what a tool takes."""
        weight = 1.0
        if key in self._brief.names:
            weight *= 2.0
        if self._brief.sought and stems(f"{key} {_text(value, READ)}") & self._brief.sought:
            weight *= 2.0
        return weight

    def _map(self, node: Obj, space: int) -> Node:
        records = [{"": key, **flat(value)} for key, value in node]
        kept, found = self._kept(records, space, self.size(node) // len(node))
        gone = [i for i in range(len(node)) if i not in set(kept)]
        width = max(space // (len(kept) + 1), CELL)
        entries = [(node[i][0], self.prune(node[i][1], width)) for i in kept]
        others = [records[i] for i in gone]
        columns = [c for c in naming_columns(others, self._brief.names)[0] if c][:1]
        naming = self._named(self.size(node), found)
        shown = in_short(others, ["", *columns], naming)[1]
        short = [(row[0], _value(columns, row[1:])) for row in shown]
        self._miss("entries", len(gone), len(node), len(short))
        return Rows(entries, len(node), True, short)

    def _list(self, node: Sequence[Node], space: int) -> Node:
        width = max(CELL, int(WHOLE * space) // min(len(node), 12))
        tight = self._tight(node, width)
        sizes = [_length(item) for item in tight]
        if sum(sizes) <= space:
            return tight
        records = [flat(item) for item in node]
        kept, found = self._kept(records, space, sum(sizes) // len(node))
        if len(kept) > 0.9 * len(node):
            return tight
        whole = set(kept)
        others = [records[i] for i in range(len(node)) if i not in whole]
        columns, taken = naming_columns(others, self._brief.names)
        naming = self._named(self.size(node), found, taken)
        columns, shown = in_short(others, columns, naming)
        named = any(isinstance(item, Obj) for item in node)
        short = [Obj(zip(columns, row, strict=True)) if named else list(row) for row in shown]
        self._miss("rows", len(others), len(node), len(short))
        return Rows([tight[i] for i in kept], len(node), False, short)

    def _named(self, size: int, found: bool, taken: bool = False) -> int:
        """How many characters may name the hidden part of a list, as of the whole by its size."""
        room = keys_room(self._tokens, self._brief.level, taken=taken, found=found)
        return int(room * self._scale * size / max(self._total, 1))

    def _kept(
        self, records: Sequence[dict[str, Node]], space: int, width: int
    ) -> tuple[list[int], bool]:
        """The records that stay, and whether they are just those asked for."""
        texts = [" ".join([str(cell)[:200] for cell in record.values()]) for record in records]
        asked = relevance(texts, self._brief.sought)
        return notable(records, plan_of(space, width), asked), hit(asked)

    def _tight(self, node: Sequence[Node], width: int) -> list[Node]:
        """The records cut to about `width` characters each, all in the same way."""
        if sum(map(self.size, node)) <= width * len(node):
            return list(node)
        cell = max(CELL, width // 4)
        cut = [self._record(item, cell, width) for item in node]
        dropped = self._dropped(cut, width)
        if not dropped:
            return cut
        self.columns.update(dict.fromkeys(dropped))
        gone = set(dropped)
        return [
            Obj([pair for pair in item if pair[0] not in gone]) if isinstance(item, Obj) else item
            for item in cut
        ]

    def _record(self, item: Node, cell: int, width: int) -> Node:
        if isinstance(item, Obj):
            return Obj([(key, self._cell(value, cell)) for key, value in item])
        if isinstance(item, list) and not any(isinstance(value, list) for value in item):
            return [self._cell(value, cell) for value in item]  # its cells are told by place
        return self.prune(item, width)

    def _cell(self, node: Node, most: int) -> Node:
        if isinstance(node, str) and not isinstance(node, (Num, Note)) and len(node) > most:
            self._miss("long text", 1, 0)
            return f"{node[: most * 2 // 3]}… {len(node) - most * 2 // 3:,} more characters …"
        return self._child(node, most) if isinstance(node, list) else node

    def _dropped(self, cut: Sequence[Node], width: int) -> list[str]:
        """The columns to leave out so that a record takes about twice `width`: the largest."""
        sizes: dict[str, int] = {}
        for item in cut:
            if isinstance(item, Obj):
                for key, value in item:
                    sizes[key] = sizes.get(key, 0) + _length(value) + 1
        over = sum(sizes.values()) - 2 * width * len(cut)
        dropped = []
        for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
            if over <= 0 or sizes[key] < SHORT // 2 * len(cut):
                break
            if key in self._brief.names or stems(key) & self._brief.sought:
                continue
            dropped.append(key)
            over -= sizes[key]
        return dropped

    def _scalars(self, node: Sequence[Node], space: int) -> Node:
        texts = ["" if item is None else str(item)[:READ] for item in node]
        scores = relevance(texts, self._brief.sought)
        order = sorted(range(len(node)), key=lambda i: (-scores[i], i))
        width = max(self.size(list(node)) // len(node), 1)
        most = max(space // width, 4)
        asked = [i for i in order[: most // 2] if scores[i] > 0]
        rest = most - len(asked)
        kept = sorted({*asked, *range(rest - rest // 4), *range(len(node) - rest // 4, len(node))})
        if len(kept) >= len(node):
            return [self.prune(item, max(space // len(node), SHORT)) for item in node]
        entries: list[Node] = []
        for gap, index in gaps(kept, len(node)):
            if gap:
                entries.append(Note(count(len(gap), "item")))
            if index is not None:
                entries.append(self.prune(node[index], max(space // len(kept), SHORT)))
        self._miss("items", len(node) - len(kept), len(node))
        return entries

    def _string(self, text: str, space: int) -> Node:
        if len(text) <= max(space, SHORT):
            return text
        inner = self._within(text, self._brief) if len(text) > 4 * CELL else None
        self._miss("long text", 1, 0)
        if inner is not None and len(inner) <= max(2 * space, 4 * CELL):
            return inner
        keep = max(space, SHORT) * 2 // 3
        tail = keep // 2
        return f"{text[:keep]} … {len(text) - keep - tail:,} characters … {text[-tail:]}"

    def _miss(self, what: str, gone: int, total: int, short: int = 0) -> None:
        seen = self.missing.setdefault(what, [0, 0, 0])
        for index, number in enumerate((gone, total, short)):
            seen[index] += number

    def size(self, node: Node) -> int:
        """About how many characters `node` takes when rendered."""
        if isinstance(node, str):
            return len(node)
        if not isinstance(node, list):
            return 4
        size = self._sizes.get(id(node))
        if size is None:
            size = self._sizes[id(node)] = _sized(node, self.size)
        return size


def _value(columns: Sequence[str], cells: Sequence[Node]) -> Node:
    """A record in short; a plain value is its own."""
    return cells[0] if columns == ["value"] else Obj(zip(columns, cells, strict=True))


def _said(what: str, gone: int, total: int, short: int) -> str:
    if not total:
        return f"{count(gone, what)} cut short"
    if not short:
        return f"{gone:,} of {total:,} {what} left out"
    more = f", {gone - short:,} left out" if gone > short else ""
    return f"{short:,} of {total:,} {what} in short{more}"


def _sized(node: Node, size: Callable[[Node], int]) -> int:
    # Texts, the most of all nodes, without a call each.
    if isinstance(node, Obj):
        sizes = [len(v) if isinstance(v, str) else size(v) for _, v in node]
        return 2 + 2 * len(node) + sum(sizes) + sum([len(key) for key, _ in node])
    return 2 + len(node) + sum([len(v) if isinstance(v, str) else size(v) for v in node])


def _length(node: Node) -> int:
    """As `Pruner.size`, for nodes that do not outlive the call."""
    if isinstance(node, str):
        return len(node)
    return _sized(node, _length) if isinstance(node, list) else 4


def _shares(sizes: Sequence[int], weights: Sequence[float], space: int) -> list[int]:
    """`space` shared out by weight, none getting more than its size (water-filling)."""
    shares = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i] / weights[i], i))
    weight = sum(weights)
    for index in order:
        share = int(max(space, 0) * weights[index] / weight) if weight else 0
        shares[index] = min(sizes[index], share)
        space -= shares[index]
        weight -= weights[index]
    return shares


def _text(node: Node, most: int) -> str:
    """The plain values in `node`, up to `most` characters."""
    if not isinstance(node, list):
        return str(node)[:most]
    found: list[str] = []
    stack: list[Node] = [node]
    while stack and most > 0:
        item = stack.pop()
        if isinstance(item, Obj):
            stack.extend(value for _, value in reversed(item))
        elif isinstance(item, list):
            stack.extend(reversed(item))
        elif isinstance(item, str):
            found.append(item[:most])
            most -= len(item) + 1
    return " ".join(found)


def _alike(values: Sequence[Node]) -> bool:
    """Whether a map's values are of one kind, so that it is a table by key and not a record."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 2 or (len(kinds) == 2 and Obj in kinds):
        return False
    if kinds == {Obj}:
        shapes = {tuple([key for key, _ in value]) for value in values if value is not None}
        return len(shapes) <= max(3, len(values) // 10)
    return True

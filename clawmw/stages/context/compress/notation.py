"""A compact notation for JSON-like values that keeps every value, and its parse from JSON text.

    {id:A1,price:12.50,tags:[x,y]}          keys and plain strings stand without quotes
    [2 rows: id,price,seat{row,no}          an array of like objects: header once, a record a line
    A1,12.50,{4,A}
    A2,9.00,{5,"7"}]
    {2 keyed rows: name,dob                 an object of like objects, each line led by its key
    u1:Ann,1990-01-02
    u2:Bo,1991-03-04}
    [3 rows of 2:                           an array of like arrays of plain values
    DE,Berlin
    FR,Paris
    IT,Rome]

Rules that make it unambiguous: a string that could be read as something else (a number, null,
text with a delimiter in it) is a JSON string in quotes; a string of several lines may stand
between triple double quotes, verbatim; an empty cell is an absent key; `name{a,b}` in a header
means cells `{x,y}`, `name[]{a,b}` cells `[{x,y},{z,w}]`. Numbers keep their source text, objects
their key order and their duplicate keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "HEADS",
    "MAX_DEPTH",
    "Encoder",
    "Note",
    "Num",
    "Obj",
    "Rows",
    "decode_json",
    "find_json",
    "is_notation",
    "too_deep",
]

Node: TypeAlias = Any
"""str | Num | bool | None | list[Node] | Obj | Rows | Note. Recursive unions of subclasses of
`list` and `str` are more trouble to a type checker than they are worth here."""

HEADS = {"json": "json:", "jsonl": "jsonl:", "python": "python:"}
"""How a re-encoded result opens; says what it is in one or two tokens."""

_HEADED = re.compile(rf"^(?:{'|'.join(HEADS.values())})[\[{{]", re.MULTILINE)

MAX_DEPTH = 60
"""Nesting beyond this is left alone. A fixed number, since Python's own limit depends on how deep
the caller's stack already is, which would make the result differ between processes."""


class Num(str):
    """A number, or another token that stands bare in its source, as its source text."""

    __slots__ = ()


class Obj(list[tuple[str, Node]]):
    """An object as its list of (key, value) pairs, so order and duplicate keys stay."""

    __slots__ = ()


class Note(str):
    """Words of ours standing where something was cut; rendered between ellipses."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """What is left of an array (or object) of records: kept entries and notes, in order."""

    entries: Sequence[Node]
    """Records or `Note`s; (key, record) pairs or `Note`s where `keyed`."""
    total: int
    keyed: bool = False
    rest: Sequence[Node] = ()
    """Others, in short; (key, record) pairs where `keyed`."""


def is_notation(text: str) -> bool:
    """Whether `text` is a value in this notation, with its head; a few words before it or not."""
    return _HEADED.search(text, 0, 500) is not None


def find_json(text: str, within: int) -> tuple[int, int, Node] | None:
    """(start, end, value) of a JSON object or array that makes up `text` but for lines of words
    before it and after it, of at most `within` characters each; None where there is none."""
    found = _OPENING.search(text, 0, within)
    if found is None or _QUOTING.search(text, 0, found.end() - 1):
        return None
    start = found.end() - 1
    try:
        node, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    ends = end == len(text) or (text[end] in "\r\n" and len(text) - end <= within)
    return (start, end, node) if ends else None


def decode_json(text: str) -> Node:
    """`text` as a node. ValueError when it is not one JSON value or nests too deeply."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


_QUOTING = re.compile(r"[{}\[\]\"]")
_OPENING = re.compile(r"(?:^|\n|[:=] ?)[{\[]")
_DECODER = json.JSONDecoder(
    object_pairs_hook=Obj, parse_float=Num, parse_int=Num, parse_constant=Num
)


def too_deep(node: Node, depth: int = MAX_DEPTH) -> bool:
    """Whether `node` nests deeper than `depth`."""
    level: list[Node] = [node]
    for _ in range(depth):
        below: list[Node] = []
        for item in level:
            if isinstance(item, Obj):
                below.extend(v for _, v in item if isinstance(v, list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, list))
        if not below:
            return False
        level = below
    return True


_NUMBER = r"[-+]?\.?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
"""What a reader may take for a number, which is more than what JSON calls one."""

_ODD = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff"
_UNPRINTABLE = re.compile(f"[{_ODD}]")
_BARE = re.compile(
    rf"(?!(?:{_NUMBER}|true|false|null|NaN|-?Infinity|None|True|False)\Z|\d+ (?:keyed )?rows\b)"
    rf"""[^\s,{{}}\[\]"\\:=…{_ODD}][^,{{}}\[\]"\\…\t\n{_ODD}]*(?<!\s)\Z"""
)
_BARE_KEY = re.compile(rf"""[^\s,{{}}\[\]"\\:=…{_ODD}()]+\Z""")
_CONSTANTS = {None: "null", True: "true", False: "false"}
_BLOCK_MIN = 80
_FILLED = 0.6
"""Share of cells that must be set for an array of objects to stand as a table."""

Schema: TypeAlias = "dict[str, Schema | None] | tuple[Schema]"
"""Columns of a record (None: a cell in the general notation), or a list of such records."""


class Encoder:
    """Renders nodes. One instance a text: it remembers how each string was written."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def encode(self, node: Node) -> str:
        """The whole value; tables and long strings may take several lines."""
        return self._value(node, True)

    def _value(self, node: Node, lines: bool) -> str:
        if type(node) is Num:
            return node
        if isinstance(node, str):
            return self._text(node, lines)
        if not isinstance(node, list):
            return self._rows(node) if isinstance(node, Rows) else _CONSTANTS[node]
        if isinstance(node, Obj):
            return self._object(node, lines)
        if lines and len(node) > 1:
            if (schema := _schema_of(node)) is not None:
                return self._table(node, schema, len(node), False)
            if len(node) > 2 and (width := _width_of(node)):
                return self._matrix(node, width, len(node))
        return "[" + ",".join([self._value(item, lines) for item in node]) + "]"

    def _text(self, text: str, lines: bool) -> str:
        if type(text) is Note:
            return f"… {text} …"
        if lines and len(text) >= _BLOCK_MIN and _fits_block(text):
            return f'"""{text}"""'
        return self._word(text)

    def _object(self, node: Obj, lines: bool) -> str:
        if lines and len(node) > 1 and all(type(v) is Obj for _, v in node):
            schema = _schema_of([v for _, v in node])
            if schema is not None:
                return self._table(node, schema, len(node), True)
        return "{" + ",".join([f"{self._key(k)}:{self._value(v, lines)}" for k, v in node]) + "}"

    def _rows(self, rows: Rows) -> str:
        shown = self._entries(rows)
        if not rows.rest:
            return shown
        # With their keys: a value that stands alone could be of any record.
        rest = [
            f"{self._key(item[0])}:{self._value(item[1], False)}"
            if isinstance(item, tuple)
            else self._value(item, False)
            for item in rows.rest
        ]
        return "\n".join([shown[:-1], "… in short:", *rest]) + shown[-1]

    def _entries(self, rows: Rows) -> str:
        records = [entry for entry in rows.entries if not isinstance(entry, Note)]
        values = [entry[1] for entry in records] if rows.keyed else records
        schema = _schema_of(values) if values else None
        if schema is not None:
            return self._table(rows.entries, schema, rows.total, rows.keyed)
        if not rows.keyed and (width := _width_of(records)):
            return self._matrix(rows.entries, width, rows.total)
        opening, closing = ("{", "}") if rows.keyed else ("[", "]")
        items = []
        for entry in rows.entries:
            if isinstance(entry, Note):
                items.append(f"\n… {entry} …\n")
            elif rows.keyed:
                items.append(f"{self._key(entry[0])}:{self._value(entry[1], False)}")
            else:
                items.append(self._value(entry, False))
        return opening + ",".join(items).replace(",\n…", "\n…").replace("…\n,", "…\n") + closing

    def _table(self, entries: Sequence[Node], schema: Schema, total: int, keyed: bool) -> str:
        header = self._header(schema)
        if isinstance(schema, dict):
            header = header[1:-1]
        opening, closing = ("{", "}") if keyed else ("[", "]")
        out = [f"{opening}{total} {'keyed rows' if keyed else 'rows'}: {header}"]
        for entry in entries:
            if isinstance(entry, Note):
                out.append(f"… {entry} …")
                continue
            key, value = (f"{self._key(entry[0])}:", entry[1]) if keyed else ("", entry)
            cells = self._under(value, schema)
            out.append(key + (cells[1:-1] if isinstance(schema, dict) else cells))
        return "\n".join(out) + closing

    def _matrix(self, entries: Sequence[Node], width: int, total: int) -> str:
        out = [f"[{total} rows of {width}:"]
        for entry in entries:
            note = isinstance(entry, Note)
            out.append(
                f"… {entry} …" if note else ",".join([self._value(cell, False) for cell in entry])
            )
        return "\n".join(out) + "]"

    def _header(self, schema: Schema) -> str:
        if isinstance(schema, tuple):
            return "[]" + self._header(schema[0])
        names = [self._key(k) + (self._header(sub) if sub else "") for k, sub in schema.items()]
        return "{" + ",".join(names) + "}"

    def _under(self, node: Node, schema: Schema) -> str:
        """`node` as positional cells under `schema`."""
        if isinstance(schema, tuple):
            return "[" + ",".join([self._under(item, schema[0]) for item in node]) + "]"
        if type(node) is not Obj:
            return self._value(node, False)
        if len(node) == len(schema):
            pairs: Iterator[tuple[Node, Schema | None]] = zip(
                [v for _, v in node], schema.values(), strict=True
            )
            cells = [
                self._under(v, sub) if sub is not None and v is not None else self._value(v, False)
                for v, sub in pairs
            ]
            return "{" + ",".join(cells) + "}"
        given = dict(node)
        cells = []
        for key, sub in schema.items():
            if key not in given:
                cells.append("")
                continue
            value = given[key]
            cells.append(
                self._under(value, sub)
                if sub is not None and value is not None
                else self._value(value, False)
            )
        return "{" + ",".join(cells) + "}"

    def _word(self, text: str) -> str:
        word = self._words.get(text)
        if word is None:
            word = text if _BARE.match(text) else _quoted(text)
            self._words[text] = word
        return word

    def _key(self, text: str) -> str:
        key = self._keys.get(text)
        if key is None:
            key = text if _BARE_KEY.match(text) else _quoted(text)
            self._keys[text] = key
        return key


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=_UNPRINTABLE.search(text) is not None)


def _fits_block(text: str) -> bool:
    if '"""' in text or text.endswith('"') or _UNPRINTABLE.search(text):
        return False
    return text.count("\n") + text.count('"') + text.count("\\") >= 4


def _schema_of(items: Sequence[Node], nested: int = 2) -> Schema | None:
    """The table schema all `items` fit, through at most `nested` arrays of arrays, or None."""
    if all(type(item) is Obj for item in items):
        return _record_schema(items)
    if nested and all(type(item) is list and item for item in items):
        inner = [value for item in items for value in item]
        if len(inner) > 1 and (schema := _schema_of(inner, nested - 1)) is not None:
            return (schema,)
    return None


def _width_of(items: Sequence[Node]) -> int:
    """The common length of `items` where all are arrays of plain values, else 0."""
    if not items or not all(type(item) is list for item in items):
        return 0
    width = len(items[0])
    if any(len(item) != width or any(isinstance(cell, list) for cell in item) for item in items):
        return 0
    return width


def _record_schema(items: Sequence[Node]) -> dict[str, Schema | None] | None:
    shapes = dict.fromkeys(tuple([k for k, _ in item]) for item in items)
    columns = _columns(list(shapes))
    if columns is None:
        return None
    filled = sum(len(item) for item in items)
    if filled < _FILLED * len(columns) * len(items):
        return None
    values: dict[str, list[Node]] = {key: [] for key in columns}
    for item in items:
        for key, value in item:
            values[key].append(value)
    return {key: _column_schema(column) for key, column in values.items()}


def _columns(shapes: Sequence[tuple[str, ...]]) -> list[str] | None:
    """Column order that every shape's key order agrees with; None where there is none."""
    longest = max(shapes, key=len)
    if len(set(longest)) != len(longest) or len(longest) < 1 or len(shapes) > 64:
        return None
    columns = list(longest)
    known = set(columns)
    for shape in shapes:
        at = 0
        for key in shape:
            if key in known:
                at = columns.index(key) + 1
            else:
                columns.insert(at, key)
                known.add(key)
                at += 1
        if len(columns) > 200:
            return None
    place = {key: n for n, key in enumerate(columns)}
    for shape in shapes:
        at = -1
        for key in shape:
            if place[key] <= at:
                return None
            at = place[key]
    return columns


def _column_schema(column: Sequence[Node]) -> Schema | None:
    """A schema for cells that are all objects (or all arrays of objects), null allowed."""
    given = [value for value in column if value is not None]
    if len(given) < 2:
        return None
    return _schema_of(given)

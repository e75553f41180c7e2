"""A policy's text as plain data, with the line of every key.

Safe YAML only: the parser's events are read one by one, so nothing is ever constructed
but texts, numbers, yes/no, lists and mappings. Tags are refused; anchors may be used, but
what they expand to is bounded, as are depth and size. Keys are texts as written, and
numbers are decimal: YAML 1.1's octal (`010`), base 60 (`1:30`) and dates stay texts, and
so does `1e3` (a field that wants a number takes it all the same).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from clawmw.policy.problems import Path, Problem

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Document", "read"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000
"""After anchors are expanded: nine lines of anchors can spell a billion nodes."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is there; both only read events here."""

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((w for t in ("true", "yes", "on") for w in (t, t.title(), t.upper())), True),
    **dict.fromkeys((w for t in ("false", "no", "off") for w in (t, t.title(), t.upper())), False),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,38})", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]{1,32}", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]{1,3})?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
"""With a point, and a sign in the exponent: what YAML 1.1 writers leave unquoted is a text."""
_TAB = re.compile(r"^ *\t")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")

_PLAINLY = (
    ("mapping values are not allowed", "a second ':' on one line; quote the text, or indent it"),
    ("could not find expected ':'", "expected ':' and a value here, or the indentation is off"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("did not find expected key", "the indentation does not match the lines above"),
    ("did not find expected '-'", "the indentation does not match the list above"),
    ("while parsing a flow", "a '{' or '[' is not closed, or a comma is missing"),
    ("expected ',' or", "a '{' or '[' is not closed, or a comma is missing"),
    ("while scanning a quoted scalar", "a quote is not closed"),
    ("cannot start any token", "a text may not begin with this character; quote it"),
    ("undefined alias", "the anchor this refers to does not exist"),
)
"""What the parser says, and what it means to whoever wrote the file."""


@dataclass(slots=True)
class Document:
    """What a text says. `problems` must be empty for `data` to be whole."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    """Path -> line, counted from 1: of the key in a mapping, of the item in a list."""
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    """A scalar's value, a list's nodes, or a mapping's (key, key line, node) entries."""

    line: int
    value: Any = None
    items: list[_Node] | None = None
    entries: list[tuple[str, int, _Node]] | None = None
    open: bool = False
    """Still being read: an alias to it would contain itself."""


class _ReadError(Exception):
    """One problem that makes the rest unreadable."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem("", line, message)


def read(raw: bytes | str) -> Document:
    """The data of a YAML text. Never raises: what is wrong is in `problems`."""
    document = Document()
    try:
        root = _Reader(_text(raw)).document()
        document.data = _Plain(document).value(root, ())
    except _ReadError as stop:
        document.problems.append(stop.problem)
    return document


def _text(raw: bytes | str) -> str:
    size = len(raw)
    if size > MAX_BYTES:
        raise _ReadError(f"the file is too large: {size:,} bytes, at most {MAX_BYTES:,} are read")
    if isinstance(raw, bytes):
        raw = _decoded(raw)
    if odd := _UNPRINTABLE.search(raw):
        line = raw.count("\n", 0, odd.start()) + 1
        raise _ReadError("this is not a text file: it holds control characters", line)
    if not raw.strip():
        raise _ReadError("the file is empty; the smallest policy is `version: 1`")
    return raw


def _decoded(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _ReadError("the file is UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise _ReadError("this is not UTF-8 text; save the file as UTF-8", line) from None


class _Reader:
    """Events -> nodes, one document, nothing resolved but scalars."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._events = self._parse()
        self._anchors: dict[str, _Node] = {}
        self._nodes = 0

    def document(self) -> _Node:
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, (yaml.StreamStartEvent, yaml.DocumentEndEvent)):
                continue
            if isinstance(event, yaml.StreamEndEvent):
                break
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _ReadError("a second document begins here; a policy is one", _line(event))
                continue
            root = self._node(event, 0)
        if root is None:
            raise _ReadError("the file holds only comments; the smallest policy is `version: 1`")
        if root.entries is None:
            kind = "a single value" if root.items is None else "a list"
            raise _ReadError(f"a policy is a mapping (`key: value` lines), not {kind}", root.line)
        return root

    def _parse(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self._text, Loader=_LOADER)
        except yaml.MarkedYAMLError as e:
            raise _ReadError(*self._plainly(e)) from None
        except yaml.YAMLError:
            raise _ReadError("this is not YAML") from None

    def _plainly(self, error: yaml.MarkedYAMLError) -> tuple[str, int | None]:
        said = f"{error.context or ''} {error.problem or ''}"
        unclosed = "quoted scalar" in said or "parsing a flow" in said
        mark = (error.context_mark if unclosed else None) or error.problem_mark
        line = mark.line + 1 if mark else None
        source = self._text.splitlines()
        for at in (line, line + 1 if line else None):
            if at and at <= len(source) and _TAB.match(source[at - 1]):
                return "a tab is used for indentation; use spaces", at
        for parsers, ours in _PLAINLY:
            if parsers in said:
                return f"this is not YAML: {ours}", line
        return f"this is not YAML: {error.problem or error.context}", line

    def _node(self, event: Any, depth: int) -> _Node:
        line = _line(event)
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise _ReadError(f"nested deeper than {MAX_DEPTH} levels", line)
        if self._nodes > MAX_NODES:
            raise _ReadError(f"more than {MAX_NODES:,} values", line)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event.anchor, line)
        if event.tag is not None:
            raise _ReadError("YAML tags (`!...`) are not allowed in a policy", line)
        node = _Node(line, open=True)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if isinstance(event, yaml.ScalarEvent):
            node.value = _scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = [self._node(e, depth + 1) for e in self._until(yaml.SequenceEndEvent)]
        else:
            node.entries = []
            for key in self._until(yaml.MappingEndEvent):
                name = self._key(key)
                node.entries.append((name, _line(key), self._node(next(self._events), depth + 1)))
        node.open = False
        return node

    def _until(self, end: type[Any]) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _ReadError(
                "a key must be a plain text, not a list, mapping or alias", _line(event)
            )
        if event.tag is not None:
            raise _ReadError("YAML tags (`!...`) are not allowed in a policy", _line(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = _Node(_line(event), event.value)
        return str(event.value)

    def _aliased(self, anchor: str | None, line: int) -> _Node:
        node = self._anchors.get(anchor or "")
        if node is None:
            raise _ReadError(f"`*{anchor}` refers to an anchor that does not exist", line)
        if node.open:
            raise _ReadError(f"`*{anchor}` contains itself", line)
        return node


class _Plain:
    """Nodes -> plain data; expands aliases and merges (`<<`), bounded by `MAX_NODES`."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def value(self, node: _Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > 4 * MAX_DEPTH:
            raise _ReadError(f"anchors expand to more than {MAX_NODES:,} values", node.line)
        if node.items is not None:
            for at, item in enumerate(node.items):
                self._document.lines[(*path, at)] = item.line
            return [self.value(item, (*path, at)) for at, item in enumerate(node.items)]
        if node.entries is not None:
            return self._mapping(node, path)
        return node.value

    def _mapping(self, node: _Node, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, line, child in node.entries or ():
            at = (*path, key)
            if key in seen:
                said = f"written twice, first on line {seen[key]}; keep one"
                self._document.problems.append(Problem.at(at, line, said))
                continue
            seen[key] = line
            if key != "<<":
                self._document.lines[at] = line
                found[key] = self.value(child, at)
        for key, line, child in node.entries or ():
            if key == "<<":
                self._merge(child, line, path, found)
        return found

    def _merge(self, node: _Node, line: int, path: Path, found: dict[str, Any]) -> None:
        for source in node.items if node.items is not None else [node]:
            if source.entries is None:
                raise _ReadError("`<<` takes a mapping, or a list of mappings", line)
            for key, value in self.value(source, (*path, "<<")).items():
                if key not in found:
                    found[key] = value
                    self._document.lines[(*path, key)] = line


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        plain = text.lower().replace("_", "")
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1

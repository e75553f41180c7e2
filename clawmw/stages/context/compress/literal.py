"""Lists, tuples and dicts as Python prints them: the rows of a database driver, a printed dict."""

from __future__ import annotations

import re

from clawmw.stages.context.compress.json import reduce_nodes
from clawmw.stages.context.compress.notation import HEADS, MAX_DEPTH, Node, Num, Obj, too_deep
from clawmw.stages.context.compress.protocol import Brief, Reduced
from clawmw.stages.context.compress.prune import Within

__all__ = ["PythonReducer", "decode_python"]

MAX_CHARS = 1_000_000
"""Longer literals are left to other reducers: this parser is Python, at about 3 MB a second."""

_TOKEN = re.compile(
    r"\s*(?:(?P<punct>[\[\](){},:])"
    r"|(?P<string>[bBrRuU]{0,2}(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"))"
    r"|(?P<word>[-+]?[\w.]+(?:[-+]\d+)?)|(?P<end>\Z))"
)
_PLAIN = re.compile(r"None|True|False|nan|[-+]?(?:inf|\.?\d[\w.+-]*)")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {
    "\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b",
    "f": "\f", "v": "\v", "\n": "",
}  # fmt: skip
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class PythonReducer:
    """A Python literal, told from JSON by its quotes, tuples or `None`."""

    name = "python"
    version = 1

    def __init__(self, within: Within) -> None:
        self._within = within

    def matches(self, text: str) -> bool:
        if len(text) > MAX_CHARS:
            return False
        stripped = text.strip()
        if len(stripped) < 2 or stripped[0] + stripped[-1] not in ("[]", "{}", "()"):
            return False
        return "'" in stripped or "(" in stripped[:2] or "None" in stripped

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        try:
            node = decode_python(text)
        except ValueError:
            return None
        return None if too_deep(node) else reduce_nodes(node, HEADS["python"], brief, self._within)


def decode_python(text: str) -> Node:
    """A Python literal as a node. ValueError for anything else, sets and f-strings included.

    Tuples become lists; numbers, `None` and `True` keep their source; a call such as
    `datetime.date(2024, 5, 8)` becomes its source as a string. Nothing is evaluated.
    """
    return _Parser(text).whole()


class _Parser:
    """One token ahead: `_kind` and `_next` are the next one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._kind = self._next = ""
        self._start = self._end = 0
        self._advance()

    def whole(self) -> Node:
        node = self._value(0)
        if self._kind != "end":
            raise ValueError("text after the value")
        return node

    def _advance(self) -> str:
        token = self._next
        found = _TOKEN.match(self._text, self._end)
        if found is None or found.lastgroup is None:
            raise ValueError("not a Python literal")
        self._kind = found.lastgroup
        self._next = found.group(self._kind)
        self._start, self._end = found.span(self._kind)
        return token

    def _value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        kind, start = self._kind, self._start
        mark = self._advance()
        if kind == "string":
            return _string(mark)
        if kind == "word" and self._next == "(":
            self._advance()
            end = self._items(")", depth)[1]
            return self._text[start:end]
        if kind == "word" and _PLAIN.fullmatch(mark):
            return Num(mark)
        if kind == "punct" and mark in "[(":
            return self._items(_CLOSING[mark], depth)[0]
        if kind == "punct" and mark == "{":
            return self._pairs(depth)
        raise ValueError("not a Python literal")

    def _items(self, closing: str, depth: int) -> tuple[list[Node], int]:
        """The items before `closing`, and where it ends."""
        items: list[Node] = []
        while self._next != closing or self._kind != "punct":
            items.append(self._value(depth + 1))
            self._comma(closing)
        end = self._end
        self._advance()
        return items, end

    def _pairs(self, depth: int) -> Obj:
        pairs = Obj()
        while self._next != "}" or self._kind != "punct":
            key = self._value(depth + 1)
            # A key that is a number would read as a string.
            if self._next != ":" or not isinstance(key, str) or isinstance(key, Num):
                raise ValueError("not a dict with names for keys")
            self._advance()
            pairs.append((key, self._value(depth + 1)))
            self._comma("}")
        self._advance()
        return pairs

    def _comma(self, closing: str) -> None:
        if self._kind == "punct" and self._next == ",":
            self._advance()
        elif self._kind != "punct" or self._next != closing:
            raise ValueError("a comma is missing")


def _string(source: str) -> Node:
    """The text of a string token; bytes, raw and other prefixed strings stay as their source."""
    if source[0] not in "'\"":
        return source
    return _ESCAPE.sub(_unescaped, source[1:-1]) if "\\" in source else source[1:-1]


def _unescaped(found: re.Match[str]) -> str:
    code = found.group(1)
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code[0] in "xuU":
        point = int(code[1:], 16)
    elif code[0] in "01234567":
        point = int(code, 8)
    else:
        raise ValueError("an escape Python does not print")
    if point > 0x10FFFF:
        raise ValueError("no such character")
    return chr(point)

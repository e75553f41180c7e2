"""JSON originals as values, and values as text: every number as it was written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from clawmw.core.types import Json

__all__ = ["LARGEST", "Document", "Place", "child", "document", "kind"]

LARGEST = 5_000_000
"""Characters of JSON that are parsed; a longer text is taken as lines. To search so many takes
about 0.6 s of CPU."""

Place: TypeAlias = tuple[str, Json]
"""A path and the value there."""


_LONGEST_KEY = 300
"""Characters of a key that a path shows; none longer was ever a name."""
_ODD = re.compile(r"""[.\[\]*"'\s]""")

_fast = json.JSONEncoder(ensure_ascii=False).encode


class _Float(float):
    """A number whose text Python would not give back: `1.50`, `1e400`."""

    raw: str


@dataclass(slots=True)
class Document:
    """A JSON text: its value, and how a value out of it is written."""

    value: Json = None
    exact: bool = True
    """Python's own encoder gives every number back as it was written."""

    def dump(self, value: Json) -> str:
        """`value` as JSON on one line."""
        return _fast(value) if self.exact else _encode(value)

    def parsed(self, text: str) -> Json:
        """The value of `text`. ValueError when it is no JSON."""
        return json.loads(text, parse_float=self._float)

    def _float(self, text: str) -> float:
        value = float(text)
        if repr(value) == text:
            return value
        self.exact = False
        odd = _Float(value)
        odd.raw = text
        return odd


def document(text: str) -> Document | None:
    """The value of a JSON text, or the list of those of JSON lines; None for any other text."""
    head = text[:100].lstrip()[:1]
    if head not in ("{", "[") or len(text) > LARGEST:
        return None
    found = Document()
    try:
        found.value = found.parsed(text)
    except ValueError:
        rows = [line for line in text.split("\n") if line.strip()]
        if len(rows) < 2 or any(line.lstrip()[0] not in "{[" for line in rows):
            return None
        try:
            found.value = [found.parsed(line) for line in rows]
        except ValueError:
            return None
    return found


def _encode(value: Any) -> str:
    if isinstance(value, dict):
        rows = [f"{_fast(k)}: {_encode(v)}" for k, v in value.items()]
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_encode, value)) + "]"
    return value.raw if type(value) is _Float else _fast(value)


def child(path: str, key: str | int) -> str:
    """The path of what is under `key` at `path`, as `at_path` reads it."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if len(key) > _LONGEST_KEY:
        key = key[:_LONGEST_KEY] + "…"
    if not key or _ODD.search(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def kind(value: Json) -> str:
    """What a value is, in a word or two: `a list of 300`."""
    if isinstance(value, dict):
        return f"an object with {len(value):,} keys"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, str):
        return f"a text of {len(value):,} characters"
    return "null" if value is None else "true or false" if isinstance(value, bool) else "a number"

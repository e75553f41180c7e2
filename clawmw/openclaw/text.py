"""A JSON5 text, changed in place: what is not meant to change keeps its bytes, comments too.

What a text means is read by the `json5` library; here it is only found out where things stand.
After each change the text is read again, and must mean what was meant: else nothing is changed.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clawmw.errors import ClawmwError

__all__ = ["Document", "Path", "TextError", "at", "dotted"]

Path = tuple[str | int, ...]
"""Keys and list indices from the top."""

_SKIP = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*(?s:.*?)\*/)*")
_STRING = re.compile(r"\"(?:[^\"\\]|\\(?s:.))*\"|'(?:[^'\\]|\\(?s:.))*'")
_WORD = re.compile(r"[^\s,:\[\]{}\"'/]+")
_REMARK = re.compile(r"[ \t]*(?://[^\n\r]*|/\*[^\n\r]*?\*/[ \t]*(?=[\n\r]))")
_ABSENT = object()


class TextError(ClawmwError):
    """A text that cannot be read, or not be changed safely."""


@dataclass(slots=True)
class _Node:
    """Where a value stands, and what is in it. `opened`: where its inside begins."""

    start: int
    end: int = 0
    opened: int = 0
    items: dict[str | int, tuple[int, _Node]] = field(default_factory=dict)
    """By key or index: where the member begins, and its value."""
    comma: bool = False
    """Whether a comma follows the last member."""
    kind: str = ""


def at(value: Any, path: Path, default: Any = None) -> Any:
    """What stands at a path of a value."""
    for key in path:
        there = isinstance(value, Mapping) and key in value
        if isinstance(value, list) and isinstance(key, int):
            there = -1 < key < len(value)
        if not there:
            return default
        value = value[key]
    return value


def dotted(path: Path) -> str:
    """A path as people write it: models.providers.openai.models[0].id."""
    found = ""
    for key in path:
        if isinstance(key, int):
            found += f"[{key}]"
        elif re.fullmatch(r"[\w-]+", key):
            found += f".{key}" if found else key
        else:
            found += f"[{json.dumps(key, ensure_ascii=False)}]"
    return found


class Document:
    """A text and what it means. Raises `TextError` for one that is no JSON5 object."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.value: dict[str, Any] = _read(text)

    def set(self, path: Path, value: Any) -> Document:
        """The document with `value` at a path; objects on the way are made where missing."""
        if at(self.value, path, _ABSENT) == value:
            return self
        wanted = copy.deepcopy(self.value)
        here: Any = wanted
        for key in path[:-1]:
            here = here.setdefault(key, {}) if isinstance(here, dict) else here[key]
        here[path[-1]] = value
        node, depth = self._deepest(path)
        if depth == len(path):
            text = self._put(node.start, node.end, _written(value, self._indent(node.start)))
        else:
            for key in reversed(path[depth + 1 :]):
                value = {str(key): value}
            text = self._inserted(node, str(path[depth]), value)
        return _same(text, wanted, path)

    def removed(self, path: Path) -> Document:
        """The document without what stands at a path, which is a member of an object."""
        if at(self.value, path, _ABSENT) is _ABSENT:
            return self
        wanted = copy.deepcopy(self.value)
        del at(wanted, path[:-1])[path[-1]]
        holder, _ = self._deepest(path[:-1])
        keys = list(holder.items)
        index = keys.index(path[-1])
        start, node = holder.items[path[-1]]
        if index + 1 < len(keys):
            text = self._put(start, holder.items[keys[index + 1]][0], "")
        else:
            begin, end = len(self.text[:start].rstrip()), node.end
            if holder.comma:
                end = self._comma(end) + 1
            text = self._put(begin, end, "")
            if index and not holder.comma:  # the comma before it goes, too
                comma = self._comma(holder.items[keys[index - 1]][1].end)
                text = text[:comma] + text[comma + 1 :]
        return _same(text, wanted, path)

    # --- where things stand -----------------------------------------------------------------

    def _deepest(self, path: Path) -> tuple[_Node, int]:
        """The node of the longest beginning of a path that is there, and how long that is."""
        try:
            node = _Scan(self.text).value(_skip(self.text, 0))
        except RecursionError:
            raise TextError("nested too deeply to be changed") from None
        for depth, key in enumerate(path):
            if key not in node.items:
                return node, depth
            node = node.items[key][1]
        return node, len(path)

    def _put(self, start: int, end: int, text: str) -> str:
        return self.text[:start] + text + self.text[end:]

    def _comma(self, place: int) -> int:
        """Where the comma stands that follows a place."""
        return self.text.index(",", _skip(self.text, place))

    def _indent(self, place: int) -> str:
        """The white space that the line of a place begins with."""
        line = self.text.rfind("\n", 0, place) + 1
        return self.text[line : line + len(self.text[line:]) - len(self.text[line:].lstrip(" \t"))]

    def _inserted(self, node: _Node, key: str, value: Any) -> str:
        """The text with one member more at the end of an object."""
        if node.kind != "{":
            raise TextError("expected an object where a key is to be added")
        members = list(node.items.values())
        first = members[0][0] if members else _skip(self.text, node.opened)
        lines = "\n" in self.text[node.opened : first] or not members
        outer = self._indent(node.start)
        inner = self._indent(first) if members and lines else outer + self._step()
        if not members:
            written = _member(key, value, inner)
            if not self.text[node.opened : node.end - 1].strip():
                return self._put(node.opened, node.end - 1, f"\n{inner}{written}\n{outer}")
            return self._put(node.opened, node.opened, f"\n{inner}{written},")
        written = f"\n{inner}{_member(key, value, inner)}" if lines else f" {_member(key, value)}"
        end = place = members[-1][1].end
        if node.comma:
            end = place = self._comma(end) + 1
        rest = _REMARK.match(self.text, end) if lines else None
        if rest is not None:  # what is said of the last member stays beside it
            place = rest.end()
        between = self.text[end:place]
        if node.comma:
            return self._put(end, place, f"{between}{written},")
        return self._put(end, place, f",{between}{written}")

    def _step(self) -> str:
        """One level of indentation, as the text has it."""
        found = re.search(r"\n([ \t]+)\S", self.text)
        return found[1][:1] if found and found[1][0] == "\t" else "  "


def _skip(text: str, place: int) -> int:
    found = _SKIP.match(text, place)
    return found.end() if found else place


def _member(key: str, value: Any, indent: str | None = None) -> str:
    return f"{json.dumps(key, ensure_ascii=False)}: {_written(value, indent)}"


def _written(value: Any, indent: str | None) -> str:
    """A value over lines that begin with `indent`; on one line without."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    step = "\t" if "\t" in indent else "  "
    text = json.dumps(value, ensure_ascii=False, indent=step)
    return text.replace("\n", "\n" + indent)


def _same(text: str, wanted: Any, path: Path) -> Document:
    changed = Document(text)
    if changed.value != wanted:
        raise TextError(f"{dotted(path)} cannot be changed without changing more; edit it by hand")
    return changed


def _read(text: str) -> dict[str, Any]:
    import json5  # OpenClaw writes JSON; comments are people's

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = json5.loads(text)
        except (ValueError, RecursionError) as error:
            raise TextError(f"not JSON5: {str(error).splitlines()[0][:200]}") from None
    if not isinstance(value, dict):
        raise TextError("not an object of JSON5")
    return value


class _Scan:
    """One pass over a text that is known to be JSON5."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, place: int) -> _Node:
        """The node that begins at a place."""
        sign = self.text[place : place + 1]
        if sign in ("{", "["):
            return self._many(place, sign)
        return _Node(place, self._token(place))

    def _token(self, place: int) -> int:
        found = _STRING.match(self.text, place) or _WORD.match(self.text, place)
        if found is None:
            raise TextError(f"not JSON5 that is understood, at character {place}")
        return found.end()

    def _many(self, place: int, sign: str) -> _Node:
        text, node = self.text, _Node(place, opened=place + 1, kind=sign)
        closing = "}" if sign == "{" else "]"
        here = _skip(text, place + 1)
        while text[here : here + 1] != closing:
            start, key = here, len(node.items)
            name: str | int = key
            if sign == "{":
                end = self._token(here)
                name = _key(text[here:end])
                here = _skip(text, end)
                if text[here : here + 1] != ":" or name in node.items:
                    raise TextError(f"{str(name)[:80]!r} stands twice, or is no key")
                here = _skip(text, here + 1)
            inside = self.value(here)
            node.items[name] = (start, inside)
            here = _skip(text, inside.end)
            node.comma = text[here : here + 1] == ","
            if node.comma:
                here = _skip(text, here + 1)
            elif text[here : here + 1] != closing:
                raise TextError(f"not JSON5 that is understood, at character {here}")
        node.end = here + 1
        return node


def _key(text: str) -> str:
    import json5

    if text[0] not in "\"'":
        return text if "\\" not in text else str(next(iter(json5.loads(f"{{{text}:0}}"))))
    return str(json5.loads(text))

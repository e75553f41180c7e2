"""A place in a JSON original: `data.items[3].id`, `[*]` for every item, `[2:5]` for some."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

from clawmw.core.tokens import estimate
from clawmw.core.types import Json
from clawmw.stages.context.slices.lines import fitting
from clawmw.stages.context.slices.values import LARGEST, Document, Place, child, kind

__all__ = ["Found", "NotJsonError", "at_path", "shown"]

_STEP = re.compile(
    r"""\.?(?P<key>[^.\[\]"'*\s][^.\[\]]*)"""
    r"""|\[\s*(?P<index>-?\d{1,12})\s*\]"""
    r"""|\[\s*(?P<start>-?\d{0,12})\s*:\s*(?P<stop>-?\d{0,12})\s*\]"""
    r"""|\.?\[\s*(?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*')\s*\]"""
    r"""|(?P<all>\.?\[\s*\*?\s*\]|\.?\*)"""
)
_LONGEST = 1_000
_SHOWN_KEYS = 20

Step: TypeAlias = str | int | slice
"""A key, an index, or some of the items; `slice(None)` for all."""


class NotJsonError(ValueError):
    """The original is no JSON, so no path leads anywhere in it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path: the answer, and the value where there is exactly one."""

    text: str
    place: Place | None = None

    @property
    def whole(self) -> str:
        """The value as a text of many lines."""
        value = self.place[1] if self.place else None
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


class _NoSuchError(LookupError):
    """A path leads nowhere; the message says where it ends and what is there."""


def at_path(doc: Document | None, path: str, most: int) -> Found:
    """What is at `path` in a JSON original. Raises `NotJsonError`."""
    if doc is None:
        raise NotJsonError(
            f"`path` is for JSON of at most {LARGEST // 10**6} MB, which the original is not; "
            "use query or lines"
        )
    steps = _steps(path)
    if steps is None:
        return Found(f"({path[:80]!r} is no path; write it like data.items[3].id or items[*].id)")
    try:
        places, many = _walk(doc.value, steps)
    except _NoSuchError as error:
        return Found(f"({error})")
    if many:
        return Found(_listed(doc, places, path, most), (path, [v for _, v in places]))
    return Found(shown(doc, places[0], most), places[0])


def _steps(path: str) -> list[Step] | None:
    at, steps = 1 if path.startswith("$") else 0, list[Step]()
    if len(path) > _LONGEST:
        return None
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return None
        at = match.end()
        if match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["all"] is not None:
            steps.append(slice(None))
        elif match["start"] is not None:
            steps.append(slice(*(int(n) if n else None for n in (match["start"], match["stop"]))))
        else:
            steps.append(match["key"].strip() if match["key"] else _unquoted(match["quoted"]))
    return steps


def _unquoted(text: str) -> str:
    if text[0] == "'":
        return text[1:-1]
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _walk(value: Json, steps: list[Step]) -> tuple[list[Place], bool]:
    """The places `steps` lead to; True when they may be many."""
    places: list[Place] = [("", value)]
    many = False
    for step in steps:
        if isinstance(step, slice):
            found = [place for where, v in places for place in _some(where, v, step)]
            many = True
        else:
            found = [place for where, v in places if (place := _one(where, v, step)) is not None]
        if not found:
            raise _NoSuchError(_why(*places[0], step) if places else "there is nothing there")
        places = found
    return places, many


def _some(path: str, value: Json, step: slice) -> list[Place]:
    if isinstance(value, list):
        picked = range(len(value))[step]
        return [(child(path, i), value[i]) for i in picked]
    if isinstance(value, dict) and step == slice(None):
        return [(child(path, k), v) for k, v in value.items()]
    return []


def _one(path: str, value: Json, step: str | int) -> Place | None:
    if isinstance(value, list) and (isinstance(step, int) or _number(step)):
        index = int(step)
        index += len(value) if index < 0 else 0
        return (child(path, index), value[index]) if 0 <= index < len(value) else None
    key = str(step)
    if isinstance(value, dict) and key in value:
        return child(path, key), value[key]
    return None


def _number(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) <= 12


def _why(path: str, value: Json, step: Step) -> str:
    """Where a path ends, and what is there instead."""
    here = f"`{path[-120:]}`" if path else "the whole"
    if isinstance(value, dict):
        names = ", ".join(repr(str(k)[:40]) for k in list(value)[:_SHOWN_KEYS])
        more = f" and {len(value) - _SHOWN_KEYS:,} more" if len(value) > _SHOWN_KEYS else ""
        has = f"its keys are {names}{more}" if value else "it is empty"
        wanted = "no list" if not isinstance(step, str) else f"an object without {step[:40]!r}"
        return f"{here} is {wanted}; {has}"
    if isinstance(value, list):
        last = len(value) - 1
        use = f"use {path[-120:]}[0] to [{last}], or [*]" if value else "it is empty"
        return f"{here} is {kind(value)}, nothing in it fits {_spelled(step)}; {use}"
    return f"{here} is {kind(value)}; nothing lies below it"


def _spelled(step: Step) -> str:
    if isinstance(step, slice):
        ends = ["" if n is None else str(n) for n in (step.start, step.stop)]
        return "[*]" if step == slice(None) else f"[{ends[0]}:{ends[1]}]"
    return f"[{step}]" if isinstance(step, int) else repr(step[:40])


def _listed(doc: Document, places: list[Place], path: str, most: int) -> str:
    """Many values, one a line."""
    out, left = list[str](), most
    for _, value in places:
        text = doc.dump(value)
        cost = estimate(text) + 1 if len(text) <= most * 9 else most + 1
        if cost > left:
            break
        left -= cost
        out.append(text)
    if not out:
        first = shown(doc, places[0], most)
        return f"{first}\n(the first of {len(places):,}; name one by its index)"
    if len(out) < len(places):
        onward = _onward(places, path, len(out))
        how = f"go on with path {onward}" if onward else "narrow the path"
        out.append(f"({len(out):,} of {len(places):,} shown; {how})")
    return "\n".join(out)


_MANY = re.compile(r"\[\s*(?:\*?|-?\d*\s*:\s*(-?\d*))\s*\]")
_INDEX = re.compile(r"\[(\d+)\]")


def _onward(places: list[Place], path: str, count: int) -> str:
    """The path that leads to what comes after the first `count`; "" where no one does."""
    many = list(_MANY.finditer(path))
    if len(many) != 1:
        return ""
    first, next_, last = (_INDEX.findall(places[i][0]) for i in (0, count, -1))
    if not len(first) == len(next_) == len(last):
        return ""
    at = next((i for i, n in enumerate(next_) if first[i] != last[i]), None)
    if at is None:
        return ""
    found = many[0]
    return f"{path[: found.start()]}[{next_[at]}:{found[1] or ''}]{path[found.end() :]}"


def shown(doc: Document, place: Place, most: int) -> str:
    """One value: whole where it fits, else what it consists of."""
    path, value = place
    text = value if isinstance(value, str) else doc.dump(value)
    if len(text) <= most * 9 and estimate(text) <= most:
        return text
    if not isinstance(value, dict | list):
        return f"{fitting(text, most)}…\n({kind(value)}; go on with this path and lines, or query)"
    rows = value.items() if isinstance(value, dict) else enumerate(value)
    out, left = [f"{path[-200:] or 'the whole'}: {kind(value)}"], most
    for count, (key, item) in enumerate(rows):
        line = _row(doc, key, item, most // 4)
        cost = estimate(line) + 1
        if cost > left:
            onward = f"[{count}:]" if isinstance(value, list) else ".KEY"
            rest = f"{path[-200:]}{onward}".removeprefix(".")
            out.append(f"({count:,} of {len(value):,} shown; go on with path {rest}, or a query)")
            break
        left -= cost
        out.append(line)
    return "\n".join(out)


def _row(doc: Document, key: str | int, item: Json, most: int) -> str:
    """One entry of an object or list, or what it is when it is long."""
    name = child("", key)
    text = doc.dump(item)
    if len(text) <= most * 9 and estimate(text) <= most:
        return f"{name[:200]}: {text}"
    if isinstance(item, str):
        return f"{name[:200]}: {fitting(text, 40)}… ({kind(item)})"
    return f"{name[:200]}: ({kind(item)})"

"""JSON objects that come again with few fields changed: only those are sent.

Which object comes again is told by its keys and its first value, as a rule its id.
"""

from __future__ import annotations

from dataclasses import dataclass

from clawmw.stages.context.compress.notation import Encoder, Obj, decode_json, too_deep

__all__ = ["Base", "Records", "changes"]

SMALLEST, LARGEST = 120, 60_000
"""Characters of an object that is looked at."""
MOST = 256
"""Objects remembered a conversation; the newest."""


@dataclass(frozen=True, slots=True)
class Base:
    """An object that was shown whole."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Records:
    """The objects of a conversation that were shown whole, by what tells them apart."""

    known: tuple[tuple[tuple[str, ...], Base], ...] = ()

    def plus(self, text: str, label: str) -> tuple[Records, Base | None]:
        """With `text`; and the earlier showing of the same object, if there is one."""
        value = _object(text)
        if value is None:
            return self, None
        key = (*[name for name, _ in value], Encoder().encode(value[0][1]))
        for name, base in self.known:
            if name == key:
                return self, base
        return Records((*self.known, (key, Base(label, text)))[-MOST:]), None


def changes(base: Base, text: str) -> str | None:
    """What `text` says that `base` does not: its first field and those that differ.

    None where it is not that simple.
    """
    old, new = _object(base.text), _object(text)
    if old is None or new is None:
        return None
    encoder = Encoder()
    kept = Obj(
        pair
        for index, (pair, before) in enumerate(zip(new, old, strict=True))
        if not index or encoder.encode(pair[1]) != encoder.encode(before[1])
    )
    if 2 * len(kept) > len(new) + 1:
        return None
    return f"[clawmw: as {base.label}, but for these fields] {encoder.encode(kept)}"


def _object(text: str) -> Obj | None:
    """The JSON object that `text` is, if it has two keys at least and none twice."""
    if not SMALLEST <= len(text) <= LARGEST or not text.startswith("{"):
        return None
    try:
        value = decode_json(text)
    except ValueError:
        return None
    if type(value) is not Obj or len(value) < 2 or too_deep(value):
        return None
    return value if len({key for key, _ in value}) == len(value) else None

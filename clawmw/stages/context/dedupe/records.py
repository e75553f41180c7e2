"""JSON objects that come again with few fields changed: only those are sent.

Which object comes again is told by its first field, as a rule its id.
"""

from __future__ import annotations

from dataclasses import dataclass

from clawmw.stages.context.compress.notation import (
    Encoder,
    Node,
    Note,
    Obj,
    decode_json,
    too_deep,
)

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
    """The objects of a conversation that were shown whole, by the first field of each."""

    known: tuple[tuple[tuple[str, str], Base], ...] = ()

    def plus(self, text: str, label: str) -> tuple[Records, str | None]:
        """With `text`; and what is new in it, if it was shown before with few fields changed."""
        value = _object(text)
        if value is None:
            return self, None
        name = (value[0][0], Encoder().encode(value[0][1]))
        for known, base in self.known:
            if known == name and (said := changes(base, value)) is not None:
                return self, said
        kept = tuple(entry for entry in self.known if entry[0] != name)
        return Records((*kept, (name, Base(label, text)))[-MOST:]), None


def changes(base: Base, new: Obj) -> str | None:
    """What `new` says that `base` does not: its first field, and those that differ or are new.

    None where a field is gone, or where less than half is as it was.
    """
    old = _object(base.text)
    if old is None:
        return None
    before, encoder = dict(old), Encoder()
    if not before.keys() <= {key for key, _ in new}:
        return None
    kept = Obj()
    for index, (key, value) in enumerate(new):
        if key not in before or not index:
            kept.append((key, value))
        elif encoder.encode(value) != encoder.encode(before[key]):
            kept.append((key, _rest(before[key], value, encoder)))
    said = f"[clawmw: as {base.label}, but for these fields] {encoder.encode(kept)}"
    return said if 2 * len(said) < len(base.text) else None


def _rest(old: Node, new: Node, encoder: Encoder) -> Node:
    """A list without the items it began with before."""
    if type(old) is not list or type(new) is not list or not 0 < len(old) < len(new):
        return new
    if encoder.encode(old) != encoder.encode(new[: len(old)]):
        return new
    return [Note(f"{len(old)} as there"), *new[len(old) :]]


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

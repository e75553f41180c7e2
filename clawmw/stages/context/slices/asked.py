"""What is asked for, out of whatever a model wrote as the arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass

from clawmw.core.types import Json

__all__ = ["Asked"]

_LONGEST = 1_000
"""Characters of one argument that are read."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A reference, and what of its original."""

    ref: str = ""
    query: str = ""
    lines: str = ""
    path: str = ""

    @classmethod
    def of(cls, arguments: Json) -> Asked:
        """Read leniently: a number for a text, a list for a range, a whole marker for its name."""
        given = arguments if isinstance(arguments, dict) else {}
        texts = {name: _text(given.get(name)) for name in ("query", "path")}
        lines = given.get("lines")
        if isinstance(lines, list):
            lines = "-".join(_text(n) for n in lines[:2])
        return cls(_bare(_text(given.get("ref"))), lines=_text(lines), **texts)

    @classmethod
    def written(cls, arguments: str) -> Asked:
        """The same from JSON text; what cannot be read asks for nothing."""
        try:
            return cls.of(json.loads(arguments or "{}"))
        except (ValueError, RecursionError):
            return cls()


def _text(value: Json) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        return str(value)[:_LONGEST]
    except ValueError:  # an integer of too many digits
        return ""


def _bare(ref: str) -> str:
    """`r17fexo` out of `[clawmw_expand r17fexo: 53 rows not shown]`."""
    words = ref.strip(" \t\n[]\"'`").removeprefix("clawmw_expand").split(maxsplit=1)
    return words[0].rstrip(":]")[:80] if words else ""

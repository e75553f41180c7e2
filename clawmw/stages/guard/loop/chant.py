"""An answer that repeats itself: 50 characters, ten times, at a few regular distances.

The figures and the exceptions are Gemini CLI's (`loopDetectionService.ts`, November 2026): code
is never looked at, and each line of a table, list, heading, quote or divider starts anew, since
such lines are alike in good answers. Unlike there, only the newest 50 characters are looked for,
every 64 characters: a chant is still going on.
"""

from __future__ import annotations

import re

from clawmw.core.types import Json

__all__ = ["HITS", "LEAST", "MOST", "begins", "chanting", "fed"]

CHUNK = 50
"""Characters."""
HITS = 10
GAP = 5 * CHUNK
"""Mean distance of two hits, at most, in characters."""
PERIODS = 5
"""Different distances, at most."""
LEAST = HITS * CHUNK
"""Characters of the shortest chant."""
MOST = HITS * GAP + CHUNK
"""Characters of an answer that are looked at."""
_EVERY = 64
"""Characters between two looks."""
_STRUCTURE = re.compile(r"\s*(?:\||[-*+•] |\d+[.)] |#{1,6} |>|[-+|=_*~.#\s\u2500-\u257f]+$)")
"""How a line of a table, list, heading, quote or divider begins."""


def chanting(text: str) -> bool:
    """Whether the end of `text` is a chant."""
    chunk = text[-CHUNK:]
    if len(text) < LEAST or not any(map(str.isalnum, chunk)):
        return False
    at, gaps = len(text) - CHUNK, []
    for _ in range(HITS - 1):
        before = text.rfind(chunk, max(at - len(text), 0), at)
        if before < 0:
            return False
        gaps.append(at - before)
        at = before
    return sum(gaps) <= GAP * (HITS - 1) and len(set(gaps)) <= PERIODS


def fed(piece: str, state: dict[str, Json]) -> bool:
    """Whether the answer chants now that `piece` came; `state` is empty at first.

    It holds the prose so far that may be looked at, the line that is being written, whether it
    is code, and the characters since the last look.
    """
    if not state:  # a document from its first character on is read by programs
        state["code"] = piece.lstrip()[:1] in ("{", "[", "<")
    prose, line, code = state.get("prose", ""), state.get("line", ""), state["code"]
    new = state.get("new", 0)
    for part in piece.splitlines(keepends=True):
        line += part
        if part[-1] not in "\r\n":
            new += len(part)
            break
        if line.lstrip().startswith("```"):
            code, prose = not code, ""
        elif code:
            pass
        elif _STRUCTURE.match(line):
            prose = ""
        else:
            prose, new = prose + line, new + len(part)
        line = ""
    found = False
    if new >= _EVERY and not code:
        new = 0
        if not (line and (_STRUCTURE.match(line) or line.lstrip().startswith("`"))):
            prose = prose[-MOST:]
            found = chanting((prose + line)[-MOST:])
    state.update(prose=prose, line=line[-MOST:], code=code, new=new)
    return found


def begins(text: str) -> int | None:
    """After how many characters a whole answer would have been cut; None: it would not."""
    state: dict[str, Json] = {}
    for at in range(0, len(text), _EVERY):
        if fed(text[at : at + _EVERY], state):
            return at + _EVERY
    return None

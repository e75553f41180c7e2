"""Agents that hand on to one another: a walk over the chain's agents, and where it goes round.

An edge leads from the agent that was last spoken to in the chain to the one spoken to now. The
first walk over an edge is work handed on; to walk it again, without a new result and without a
human, is to go round, in a ring of any size. A conversation that only begins is handed work once,
so a batch of them is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.effects import Note
from clawmw.stages.guard.loop.found import Found

__all__ = ["WALK", "Visit", "ring", "visit", "visits"]

WALK = 64
"""Visits that are remembered of a chain."""
_PAUSE = 600.0
"""Seconds of silence after which a walk is another."""
_PACE = (8, 12.0)
"""So many visits within so many seconds are nobody's reading and writing."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody spoke to an agent of the chain."""

    agent: str
    """Its name; where it has none, its conversation."""
    begins: bool
    """Whether the conversation begins with it."""
    found: bool
    """Whether the agent had a new result since it was last spoken to."""
    words: str
    """Digest of what was said."""
    time: float


def visit(place: str, seen: Visit) -> Note:
    """The note of a visit; the same again for the same place in a conversation."""
    flags = ("b" if seen.begins else "-") + ("f" if seen.found else "-")
    return Note(place, f"{flags}{seen.words}{int(seen.time * 10)}/{seen.agent}")


def visits(window: Sequence[Note]) -> list[Visit]:
    """What notes say, each place once."""
    read = []
    for value in {note.kind: note.value for note in window}.values():
        head, _, agent = value.partition("/")
        seconds = int(head[14:]) / 10
        read.append(Visit(agent, head[0] == "b", head[1] == "f", head[2:14], seconds))
    return read


def ring(walk: Sequence[Visit]) -> Found | None:
    """How often edges were walked again, up to the newest visit."""
    edges: set[tuple[str, str]] = set()
    heard: set[str] = set()
    again, before, said_before = 0, None, False
    for one in walk:
        if before is not None and (one.found or one.time - before.time > _PAUSE):
            edges.clear()
            heard.clear()
            again = 0
        elif before is not None and before.agent != one.agent:
            edge = (before.agent, one.agent)
            again += edge in edges and not (one.begins and before.begins)
            edges.add(edge)
        said_before = one.words in heard
        heard.add(one.words)
        before = one
    last = walk[-1]
    if not again or last.agent == (walk[-2].agent if len(walk) > 1 else last.agent):
        return None
    number, seconds = _PACE
    quick = len(walk) >= number and last.time - walk[-number].time <= seconds
    count = again + 1
    text = "agents handed on to one another {} times over the same ways, without a new result"
    return Found("ring", count, count if quick or said_before else count // 2, text)

"""Words without work: echoes, machine speed, and rounds of tools without an answer.

Whether a human speaks is told by time: nobody answers within two seconds of an answer again and
again, and what comes an hour later is a poll or a person. An echo is the same words after the
same answer; agents that get their results as words (ReAct without tools) go round like that, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.stages.guard.loop.found import Found

__all__ = ["GATE", "Turn", "echo", "monologue", "speed"]

QUICK = 2.0
"""Seconds within which words after an answer are a machine's."""
PAUSE = 60.0
"""Seconds between two turns after which they are no echo of each other."""
GATE = 4
"""A long round is looked for every N/4 results."""
_PACE = 3.0
"""Seconds a turn, at most, of machines talking."""
_SURE = 4
_TURNS = 64


@dataclass(frozen=True, slots=True)
class Turn:
    """Words that came to a conversation."""

    pair: str
    """Digest of the answer before and of the words."""
    time: float
    failed: bool = False
    """Whether the words say that something failed."""


def echo(turns: Sequence[Turn]) -> Found | None:
    """How often the newest words came after the same answer, one soon after the other.

    Four times at a machine's pace are enough: then each further time counts as four.
    """
    last = turns[-1]
    count, times, after = 0, [], last.time
    for turn in reversed(turns[-_TURNS:]):
        if after - turn.time > PAUSE:
            break
        after = turn.time
        if turn.pair == last.pair:
            count += 1
            times.append(turn.time)
    if count < 2:
        return None
    weight = count * 4 // 3 if last.failed else count
    if count >= _SURE and times[0] - times[-1] <= _PACE * (count - 1):
        weight = _SURE * (count - _SURE + 1)
    return Found("echo", count, weight, "the same words were exchanged {} times")


def speed(turns: Sequence[Turn], most: int, within: float, stop: int) -> Found | None:
    """Whether words come faster than anyone reads: `most` turns in `within` seconds.

    Half of them or more must have come before: an agent that reads its results as words is quick,
    too.
    """
    if len(turns) < most or turns[-1].time - turns[-most].time > within:
        return None
    if 2 * len({turn.pair for turn in turns[-most:]}) > most:
        return None
    said = f"{{}} turns came within {within:g} seconds, without a human and without a new result"
    return Found("speed", most, stop, said)


def monologue(places: Sequence[str], most: int) -> Found | None:
    """Whether so many rounds of tool calls went by without an answer; `places` since the words.

    Asked every `most / GATE` results, it answers once in each `most` rounds.
    """
    rounds = len({place.partition(".")[0] for place in places})
    if rounds < most or rounds % most >= max(most // GATE, 1):
        return None
    return Found("monologue", rounds, 4, "{} rounds of tool calls went by without an answer")

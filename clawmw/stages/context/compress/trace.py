"""Stack traces: message and causes verbatim, the caller's own frames, libraries counted.

Alone or inside a program's output. Of the caller's own frames those nearest to the error stay,
of the others the place and the function (`src/a.rs:250 wrap_pump`); of a library's only the one
nearest to the error, and what was sought. Lines that are no frames stay, but for long
output around the traces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.frames import Places, frames, ranked, runs
from clawmw.stages.context.compress.lines import Picker, hits, render, sample
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    failures,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import takes_addresses
from clawmw.stages.context.compress.squeeze import plain

__all__ = ["TraceReducer"]

PLACES = 600
"""Tokens at most for the places of frames that are not shown."""

OWN = 24
"""Frames of the caller's own code shown of one trace."""

SURE, AGAIN = 5, 2
"""Frames of the first trace, and of each other one, shown whatever room there is."""

TRACES = 12
"""Traces shown; of others, and of those alike but for numbers, the message if there is room."""

FRAMES = 60
"""Lines of a trace that tell it from another."""

MESSAGE = 6
"""Lines of a message next to its trace."""

_DIGITS = re.compile(r"\d+|0x[0-9a-f]+")
_HEAD = re.compile(
    r"\s*(?:Traceback \(most recent call last\)|(?:Exception in thread|Caused by:|panic:"
    r"|goroutine \d+ \[)"
    r"|thread '.*' panicked|stack backtrace:|Unhandled (?:exception|rejection)|Uncaught )"
)


class TraceReducer:
    """A text of which at least a quarter is frames."""

    name = "trace"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        found = frames(lines)
        headed = any(_HEAD.match(line[:200]) for line in lines)
        return len(found) >= (4 if headed else 6) and len(found) >= 0.25 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        text = plain(text)
        whole = Reduced(text, "trace", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        found = frames(lines)
        size = room(tokens, brief.level)
        picker = Picker(lines, size)
        scores = hits(lines, brief.sought)
        seen: set[str] = set()
        shapes: set[str] = set()
        for start, end in runs(found):
            message = _message(lines, start, end, found)
            shape = _DIGITS.sub("#", "\n".join(lines[start:end][:FRAMES]))
            if shape in shapes or len(shapes) >= TRACES:
                fresh = [i for i in message if lines[i] not in seen]
                picker.take(fresh, anyway=picker.left > -size)
                seen.update(lines[i] for i in message)
                continue
            sure = AGAIN if shapes else SURE
            shapes.add(shape)
            seen.update(lines[i] for i in message)
            _pick_frames(picker, lines, {i: found[i] for i in range(start, end)}, scores, sure)
            for at in message:
                picker.take([at], anyway=True)
        others = [i for i in range(len(lines)) if i not in found]
        _pick_others(picker, lines, others, scores)
        if len(picker.kept) > 0.9 * len(lines):
            return whole

        taken = takes_addresses(brief.names)
        most = min(keys_room(tokens, brief.level, taken=taken), PLACES)
        places = Places(lines, found, most)

        def gap(start: int, end: int) -> str:
            lead = lines[start][: len(lines[start]) - len(lines[start].lstrip())][:12]
            rest = sum(1 for i in range(start, end) if i not in found)
            said = [count(rest, "line")] if rest else []
            frames_ = places.said(start, end)
            said += [frames_] if frames_ else []
            return f"{lead}… {', '.join(said) or count(end - start, 'line')} …"

        hidden = count(len(lines) - len(picker.kept), "line")
        said = f"stack trace, {hidden} of {len(lines):,} left out, libraries' frames first"
        return Reduced(
            f"{marker(brief.ref, said)}\n{render(lines, picker.kept, gap)}", "trace", False
        )


def _pick_frames(
    picker: Picker,
    lines: Sequence[str],
    found: dict[int, int],
    scores: Sequence[float],
    sure: int,
) -> None:
    """Keep the telling frames of one trace."""
    order = ranked(lines, found)[: OWN + 1]
    wanted = [*order[:1], *sorted(order[1:], key=lambda frame: -scores[frame[0]])]
    for rank, frame in enumerate(wanted):
        picker.take(frame, anyway=rank < sure)


def _message(lines: Sequence[str], start: int, end: int, found: dict[int, int]) -> list[int]:
    """The lines next to a trace that say what happened, up to an empty one."""
    said: list[int] = []
    python = 'File "' in lines[start]
    for at in range(end, min(end + (MESSAGE if python else 1), len(lines))):
        if not lines[at].strip() or at in found:
            break
        said.append(at)
    for at in range(start - 1, max(start - (2 if python else MESSAGE) - 1, -1), -1):
        if not lines[at].strip() or at in found:
            break
        said.append(at)
    return said


def _pick_others(
    picker: Picker, lines: Sequence[str], others: Sequence[int], scores: Sequence[float]
) -> None:
    """Messages and causes, then what surrounds the traces, the sought and the last of it first."""
    failed = failures(lines)
    for index in others:
        near = index + 1 in picker.kept or index - 1 in picker.kept
        if _HEAD.match(lines[index][:200]) or (near and index in failed):
            picker.take([index], anyway=True)
    total = len(lines)
    ranked = sorted(
        others,
        key=lambda i: (
            i not in failed,
            -scores[i],
            not (i - 1 in picker.kept or i + 1 in picker.kept),
            min(i, total - i),
        ),
    )
    for index in ranked:
        if not picker.take([index]) and picker.left < 8:
            return

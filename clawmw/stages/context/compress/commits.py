"""Logs of commits (`git log`, with or without `--oneline`): hash and subject, a line each.

The newest stay and those that hold what is sought, whole where they are few; of the others as
many hashes with their subjects as there is room for. Authors, dates and bodies of long logs go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import hits, sample, shorten
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    barred,
    count,
    keys_room,
    marker,
    room,
)

__all__ = ["CommitsReducer", "listed"]

NEWEST = 3
"""Commits at the top that stay with author, date and body."""

SUBJECT = 160
"""Characters of a subject."""

LONE = 60
"""Characters of a commit that is shown since a note saves nothing."""

FOREIGN = 6
"""Lines before the first commit (a command, a warning) kept as they are."""

_FULL = re.compile(r"commit ([0-9a-f]{7,64})\b.{0,200}$")
_SHORT = re.compile(r"[*|/\\ ]{0,12}([0-9a-f]{7,64}) (?:\([^)]{1,200}\) )?\S")
_HASH = re.compile(r"(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]+ [^|,;\t]+$")
_GRAPH = re.compile(r"[*|/\\ _.-]{1,40}$")
_FIELD = re.compile(r"[A-Z][A-Za-z]{2,15}:\s")


@dataclass(frozen=True, slots=True)
class _Commit:
    start: int
    end: int
    told: str
    """Hash and subject."""


class CommitsReducer:
    """A text that is a log of commits."""

    name = "commits"
    version = 1

    def matches(self, text: str) -> bool:
        return not barred(text) and listed(text)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        whole = Reduced(text, "commits", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        commits = _read(lines)
        size = room(tokens, brief.level)
        if not commits or size > 0.75 * tokens:
            return whole
        full, told = _pick(lines, commits, brief.sought, size)
        hashes = _Hashes(commits, keys_room(tokens, brief.level))
        out = list(lines[: commits[0].start][:FOREIGN])
        hidden: list[int] = []
        for at in [*sorted(full | told), len(commits)]:
            hidden = list(range(hidden[-1] + 1 if hidden else 0, at))
            lone = len(hidden) == 1 and len(commits[hidden[0]].told) < LONE
            out += [commits[hidden[0]].told] if lone else []
            out += [hashes.said(hidden)] if hidden and not lone else []
            if at in full:
                body = lines[commits[at].start : commits[at].end]
                out += [shorten(line) for line in body if line.strip()]
            elif at in told:
                out.append(commits[at].told)
            hidden.append(at)
        left = len(commits) - len(full) - len(told)
        said = f"log of {count(len(commits), 'commit')}"
        said += f", {left:,} left out or by hash only" if left else ""
        if told and any(commits[at].end - commits[at].start > 1 for at in told):
            said += f"; {len(told):,} as hash and subject only"
        return Reduced("\n".join([marker(brief.ref, said), *out]), "commits", False)


def listed(text: str) -> bool:
    """Whether a text is a log of commits."""
    lines = sample(text)
    if len(lines) < 5:
        return False
    full = [i for i, line in enumerate(lines) if line[0] == "c" and _FULL.match(line)]
    if full:
        # A commit shown with its diff is a diff.
        known = sum(1 for line in lines if line[0] in "c *|" or _FIELD.match(line))
        return len(full) > 1 and full[0] < FOREIGN and known >= 0.9 * len(lines)
    found = [line for line in lines if _SHORT.match(line)]
    known = len(found) + sum(1 for line in lines if _GRAPH.match(line))
    if len(found) < 5 or known < 0.8 * len(lines):
        return False
    # Rows of a table are led by ids too: numbers, or with columns after them.
    named = sum(1 for line in found if _HASH.match(line.lstrip("*|/\\ ")))
    return named > 0.8 * len(found) and sum("  " in line.strip() for line in found) < 0.2 * len(
        found
    )


def _read(lines: Sequence[str]) -> list[_Commit]:
    starts: list[tuple[int, str]] = []
    long = any(_FULL.match(line) for line in lines[:FOREIGN])
    for index, line in enumerate(lines):
        found = (_FULL if long else _SHORT).match(line)
        if found:
            starts.append((index, found[1]))
    commits = []
    for (start, digest), (end, _) in zip(starts, [*starts[1:], (len(lines), "")], strict=True):
        told = lines[start]
        if long:
            body = (line.strip() for line in lines[start + 1 : end])
            subject = next((line for line in body if line and not _FIELD.match(line)), "")
            told = f"{digest} {subject}"
        commits.append(_Commit(start, end, told[:SUBJECT]))
    return commits


def _pick(
    lines: Sequence[str], commits: Sequence[_Commit], sought: frozenset[str], size: int
) -> tuple[set[int], set[int]]:
    """Which commits are shown as they stand, and which by hash and subject."""
    texts = ["\n".join(lines[commit.start : commit.end])[:2000] for commit in commits]
    scores = hits(texts, sought)
    left = float(size)
    full: set[int] = set()
    for at in range(min(NEWEST, len(commits))):
        left -= estimate(texts[at])
        if left < size / 2:
            break
        full.add(at)
    told: set[int] = set()
    # A hash is letters and digits at random: nearly a token for every two of them.
    costs = [
        1 + 0.25 * len(commit.told) + 0.3 * min(len(_digest(commit)), 40) for commit in commits
    ]
    for at in sorted(range(len(commits)), key=lambda i: (-min(scores[i], 4.0), i)):
        if at not in full:
            left -= costs[at]
            if left < 0:
                break
            told.add(at)
    return full, told


class _Hashes:
    """What stands for commits that are not shown: how many, and their hashes."""

    def __init__(self, commits: Sequence[_Commit], left: float) -> None:
        self._commits = commits
        self._left = left

    def said(self, hidden: Sequence[int]) -> str:
        """`… 47 commits: a5831c2, a3743c3 …`."""
        named = []
        for at in hidden:
            digest = _digest(self._commits[at])
            self._left -= 1 + 0.6 * len(digest)
            if self._left < 0:
                break
            named.append(digest)
        more = len(hidden) - len(named)
        said = (
            ": " * bool(named)
            + ", ".join(named)
            + (f" and {more:,} more" if named and more else "")
        )
        return f"… {count(len(hidden), 'commit')}{said} …"


def _digest(commit: _Commit) -> str:
    return commit.told.removeprefix("commit ").lstrip("*|/\\ ").partition(" ")[0]

"""Diffs (unified, `git diff`, `git show`, `git log -p`, svn): changes first, context last.

Every file stays with what was added to it and taken from it; changed lines stay up to the room,
hunks that hold what is sought and source files first; unchanged lines stay only next to a change.
Lock files, generated, vendored and minified ones fold to counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import Picker, hits, names, render, sample, words_of
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    marker,
    room,
)

__all__ = ["DiffReducer"]

CHANGES = 2.0
"""A diff may take so many times the usual room: it is all about its changed lines."""

PREAMBLE = 12
"""Lines before the first file (a commit's message, a command) kept as they are."""

_HUNK = re.compile(
    r"@@+ -\d+(?:,\d+)? .{0,200}@@|@@+ -\d+(?:,\d+)? \+\d+|\d+(?:,\d+)?[acd]\d+(?:,\d+)?$"
)
_FILE = re.compile(r"diff --git |diff -|Index: |--- (?:[\w./\"~]|/dev/null)")
_HEADER = re.compile(
    r"diff |index [0-9a-f]|Index: |--- |\+\+\+ |new file|deleted file|old mode|new mode|rename "
    r"|copy |similarity|dissimilarity|Binary files|GIT binary|={10,}"
)
_NOISE = re.compile(r"index [0-9a-f]|diff --git |similarity|={10,}")
_PATH = re.compile(
    r"(?:\+\+\+ |--- |diff --git |Index: |rename to |Binary files )(?:[abiw]/)?(\S+)"
)
_GENERATED = re.compile(
    r"(?:^|/)(?:package-lock\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|Cargo\.lock"
    r"|go\.sum"
    r"|Gemfile\.lock|composer\.lock|Pipfile\.lock)|\.min\.(?:js|css)|\.map$|\.snap$|\.svg$|\.ipynb$"
    r"|_pb2?\.(?:py|go)|\.pb\.go|\.generated\.|(?:^|/)(?:vendor|node_modules|dist|third_party"
    r"|generated)/"
)


@dataclass(slots=True)
class _File:
    start: int
    end: int
    path: str
    hunks: list[tuple[int, int]] = field(default_factory=list)
    added: int = 0
    removed: int = 0


class DiffReducer:
    """A text with hunks, most of whose lines belong to them."""

    name = "diff"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        if not any(line.startswith(("@@", "diff --git", "--- ")) for line in lines):
            return False
        first = next((i for i, line in enumerate(lines) if _HUNK.match(line[:300])), None)
        if first is None or first > 60:
            return False
        body = [line for line in lines[first:] if line]
        inside = sum(1 for line in body if line[0] in "+- @\\" or _HEADER.match(line[:100]))
        return inside >= 0.7 * len(body)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        whole = Reduced(text, "diff", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        files = _files(lines)
        if not files:
            return None
        size = CHANGES * room(tokens, brief.level)
        picker = Picker(lines, size)
        scores = hits(lines, brief.sought)
        _pick(picker, lines, files, scores, size)
        if len(picker.kept) > 0.85 * len(lines):
            return whole
        added = sum(file.added for file in files)
        removed = sum(file.removed for file in files)
        hidden = len(lines) - len(picker.kept)
        said = (
            f"diff of {count(len(files), 'file')} (+{added:,} -{removed:,}), "
            f"{count(hidden, 'line')} left out"
        )
        gap = _Gap(lines, files, words_of("\n".join(lines[i] for i in sorted(picker.kept))), scores)
        shown = render(lines, picker.kept, gap)
        return Reduced(f"{marker(brief.ref, said)}\n{shown}", "diff", False)


def _files(lines: Sequence[str]) -> list[_File]:
    """The files of a diff, each with its hunks."""
    files: list[_File] = []
    headed = False
    for index, line in enumerate(lines):
        head = line[:300]
        hunk = bool(_HUNK.match(head))
        if _opens(lines, index, headed) or (hunk and not files):
            files.append(_File(index, len(lines), ""))
            headed = not hunk
        if not files:
            continue
        if hunk:
            headed = False
            files[-1].hunks.append((index, len(lines)))
        elif headed:
            named = _PATH.match(head)
            if named and named[1] != "/dev/null":
                files[-1].path = named[1]
        elif files[-1].hunks and head:
            files[-1].added += head[0] in "+>"
            files[-1].removed += head[0] in "-<"
    for file, after in zip(files, [*files[1:], None], strict=True):
        file.end = after.start if after else len(lines)
        starts = [start for start, _ in file.hunks]
        file.hunks = list(zip(starts, [*starts[1:], file.end], strict=True)) if starts else []
    return files


def _opens(lines: Sequence[str], index: int, headed: bool) -> bool:
    """Whether a file's part begins here."""
    head = lines[index][:300]
    if not _FILE.match(head):
        return False
    if not head.startswith("--- "):
        return True
    # Within a hunk, `--- x` is a removed line unless `+++` follows.
    following = lines[index + 1] if index + 1 < len(lines) else ""
    return not headed and following.startswith("+++ ")


def _pick(
    picker: Picker,
    lines: Sequence[str],
    files: Sequence[_File],
    scores: Sequence[float],
    size: float,
) -> None:
    before = files[0].start
    picker.take([*range(min(before, PREAMBLE))], anyway=True)
    for file in files:
        first = file.hunks[0][0] if file.hunks else file.end
        head = [i for i in range(file.start, min(first, file.start + 8)) if lines[i]]
        head = [i for i in head if not (file.hunks and _NOISE.match(lines[i][:60]))] or head[:1]
        after = [i for i in head if lines[i].startswith(("+++ b/", "+++ ./"))]
        if after and lines[head[0]][:4] == "--- " and lines[head[0]][6:] == lines[after[0]][6:]:
            head = head[1:]  # The same path twice.
        picker.take(head, anyway=picker.left > -size)
    picker.left = max(picker.left, size / 2)
    ranked = []
    for file in files:
        low = bool(_GENERATED.search(file.path))
        for start, end in file.hunks:
            changed = [i for i in range(start + 1, end) if lines[i][:1] in ("+", "-", "<", ">")]
            if changed and not low:
                worth = sum(sorted((scores[i] for i in changed), reverse=True)[:4])
                ranked.append((-worth, start, changed, end))
    for _, start, changed, end in sorted(ranked, key=lambda r: r[:2]):
        picker.take([start])
        near = {j for i in changed for j in (i - 1, i, i + 1) if start < j < end}
        if picker.take(sorted(near)) or picker.take(changed):
            continue
        for index in sorted(changed, key=lambda i: (-scores[i], i)):
            if not picker.take([index]) and picker.left < 8:
                break
    # The lines that end the text, such as a prompt.
    for index in range(max(files[-1].start, len(lines) - 4), len(lines)):
        if lines[index][:1] not in ("", " ", "+", "-", "\\"):
            picker.take([index], anyway=True)


class _Gap:
    """What stands for hidden lines: how many were changes, and the identifiers among them."""

    def __init__(
        self,
        lines: Sequence[str],
        files: Sequence[_File],
        shown: set[str],
        scores: Sequence[float],
    ) -> None:
        self._lines = lines
        self._folded = [(f.start, f.end) for f in files if _GENERATED.search(f.path)]
        self._shown = shown
        self._scores = scores

    def __call__(self, start: int, end: int) -> str:
        hidden = self._lines[start:end]
        added = sum(1 for line in hidden if line[:1] in ("+", ">") and line[:3] != "+++")
        removed = sum(1 for line in hidden if line[:1] in ("-", "<") and line[:3] != "---")
        if not added and not removed:
            return f"… {count(end - start, 'line')} …"
        said = f"… {count(end - start, 'line')}, +{added:,} -{removed:,}"
        if any(a <= start < b for a, b in self._folded):
            return f"{said}, generated …"
        changed = [line[1:] if line[:1] in "+-" else "" for line in hidden]
        found = names(
            changed, self._shown, min(6, 1 + (added + removed) // 4), self._scores[start:end]
        )
        return f"{said}{': ' if found else ''}{', '.join(found)} …"

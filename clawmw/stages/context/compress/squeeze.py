"""What can be taken out of any plain text without losing a word of it.

Padding, blank lines, terminal colours and exact repeats cost tokens and say nothing (or say a
count). What is put in their place says exactly what was there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from clawmw.stages.context.compress.protocol import count, words

__all__ = ["fold_repeats", "looks_like_code", "plain", "squeeze"]

PERIOD = 8
"""Blocks of up to this many lines are recognised when they repeat one after another."""

RUN = 64
"""A run of one character at least this long is written as its count."""

_PASSES = 12
"""Folding may bring together what repeats again; in practice two passes are enough."""

_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)")
_ERASED = re.compile(r"[^\n\x08]\x08")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
_PADDING = re.compile(r"(?<=[^\s])[ \t]{3,}")
_BLANKS = re.compile(r"\n{3,}")
_RUN = re.compile(rf"([^\n…])\1{{{RUN - 1},}}")
_CODE_END = (";", "{", "}", "(", ",", "\\", "):", "*/", "[", "],", ")")
_CODE_START = words(
    "def_ class_ import_ from_ return_ return; if_ if( elif_ else: for_ for( while_ #include // /* "
    "*_ public_ private_ const_ let_ var_ func_ fn_ package_ @ +++_ ---_ @@_ diff_--git export_ "
    "async_ try: except"
)
_NUMBERED = re.compile(r"\s*\d+\s*[:|\t→]\s?")


def squeeze(text: str) -> str:
    """`text` without padding, colours, surplus blank lines and exact repeats. Idempotent."""
    for _ in range(_PASSES):
        before = text
        if "\x1b" in text:
            text = _ANSI.sub("", text)
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        if "\x08" in text:
            text = _ERASED.sub("", text)
        # Of a run so long two characters half its length apart are looked at, and are the same.
        some = text[:: RUN // 2]
        if any(char * RUN in text for char in {a for a, b in pairwise(some) if a == b}):
            text = _RUN.sub(_run, text)
        if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
            text = _TRAILING.sub("", text)
        if "   " in text or "\t" in text:
            text = _PADDING.sub("  ", text)
        if "\n\n\n" in text:
            text = _BLANKS.sub("\n\n", text)
        text = "\n".join(fold_repeats(text.split("\n")))
        if text == before:
            break
    return text


def plain(text: str) -> str:
    """`text` as a terminal would leave it, without colours; the spaces between words stay."""
    for _ in range(4):
        if "\x1b" not in text:
            break
        text = _ANSI.sub("", text)
    text = text.replace("\x1b", "").replace("\r\n", "\n")
    if " \n" in text or "\t\n" in text:
        text = _TRAILING.sub("", text)
    return "\n".join(fold_repeats(text.split("\n")))


def _run(found: re.Match[str]) -> str:
    char = found.group(1)
    if char in " \t":
        return char * 2
    shown = char if char.isprintable() else repr(char)[1:-1]
    return f"{shown}… ×{len(found.group()):,} …"


def fold_repeats(lines: Sequence[str]) -> list[str]:
    """`lines` with each block of up to `PERIOD` lines that repeats at once counted instead."""
    out: list[str] = []
    at = 0
    total = len(lines)
    while at < total:
        if lines[at] not in lines[at + 1 : at + 1 + PERIOD]:
            out.append(lines[at])
            at += 1
            continue
        period, times = _repeat(lines, at)
        out.extend(lines[at : at + period])
        if times > 1:
            what = "the line above" if period == 1 else f"the {period} lines above"
            out.append(f"… {what} repeated {count(times - 1, 'more time')} …")
        at += period * times
    return out


def _repeat(lines: Sequence[str], at: int) -> tuple[int, int]:
    """(lines in the block, times it stands here); (1, 1) where nothing worth a note repeats."""
    for period in range(1, min(PERIOD, (len(lines) - at) // 2) + 1):
        if lines[at] != lines[at + period] or lines[at + period - 1] != lines[at + 2 * period - 1]:
            continue
        block = lines[at : at + period]
        end = at + period
        while lines[end : end + period] == block:
            end += period
        times = (end - at) // period
        if sum(map(len, block)) * (times - 1) > 60:
            return period, times
    return 1, 1


def looks_like_code(text: str) -> bool:
    """Whether `text` is source, a diff or configuration, where every space may matter."""
    lines = [line for line in text[:60_000].split("\n")[:400] if line and not line.isspace()]
    if not lines:
        return False
    if sum(1 for line in lines if _NUMBERED.match(line)) > 0.7 * len(lines):
        bodies = [_NUMBERED.sub("", line, count=1) for line in lines]
        lines = [body for body in bodies if body and not body.isspace()] or lines
    marks = 0
    indented = 0
    for line in lines:
        body = line.strip()
        indented += line[0] in " \t"
        marks += (
            body.endswith(_CODE_END)
            or body.startswith(_CODE_START)
            or " = " in body
            or "</" in body
        )
    return (
        marks > 0.4 * len(lines)
        or (indented > 0.5 * len(lines) and marks > 0.15 * len(lines))
        or (indented > 0.8 * len(lines))
    )

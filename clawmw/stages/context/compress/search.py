"""Search hits (grep, ripgrep, ag, git grep): grouped by file, the best of them shown.

Each file is named once, with how many hits it has; its first hit and those that hold most of
what is sought stay, with number and exact text. A definition outranks a use, the project's own
files outrank tests, vendored and generated ones. Where nothing has to be hidden, grouping alone
saves the repeated paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import Picker, hits, sample, shorten
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import takes_addresses

__all__ = ["SearchReducer"]

TEXT_CHARS = 240
"""Characters shown of a hit."""

FEW = 1.0
"""Of hits worth no more than this two a file are shown."""

TEXTS = 0.7
"""The share of the usual room for texts of hits: all line numbers have room of their own."""

EACH = 1.7
"""Tokens of a line number and its comma."""

FOREIGN = 12
"""Lines that are no hits, at the start and the end, kept as they are."""

_PATH = r"(?:[A-Za-z]:[\\/])?[^\s:\"'<>|()\[\]{}=,;][^:\n\"<>|]{0,240}?"
_HIT = re.compile(
    rf"(?P<path>{_PATH})(?P<sep>[:-])(?P<number>\d{{1,7}})(?P=sep)(?P<text>.*)", re.DOTALL
)
_BARE = re.compile(rf"(?P<path>{_PATH}):(?P<text>(?!//).*)", re.DOTALL)
_UNDER = re.compile(r"(?P<number>\d{1,7})(?P<sep>[:-])(?P<text>.*)", re.DOTALL)
_ODD = re.compile(r"[\s*?\"<>|=(){},;]")
_DEFINES = re.compile(
    r"\s*(?:(?:export|public|private|protected|static|async|pub|abstract|final|default)\s+){0,4}"
    r"(?:def|class|function|func|fn|interface|struct|enum|trait|type|const|module|CREATE|#define)\b"
    r"|\s*[A-Z][A-Z\d_]+\s*="
)
_ASIDE = re.compile(
    r"(?:^|[/\\])(?:tests?|spec|__tests__|vendor|node_modules|dist|build|target|third_party"
    r"|\.git|docs?"
    r"|examples?|fixtures|generated|migrations)[/\\]|\.min\.|\.lock$|lock\.json$|\.map$|\.svg$"
    r"|CHANGELOG",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _File:
    path: str
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    """(number, `:` for a hit and `-` for context, text)."""

    @property
    def total(self) -> int:
        return sum(1 for line in self.lines if line[1] == ":")


class SearchReducer:
    """Lines of `path:line:text`, `path:text` or numbered lines under a path."""

    name = "search"
    version = 1

    def matches(self, text: str) -> bool:
        lines = [line for line in sample(text) if line != "--"]
        if len(lines) < 4:
            return False
        found = _parse(lines)
        if found is None:
            return False
        files, foreign = found
        held = sum(len(file.lines) for file in files)
        return held >= 4 and len(foreign) <= max(2, 0.25 * len(lines))

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        lines = text.split("\n")
        found = _parse([line for line in lines if line != "--"])
        if found is None:
            return None
        files, foreign = found
        if len(foreign) > 0.3 * len(lines) + 4:
            return None
        before = [line for at, line in foreign if at == 0][:FOREIGN]
        after = [line for at, line in foreign if at > 0][-FOREIGN:]
        tokens = estimate(text)
        whole = Reduced("\n".join([*before, *_grouped(files), *after]), "search", True)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        size = int(TEXTS * room(tokens, brief.level))
        if size > 0.5 * tokens:
            return whole
        taken = takes_addresses(brief.names)
        shown, hidden = _chosen(
            files, brief.sought, size, keys_room(tokens, brief.level, taken=taken)
        )
        if hidden == 0:
            return whole
        total = sum(file.total for file in files)
        said = (
            f"{count(total, 'search hit')} in {count(len(files), 'file')} (number in brackets), "
            f"the text of {count(hidden, 'line')} left out"
        )
        body = "\n".join([*before, *shown, *after])
        return Reduced(f"{marker(brief.ref, said)}\n{body}", "search", False)


def _parse(lines: Sequence[str]) -> tuple[list[_File], list[tuple[int, str]]] | None:
    """Files with their hits, and other lines with the number of files seen before them."""
    files: dict[str, _File] = {}
    foreign: list[tuple[int, str]] = []
    under: _File | None = None
    for line in lines:
        if not line:
            continue
        if line[0].isdigit() and under is not None:
            found = _UNDER.match(line)
            if found:
                under.lines.append((found["number"], found["sep"], found["text"]))
                continue
        head = line[:400]
        found = _HIT.match(line) if ":" in head or "-" in head else None
        if found and _is_file(found["path"]):
            under = None
            file = files.setdefault(found["path"], _File(found["path"]))
            file.lines.append((found["number"], found["sep"], found["text"]))
            continue
        heading = line.removeprefix("## ").rstrip(":")
        if len(heading) < 240 and _is_file(heading):
            under = files.setdefault(heading, _File(heading))
            continue
        found = _BARE.match(line) if ":" in head else None
        if found and "/" in found["path"] and _is_file(found["path"]):
            under = None
            files.setdefault(found["path"], _File(found["path"])).lines.append(
                ("", ":", found["text"])
            )
            continue
        foreign.append((len(files), line))
    named = [file for file in files.values() if file.lines]
    if not named or len(named) + 1 < 0.8 * len(files):
        return None
    return named, foreign


def _is_file(path: str) -> bool:
    """Whether a text could be a file's path, by its folder or its extension."""
    if len(path) > 300 or _ODD.search(path) or ":" in path[2:] or path.upper() == path.lower():
        return False
    if "/" in path or "\\" in path:
        return path[-1] not in "/\\" and "//" not in path
    stem, dot, ending = path.rpartition(".")
    return bool(stem and dot) and ending.isalnum() and ending[0].isalpha() and len(ending) < 11


def _written(line: tuple[str, str, str]) -> str:
    number, sep, text = line
    return f"{number}{sep}{text}" if number else text


def _grouped(files: Sequence[_File]) -> list[str]:
    """Every line, under its path; a lone hit keeps the usual form."""
    out: list[str] = []
    for file in files:
        if len(file.lines) == 1 or not file.lines[0][0]:
            out.extend(
                f"{file.path}{line[1] if line[0] else ':'}{_written(line)}" for line in file.lines
            )
        else:
            out.append(file.path)
            out.extend(map(_written, file.lines))
    return out


def _chosen(
    files: Sequence[_File], sought: frozenset[str], size: int, more: int
) -> tuple[list[str], int]:
    """What to show of each file, and how many lines are not shown."""
    flat = [(at, line) for at, file in enumerate(files) for line in file.lines]
    texts = [shorten(line[2], TEXT_CHARS) for _, line in flat]
    picker = Picker(
        [f"{line[0]}:{text}" for (_, line), text in zip(flat, texts, strict=True)], size
    )
    paths = sum(estimate(file.path) + 3 for file in files)
    picker.left = max(size - paths, size / 2)
    scores = hits(texts, sought)
    aside = [bool(_ASIDE.search(file.path)) for file in files]
    by_path = hits([file.path for file in files], sought)
    seen: set[str] = set()
    worth: list[float] = []
    first: set[int] = set()
    for index, (at, line) in enumerate(flat):
        text = line[2].strip()
        value = (
            min(scores[index], 6.0)
            + min(by_path[at], 3.0)
            + 2.5 * bool(_DEFINES.match(line[2][:200]))
        )
        value -= 2 * aside[at] + 3 * (text in seen) + 4 * (line[1] == "-")
        if at not in first and line[1] == ":":
            first.add(at)
            value += 2
        seen.add(text)
        worth.append(value)
    plain = [0] * len(files)
    for index in sorted(range(len(flat)), key=lambda i: (-worth[i], i)):
        if worth[index] <= FEW:
            plain[flat[index][0]] += 1
            if plain[flat[index][0]] > 2:
                continue
        if not picker.take([index]) and picker.left < 12:
            break
    room = _Room(size, more + max(picker.left, 0))
    return _shown(files, picker.kept, texts, room), len(flat) - len(picker.kept)


@dataclass(slots=True)
class _Room:
    """Tokens for the paths of files without a hit shown, and for where other hits are."""

    paths: int
    numbers: float

    def places(self, file: _File, shown: Sequence[str]) -> str:
        """`12,48,733`: the lines of hits that are not shown, as far as there is room."""
        found = dict.fromkeys(line[0] for line in file.lines if line[1] == ":" and line[0])
        hidden = [number for number in found if number not in shown]
        most = min(len(hidden), int(self.numbers / EACH))
        if most <= 0:
            return ""
        self.numbers -= EACH * most
        rest = f" and {len(hidden) - most:,} more" if most < len(hidden) else ""
        return ",".join(hidden[:most]) + rest


def _shown(files: Sequence[_File], kept: set[int], texts: Sequence[str], room: _Room) -> list[str]:
    out: list[str] = []
    index = 0
    bare: list[_File] = []
    for file in files:
        mine = [i for i in range(index, index + len(file.lines)) if i in kept]
        start = index
        index += len(file.lines)
        if not mine:
            bare.append(file)
            continue
        out.append(f"{file.path} ({file.total})")
        for i in mine:
            number, sep, _ = file.lines[i - start]
            out.append(f"{number}{sep}{texts[i]}" if number else texts[i])
        places = room.places(file, [file.lines[i - start][0] for i in mine])
        if places:
            out.append(f"… also {places} …")
    return out + _bare(bare, room)


def _bare(files: Sequence[_File], room: _Room) -> list[str]:
    """Files of which no hit is shown: by their paths, then by folder, then as a count."""
    out: list[str] = []
    size = room.paths
    left = 0.4 * size
    folders: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda f: (bool(_ASIDE.search(f.path)), -f.total)):
        cost = estimate(file.path) + 4
        left -= cost
        if left >= 0:
            places = room.places(file, ())
            out.append(f"{file.path} ({file.total})" + f": {places}" * bool(places))
            continue
        folder, slash, name = file.path.rpartition("/")
        places = room.places(file, ())
        said = f"{name}:{places}" if places else f"{name} ({file.total})"
        folders.setdefault(folder + slash, []).append(said)
    left = 1.5 * size
    rest = 0
    for folder, found in folders.items():
        left -= estimate(folder) + sum(map(estimate, found))
        if left >= 0:
            out.append(f"{folder}: {', '.join(found)}" if len(found) > 1 else folder + found[0])
        else:
            rest += len(found)
            if left > -0.5 * size:
                left += sum(map(estimate, found))
                out.append(f"{folder}: … {count(len(found), 'more file')} …")
                rest -= len(found)
    return [*out, f"… {count(rest, 'more file')} …"] if rest else out

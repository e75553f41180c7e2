"""Directory listings (ls, ls -l, ls -R, tree, find, glob, git ls-files, du): by folder.

Paths that hold what is sought, folders, and files that tell what a project is (README, manifests,
entry points) stay; of the others each folder says how many there are, by extension. Sizes, dates
and permissions stay only where they were asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.folders import ASIDE, Entry, by_folder
from clawmw.stages.context.compress.lines import hits, sample
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import stems, takes_addresses

__all__ = ["ListingReducer"]

FULL = 0.45
"""The share of the room for paths written out in full."""

WHOLE = 900
"""Tokens up to which a list of full paths is shown whole to who has tools that take paths."""

FOREIGN = 10
"""Other lines (a prompt, a count) kept as they are."""

_LONG = re.compile(
    r"(?P<mode>[-dlcbps][-rwxsStT]{9}[.+@]?)\s+\d+\s+\S+\s+\S+\s+[\d.,]+[KMGT]?\s+"
    r"(?:\w{3}\s+\d{1,2}\s+[\d:]{4,5}|\d{1,2}\.?\s\w{3,5}\.?\s+[\d:]{4,5}"
    r"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d\S*(?:\s[+-]\d{4})?"
    r"|\d\d-\d\d \d\d:\d\d)\s+"
    r"(?P<name>.+)"
)
_TREE = re.compile(r"(?P<lead>[│|\s\u00a0]*)(?:├──|└──|\|--|`--|\+--|- )[\s\u00a0]?(?P<name>\S.*)")
_SIZED = re.compile(r"\s*(?:[\d.,]+[KMGTB]?|[0-9a-f]{32,64})\s+(?P<path>[~.\w/\\-][^\t]{0,300})")
_STAT = re.compile(r"\s(?P<path>[~.\w/\\-]\S{0,300})\s+\|\s+(?P<changed>\d+) [-+]{0,200}$")
_PART = r"[\w.@+~#%$()\[\]{}&=,' -]{1,120}"
_PATH = re.compile(rf"(?:[A-Za-z]:[\\/]|~?/|\.{{1,2}}/)?{_PART}(?:[/\\]{_PART}){{0,40}}/?")
_NAME = re.compile(
    r"(?:[\w@+~#%-][\w.@+~#%-]{0,100}\.\w{1,10}|\.\w[\w.-]{0,60}|[\w.@+-]{1,80}/|[A-Z]{4,20})[*@=|]?"
)
_GAP = re.compile(r"\s{2,}|\t")
_HEADING = re.compile(r"(?P<path>\S{1,300}):$")
_NOTABLE = re.compile(
    r"(?:^|/)(?:README[\w.]*|LICENSE|Makefile|Dockerfile|CMakeLists\.txt|pyproject\.toml"
    r"|setup\.(?:py|cfg)"
    r"|package\.json|tsconfig\.json|Cargo\.toml|go\.mod|pom\.xml|build\.gradle\w*|Gemfile"
    r"|composer\.json"
    r"|requirements[\w.-]*|main\.\w+|index\.\w+|app\.\w+|cli\.\w+|__main__\.py|config[\w.-]*"
    r"|settings[\w.-]*"
    r"|docker-compose\S*|\.env\S*|CHANGELOG\S*|CONTRIBUTING\S*|mod\.rs|lib\.rs)$",
    re.IGNORECASE,
)
_DETAILS = stems(
    "size sizes date dates modified permission permissions owner large largest big bigger biggest "
    "small newest oldest latest recent mtime bytes time timestamp executable chmod mode disk usage"
)
_BY_SIZE = stems("size sizes large largest big bigger biggest bytes disk usage")
_AMOUNT = re.compile(
    r"(?:[-dlcbps][-rwxsStT]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s+|\s*)"
    r"(?P<number>\d[\d,]{0,15}(?:\.\d{1,3})?)(?P<unit>[KMGT]?)\s"
)


class ListingReducer:
    """Lines of which most name a file or a folder, in one of the usual forms."""

    name = "listing"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        if len(lines) < 5:
            return False
        entries, foreign, _ = _read(lines)
        return bool(entries) and len(foreign) <= max(3, 0.15 * len(lines))

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        whole = Reduced(text, "listing", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        entries, foreign, full = _read(lines)
        if not entries or len(foreign) > 0.2 * len(lines) + 4:
            return None
        taken = takes_addresses(brief.names)
        if full and taken and tokens <= WHOLE and brief.level == "balanced":
            return whole
        size = room(tokens, brief.level) + keys_room(tokens, brief.level, taken=taken)
        detailed = bool(brief.sought & _DETAILS) and bool(
            _AMOUNT.match(lines[entries[0].line][:200])
        )
        shown, hidden = _chosen(lines, entries, brief.sought, size, (full, detailed))
        if not hidden and not shown:
            return whole
        before = [lines[i] for i in foreign if i < entries[0].line][:FOREIGN]
        after = [lines[i] for i in foreign if i > entries[0].line][-FOREIGN:]
        what = f"{hidden:,} of {count(len(entries), 'name')}" if hidden else "details"
        said = f"file listing by folder, {what} left out"
        body = "\n".join([*before, *shown, *after])
        return Reduced(f"{marker(brief.ref, said)}\n{body}", "listing", False)


def _read(lines: Sequence[str]) -> tuple[list[Entry], list[int], bool]:
    """Entries, lines that are none, and whether entries stand there as full paths."""
    filled = [line for line in lines[:300] if line and not line.isspace()]
    least = 0.6 * len(filled)
    if sum(1 for line in filled if _LONG.match(line[:400])) >= least:
        return (*_long(lines), False)
    if sum(1 for line in filled if _TREE.match(line[:400])) >= least:
        return (*_tree(lines), False)
    if sum(1 for line in filled if _is_path(line[:400])) >= 0.8 * len(filled):
        return (*_paths(lines), True)
    if sum(1 for line in filled if _STAT.match(line[:600])) >= 0.8 * len(filled):
        return (*_stat(lines), True)
    sized = [found["path"] for line in filled if (found := _SIZED.fullmatch(line[:400]))]
    if len(sized) >= 0.8 * len(filled) and sum(map(_is_path, sized)) >= 0.8 * len(sized):
        return (*_paths(lines, sized=True), True)
    if sum(1 for line in filled if _columns(line)) >= 0.7 * len(filled):
        return (*_names(lines), False)
    return [], [], False


def _is_path(line: str) -> bool:
    text = line.strip()
    if "/" not in text and "\\" not in text:
        return False
    return " - " not in text and text.count(" ") <= 3 and bool(_PATH.fullmatch(text))


def _columns(line: str) -> list[str]:
    """The names in a line of `ls`, or nothing where a part is no name of a file."""
    if len(line) > 400:
        return []
    parts = [part for part in _GAP.split(line.strip()) if part]
    if len(parts) == 1 and " " in parts[0]:
        return []  # words of a sentence
    words = [word for part in parts for word in part.split(" ") if word]
    good = sum(1 for word in words if _NAME.fullmatch(word))
    return words if good >= 0.7 * len(words) and (len(parts) > 1 or len(words) == 1) else []


def _long(lines: Sequence[str]) -> tuple[list[Entry], list[int]]:
    entries: list[Entry] = []
    foreign: list[int] = []
    folder = ""
    for index, line in enumerate(lines):
        found = _LONG.match(line[:600])
        heading = None if found else _HEADING.match(line)
        if found:
            name = found["name"].rstrip()
            if name not in (".", ".."):
                mark = "/" if found["mode"][0] == "d" else "*" if "x" in found["mode"] else ""
                mark = "" if "->" in name or name.endswith(("/", "*")) else mark
                entries.append(Entry(folder, name + mark, index))
        elif heading:
            folder = heading["path"].rstrip("/") + "/"
        elif line.strip() and not line.startswith("total "):
            foreign.append(index)
    return entries, foreign


def _tree(lines: Sequence[str]) -> tuple[list[Entry], list[int]]:
    entries: list[Entry] = []
    foreign: list[int] = []
    stack: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        found = _TREE.match(line[:600])
        if not found:
            if line.strip():
                foreign.append(index)
            continue
        depth = len(found["lead"])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        folder = stack[-1][1] if stack else ""
        name = found["name"].rstrip()
        entries.append(Entry(folder, name, index))
        if len(stack) < 40:
            stack.append((depth, f"{folder}{name.rstrip('/')}/"))
    parents = {entry.folder for entry in entries}
    return [
        Entry(e.folder, e.name if e.name.endswith("/") else e.name + "/", e.line)
        if f"{e.folder}{e.name.rstrip('/')}/" in parents
        else e
        for e in entries
    ], foreign


def _paths(lines: Sequence[str], *, sized: bool = False) -> tuple[list[Entry], list[int]]:
    entries: list[Entry] = []
    foreign: list[int] = []
    for index, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        found = _SIZED.fullmatch(text[:600]) if sized else None
        path = found["path"] if found else text
        if (sized and not found) or not _is_path(path):
            foreign.append(index)
            continue
        folder, slash, name = path.rstrip("/").rpartition("/")
        entries.append(Entry(folder + slash, name + "/" * path.endswith("/"), index))
    return entries, foreign


def _stat(lines: Sequence[str]) -> tuple[list[Entry], list[int]]:
    """`git diff --stat`: files with how many lines of each have changed."""
    entries: list[Entry] = []
    foreign: list[int] = []
    for index, line in enumerate(lines):
        found = _STAT.match(line[:600])
        if found:
            folder, slash, name = found["path"].rpartition("/")
            entries.append(Entry(folder + slash, f"{name} | {found['changed']}", index))
        elif line.strip():
            foreign.append(index)
    return entries, foreign


def _names(lines: Sequence[str]) -> tuple[list[Entry], list[int]]:
    entries: list[Entry] = []
    foreign: list[int] = []
    folder = ""
    for index, line in enumerate(lines):
        heading = _HEADING.match(line)
        if heading and "/" in line:
            folder = heading["path"].rstrip("/") + "/"
        elif found := _columns(line):
            entries.extend(Entry(folder, name, index) for name in found)
        elif line.strip():
            foreign.append(index)
    return entries, foreign


def _chosen(
    lines: Sequence[str],
    entries: Sequence[Entry],
    sought: frozenset[str],
    size: int,
    form: tuple[bool, bool],
) -> tuple[list[str], int]:
    """What to show, by folder, and how many names are not shown."""
    full, detailed = form
    worth = _worth(entries, sought)
    if detailed and sought & _BY_SIZE:
        sizes = [_size(lines[entry.line]) for entry in entries]
        top = max(sizes) or 1.0
        worth = [value + 10 * own / top for value, own in zip(worth, sizes, strict=True)]
    ranked = sorted(range(len(entries)), key=lambda i: (-worth[i], i))
    folders: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        folders.setdefault(entry.folder, []).append(index)
    left = size - min(6.0 * len(folders), size / 4)
    written: dict[int, str] = {}
    named: set[int] = set()
    opened: set[str] = set()
    for index in ranked:
        entry = entries[index]
        line = ""
        if detailed:
            line = lines[entry.line]
        elif full and left > (1 - FULL) * size:
            line = entry.folder + entry.name
        cost = 0.3 * len(line or entry.name) + 1.5
        if not line and entry.folder not in opened:
            opened.add(entry.folder)
            cost += 0.2 * len(entry.folder) + 6
        left -= cost
        if left < 0:
            break
        if line:
            written[index] = line
        else:
            named.add(index)
    return by_folder(entries, folders, (written, named), max(6, size // 40))


def _size(line: str) -> float:
    """The size that a line of `ls -l` or `du` tells."""
    found = _AMOUNT.match(line[:200])
    if not found:
        return 0.0
    number = float(found["number"].replace(",", "") or 0)
    return number * 1024.0 ** " KMGT".index(found["unit"] or " ")


def _worth(entries: Sequence[Entry], sought: frozenset[str]) -> list[float]:
    names = hits([entry.name for entry in entries], sought)
    paths = hits([entry.folder for entry in entries], sought)
    aside: dict[str, float] = {}
    worth = []
    for index, entry in enumerate(entries):
        folder = entry.folder
        if folder not in aside:
            aside[folder] = 4.0 * bool(ASIDE.search(folder)) + 0.3 * folder.count("/")
        value = min(names[index], 8.0) + min(paths[index], 3.0) / 2 - aside[folder]
        value += 2.0 * bool(_NOTABLE.match(entry.name)) + 1.0 * entry.name.endswith("/")
        worth.append(value - 4.0 * bool(ASIDE.search(entry.name)))
    return worth

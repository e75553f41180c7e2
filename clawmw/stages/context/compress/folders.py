"""What a listing shows: each folder with what is named of it, the rest by extension."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.stages.context.compress.protocol import count

__all__ = ["ASIDE", "Entry", "by_folder"]

BEYOND = 12
"""Folders named of those there is no room for."""

ASIDE = re.compile(
    r"(?:^|/)(?:node_modules|vendor|\.git|__pycache__|\.venv|venv|dist|build|target|\.cache|\.tox"
    r"|third_party|site-packages|\.mypy_cache|\.pytest_cache)(?:/|$)|\.pyc$|\.o$|\.map$|\.min\."
)


@dataclass(frozen=True, slots=True)
class Entry:
    folder: str
    name: str
    line: int


def by_folder(
    entries: Sequence[Entry],
    folders: dict[str, list[int]],
    chosen: tuple[dict[int, str], set[int]],
    most: int,
) -> tuple[list[str], int]:
    """Each folder: what is written out, what is named, and the rest by extension."""
    written, named = chosen
    out = [written[i] for mine in folders.values() for i in mine if i in written]
    told: list[tuple[str, list[str]]] = []
    rest: list[int] = []
    total = 0
    for folder, mine in folders.items():
        under = [entries[i].name for i in mine if i in named]
        hidden = [i for i in mine if i not in written and i not in named]
        if len(hidden) == 1 and len(entries[hidden[0]].name) < 40 and (under or len(told) < most):
            under.append(entries[hidden.pop()].name)
        total += len(hidden)
        if not under and (len(told) >= most or ASIDE.search(folder)):
            rest.extend(hidden)
            continue
        if hidden:
            under.append(f"… {_by_extension([entries[i].name for i in hidden])} …")
        if under:
            told.append((folder, under))
    beyond = _beyond([entries[i] for i in rest])
    base = _base([*[folder for folder, _ in told], *[folder for folder, _ in beyond]])
    if base:
        out.append(f"under {base}:")
    for folder, under in [*told, *beyond]:
        below = f"  {folder[len(base) :] or './'}" if base else folder
        out.append(f"{below}{': ' if below else ''}{', '.join(under)}")
    return out, total


def _base(folders: Sequence[str]) -> str:
    """The folder that all are in, if saying it once is worth a line."""
    if len(folders) < 3:
        return ""
    least, last = min(folders), max(folders)
    same = 0
    while same < min(len(least), len(last)) and least[same] == last[same]:
        same += 1
    base = least[: least.rfind("/", 0, same) + 1]
    return base if len(base) > 8 else ""


def _beyond(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """Folders there is no room for: by the folder they are in, a few of them."""
    if not entries:
        return []
    split = [entry.folder.split("/") for entry in entries]
    depth = 0
    while len({tuple(parts[: depth + 1]) for parts in split}) == 1 and depth < 20:
        depth += 1
    groups: dict[str, list[Entry]] = {}
    for parts, entry in zip(split, entries, strict=True):
        groups.setdefault("/".join(parts[: depth + 1]).rstrip("/") + "/", []).append(entry)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    out = [(folder, [_folded(held, "folder")]) for folder, held in ranked[:BEYOND]]
    left = [entry for _, held in ranked[BEYOND:] for entry in held]
    if left:
        shared = "/".join(split[0][:depth]) + "/" if depth else ""
        out.append((shared, [_folded(left, "more folder")]))
    return out


def _folded(entries: Sequence[Entry], noun: str) -> str:
    inside = count(len({entry.folder for entry in entries}), noun)
    return f"… {inside}, {_by_extension([entry.name for entry in entries])} …"


def _by_extension(names: Sequence[str]) -> str:
    """`34 .py, 12 .json, 3 folders, 5 others`."""
    kinds: Counter[str] = Counter()
    for name in names:
        stem, dot, extension = name.rstrip("*@").rpartition(".")
        if name.endswith("/"):
            kinds["folders"] += 1
        elif dot and stem and extension.isalnum() and len(extension) <= 6:
            kinds["." + extension] += 1
        else:
            kinds["others"] += 1
    common = kinds.most_common(6)
    more = sum(kinds.values()) - sum(number for _, number in common)
    said = [f"{n:,} {kind[:-1] if n == 1 and kind[0] != '.' else kind}" for kind, n in common]
    return ", ".join([*said, f"{more:,} more"] if more else said)

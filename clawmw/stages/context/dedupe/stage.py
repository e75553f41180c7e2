"""`dedupe`: what the conversation shows already is sent once and referred to from then on.

A tool result that came before becomes a reference to the earlier copy; one that is nearly the
same becomes what is new in it (a file read again after an edit: the changed lines; a record
fetched again: the changed fields); long runs of lines seen before fold in any result, and in
documents that users paste. Dedupe itself hides nothing: every line stands in the earlier copy,
or can be asked for there where `compress` cut it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from clawmw.core.fold import FoldContext, Replacement
from clawmw.core.stage import Quiet, StageTraits
from clawmw.core.tokens import estimate
from clawmw.core.types import Message, Role, Text, ToolResult
from clawmw.stages.base import Build, Registration, StageConfig
from clawmw.stages.context.compress.notation import is_notation
from clawmw.stages.context.dedupe.records import Records
from clawmw.stages.context.dedupe.seen import Layers, Run, Seen
from clawmw.stages.units import Count, Share

__all__ = ["REGISTRATION", "Dedupe", "DedupeConfig"]

VERSION = 2
_OURS = "[clawmw"
_POINTS = re.compile(r"\bas (?:in )?result (\d{1,9})\b")
"""How every note of ours names a result."""
_LINES = 3
"""A shorter run is not worth a note."""
_DOCUMENT = 8
"""The same for what a user wrote: only documents, never a phrase."""
TEXTS = 8192
"""Whole texts remembered a conversation (about 1.5 MB)."""
_LONGEST = 2_000_000
"""Characters of a text that are looked at line by line."""


class DedupeConfig(StageConfig):
    """Send what repeats once."""

    floor: Count = 30
    """What repeats is left alone below this many estimated tokens: a reference is not free."""
    near: bool = True
    """Also refer to earlier copies of lines and fields, not only of whole results."""
    margin: Share = 0.2
    """The least share that a near repeat must shrink by to be touched."""


class Dedupe(Quiet):
    """Folds repeats. See the module."""

    traits: ClassVar[StageTraits] = StageTraits("dedupe", shortens="texts")

    def __init__(self, config: DedupeConfig) -> None:
        self.config = config

    def hides(self) -> bool:
        """See `Folder.hides`: the earlier copy stays in the context."""
        return False

    def start(self) -> Any:
        """`#` and `u`: results and user messages so far; `c:<id>`: a call's tool; `texts`: where
        a text was, by its digest; `seen`: lines; `records`: JSON objects."""
        texts = Layers[str](TEXTS)
        return {"#": 0, "u": 0, "texts": texts, "seen": Seen(), "records": Records()}

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """See `Folder.fold`."""
        for call in message.tool_calls:
            state["c:" + call.id] = call.name
        replaced = {}
        for index, part in enumerate(message.parts):
            if isinstance(part, ToolResult):
                state["#"] += 1
                name = part.name or state.pop("c:" + part.call_id, None)
                label = f"result {state['#']}" + (f", {name}" if name else "")
                shorter = self._shorter(state, part.text, label, _LINES)
            elif isinstance(part, Text) and message.role is Role.USER:
                state["u"] += 1
                shorter = self._shorter(state, part.text, f"user message {state['u']}", _DOCUMENT)
            else:
                continue
            if shorter is not None and index in parts:
                replaced[index] = Replacement(shorter, f"dedupe@{VERSION}")
        return replaced

    def _shorter(self, state: Any, text: str, label: str, least: int) -> str | None:
        """`text` without what was shown before, if that is worth it; and remember it."""
        if len(text) < self.config.floor or text.startswith(_OURS) or is_notation(text):
            return None  # our own work, sent back as if it were a tool's
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        key = int.from_bytes(digest.digest(), "big")
        first = state["texts"].get(key)
        if first is not None:
            said = f"{_OURS}: the same as {first}]"
            whole = least == _LINES or text.count("\n") >= least
            return (
                said
                if whole and estimate(text) >= max(self.config.floor, estimate(said) + 8)
                else None
            )
        state["texts"] = state["texts"].plus({key: label})
        if not self.config.near or len(text) > _LONGEST:
            return None
        if least == _LINES:
            state["records"], changed = state["records"].plus(text, label)
            if changed is not None:
                return self._worth(changed, text)
        lines = text.split("\n")
        if len(lines) <= least:
            return None
        runs = [run for run in state["seen"].runs(lines) if self._notable(lines, run, least)]
        shown = self._worth(_folded(lines, runs), text) if runs else None
        state["seen"] = state["seen"].plus(label, lines, runs if shown else ())
        return shown

    def _notable(self, lines: Sequence[str], run: Run, least: int) -> bool:
        if run.end - run.start < least:
            return False
        most = 4 * self.config.floor  # characters: four a token, and few lines are so dense
        size = 0
        for line in lines[run.start : run.end]:
            size += len(line)
            if size > most:
                return True
        return False

    def _worth(self, shown: str, text: str) -> str | None:
        return shown if estimate(shown) <= estimate(text) * (1 - self.config.margin) else None

    def refers(self, replacement: Replacement) -> Sequence[int]:
        """See `Referrer.refers`."""
        return [int(number) for number in _POINTS.findall(replacement.text)]


def _folded(lines: Sequence[str], runs: Sequence[Run]) -> str:
    """`lines` with a note in the place of each run: `… 40 lines as in result 5, read_file …`."""
    out: list[str] = []
    at = 0
    for run in runs:
        out.extend(lines[at : run.start])
        count = run.end - run.start
        out.append(f"… {count} lines as in {run.label}, from its line {run.at + 1} on …")
        at = run.end
    out.extend(lines[at:])
    return "\n".join(out)


def _build(config: DedupeConfig, build: Build) -> Dedupe:
    return Dedupe(config)


REGISTRATION = Registration("dedupe", DedupeConfig, _build)

"""What is wrong with a policy: where, which line, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from clawmw.errors import PolicyError

__all__ = ["InvalidPolicyError", "Path", "Problem", "dotted", "suggestion"]

Path: TypeAlias = tuple[str | int, ...]

_SIMPLE = re.compile(r"[\w@/+-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is the dotted path; `line` counts from 1."""

    where: str
    line: int | None
    message: str

    @classmethod
    def at(cls, path: Path, line: int | None, message: str) -> Problem:
        """The problem of what lies at `path`."""
        return cls(dotted(path), line, message)

    def shown(self, name: str) -> str:
        """One line, as compilers write it: `policy.yaml:7: compress.level: ...`."""
        at = f"{name}:{self.line}" if self.line else name
        # What was written may be part of it: no line of its own, nothing a terminal obeys.
        said = "".join(c if c.isprintable() else "?" for c in self.message)
        return f"{at}: {self.where}: {said}" if self.where else f"{at}: {said}"


class InvalidPolicyError(PolicyError):
    """A policy that cannot be used; the message has one line for each of `problems`."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        first = self.problems[0]
        lines = "\n".join(problem.shown(name) for problem in self.problems)
        super().__init__(lines, where=first.where, line=first.line)


def dotted(path: Path) -> str:
    """`route[0].when`; a key that is not a plain word is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if _SIMPLE.fullmatch(step) else repr(step[:60])
        text += f".{name}" if text else name
    return text


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """` did you mean "level"?`, or what there is to choose from."""
    known = sorted(allowed)
    close = get_close_matches(word.lower(), known, 1, 0.7)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"allowed here: {', '.join(known)}" if known else "nothing is allowed here"

"""The lines of a policy file that a rule of a trace goes back to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File

from clawmw.errors import PolicyError
from clawmw.policy.document import MAX_BYTES, Document, read
from clawmw.policy.load import digest, load_policy
from clawmw.policy.problems import Path

__all__ = ["Line", "PolicyLines"]

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MODES = ("mode", "holdout")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a policy, counted from 1."""

    number: int
    text: str


class PolicyLines:
    """A policy file's text, to be asked for the lines of rules."""

    def __init__(self, path: File) -> None:
        """Raises `PolicyError` for a file that cannot be read, or is no policy."""
        self.path = path
        policy = load_policy(path)
        self.digest = digest(policy)
        """Of what it means: a trace has that of the policy which held."""
        self.profiles = {m.model: m.profile for m in policy.models.values() if m.profile}
        """Models whose prices the policy names."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
        self._document: Document = read(data)
        self._text = data.decode("utf-8-sig", "replace").splitlines()

    def at(self, rule: str) -> Line | None:
        """The line that a rule (`budget.chain.calls`) stands on, or of what it stands in.

        None: the file says nothing of it, so that the default holds.
        """
        for path in _paths(rule):
            for length in range(len(path), 0, -1):
                number = self._document.lines.get(path[:length])
                if number is not None:
                    return Line(number, self._text[number - 1].rstrip())
        return None


def _paths(rule: str) -> Iterator[Path]:
    """Where a rule may stand: as it is called, or as a section's short form has it."""
    steps: Path = tuple([int(index) if index else word for word, index in _STEP.findall(rule)])
    if steps[:1] == ("route",) and steps[1:2] == ("agents",):
        yield ("agents", *steps[2:], "model")
        return
    if steps[:1] == ("agents",) or steps[:1] in [(m,) for m in _MODES]:
        yield steps
        return
    if steps[1:2] == ("rules",):
        yield (steps[0], *steps[2:]) if len(steps) > 2 else steps[:1]
    yield steps

"""What was asked for, and how much of it a piece of text holds.

The words of the human's request and of the call that led to a result say what of the result
will be read. Words are compared casefolded and cut to their first letters, so that `directed`
meets `director` (truncation, the plainest of stemmers); scripts without spaces go by pairs of
characters. A word weighs more the fewer pieces have it (inverse document frequency, Sparck
Jones 1972).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import log

from clawmw.core.types import Json, ToolSpec
from clawmw.stages.context.compress.protocol import words

__all__ = ["STOP", "hit", "parameters", "relevance", "stems", "takes_addresses"]

_ADDRESSED = re.compile(r"ur[li]|link|href|path|file|page", re.IGNORECASE)

FEW = 8
"""Pieces among which something can be said to stand out."""
LETTERS = 6
"""Letters of a longer word that count."""

_WORD = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

STOP = frozenset(
    words(
        "the and for are was were with that this from have has had not but you your can could "
        "would will what which who whom whose when where how why did does done its his her their "
        "our all any some into than then there here also been being more most other over such only "
        "same need needs find search look please using use used want know tell give show let get "
        "make she him them they about between first both one two result results"
    )
)
"""Words that say nothing of what is sought."""


def stems(text: str) -> set[str]:
    """The words of `text` as they are compared; those of one or two letters left out."""
    found = {
        word[:LETTERS] if word.isalpha() and word.isascii() else word
        for word in _WORD.findall(text.casefold())
        if (len(word) > 2 or word.isdigit() or not word.isascii()) and word not in STOP
    }
    if not text.isascii():
        for run in _WIDE.findall(text):
            found.discard(run)
            found.update(run[i : i + 2] for i in range(max(len(run) - 1, 1)))
    return found


def relevance(pieces: Sequence[str], sought: frozenset[str]) -> list[float]:
    """How much of what is sought each piece holds; 0 where it holds nothing."""
    if not sought:
        return [0.0] * len(pieces)
    shared = [stems(piece) & sought for piece in pieces]
    counts = Counter(word for found in shared for word in found)
    total = len(pieces)
    # A word in every piece tells none of them apart.
    weight = {word: log((total + 1) / count) for word, count in counts.items()}
    return [sum(weight[word] for word in sorted(found)) for found in shared]


def hit(scores: Sequence[float]) -> bool:
    """Whether few pieces hold nearly all of what is sought: it was found."""
    if len(scores) < FEW:
        return False
    best = max(scores)
    near = sum(score >= 0.7 * best for score in scores)
    return best >= 2 * log(len(scores) + 1) and near <= max(1, len(scores) // 20)


def takes_addresses(names: frozenset[str]) -> bool:
    """Whether some tool takes an address or a path, by the names of their parameters."""
    return any(_ADDRESSED.search(name) for name in names)


def parameters(tools: Sequence[ToolSpec]) -> frozenset[str]:
    """The names of all parameters of `tools`, nested ones included."""
    return frozenset().union(*[_names(tool) for tool in tools])


@lru_cache(4096)
def _names(tool: ToolSpec) -> frozenset[str]:
    found: set[str] = set()
    level: list[Json] = [tool.raw]
    while level:
        below: list[Json] = []
        for value in level:
            if isinstance(value, dict):
                properties = value.get("properties")
                if isinstance(properties, dict):
                    found.update(properties)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below
    return frozenset(found)

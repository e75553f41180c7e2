"""Running text: long documents keep what answers hang on.

`lossless` only squeezes. Beyond the floor, sentences are dropped that carry no identifier,
number, date, name, quotation or failure and do not open their paragraph, and never more than a
stated share of the text: at `balanced` a question about the document should still find its
answer in the text, in its own sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Level,
    Reduced,
    count,
    failures,
    marker,
)

__all__ = ["SHARE", "ProseReducer", "shorten"]

SHARE: dict[Level, float] = {"balanced": 0.65, "aggressive": 0.35}
"""The least share of a document's characters that stays."""

MAX_CHARS = 2_000_000

_END = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\s.a-z])|(?<=[。！？])[”」』）]*(?=\S)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|No|Nos|Fig|Inc|Ltd|Co|Corp|Gen|Col|Sgt|Capt|Rev|Vol"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|ca|cf|e\.g|i\.e|U\.S|U\.K))\.$"
)
_STOP = re.compile(r"[。！？]")
_DIGIT = re.compile(r"\d")
_NAME = re.compile(r"(?<=[\w,;:’')\]] )(?!I\b)[\"'“(]?[A-ZÀ-ÖØ-ÞА-Я][\w’'.-]+")
_TERM = re.compile(
    r"[“\"「『《`][^”\"」』》`\n]{2,60}[”\"」』》`]|\b\w+[_/@]\w+|https?://|[A-Z]{2,}|[A-Za-z]{2,}(?=[\u3040-\u9fff])"
)
_STRUCTURE = re.compile(r"\s*(?:#{1,6} |[-*+•] |\d{1,3}[.)] |\||>|```|\[[^\]\n]{1,40}\]:)")


class ProseReducer:
    """Whatever text no stricter reducer took, source code excepted."""

    name = "prose"
    version = 1

    def matches(self, text: str) -> bool:
        return len(text) <= MAX_CHARS

    def reduce(self, text: str, brief: Brief) -> Reduced:
        whole = Reduced(text, "prose", True)
        if brief.level not in SHARE or estimate(text) < LOSSY_FLOOR[brief.level]:
            return whole
        short, dropped, repeated = shorten(text, brief)
        if len(short) > 0.9 * len(text):
            return whole
        said = [f"{count(dropped, 'sentence')} left out"] if dropped else []
        if repeated:
            said.append(f"{count(repeated, 'repeated paragraph')} left out")
        return Reduced(f"{marker(brief.ref, 'text, ' + ', '.join(said))}\n{short}", "prose", False)


def shorten(text: str, brief: Brief) -> tuple[str, int, int]:
    """(`text` without its less telling sentences, how many were dropped, paragraphs repeated)."""
    paragraphs = [_sentences(line) for line in text.split("\n")]
    seen: set[str] = set()
    repeated = 0
    scores: list[tuple[int, int, int]] = []
    for p, sentences in enumerate(paragraphs):
        whole = "".join(sentences)
        if len(whole) >= 80:
            if whole in seen:
                paragraphs[p] = ["… the same paragraph again …"]
                repeated += 1
                continue
            seen.add(whole)
        if len(sentences) > 1:
            failed = failures(sentences)
            weights = _weights(sentences)
            scores.extend(
                (100 if s in failed else weights[s], p, s) for s in range(len(sentences)) if s
            )
    # How a text ends is what most are read for.
    closing = max((found[1:] for found in scores), default=None)
    room = int(len(text) * (1 - SHARE[brief.level]))
    dropped: set[tuple[int, int]] = set()
    limit = 1 if brief.level == "balanced" else 99
    for score, p, s in sorted(scores, key=lambda found: (found[0], -found[1], -found[2])):
        size = len(paragraphs[p][s])
        if score > limit or size > room or (p, s) == closing:
            continue
        room -= size
        dropped.add((p, s))
    out = []
    for p, sentences in enumerate(paragraphs):
        out.append(
            _joined(
                [None if (p, s) in dropped else sentence for s, sentence in enumerate(sentences)]
            )
        )
    return "\n".join(out), len(dropped), repeated


def _sentences(line: str) -> list[str]:
    """`line` in sentences, each with the space that follows it; structure stays in one piece."""
    if _STRUCTURE.match(line) or (len(line) < 160 and not _STOP.search(line)):
        return [line]
    found: list[str] = []
    at = 0
    for end in _END.finditer(line):
        if end.end() - at < (15 if line.isascii() else 6) or _ABBREVIATION.search(
            line[max(at, end.start() - 12) : end.start()]
        ):
            continue
        found.append(line[at : end.end()])
        at = end.end()
    if at < len(line):
        found.append(line[at:])
    return found or [line]


def _weights(sentences: Sequence[str]) -> list[int]:
    """How much each sentence carries that could be asked for: numbers, names, terms."""
    return [
        3 * min(len(_DIGIT.findall(s)), 3)
        + 2 * min(len(_NAME.findall(s)), 4)
        + 2 * min(len(_TERM.findall(s)), 3)
        for s in sentences
    ]


def _joined(sentences: Sequence[str | None]) -> str:
    out: list[str] = []
    for sentence in sentences:
        if sentence is not None:
            out.append(sentence)
        elif not out or out[-1] != "… ":
            out.append("… ")
    return "".join(out).rstrip(" ")

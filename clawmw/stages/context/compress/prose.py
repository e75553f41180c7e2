"""Running text: what was asked for, openings, and the names and numbers of the rest.

`lossless` only squeezes. Beyond the floor, sentences stay by how much they hold of what was
sought, by their place (the first of the text, of a section) and by the facts they state, until
the room is used up; where others were, the names, terms and dates in them stand between
ellipses as far as they fit, so that a reader sees what there is to ask for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    failures,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import relevance, takes_addresses

__all__ = ["ProseReducer", "shorten"]

MAX_CHARS = 2_000_000
LONG = 200
"""Characters at which a sentence must hold twice as much."""

_END = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\s.a-z])|(?<=[。！？])[”」』）]*(?=\S)"
    r"|(?<=[a-z\d]\.)(?=[A-Z][a-z]* [a-z])"  # a space was lost
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
_ADDRESS = re.compile(
    r"https?://[^\s<>\"')\]]+|[\w.+-]+@[\w-]+\.[\w.]+|(?<![\w/])/?(?:[\w.-]+/)+[\w.-]+"
    r"|(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{5,40}(?![\w-])"
)
_NAMED = re.compile(
    r"(?<![.!?] )(?<!^)[A-ZÀ-ÖØ-ÞА-Я](?:[\w’'-]|\.\w)*"
    r"(?: (?:(?:of|the|and|for|de|von|van|der|la|in|to) ){0,2}[A-ZÀ-ÖØ-ÞА-Я\d]"
    r"(?:[\w’'-]|\.\w)*){0,7}"
    r"|\b\d{1,2} [A-Z][a-z]+ \d{4}\b|(?<![\d.,])\d[\d.,]{4,}\d"
    r"|“[^”\n]{2,60}”|\"[^\"\n]{2,60}\"|《[^》\n]{1,40}》"
)
_TRAILING = re.compile(r" +$", re.MULTILINE)
_STRUCTURE = re.compile(r"\s*(?:#{1,6} |[-*+•] |\d{1,3}[.)] |\||>|```|\[[^\]\n]{1,40}\]:)")


class ProseReducer:
    """Whatever text no stricter reducer took, source code excepted."""

    name = "prose"
    version = 2

    def matches(self, text: str) -> bool:
        return len(text) <= MAX_CHARS

    def reduce(self, text: str, brief: Brief) -> Reduced:
        whole = Reduced(text, "prose", True)
        before = estimate(text)
        if before < LOSSY_FLOOR.get(brief.level, before + 1):
            return whole
        short, dropped = shorten(text, brief)
        if not dropped or estimate(short) > 0.8 * before:
            return whole
        said = f"{count(dropped, 'sentence')} left out"
        return Reduced(f"{marker(brief.ref, said)}\n{short}", "prose", False)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    paragraph: int
    first: bool
    """Whether it opens its paragraph."""
    weight: float = 0.0


def shorten(text: str, brief: Brief, whole: Collection[str] = ()) -> tuple[str, int]:
    """(`text` without its less telling sentences, how many were dropped).

    Lines in `whole` stay.
    """
    found = [
        _Sentence(sentence, number, not place)
        for number, line in enumerate(text.split("\n"))
        for place, sentence in enumerate(_sentences(line))
    ]
    found = _weighed(found, brief)
    tokens = estimate(text)
    left = room(tokens, brief.level, named=True)
    kept = {index for index, sentence in enumerate(found) if sentence.text in whole}
    for index in sorted(range(len(found)), key=lambda i: (-found[i].weight, i)):
        size = estimate(found[index].text)
        if index not in kept and size <= left:
            kept.add(index)
            left -= size
        if left < 8:
            break
    space = keys_room(tokens, brief.level, taken=takes_addresses(brief.names))
    return _written(found, kept, space + left), len(found) - len(kept)


def _weighed(found: Sequence[_Sentence], brief: Brief) -> list[_Sentence]:
    """Each sentence with how much it matters.

    A sentence counts half of what its paragraph holds of what is sought: a heading or a title
    says what the sentences below it are about.
    """
    texts = [s.text for s in found]
    own = relevance(texts, brief.sought)
    around: dict[int, float] = {}
    for sentence, score in zip(found, own, strict=True):
        around[sentence.paragraph] = max(around.get(sentence.paragraph, 0.0), score)
    failed = failures(texts)
    facts = _facts(texts)
    seen: set[str] = set()
    out = []
    for index, sentence in enumerate(found):
        weight = own[index] + around[sentence.paragraph] / 2 + facts[index]
        if sentence.first:
            weight += 4.0 if not index else 0.7
        if index in failed:
            weight += 3.0
        key = sentence.text.strip()
        if len(key) < 2 or (len(key) > 40 and key in seen):
            weight = -1.0
        seen.add(key)
        # Long sentences hold more by being long.
        out.append(replace(sentence, weight=weight / (1.0 + len(sentence.text) / LONG)))
    return out


def _written(found: Sequence[_Sentence], kept: set[int], space: int) -> str:
    """The kept sentences, and between them the names in what was dropped."""
    gaps = _gaps(found, kept)
    dropped = {start: "".join([found[i].text for i in gap]) for start, gap in gaps.items()}
    names = _named(dropped, " ".join([found[i].text for i in sorted(kept)]), space)
    out: list[str] = []
    paragraph = 0
    index = 0
    while index < len(found):
        sentence = found[index]
        if sentence.paragraph != paragraph:
            if out and (index in kept or not out[-1].endswith("…\n")):
                out.append("\n" * min(sentence.paragraph - paragraph, 2))
            paragraph = sentence.paragraph
        if index in kept:
            out.append(sentence.text)
            index += 1
            continue
        gap = gaps[index]
        out.append(f"… {names[index]} … " if names[index] else "… ")
        paragraph = found[gap[-1]].paragraph
        index = gap[-1] + 1
        if index < len(found) and found[index].paragraph != paragraph:
            out.append("\n")
    return _TRAILING.sub("", "".join(out)).rstrip()


def _gaps(found: Sequence[_Sentence], kept: set[int]) -> dict[int, list[int]]:
    """The runs of dropped sentences, by the first of each."""
    gaps: dict[int, list[int]] = {}
    run: list[int] = []
    for index in range(len(found)):
        if index in kept:
            run = []
            continue
        if not run:
            gaps[index] = run
        run.append(index)
    return gaps


def _named(gaps: Mapping[int, str], said: str, space: int) -> dict[int, str]:
    """What each gap mentions that `said` has not, in about `space` tokens in all.

    Addresses and ids come first: they can be passed on, and cannot be guessed. Names, quoted
    terms and dates share what is left, each gap by its size.
    """
    known = {_bare(match) for pattern in (_ADDRESS, _NAMED) for match in pattern.finditer(said)}
    found: dict[int, dict[str, int]] = {start: {} for start in gaps}
    for start, text in gaps.items():
        space = _gather(_ADDRESS, text, found[start], known, space, 3)
    total = sum(map(len, gaps.values())) or 1
    for start, text in gaps.items():
        _gather(_NAMED, text, found[start], known, max(space, 0) * len(text) // total, 4)
    return {
        start: "; ".join(sorted(names, key=lambda name: (names[name], name)))
        for start, names in found.items()
    }


def _gather(
    pattern: re.Pattern[str],
    text: str,
    names: dict[str, int],
    known: set[str],
    space: int,
    wide: int,
) -> int:
    """Add to `names` (and where each stands) what `known` has not; the room that is left.

    `wide`: characters a token.
    """
    for match in pattern.finditer(text):
        name = _bare(match)
        if len(name) < 3 or name in known:
            continue
        if len(name) // wide + 1 > space:
            break
        space -= len(name) // wide + 1
        known.add(name)
        names[name] = match.start()
    return space


def _bare(match: re.Match[str]) -> str:
    return match.group().strip(" .,;:")


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


def _facts(sentences: Sequence[str]) -> list[float]:
    """How much each sentence states that could be asked for: numbers, names, terms; 0 to 1."""
    return [
        0.12 * min(len(_DIGIT.findall(s)), 3)
        + 0.1 * min(len(_NAME.findall(s)), 4)
        + 0.08 * min(len(_TERM.findall(s)), 3)
        for s in sentences
    ]

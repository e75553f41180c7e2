"""Running text: what was asked for, openings, and the names and numbers of the rest.

`lossless` only squeezes. Beyond the floor, sentences stay by how much they hold of what was
sought, by their place (the first of the text, of a section) and by the facts they state, until
the room is used up; where others were, the names, terms and dates in them stand between
ellipses as far as they fit, so that a reader sees what there is to ask for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    barred,
    count,
    failures,
    keys_room,
    marker,
    room,
)
from clawmw.stages.context.compress.relevance import relevance, takes_addresses
from clawmw.stages.context.compress.table import cut_tables

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
_MARK = re.compile(r"[.!?…。！？]")
"""What stands before each `_END`."""
_STOP = re.compile(r"[。！？]")
_DIGIT = re.compile(r"\d")
_BEYOND = re.compile(r"[^\x00-\u065f\u1c80-\ua61f\uabfa-\ud7ff\ud800-\uff0f]")
"""Where other digits than those of ASCII are."""
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789\n"))
_NAME = re.compile(
    r" (?=[\"'“(]?[A-ZÀ-ÖØ-ÞА-Я])(?<=[\w,;:’')\]] )(?!I\b)[\"'“(]?[A-ZÀ-ÖØ-ÞА-Я][\w’'.-]+"
)
_TERM = r"[“\"「『《`][^”\"」』》`\n]{2,60}[”\"」』》`]|\b\w+[_/@]\w+|https?://|[A-Z]{2,}"
_TERMS = {True: re.compile(_TERM), False: re.compile(_TERM + r"|[A-Za-z]{2,}(?=[\u3040-\u9fff])")}
"""By whether the text is ASCII."""
_SIGN = re.compile(r"[“\"「『《`_/@\u3040-\u9fff]")
"""A sentence without any has no `_TERM` but `_CAPITALS`."""
_CAPITALS = re.compile(r"[A-Z][A-Z]+")
_URL = r"https?://[^\s<>\"')\]]+"
_MAIL = r"[\w.+-]+@[\w-]+\.[\w.]+"
_PATH = r"(?<![\w/])/?(?:[\w.-]+/)+[\w.-]+"
_ID = r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{5,40}(?![\w-])"
_ADDRESSES = {
    (False, False): re.compile(_ID),
    (False, True): re.compile(f"{_URL}|{_PATH}|{_ID}"),
    (True, False): re.compile(f"{_MAIL}|{_ID}"),
    (True, True): re.compile(f"{_URL}|{_MAIL}|{_PATH}|{_ID}"),
}
"""By whether there is an `@` and whether there is a slash, without which some cannot be."""
_TELLING = re.compile(
    r"(?:[!-.:-?A-~\xa1-\u065f\u2010-\u2027\u2030-\u205e]*+\s++|[!-.0-?\[-`{-~]*+\s++)*+(\S*+)"
)
"""The next word with an `@`, a slash, or a digit and more: an address has one of these. Nothing
is one too, at the end: to fail there would be to look again from each character before it."""
_NAMED = re.compile(
    r"(?<![.!?] )(?<!^)[A-ZÀ-ÖØ-ÞА-Я](?:[\w’'-]|\.\w)*"
    r"(?: (?:(?:of|the|and|for|de|von|van|der|la|in|to) ){0,2}[A-ZÀ-ÖØ-ÞА-Я\d]"
    r"(?:[\w’'-]|\.\w)*){0,7}"
    r"|\b\d{1,2} [A-Z][a-z]+ \d{4}\b|(?<![\d.,])\d[\d.,]{4,}\d"
    r"|“[^”\n]{2,60}”|\"[^\"\n]{2,60}\"|《[^》\n]{1,40}》"
)
_INITIAL = {
    True: re.compile(r"[A-Z0-9\"](?:(?<=[0-9])[0-9]++)?"),
    False: re.compile(r"[A-ZÀ-ÖØ-ÞА-Я\d“\"《](?:(?<=\d)\d++)?"),
}
"""How each `_NAMED` begins, by whether the text is ASCII; if with a digit, the others with it."""
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
        rest, tables, rows = cut_tables(text, brief) if barred(text) else (text, (), 0)
        short, dropped = shorten(rest, brief, tables)
        if not dropped + rows or estimate(short) > 0.8 * before:
            return whole
        said = f"{count(dropped, 'sentence')} left out"
        if rows:
            said += f", {count(rows, 'table row')} in short or left out"
        return Reduced(f"{marker(brief.ref, said)}\n{short}", "prose", False)


class _Sentence(NamedTuple):
    text: str
    paragraph: int
    first: bool
    """Whether it opens its paragraph."""


def shorten(text: str, brief: Brief, whole: Collection[str] = ()) -> tuple[str, int]:
    """(`text` without its less telling sentences, how many were dropped).

    Lines in `whole` stay.
    """
    found = [
        _Sentence(sentence, number, not place)
        for number, line in enumerate(text.split("\n"))
        for place, sentence in enumerate(_sentences(line))
    ]
    weights = _weights(found, brief)
    tokens = estimate(text)
    left = room(tokens, brief.level, named=True)
    kept = {index for index, sentence in enumerate(found) if sentence.text in whole}
    for index in sorted(range(len(found)), key=lambda i: (-weights[i], i)):
        said = found[index].text
        # No character is less than a ninth of a token.
        if index not in kept and len(said) < 9 * (left + 1) and (size := estimate(said)) <= left:
            kept.add(index)
            left -= size
        if left < 8:
            break
    space = keys_room(tokens, brief.level, taken=takes_addresses(brief.names))
    return _written(found, kept, space + left), len(found) - len(kept)


def _weights(found: Sequence[_Sentence], brief: Brief) -> list[float]:
    """How much each sentence matters.

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
        out.append(weight / (1.0 + len(sentence.text) / LONG))
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
    known = {_bare(match) for kind in (_addresses, _names) for match in kind(said)}
    found: dict[int, dict[str, int]] = {start: {} for start in gaps}
    for start, text in gaps.items():
        space = _gather(_addresses(text), found[start], known, space, 3)
    total = sum(map(len, gaps.values())) or 1
    for start, text in gaps.items():
        share = max(space, 0) * len(text) // total
        _gather(_names(text), found[start], known, share, 4)
    return {
        start: "; ".join(sorted(names, key=lambda name: (names[name], name)))
        for start, names in found.items()
    }


def _gather(
    matches: Iterable[re.Match[str]],
    names: dict[str, int],
    known: set[str],
    space: int,
    wide: int,
) -> int:
    """Add to `names` (and where each stands) what `known` has not; the room that is left.

    `wide`: characters a token.
    """
    for match in matches:
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


def _addresses(text: str) -> Iterator[re.Match[str]]:
    """What can be passed on: addresses, paths, ids. Only words that may be one are looked at."""
    for word in _TELLING.finditer(text):
        pattern = _ADDRESSES["@" in word.group(1), "/" in word.group(1)]
        yield from pattern.finditer(text, word.start(1), word.end(1))


def _names(text: str) -> Iterator[re.Match[str]]:
    """Names, dates, numbers and quoted terms: tried only where one may begin."""
    at = 0
    initial = _INITIAL[text.isascii()]
    while begins := initial.search(text, at):
        at = begins.end()
        if found := _NAMED.match(text, begins.start()):
            yield found
            at = found.end()


def _sentences(line: str) -> list[str]:
    """`line` in sentences, each with the space that follows it; structure stays in one piece."""
    if _STRUCTURE.match(line) or (len(line) < 160 and not _STOP.search(line)):
        return [line]
    found: list[str] = []
    at = 0
    for mark in _MARK.finditer(line):
        end = _END.match(line, mark.end())
        if (
            end is None
            or end.end() - at < (15 if line.isascii() else 6)
            or _ABBREVIATION.search(line[max(at, end.start() - 12) : end.start()])
        ):
            continue
        found.append(line[at : end.end()])
        at = end.end()
    if at < len(line):
        found.append(line[at:])
    return found or [line]


def _facts(sentences: Sequence[str]) -> list[float]:
    """How much each sentence states that could be asked for: numbers, names, terms; 0 to 1."""
    text = "\n".join(sentences).replace("\0", "\1")
    if any(map(str.isdecimal, _BEYOND.findall(text))):
        digits = _counts(_DIGIT, text)
    else:
        data = text.encode("utf-8", "surrogatepass")
        digits = [*map(len, data.translate(None, _NO_DIGITS).split(b"\n"))]
    terms = _counts(_CAPITALS, text)
    starts = [0, *accumulate([len(sentence) + 1 for sentence in sentences])]
    sign = _SIGN.search(text)
    while sign:
        index = bisect_right(starts, sign.start()) - 1
        terms[index] = len(_TERMS[sentences[index].isascii()].findall(sentences[index]))
        sign = _SIGN.search(text, starts[index + 1])
    counts = zip(digits, _counts(_NAME, text), terms, strict=True)
    return [0.12 * min(d, 3) + 0.1 * min(n, 4) + 0.08 * min(t, 3) for d, n, t in counts]


def _counts(pattern: re.Pattern[str], text: str) -> list[int]:
    """How often `pattern` stands in each line of a text without NUL."""
    return [line.count("\0") for line in pattern.sub("\0", text).split("\n")]

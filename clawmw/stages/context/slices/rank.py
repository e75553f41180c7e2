"""Which of many texts best hold the words of a question, in any script.

Words are weighed by how rare they are (the idf of BM25, Robertson and Zaragoza 2009, 3.3.1);
a text that holds more of them, whole and side by side, comes first. Scripts without spaces
(Chinese, Japanese, Thai, Khmer, Lao) are also matched by pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import log

__all__ = ["Term", "folding", "ranked", "terms"]

_MOST_TERMS = 16
_LONGEST_QUERY = 500
_REFINED = 2_000
"""Texts looked at closely, best first by a rough count."""
_NORMALIZED = 4_000_000
"""Characters up to which texts are normalized: a hostile one grows eighteenfold by it."""
_CUT = 0.5
"""The share of the best score below which a text is no answer."""

_UNSPACED = (
    "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_TOKEN = re.compile(r'"([^"]+)"|(\S+)')
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to look for, folded, and how much it counts."""

    text: str
    weight: float


def folding(size: int) -> Callable[[str], str]:
    """How texts of `size` characters in all are made comparable: case, width, ligatures."""
    if size > _NORMALIZED:
        return str.lower
    return lambda t: t.lower() if t.isascii() else unicodedata.normalize("NFKC", t).casefold()


def terms(query: str) -> list[Term]:
    """What to look for: words and "quoted phrases", and at less weight what they consist of."""
    folded = folding(0)(query[:_LONGEST_QUERY])
    found: dict[str, float] = {}
    for phrase, token in _TOKEN.findall(folded):
        for run in [phrase] if phrase else _RUN.findall(token):
            word = run if phrase else _EDGES.sub("", run)
            word = word if len(word) > 1 or word == run or _IS_UNSPACED.match(word) else run
            if not _WORD.search(word):
                continue
            found.setdefault(word, 1.0)
            for part in _parts(word):
                found.setdefault(part, 0.3)
    best = sorted(found.items(), key=lambda item: -item[1])[:_MOST_TERMS]
    return [Term(text, weight) for text, weight in best]


def _parts(word: str) -> list[str]:
    if _IS_UNSPACED.match(word):
        return [word[i : i + 2] for i in range(len(word) - 1)] if len(word) > 2 else []
    parts = _WORD.findall(word)
    if len(parts) == 1 and word.isascii() and len(word) > 4 and word.endswith("s"):
        return [word[:-1]]  # plurals, where the singular stands
    return parts if len(parts) > 1 else []


def ranked(texts: Sequence[str], wanted: Sequence[Term], phrase: str = "") -> list[int]:
    """Indices of the texts that answer, best first, equals in order; `texts` are folded."""
    count = len(texts)
    scores = [0.0] * count
    rarity: dict[str, float] = {}
    for term in wanted:
        word = term.text
        hits = [index for index, text in enumerate(texts) if word in text]
        if not hits:
            continue
        rarity[word] = term.weight * (0.05 + log(1 + (count - len(hits) + 0.5) / (len(hits) + 0.5)))
        for index in hits:
            scores[index] += rarity[word]
    rough = nlargest(_REFINED, ((score, -index) for index, score in enumerate(scores) if score > 0))
    held = [(term.text, rarity[term.text]) for term in wanted if term.text in rarity]
    whole = {word: re.compile(rf"(?<!\w){re.escape(word)}(?!\w)") for word, _ in held}
    exact = []
    for _, negative in rough:
        score = _score(texts[-negative], held, whole, phrase)
        exact.append((score, negative))
    exact.sort(reverse=True)
    least = exact[0][0] * _CUT if exact else 0.0
    return [-negative for score, negative in exact if score >= least]


def _score(
    text: str, held: Sequence[tuple[str, float]], whole: dict[str, re.Pattern[str]], phrase: str
) -> float:
    """The rarities of what `text` holds; less for a piece of a longer word."""
    score, hits = 0.0, 0
    for word, rarity in held:
        if word in text:
            hits += 1
            unspaced = _IS_UNSPACED.match(word)
            score += rarity if unspaced or whole[word].search(text) else 0.6 * rarity
    score *= 0.5 + 0.5 * hits / len(held)
    return score * 1.5 if phrase and phrase in text else score

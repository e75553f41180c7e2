"""Enough of PromQL to know which metrics and labels an expression reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Read", "reads"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>\d[\w.]*)|(?P<name>\$?[A-Za-z_:][\w:]*)"""
    r"""|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){}\[\],=<>]))"""
)
_OPERATORS = {"or", "and", "unless", "offset", "bool"}
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}


@dataclass(frozen=True)
class Read:
    """A metric that an expression reads, and the labels it must have for that."""

    metric: str
    labels: frozenset[str]


def reads(expression: str) -> list[Read]:
    """What an expression reads. Raises `ValueError` for what cannot be one."""
    return list(_reads(list(_tokens(expression)), frozenset()))


def _tokens(expression: str) -> Iterator[str]:
    at, text = 0, expression.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"not PromQL at {text[at : at + 20]!r}")
        yield found[0].strip()
        at = found.end()


def _reads(tokens: Sequence[str], grouped: frozenset[str]) -> Iterator[Read]:
    """`grouped`: labels that what encloses these tokens asks for."""
    at = 0
    asked: frozenset[str] = frozenset()
    while at < len(tokens):
        token, after = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        if token in _GROUPING:
            end = _closing(tokens, at + 1)
            if token == "by":
                asked = frozenset(t for t in tokens[at + 2 : end] if t != ",")
            at = end + 1
        elif token == "(":
            end = _closing(tokens, at)
            yield from _reads(tokens[at + 1 : end], grouped | asked)
            asked, at = frozenset(), end + 1
        elif token == "[":
            at = _closing(tokens, at) + 1
        elif re.match(r"[A-Za-z_:]", token) and token not in _OPERATORS and after != "(":
            if after in _GROUPING:  # sum by (...) (...)
                at += 1
                continue
            labels, end = frozenset[str](), at
            if after == "{":
                end = _closing(tokens, at + 1)
                inside = tokens[at + 2 : end]
                pairs = pairwise(inside)
                labels = frozenset(a for a, b in pairs if b in ("=", "=~", "!=", "!~"))
            yield Read(token, labels | grouped)
            at = end + 1
        else:
            if token in (")", "]", "}"):
                raise ValueError(f"{token} closes nothing")
            at += 1


def _closing(tokens: Sequence[str], at: int) -> int:
    """Where the bracket at a place is closed."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    depth, close = 0, pairs[tokens[at]]
    for place in range(at, len(tokens)):
        depth += (tokens[place] == tokens[at]) - (tokens[place] == close)
        if not depth:
            return place
    raise ValueError(f"{tokens[at]} is not closed")

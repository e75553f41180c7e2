"""Argument provenance: what the record shows the model needed from earlier tool results.

A literal in a tool call that occurs in an earlier tool result and nowhere else before (not in
system, user or assistant text, earlier arguments or the tool definitions) can only have come
from that result. At that call it must be in the context sent, or the model must be able to
ask for it.

Literals are taken from the call's JSON arguments: every short value as a whole (3 to 80
characters, or a number of at least 3), and otherwise the words in it that look like data
(with a digit or a sign such as `_ . / : - @` inside, or capitals inside), of 4 characters or
more; plain words only where the result has them in quotes. Occurrences are whole: `12` is not
in `123`. A literal counts as it stands or as JSON escapes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from clawmw.core.types import Json, Message, Request, Text, ToolCall, ToolResult

__all__ = ["Need", "Placed", "forms", "literals", "needs", "occurs", "placed", "texts"]

_LONGEST = 80
_WORD = re.compile(r"[\w/~.@#$-][\w./:@+#$-]*\w")
_DATA = re.compile(r"\d|\w[_./:@+-]\w|[a-z][A-Z]|^[/~]\w")
_QUOTES = "\"'`"


@dataclass(frozen=True, slots=True)
class Need:
    """A literal that a call used and only tool results had shown."""

    literal: str
    origins: tuple[int, ...]
    """Indices of the messages whose tool results hold it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A needed literal, and where the request that was sent has it."""

    need: Need
    where: Literal["context", "reachable", "lost"]
    """`reachable`: hidden, but a reference in the context leads to it."""
    ref: str = ""
    """That reference."""


def needs(request: Request, answer: Message) -> list[Need]:
    """What the tool calls of `answer` took from the tool results in `request` alone."""
    results = [
        (index, part.text)
        for index, message in enumerate(request.messages)
        for part in message.parts
        if isinstance(part, ToolResult)
    ]
    if not results or not answer.tool_calls:
        return []
    elsewhere = "\n".join(_elsewhere(request))
    found: dict[str, tuple[int, ...]] = {}

    def origins(literal: str, *, quoted: bool = False) -> tuple[int, ...]:
        if literal not in found:
            hits: list[int] = []
            if not occurs(literal, elsewhere):
                hits = [i for i, t in results if occurs(literal, t, quoted=quoted)]
            found[literal] = tuple(dict.fromkeys(hits))
        return found[literal]

    for call in answer.tool_calls:
        for whole, words in literals(call.arguments):
            if whole and origins(whole):
                continue
            for word in words:
                origins(word, quoted=not _DATA.search(word))
    return [Need(literal, where) for literal, where in found.items() if where]


def _elsewhere(request: Request) -> Iterator[str]:
    for tool in request.tools:
        yield json.dumps(tool.raw, ensure_ascii=False)
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text
            elif isinstance(part, ToolCall):
                yield part.arguments


def placed(
    found: Sequence[Need], sent: Sequence[Message], originals: Mapping[str, str]
) -> list[Placed]:
    """Where each needed literal is in the messages sent.

    `originals`: what the model could ask for, by reference; those count whose reference
    stands in the messages.
    """
    text = "\n".join(texts(sent))
    shown = {ref: original for ref, original in originals.items() if ref in text}
    result = []
    for need in found:
        if occurs(need.literal, text):
            result.append(Placed(need, "context"))
            continue
        ref = next((r for r, original in shown.items() if occurs(need.literal, original)), "")
        result.append(Placed(need, "reachable" if ref else "lost", ref))
    return result


def texts(messages: Sequence[Message]) -> Iterator[str]:
    """All text of a request's messages, arguments included."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, (Text, ToolResult)):
                yield part.text
            elif isinstance(part, ToolCall):
                yield part.arguments


def literals(arguments: str) -> Iterator[tuple[str, list[str]]]:
    """For each value in a call's arguments: the value itself ("" if too long), and its words."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = arguments
    for leaf in _leaves(value):
        text = leaf.strip()
        whole = text if 3 <= len(text) <= _LONGEST and "\n" not in text else ""
        words = dict.fromkeys(w for w in _WORD.findall(text) if len(w) >= 4 and w != whole)
        yield whole, list(words)


def _leaves(value: Json) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += reversed(item.values())
        elif isinstance(item, list):
            stack += reversed(item)
        elif isinstance(item, str):
            yield item
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield json.dumps(item)


def occurs(literal: str, text: str, *, quoted: bool = False) -> bool:
    """Whether `literal` stands in `text` as a whole, as it is or as JSON writes it."""
    return any(_stands(form, text, quoted=quoted) for form in forms(literal))


def forms(literal: str) -> Iterable[str]:
    """The ways a literal is written: as it is, and as JSON writes it."""
    if literal.isascii() and literal.isprintable() and '"' not in literal and "\\" not in literal:
        return (literal,)
    plain = json.dumps(literal, ensure_ascii=False)[1:-1]
    return dict.fromkeys((literal, plain, json.dumps(literal)[1:-1]))


def _stands(form: str, text: str, *, quoted: bool) -> bool:
    at = text.find(form)
    while at >= 0:
        before, after = text[max(at - 2, 0) : at], text[at + len(form) : at + len(form) + 1]
        if quoted:
            if before and after and before[-1] in _QUOTES and after in _QUOTES:
                return True
        elif _apart(before, form[0]) and not (_wordish(form[-1]) and _wordish(after)):
            return True
        at = text.find(form, at + 1)
    return False


def _wordish(character: str) -> bool:
    """Whether it belongs to a word; scripts without spaces have no word ends to look for."""
    return character == "_" or (character.isalnum() and character < "\u2e80")


def _apart(before: str, first: str) -> bool:
    """Whether a word may begin after `before`; the letter of an escape is no part of it."""
    if not (_wordish(first) and _wordish(before[-1:])):
        return True
    return len(before) == 2 and before[0] == "\\" and before[1] in "nrt"

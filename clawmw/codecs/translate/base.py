"""What the steps of a translation share: fields taken, refused or dropped, and events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NoReturn, Protocol, TypeAlias

from clawmw.errors import ClawmwError, TranslationError

__all__ = [
    "CHAT",
    "DONE",
    "MESSAGES",
    "RESPONSES",
    "Body",
    "Events",
    "Fields",
    "Leg",
    "Names",
    "arguments_of",
    "encoded",
    "items_of",
    "reading",
    "refuse",
    "text_of",
]

CHAT = "openai.chat"
RESPONSES = "openai.responses"
MESSAGES = "anthropic.messages"

Body: TypeAlias = dict[str, Any]

DONE: Body = {}
"""The event that ends a stream of chat completions (`[DONE]`)."""


def refuse(field: str, why: str, instead: str) -> NoReturn:
    """Raise `TranslationError` for a field that has no counterpart."""
    raise TranslationError(f"{field}: {why}; {instead}", field=field)


def encoded(value: Any) -> bytes:
    """JSON without spaces, non-ASCII as it is; half a surrogate pair stays escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def items_of(value: Any) -> list[Body]:
    """A list of objects; None is an empty one. Raises `TypeError` for anything else."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TypeError("expected a list of objects")
    return found


def text_of(content: Any) -> str:
    """The readable text of a content, whatever its dialect calls it."""
    if isinstance(content, str):
        return content
    texts = [str(part.get("text") or part.get("refusal") or "") for part in items_of(content)]
    return "\n".join(text for text in texts if text)


def arguments_of(text: Any) -> Body:
    """A tool call's arguments as an object; what is none is kept under `arguments`.

    A call that was cut off, or that a model wrote badly, stays in the history of its agent.
    """
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        return {"arguments": text}
    return value if isinstance(value, dict) else {"arguments": value}


@contextmanager
def reading(error: type[ClawmwError], message: str) -> Iterator[None]:
    """Within it, what is not as its dialect says it must be raises `error`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as odd:
        raise error(message) from odd


class Fields:
    """The fields of a body, each taken, refused or, where it is a mere hint, dropped by name."""

    def __init__(self, body: Mapping[str, Any], dropped: list[str]) -> None:
        self._left = {key: value for key, value in body.items() if value is not None}
        self._dropped = dropped

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, which then counts as carried."""
        return self._left.pop(name, default)

    def move(self, into: Body, *names: str) -> None:
        """Carry fields that mean the same on both sides."""
        into.update({name: self._left.pop(name) for name in names if name in self._left})

    def drop(self, name: str) -> None:
        """Leave out a hint, and say so."""
        self._left.pop(name, None)
        if name not in self._dropped:
            self._dropped.append(name)

    def refuse(self, reasons: Mapping[str, tuple[str, str]]) -> None:
        """Raise for the first field of `reasons` (why, what to do instead) that asks something."""
        for name, (why, instead) in reasons.items():
            if self._left.get(name) not in (None, False, 0, "", [], {}):
                refuse(name, why, instead)
            self._left.pop(name, None)

    def rest(self) -> None:
        """Drop what is left: nothing is lost without a word."""
        for name in list(self._left):
            self.drop(name)


class Names:
    """Tool names as the wire allows them, and back; 64 characters is OpenAI's limit."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._own: dict[str, str] = {}

    def out(self, name: str) -> str:
        """The name to send: the same for the same name in every call and process."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)
        if plain != name or len(plain) > self._longest:
            digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            plain = f"{plain[: self._longest - 9]}_{digest}"
            self._own[plain] = name
        return plain

    def back(self, name: str) -> str:
        """The caller's own name for it."""
        return self._own.get(name, name)


class Events(Protocol):
    """A stream on its way from one dialect to another, event by event."""

    def feed(self, event: Body) -> Iterable[Body]:
        """What the reader is told for one event of the wire."""
        ...

    def end(self) -> Iterable[Body]:
        """What it is still owed when the stream ends; nothing if it broke off."""
        ...


class Leg:
    """One step of a translation, of one call: what the request said shapes the answer."""

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def ask(self, body: Body) -> Body:
        """The request for the wire. Raises `TranslationError`."""
        raise NotImplementedError

    def reply(self, body: Body) -> Body:
        """The whole answer for the caller."""
        raise NotImplementedError

    def events(self) -> Events:
        """The same for a stream."""
        raise NotImplementedError

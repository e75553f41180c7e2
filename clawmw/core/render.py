"""What one message becomes: texts replaced, or the whole of it, and what that weighs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clawmw.core.tokens import estimate
from clawmw.core.types import Image, Json, Message, Role, Text, ToolCall, ToolResult

__all__ = [
    "Form",
    "Replacement",
    "applied",
    "message_tokens",
    "reference",
    "replacements",
    "sealed",
]

_IMAGE = 1100
"""Tokens of an image: OpenAI's high detail and Anthropic's 1,092 for 1 megapixel are near."""
_MESSAGE_OVERHEAD = 4
"""Tokens a message costs beyond its text (OpenAI's cookbook gives 3 to 4)."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What one part's text becomes. `ref` names the stored original; None: nothing was cut."""

    text: str
    by: str
    """The mechanism, with its version: `compress.json@1`."""
    ref: str | None = None

    def to_json(self) -> Json:
        """As JSON."""
        return [self.text, self.by, self.ref]


@dataclass(frozen=True, slots=True)
class Form:
    """How an epoch has one earlier message sent from then on."""

    parts: Mapping[int, Replacement] = field(default_factory=dict)
    """The texts of some parts; those not named are sent as the agent gave them."""
    whole: Replacement | None = None
    """A marker in place of the whole message, by the user; without a text nothing is sent."""

    @property
    def omits(self) -> bool:
        """Whether the message is not sent at all."""
        return self.whole is not None and not self.whole.text

    def to_json(self) -> Json:
        """As JSON."""
        if self.whole is not None:
            return {"m": self.whole.to_json()}
        return {"p": {str(i): r.to_json() for i, r in self.parts.items()}}

    @classmethod
    def from_json(cls, value: Json, message: Message) -> Form:
        """The inverse of `to_json`. Raises ValueError, TypeError or LookupError."""
        if "m" in value:
            return cls(whole=Replacement(*value["m"]))
        return cls(replacements(value["p"], message))


def replacements(rows: Mapping[str, Json], message: Message) -> dict[int, Replacement]:
    """Recorded replacements that still fit `message` (a record never breaks a call)."""
    parts = {}
    for index, (text, by, ref) in rows.items():
        position = int(index)
        if position < len(message.parts) and isinstance(
            message.parts[position], (Text, ToolResult)
        ):
            parts[position] = Replacement(text, by, ref)
    return parts


def applied(message: Message, parts: Mapping[int, Replacement]) -> Message:
    """The message with those parts replaced; itself when there are none."""
    return message.with_texts({i: r.text for i, r in parts.items()}) if parts else message


def sealed(
    message: Message,
    parts: Mapping[int, Replacement],
    form: Form | None,
    seal: Callable[[Message], Message],
) -> Message:
    """What is sent for `message`, with its wire bytes; of no matter when it is left out."""
    if form is not None and form.whole is not None:
        return seal(Message(Role.USER, (Text(form.whole.text),)))
    return seal(applied(message, parts)) if parts else message


def message_tokens(message: Message) -> int:
    """Estimated tokens of a message: its text, its tool calls and its frame."""
    total = _MESSAGE_OVERHEAD
    for part in message.parts:
        if isinstance(part, (Text, ToolResult)):
            total += estimate(part.text)
        elif isinstance(part, ToolCall):
            total += estimate(part.name) + estimate(part.arguments) + _MESSAGE_OVERHEAD
        elif isinstance(part, Image):
            total += _IMAGE
        else:
            text = str(part.raw)
            encoded = ";base64," in text or "'base64'" in text
            total += _IMAGE if encoded else estimate(text)
    return total


def reference(scope: str, ordinal: int, text: str) -> str:
    """The name under which a cut text can be asked for again: `r17fexoma`.

    It is the text's ordinal in its conversation, and a check keyed with the session's scope:
    the same text has another name elsewhere, and a name says nothing about the text to who
    does not hold it. Syllables, since they are few tokens (4 to 5; ten random letters are 10).
    """
    key = hashlib.blake2b(scope.encode(), digest_size=32).digest()
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=3)
    value = int.from_bytes(digest.digest(), "big")
    check = ""
    for _ in range(3):
        value, consonant = divmod(value, 18)
        value, vowel = divmod(value, 5)
        check += "bdfghjklmnprstvwxz"[consonant] + "aeiou"[vowel]
    return f"r{ordinal}{check}"

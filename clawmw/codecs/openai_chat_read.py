"""Reads a chat-completions body once, and remembers where everything lies in it.

A body that begins like an earlier one is only parsed where it goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clawmw.codecs.openai_chat_message import parse
from clawmw.core.canon import tool_spec
from clawmw.core.types import Json, Message, Request, ToolSpec
from clawmw.errors import CodecError

__all__ = ["DIALECT", "Source", "read"]

DIALECT = "openai.chat"

_scan = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"
_space = re.compile(r"[ \t\n\r]*").match
_AFTER = (b" ", b"\t", b"\n", b"\r", b",", b"}")
"""What may follow a top-level value."""
_ENOUGH = 48
"""Bytes that tell most bodies apart."""


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded body and where its pieces lie, in bytes."""

    body: bytes
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    values: Mapping[str, Json]
    spans: Mapping[str, tuple[int, int]]
    """Start and end of each top-level value."""
    ends: tuple[int, ...]
    """End of each message."""


class _Reader:
    """Reads a JSON object's members one by one from `text`, which begins at byte `start`."""

    def __init__(self, body: bytes, start: int) -> None:
        self.body, self.text, self.at, self.byte = body, _text(body[start:]), 0, start
        self._ascii = self.text.isascii()

    def skip(self) -> str:
        """Move over white space; the next character, "" at the end."""
        character = self.text[self.at : self.at + 1]
        if character and character in _SPACE:
            found = _space(self.text, self.at)
            self._move(found.end() if found else self.at)
            character = self.text[self.at : self.at + 1]
        return character

    def expect(self, characters: str) -> str:
        """The next character, which must be one of `characters`; moves behind it."""
        found = self.skip()
        if not found or found not in characters:
            wanted = " or ".join(repr(c) for c in characters)
            raise CodecError(f"malformed JSON: expected {wanted} at byte {self.byte}")
        self._move(self.at + 1)
        return found

    def value(self) -> tuple[Json, int, int]:
        """The next value, and its start and end in bytes."""
        self.skip()
        start = self.byte
        try:
            value, end = _scan(self.text, self.at)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else "malformed JSON"
            raise CodecError(f"{reason} at byte {start}") from error
        self._move(end)
        return value, start, self.byte

    def same(self, piece: bytes) -> bool:
        """Whether `piece` lies here; moves behind it if so."""
        self.skip()
        end = self.byte + len(piece)
        if not piece or not self.body.startswith(piece, self.byte):
            return False
        if self.body[end : end + 1] not in _AFTER:
            return False  # `1` is how `10` begins
        self.at += len(piece) if self._ascii else len(piece.decode())
        self.byte += len(piece)
        return True

    def _move(self, to: int) -> None:
        if to != self.at:
            gone = to - self.at
            self.byte += gone if self._ascii else len(self.text[self.at : to].encode())
            self.at = to


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"the body is not UTF-8 at byte {error.start}") from error


@dataclass(slots=True)
class _Draft:
    """What was read so far."""

    values: dict[str, Json] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def read(body: bytes, earlier: Sequence[Request]) -> Request:
    """The request in `body`; what it shares with an earlier one is taken from there."""
    old, count = _shared(body, earlier)
    if old is None:
        draft, reader = _Draft(), _Reader(body, 0)
        reader.expect("{")
        if reader.skip() == "}":
            raise CodecError("the body has no messages; send a list of at least one")
        first = ","
    else:
        head = old.spans["messages"][0]
        draft = _Draft(
            {k: v for k, v in old.values.items() if old.spans[k][0] < head},
            {k: s for k, s in old.spans.items() if s[0] <= head},
            list(old.messages[:count]),
            list(old.ends[:count]),
        )
        reader = _Reader(body, old.ends[count - 1])
        _rest(reader, draft)
        draft.spans["messages"] = (head, reader.byte)
        first = reader.expect(",}")
    while first != "}":
        _member(reader, draft, old)
        first = reader.expect(",}")
    if reader.skip():
        raise CodecError(f"malformed JSON: more text after the body at byte {reader.byte}")
    return _request(body, draft, old)


def _member(reader: _Reader, draft: _Draft, old: Source | None) -> None:
    """Read one `"key": value`."""
    key, start, _ = reader.value()
    if not isinstance(key, str) or key in draft.spans:
        raise CodecError(f"malformed JSON: bad or doubled key at byte {start}")
    reader.expect(":")
    first, begin = reader.skip(), reader.byte
    if key == "messages" and first == "[":
        reader.expect("[")
        if reader.skip() == "]":
            raise CodecError("`messages` is empty; send at least one message")
        _one(reader, draft)
        _rest(reader, draft)
        draft.spans[key] = (begin, reader.byte)
    elif old and key in old.values and reader.same(old.body[slice(*old.spans[key])]):
        draft.values[key], draft.spans[key] = old.values[key], (begin, reader.byte)
    else:
        draft.values[key], begin, end = reader.value()
        draft.spans[key] = (begin, end)


def _rest(reader: _Reader, draft: _Draft) -> None:
    """Read `, message` until the list ends."""
    while reader.expect(",]") == ",":
        _one(reader, draft)


def _one(reader: _Reader, draft: _Draft) -> None:
    value, start, end = reader.value()
    index = len(draft.messages)
    try:
        draft.messages.append(parse(value, reader.body[start:end], index))
    except (TypeError, LookupError, AttributeError) as error:
        raise CodecError(f"messages[{index}] is not a chat message") from error
    draft.ends.append(end)


def _request(body: bytes, draft: _Draft, old: Source | None) -> Request:
    if not draft.messages:
        raise CodecError("the body has no messages; send a list of at least one")
    values = draft.values
    model = values.get("model")
    if not isinstance(model, str):
        raise CodecError("the body names no model; send `model` as a string")
    raw_tools = values.get("tools")
    known = old is not None and raw_tools is old.values.get("tools")
    tools = old.tools if old is not None and known else _tools(raw_tools)
    params = {k: v for k, v in values.items() if k not in ("model", "tools")}
    messages = tuple(draft.messages)
    source = Source(body, messages, tools, values, draft.spans, tuple(draft.ends))
    return Request(DIALECT, model, messages, tools, params, source)


def _shared(body: bytes, earlier: Sequence[Request]) -> tuple[Source | None, int]:
    """The earlier body that `body` shares the most messages with, and how many.

    Tried at an earlier body's end, and at the two messages before it: agents append, and
    some resend all but a transient tail.
    """
    best: tuple[Source | None, int] = (None, 0)
    for request in earlier:
        source = request.source
        if not isinstance(source, Source):
            continue
        for count in range(len(source.ends), max(len(source.ends) - 3, best[1], 0), -1):
            end = source.ends[count - 1]
            if body[end - _ENOUGH : end] != source.body[end - _ENOUGH : end]:
                continue  # most of the strangers, without a look at the whole
            if body.startswith(source.body[:end]):
                best = (source, count)
                break
    return best


def _tools(raw: Json) -> tuple[ToolSpec, ...]:
    if not isinstance(raw, list):
        return ()
    specs = []
    for tool in raw:
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        specs.append(tool_spec(name if isinstance(name, str) else "", tool))
    return tuple(specs)

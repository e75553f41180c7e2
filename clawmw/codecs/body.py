"""What the codecs share: JSON bodies read once and written by splicing, in any dialect.

A body is an object with one long list in it (`messages`, `input`). It is read in one pass
that keeps where each message and each top-level value lies; one that begins like an earlier
one is only parsed where it goes on. What nobody changed is written as its original bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import ClassVar

from clawmw.core.memo import by_identity
from clawmw.core.types import Json, Message, Request, ToolSpec
from clawmw.errors import CodecError

__all__ = [
    "Draft",
    "Listing",
    "Source",
    "Written",
    "changed_params",
    "dump",
    "identical",
    "joined",
    "read_body",
    "same_wire",
    "splice",
    "tools_wire",
]

_scan = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"
_space = re.compile(r"[ \t\n\r]*").match
_AFTER = (b" ", b"\t", b"\n", b"\r", b",", b"}")
"""What may follow a top-level value."""
_ENOUGH = 48
"""Bytes that tell most bodies apart."""
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: Json) -> bytes:
    """JSON as compact UTF-8; lone surrogates (legal as escapes) stay escapes."""
    text = _compact(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


# --- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded body and where its pieces lie, in bytes."""

    body: bytes
    messages: tuple[Message, ...]
    """Those of the list, one for each of `ends`."""
    tools: tuple[ToolSpec, ...]
    values: Mapping[str, Json]
    spans: Mapping[str, tuple[int, int]]
    """Start and end of each top-level value."""
    ends: tuple[int, ...]
    """End of each message."""
    head: Message | None = None
    """The message that a top-level value stands for (a system prompt)."""
    refers: int | None = None
    """The first message that refers to what only the provider holds."""


class Reader:
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
class Draft:
    """What was read so far."""

    body: bytes
    values: dict[str, Json] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class Listing:
    """How a dialect lists its messages. One object reads one body."""

    dialect: ClassVar[str]
    key: ClassVar[str]
    """The name of the list."""
    empty: ClassVar[bool] = False
    """Whether the list may hold nothing."""

    def one(self, draft: Draft, value: Json, start: int, end: int) -> None:
        """The next item of the list; appends what is a message to the draft."""
        raise NotImplementedError

    def over(self, draft: Draft) -> None:
        """The list has ended."""

    def kept(self, old: Source, count: int) -> int:
        """How many of the first `count` messages of an earlier body stand, whatever follows."""
        return count


def read_body(
    body: bytes, earlier: Sequence[Request], listing: Listing
) -> tuple[Draft, Source | None]:
    """What is in `body`; what it shares with an earlier one is taken from there.

    Raises `CodecError` naming the byte.
    """
    old, count = _shared(body, earlier, listing)
    if old is None or not count:
        draft, reader = Draft(body), Reader(body, 0)
        reader.expect("{")
        first = "}" if reader.skip() == "}" else ","
        if first == "}":
            reader.expect("}")
    else:
        head = old.spans[listing.key][0]
        draft = Draft(
            body,
            {k: v for k, v in old.values.items() if old.spans[k][0] < head},
            {k: s for k, s in old.spans.items() if s[0] <= head},
            list(old.messages[:count]),
            list(old.ends[:count]),
        )
        reader = Reader(body, old.ends[count - 1])
        _rest(reader, draft, listing)
        draft.spans[listing.key] = (head, reader.byte)
        first = reader.expect(",}")
    while first != "}":
        _member(reader, draft, old, listing)
        first = reader.expect(",}")
    if reader.skip():
        raise CodecError(f"malformed JSON: more text after the body at byte {reader.byte}")
    return draft, old


def _member(reader: Reader, draft: Draft, old: Source | None, listing: Listing) -> None:
    """Read one `"key": value`."""
    key, start, _ = reader.value()
    if not isinstance(key, str) or key in draft.spans:
        raise CodecError(f"malformed JSON: bad or doubled key at byte {start}")
    reader.expect(":")
    first, begin = reader.skip(), reader.byte
    if key == listing.key and first == "[":
        reader.expect("[")
        if reader.skip() == "]":
            if not listing.empty:
                raise CodecError(f"`{key}` is empty; send at least one message")
            reader.expect("]")
        else:
            listing.one(draft, *reader.value())
            _rest(reader, draft, listing)
        draft.spans[key] = (begin, reader.byte)
    elif old and key in old.values and reader.same(old.body[slice(*old.spans[key])]):
        draft.values[key], draft.spans[key] = old.values[key], (begin, reader.byte)
    else:
        draft.values[key], begin, end = reader.value()
        draft.spans[key] = (begin, end)


def _rest(reader: Reader, draft: Draft, listing: Listing) -> None:
    """Read `, item` until the list ends."""
    while reader.expect(",]") == ",":
        listing.one(draft, *reader.value())
    listing.over(draft)


def _shared(body: bytes, earlier: Sequence[Request], listing: Listing) -> tuple[Source | None, int]:
    """The earlier body that `body` shares the most messages with, and how many.

    Tried at an earlier body's end, and at the two messages before it: agents append, and
    some resend all but a transient tail.
    """
    best: tuple[Source | None, int] = (None, 0)
    for request in earlier:
        source = request.source
        if not isinstance(source, Source) or request.dialect != listing.dialect:
            continue
        for count in range(len(source.ends), max(len(source.ends) - 3, best[1], 0), -1):
            end = source.ends[count - 1]
            if body[end - _ENOUGH : end] != source.body[end - _ENOUGH : end]:
                continue  # most of the strangers, without a look at the whole
            if body.startswith(source.body[:end]):
                best = (source, listing.kept(source, count))
                break
    return best


# --- writing -----------------------------------------------------------------------------------


class Written(bytes):
    """A value as JSON."""


def splice(source: Source, edited: Mapping[str, Json]) -> bytes:
    """The body with some top-level values replaced or added (`Written`: as its own bytes)."""
    edits: list[tuple[int, int, bytes]] = []
    added = b""
    for key, value in edited.items():
        written = value if isinstance(value, Written) else dump(value)
        if key in source.spans:
            edits.append((*source.spans[key], written))
        else:
            added += b"," + dump(key) + b":" + written
    if added:
        close = source.body.rindex(b"}")
        edits.append((close, close, added))
    if not edits:
        return source.body
    pieces, at = [], 0
    for begin, end, new in sorted(edits, key=lambda edit: edit[0]):
        pieces += [source.body[at:begin], new]
        at = end
    return b"".join([*pieces, source.body[at:]])


def changed_params(params: Mapping[str, Json], source: Source) -> dict[str, Json]:
    """The top-level fields that are others than they came."""
    return {
        key: value
        for key, value in params.items()
        if key not in source.values or source.values[key] is not value
    }


@by_identity
def tools_wire(tools: tuple[ToolSpec, ...]) -> Written:
    """Tool definitions as a JSON list."""
    return Written(b"[" + b",".join([_tool(tool) for tool in tools]) + b"]")


@by_identity
def _tool(tool: ToolSpec) -> bytes:
    return dump(tool.raw)


def identical(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether two sequences hold the very same objects."""
    return len(one) == len(other) and all(map(is_, one, other))


def same_wire(one: Sequence[Message], other: Sequence[Message]) -> bool:
    """Whether the same bytes would be written; the usual case, the same objects, is quick."""
    if identical(one, other):
        return True
    return len(one) == len(other) and all(
        a is b or (a.wire is not None and a.wire == b.wire) for a, b in zip(one, other, strict=True)
    )


def joined(wires: Iterable[bytes]) -> Written:
    """Messages as a JSON list."""
    return Written(b"[" + b",".join(wires) + b"]")

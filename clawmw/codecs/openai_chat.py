"""OpenAI chat completions: the wire body and core types, losing nothing.

A request is parsed in one pass that keeps where each message and each top-level value
lies, so that encoding splices: what nobody changed is the original bytes. A body that
begins like an earlier one is only parsed where it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_

from clawmw.codecs import openai_chat_stream as wire_stream
from clawmw.core.canon import tool_spec
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent
from clawmw.core.types import (
    Image,
    Json,
    Message,
    Opaque,
    Part,
    Request,
    Response,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from clawmw.errors import CodecError

__all__ = ["DIALECT", "OpenAIChat"]

DIALECT = "openai.chat"

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_scan = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"
_ENOUGH = 48
"""Bytes that tell most bodies apart."""


def _dump(value: Json) -> bytes:
    """JSON as compact UTF-8; lone surrogates (legal as escapes) stay escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class _Source:
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
        text, at = self.text, self.at
        while at < len(text) and text[at] in _SPACE:
            at += 1
        self._move(at)
        return text[at : at + 1]

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
        if not piece or not self.body.startswith(piece, self.byte):
            return False
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


class OpenAIChat:
    """The codec of `/v1/chat/completions`."""

    dialect = DIALECT

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`. Raises `CodecError` naming the byte."""
        old, count = _shared(body, earlier)
        if old is None:
            reader = _Reader(body, 0)
            values, spans = {}, {}
            messages: list[Message] = []
            ends: list[int] = []
            first = reader.expect("{")
            if reader.skip() == "}":
                raise CodecError("the body has no messages; send a list of at least one")
        else:
            at = old.ends[count - 1]
            reader = _Reader(body, at)
            head = old.spans["messages"][0]
            values = {k: v for k, v in old.values.items() if old.spans[k][0] < head}
            spans = {k: s for k, s in old.spans.items() if s[0] <= head}
            messages, ends = list(old.messages[:count]), list(old.ends[:count])
            self._messages(reader, messages, ends)
            spans["messages"] = (head, reader.byte)
            first = reader.expect(",}")
        self._members(reader, first, (values, spans, messages, ends), old)
        return self._request(body, (values, spans, messages, ends), old)

    def _members(
        self,
        reader: _Reader,
        first: str,
        into: tuple[dict[str, Json], dict[str, tuple[int, int]], list[Message], list[int]],
        old: _Source | None,
    ) -> None:
        """Read `"key": value` until the object ends."""
        values, spans, messages, ends = into
        while first != "}":
            key, start, _ = reader.value()
            if not isinstance(key, str) or key in spans:
                raise CodecError(f"malformed JSON: bad or doubled key at byte {start}")
            reader.expect(":")
            reader.skip()
            begin = reader.byte
            if key == "messages" and reader.skip() == "[":
                reader.expect("[")
                if reader.skip() == "]":
                    raise CodecError("`messages` is empty; send at least one message")
                self._message(reader, messages, ends)
                self._messages(reader, messages, ends)
                spans[key] = (begin, reader.byte)
            elif old and key in old.values and reader.same(old.body[slice(*old.spans[key])]):
                values[key], spans[key] = old.values[key], (begin, reader.byte)
            else:
                values[key], *span = reader.value()
                spans[key] = (span[0], span[1])
            first = reader.expect(",}")
        if reader.skip():
            raise CodecError(f"malformed JSON: more text after the body at byte {reader.byte}")

    def _messages(self, reader: _Reader, messages: list[Message], ends: list[int]) -> None:
        """Read `, message` until the list ends."""
        while reader.expect(",]") == ",":
            self._message(reader, messages, ends)

    def _message(self, reader: _Reader, messages: list[Message], ends: list[int]) -> None:
        value, start, end = reader.value()
        messages.append(_message(value, reader.body[start:end], len(messages)))
        ends.append(end)

    def _request(
        self,
        body: bytes,
        read: tuple[dict[str, Json], dict[str, tuple[int, int]], list[Message], list[int]],
        old: _Source | None,
    ) -> Request:
        values, spans, messages, ends = read
        if not messages:
            raise CodecError("the body has no messages; send a list of at least one")
        model = values.get("model")
        if not isinstance(model, str):
            raise CodecError("the body names no model; send `model` as a string")
        raw_tools = values.get("tools")
        if old is not None and raw_tools is old.values.get("tools"):
            tools = old.tools
        else:
            tools = _tools(raw_tools)
        params = {k: v for k, v in values.items() if k not in ("model", "tools")}
        source = _Source(body, tuple(messages), tools, values, spans, tuple(ends))
        return Request(DIALECT, model, source.messages, tools, params, source)

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`."""
        source = request.source
        if not isinstance(source, _Source):
            return self._fresh(request)
        edits: list[tuple[int, int, bytes]] = []
        if not _same_wire(request.messages, source.messages):
            begin, end = source.spans["messages"]
            joined = b",".join([m.wire or self.seal(m).wire or b"" for m in request.messages])
            edits.append((begin, end, b"[" + joined + b"]"))
        changed: dict[str, Json] = {}
        if request.model != source.values["model"]:
            changed["model"] = request.model
        if not _identical(request.tools, source.tools):
            changed["tools"] = [tool.raw for tool in request.tools]
        for key, value in request.params.items():
            if key not in source.values or source.values[key] is not value:
                changed[key] = value
        added = b""
        for key, value in changed.items():
            if key in source.spans:
                edits.append((*source.spans[key], _dump(value)))
            else:
                added += b"," + _dump(key) + b":" + _dump(value)
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

    def _fresh(self, request: Request) -> bytes:
        """A body for a request that never had one."""
        messages = b",".join(self.seal(m).wire or b"" for m in request.messages)
        rest = {k: v for k, v in request.params.items() if k != "messages"}
        if request.tools:
            rest["tools"] = [tool.raw for tool in request.tools]
        tail = _dump(rest)[1:] if rest else b"}"
        head = b'{"model":' + _dump(request.model) + b',"messages":[' + messages + b"]"
        return head + (b"," if rest else b"") + tail

    def seal(self, message: Message) -> Message:
        """See `Codec.seal`."""
        if message.wire is not None:
            return message
        value = _new(message) if message.origin is None else _changed(message)
        if message.mark is not None:
            _mark(value, message.mark)
        return replace(message, wire=_dump(value))

    def message(self, wire: bytes) -> Message:
        """See `Codec.message`."""
        try:
            return _message(json.loads(wire), wire, 0)
        except ValueError as error:
            raise CodecError("malformed message") from error

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """See `Codec.tool`."""
        function = {"name": name, "description": description, "parameters": parameters}
        return tool_spec(name, {"type": "function", "function": function})

    def response(self, body: bytes) -> Response:
        """See `Codec.response`. Only the first choice is read; the others pass through."""
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            message = _message(choice["message"], None, 0)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise CodecError("the answer is not a chat completion") from error
        return Response(
            message,
            wire_stream.usage(value.get("usage")),
            choice.get("finish_reason"),
            value.get("model"),
            value.get("id"),
            body,
        )

    def encode_response(self, response: Response) -> bytes:
        """See `Codec.encode_response`."""
        value: dict[str, Json] = json.loads(response.body) if response.body else {}
        value.setdefault("id", response.id or "chatcmpl-clawmw")
        value.setdefault("object", "chat.completion")
        value.setdefault("created", 0)
        value.setdefault("model", response.model or "clawmw")
        choices = value.setdefault("choices", [{"index": 0, "logprobs": None}])
        kept = choices[0].get("message", {})
        choices[0]["message"] = {**kept, **_new(response.message)}
        if not response.message.tool_calls:
            choices[0]["message"].pop("tool_calls", None)
        choices[0]["finish_reason"] = response.finish_reason or "stop"
        if response.usage is not None:
            value["usage"] = {
                **(value.get("usage") or {}),
                **wire_stream.usage_json(response.usage),
            }
        return _dump(value)

    def decoder(self) -> FrameDecoder:
        """See `Codec.decoder`."""
        return wire_stream.SseDecoder()

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """See `Codec.reframe`."""
        return wire_stream.reframe(frame, events)

    def opening(self, response: Response) -> bytes:
        """See `Codec.opening`."""
        return wire_stream.opening(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `Codec.closing`."""
        return wire_stream.closing(response, usage)


def _identical(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


def _same_wire(one: Sequence[Message], other: Sequence[Message]) -> bool:
    """Whether the same bytes would be written; the usual case, the same objects, is quick."""
    if _identical(one, other):
        return True
    return len(one) == len(other) and all(
        a is b or (a.wire is not None and a.wire == b.wire)
        for a, b in zip(one, other, strict=True)
    )


def _shared(body: bytes, earlier: Sequence[Request]) -> tuple[_Source | None, int]:
    """The earlier body that `body` shares the most messages with, and how many.

    Tried at an earlier body's end, and at the two messages before it: agents append, and
    some resend all but a transient tail.
    """
    best: tuple[_Source | None, int] = (None, 0)
    for request in earlier:
        source = request.source
        if not isinstance(source, _Source):
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


def _message(value: Json, wire: bytes | None, index: int) -> Message:
    """One message. Parts: the content's blocks in order, then calls, then reasoning."""
    if not isinstance(value, dict):
        raise CodecError(f"messages[{index}] is not an object")
    role = _ROLES.get(value.get("role", ""), None)
    if role is None:
        raise CodecError(f"messages[{index}] has no known role")
    content = value.get("content")
    parts: list[Part] = []
    if role is Role.TOOL:
        call_id, name = _str(value.get("tool_call_id")), value.get("name")
        blocks = content if isinstance(content, list) else [content]
        parts += [_tool_part(b, call_id, name, i) for i, b in enumerate(blocks)]
    elif isinstance(content, str):
        parts.append(Text(content))
    elif isinstance(content, list):
        parts += [_block(block) for block in content]
    elif content is not None:
        parts.append(Opaque(content))
    for call in value.get("tool_calls") or ():
        parts.append(_call(call))
    if isinstance(value.get("function_call"), dict):
        parts.append(_call({"function": value["function_call"]}))
    for key in ("reasoning_content", "reasoning", "reasoning_details"):
        if value.get(key):
            parts.append(Thinking(value[key]))
    return Message(role, tuple(parts), wire)


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _block(block: Json) -> Part:
    if isinstance(block, dict) and isinstance(block.get("text"), str) and block["type"] == "text":
        return Text(block["text"])
    if isinstance(block, dict) and "image" in _str(block.get("type")):
        return Image(block)
    return Opaque(block)


def _tool_part(block: Json, call_id: str, name: Json, index: int) -> Part:
    """A tool result's block: the first text is the result, later ones follow it."""
    part = Text(block) if isinstance(block, str) else Text("") if block is None else _block(block)
    if index == 0 and isinstance(part, Text):
        return ToolResult(call_id, part.text, name if isinstance(name, str) else None)
    return part


def _call(call: Json) -> Part:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return Opaque(call)
    return ToolCall(
        _str(call.get("id")), _str(function.get("name")), _str(function.get("arguments"))
    )


def _new(message: Message) -> dict[str, Json]:
    """The JSON of a message that never had one."""
    value: dict[str, Json] = {"role": str(message.role)}
    results = message.tool_results
    if results:
        value["tool_call_id"] = results[0].call_id
        if results[0].name:
            value["name"] = results[0].name
    texts = [p.text for p in message.parts if isinstance(p, Text | ToolResult)]
    value["content"] = "\n".join(texts) if texts or not message.tool_calls else None
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return value


def _changed(message: Message) -> dict[str, Json]:
    """The JSON a message was changed from, with its texts replaced in place."""
    value: dict[str, Json] = json.loads(message.origin or b"{}")
    content = value.get("content")
    if isinstance(content, list):
        for block, part in zip(content, message.parts, strict=False):
            if isinstance(part, Text | ToolResult) and isinstance(block, dict):
                block["text"] = part.text
    elif isinstance(content, str):
        first = message.parts[0]
        value["content"] = first.text if isinstance(first, Text | ToolResult) else content
    return value


def _mark(value: dict[str, Json], mark: Json) -> None:
    """Put a cache mark on a message's last text block, making the block if need be."""
    content = value.get("content")
    if isinstance(content, str):
        content = value["content"] = [{"type": "text", "text": content}]
    if isinstance(content, list):
        for block in reversed(content):
            if isinstance(block, dict) and block.get("type") == "text":
                block["cache_control"] = mark
                return

"""OpenAI chat completions: the wire body and core types, losing nothing.

A request is parsed in one pass that keeps where each message and each top-level value
lies, so that encoding splices: what nobody changed is the original bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from operator import is_

from clawmw.codecs import openai_chat_stream as wire_stream
from clawmw.codecs.openai_chat_message import as_they_came, changed, dump, fresh, mark, parse
from clawmw.codecs.openai_chat_read import DIALECT, Source, read
from clawmw.core.canon import tool_spec
from clawmw.core.memo import by_identity
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent
from clawmw.core.types import Json, Message, Request, Response, ToolSpec, Usage
from clawmw.errors import CodecError

__all__ = ["DIALECT", "OpenAIChat"]


class OpenAIChat:
    """The codec of `/v1/chat/completions`."""

    dialect = DIALECT

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`. Raises `CodecError` naming the byte."""
        return read(body, earlier)

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`."""
        source = request.source
        if not isinstance(source, Source):
            return self._fresh(request)
        edits: list[tuple[int, int, bytes]] = []
        if not _same_wire(request.messages, source.messages):
            begin, end = source.spans["messages"]
            joined = b",".join([m.wire or self.seal(m).wire or b"" for m in request.messages])
            edits.append((begin, end, b"[" + joined + b"]"))
        edited: dict[str, Json] = {}
        if request.model != source.values["model"]:
            edited["model"] = request.model
        if not _identical(request.tools, source.tools):
            edited["tools"] = _Written(_tools(request.tools))
        edited |= {
            key: value
            for key, value in request.params.items()
            if key not in source.values or source.values[key] is not value
        }
        added = b""
        for key, value in edited.items():
            if key in source.spans:
                edits.append((*source.spans[key], _written(value)))
            else:
                added += b"," + dump(key) + b":" + _written(value)
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
        tail = dump(rest)[1:] if rest else b"}"
        head = b'{"model":' + dump(request.model) + b',"messages":[' + messages + b"]"
        return head + (b"," if rest else b"") + tail

    def seal(self, message: Message) -> Message:
        """See `Codec.seal`."""
        if message.wire is not None:
            return message
        value = fresh(message) if message.origin is None else changed(message)
        if message.mark is not None:
            mark(value, message.mark)
        return replace(message, wire=dump(value))

    def message(self, wire: bytes) -> Message:
        """See `Codec.message`."""
        try:
            return parse(json.loads(wire), wire, 0)
        except ValueError as error:
            raise CodecError("malformed message") from error

    def enriched(self, message: Message, extra: Json, calls: Sequence[Json]) -> Message:
        """See `Codec.enriched`."""
        value = fresh(message)
        for call, more in zip(value.get("tool_calls", ()), calls, strict=True):
            for key, item in (more or {}).items():
                call[key] = {**call[key], **item} if key == "function" else item
        whole = {**(extra if isinstance(extra, dict) else {}), **value}
        return self.message(dump(whole))

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """See `Codec.tool`."""
        function = {"name": name, "description": description, "parameters": parameters}
        return tool_spec(name, {"type": "function", "function": function})

    def response(self, body: bytes) -> Response:
        """See `Codec.response`. Only the first choice is read; the others pass through."""
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            message = parse(choice["message"], dump(choice["message"]), 0)
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

    def fault(self, body: bytes) -> int | None:
        """See `Codec.fault`."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise CodecError("the answer is not JSON") from error
        return wire_stream.error_status(value)

    def encode_response(self, response: Response) -> bytes:
        """See `Codec.encode_response`."""
        value: dict[str, Json] = json.loads(response.body) if response.body else {}
        value.setdefault("id", response.id or "chatcmpl-clawmw")
        value.setdefault("object", "chat.completion")
        value.setdefault("created", 0)
        value.setdefault("model", response.model or "clawmw")
        choices = value.setdefault("choices", [{"index": 0, "logprobs": None}])
        kept = choices[0].get("message", {})
        choices[0]["message"] = {**kept, **fresh(response.message)}
        if response.message.tool_calls:
            made = choices[0]["message"]["tool_calls"]
            choices[0]["message"]["tool_calls"] = as_they_came(made, kept.get("tool_calls"))
        if not response.message.tool_calls:
            choices[0]["message"].pop("tool_calls", None)
        choices[0]["finish_reason"] = response.finish_reason or "stop"
        if response.usage is not None:
            value["usage"] = {
                **(value.get("usage") or {}),
                **wire_stream.usage_json(response.usage),
            }
        return dump(value)

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


class _Written(bytes):
    """A value as JSON."""


def _written(value: Json) -> bytes:
    return value if isinstance(value, _Written) else dump(value)


@by_identity
def _tools(tools: tuple[ToolSpec, ...]) -> bytes:
    return b"[" + b",".join([_tool(tool) for tool in tools]) + b"]"


@by_identity
def _tool(tool: ToolSpec) -> bytes:
    return dump(tool.raw)


def _identical(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


def _same_wire(one: Sequence[Message], other: Sequence[Message]) -> bool:
    """Whether the same bytes would be written; the usual case, the same objects, is quick."""
    if _identical(one, other):
        return True
    return len(one) == len(other) and all(
        a is b or (a.wire is not None and a.wire == b.wire) for a, b in zip(one, other, strict=True)
    )

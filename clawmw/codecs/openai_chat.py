"""OpenAI chat completions: the wire body and core types, losing nothing.

A request is parsed in one pass that keeps where each message and each top-level value
lies, so that encoding splices: what nobody changed is the original bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from clawmw.codecs import openai_chat_stream as wire_stream
from clawmw.codecs.body import (
    Source,
    changed_params,
    dump,
    identical,
    joined,
    same_wire,
    splice,
    tools_wire,
)
from clawmw.codecs.openai_chat_message import as_they_came, changed, fresh, mark, parse
from clawmw.codecs.openai_chat_read import DIALECT, read
from clawmw.core.canon import MARKS, tool_spec
from clawmw.core.codec import PlainWriter
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent, StreamWriter
from clawmw.core.types import Json, Message, Request, Response, Role, ToolResult, ToolSpec, Usage
from clawmw.errors import CodecError

__all__ = ["DIALECT", "OpenAIChat"]


class OpenAIChat:
    """The codec of `/v1/chat/completions`."""

    dialect = DIALECT
    hints = MARKS | {"prompt_cache_key"}

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`. Raises `CodecError` naming the byte."""
        return read(body, earlier)

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`."""
        source = request.source
        if not isinstance(source, Source):
            return self._fresh(request)
        edited: dict[str, Json] = {}
        if not same_wire(request.messages, source.messages):
            edited["messages"] = joined(
                [m.wire or self.seal(m).wire or b"" for m in request.messages]
            )
        if request.model != source.values["model"]:
            edited["model"] = request.model
        if not identical(request.tools, source.tools):
            edited["tools"] = tools_wire(request.tools)
        return splice(source, edited | changed_params(request.params, source))

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

    def results(self, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        """See `Codec.results`."""
        return tuple([Message(Role.TOOL, (result,)) for result in results])

    def reporting(self, request: Request) -> Request:
        """See `Codec.reporting`: a stream of chat completions must be asked to."""
        given = request.params.get("stream_options")
        options = given if isinstance(given, dict) else {}
        if not request.stream or "include_usage" in options:
            return request
        asked = {**options, "include_usage": True}
        return replace(request, params={**request.params, "stream_options": asked})

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

    def error(self, fields: Mapping[str, Json]) -> bytes:
        """See `Codec.error`."""
        head = {"message": None, "type": None, "param": None}
        return json.dumps({"error": {**head, **fields}}).encode()

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

    def writer(self) -> StreamWriter:
        """See `Codec.writer`."""
        return PlainWriter(self)

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """See `Codec.reframe`."""
        return wire_stream.reframe(frame, events)

    def opening(self, response: Response) -> bytes:
        """See `Codec.opening`."""
        return wire_stream.opening(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `Codec.closing`."""
        return wire_stream.closing(response, usage)

"""OpenAI's Responses API: the wire body and core types, losing nothing.

How its items become messages: `clawmw.codecs.openai_responses_items`. A request that goes on
from what the provider holds (`previous_response_id`, `conversation`, an `item_reference`), or
whose answer comes later (`background`), is `held`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from clawmw.codecs import openai_responses_answer as answers
from clawmw.codecs.body import (
    Source,
    Written,
    changed_params,
    dump,
    identical,
    joined,
    same_wire,
    splice,
    tools_wire,
)
from clawmw.codecs.openai_responses_items import bare, changed, fresh, message_of, own, role_of
from clawmw.codecs.openai_responses_read import DIALECT, read
from clawmw.codecs.openai_responses_stream import Decoder
from clawmw.codecs.openai_responses_writer import Writer
from clawmw.core.canon import tool_spec
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent, StreamWriter
from clawmw.core.types import (
    Json,
    Message,
    Request,
    Response,
    Role,
    ToolResult,
    ToolSpec,
    Usage,
)
from clawmw.errors import CodecError

__all__ = ["DIALECT", "OpenAIResponses"]


class OpenAIResponses:
    """The codec of `/v1/responses`."""

    dialect = DIALECT
    hints = frozenset({"prompt_cache_breakpoint", "prompt_cache_key"})

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`. Raises `CodecError` naming the byte."""
        return read(body, earlier)

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`."""
        source = request.source
        head, listed = self._parted(request.messages)
        if not isinstance(source, Source):
            return self._fresh(request)
        edited: dict[str, Json] = {}
        if not same_wire(listed, source.messages):
            edited["input"] = self._input(listed)
        if head is not None and not same_wire((head,), (source.head or head,)):
            edited["instructions"] = Written(self._wire(head))
        if request.model != (source.values.get("model") or ""):
            edited["model"] = request.model
        if not identical(request.tools, source.tools):
            edited["tools"] = tools_wire(request.tools)
        return splice(source, edited | changed_params(request.params, source))

    @staticmethod
    def _parted(messages: tuple[Message, ...]) -> tuple[Message | None, tuple[Message, ...]]:
        """What goes into `instructions`, and what into `input`."""
        first = messages[0] if messages else None
        if first is not None and first.bare and first.role is Role.SYSTEM:
            return first, messages[1:]
        return None, messages

    def _input(self, messages: tuple[Message, ...]) -> Written:
        wires = [message.wire or self._wire(message) for message in messages]
        if wires and wires[0][:1] == b'"':  # `input` was a string
            if len(wires) == 1:
                return Written(wires[0])
            wires[0] = b'{"role":"user","content":' + wires[0] + b"}"
        return joined(wires)

    def _wire(self, message: Message) -> bytes:
        return message.wire or self.seal(message).wire or b""

    def _fresh(self, request: Request) -> bytes:
        """A body for a request that never had one."""
        head, listed = self._parted(request.messages)
        rest = {k: v for k, v in request.params.items() if k != "input"}
        if head is not None:
            rest["instructions"] = head.text
        if request.tools:
            rest["tools"] = [tool.raw for tool in request.tools]
        tail = dump(rest)[1:] if rest else b"}"
        start = b'{"model":' + dump(request.model) + b',"input":' + self._input(listed)
        return start + (b"," if rest else b"") + tail

    def seal(self, message: Message) -> Message:
        """See `Codec.seal`."""
        if message.wire is not None:
            return message
        if message.origin is None and message.mark is None:
            return replace(message, wire=b",".join(map(dump, fresh(message))))
        if message.origin is None:
            message = replace(message, origin=b",".join(map(dump, fresh(message))))
        return replace(message, wire=changed(message))

    def message(self, wire: bytes) -> Message:
        """See `Codec.message`."""
        try:
            if wire[:1] == b'"':
                return bare(json.loads(wire), Role.USER, wire)
            items = json.loads(b"[" + wire + b"]")
            return message_of(items, role_of(items[0]), wire)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CodecError("malformed message") from error

    def enriched(self, message: Message, extra: Json, calls: Sequence[Json]) -> Message:
        """See `Codec.enriched`: the items as they were done, if they say what was streamed."""
        found = extra.get("items") if isinstance(extra, dict) else None
        if not isinstance(found, dict):
            return message
        items = [json.loads(found[place]) for place in sorted(found, key=int)]
        whole = self._answer(items)
        same = whole.text == message.text and whole.tool_calls == message.tool_calls
        return whole if same else message

    @staticmethod
    def _answer(items: Sequence[Json]) -> Message:
        """What a model said, as it is given back to it."""
        kept = own(items)
        return message_of(kept, Role.ASSISTANT, b",".join(map(dump, kept)) or None)

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """See `Codec.tool`. `strict` is on in this dialect unless it is said to be off."""
        function = {"name": name, "description": description, "parameters": parameters}
        return tool_spec(name, {"type": "function", **function, "strict": False})

    def results(self, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        """See `Codec.results`: each is an item of its own."""
        return tuple([Message(Role.TOOL, (result,)) for result in results])

    def reporting(self, request: Request) -> Request:
        """See `Codec.reporting`: every stream does."""
        return request

    def response(self, body: bytes) -> Response:
        """See `Codec.response`. A failed one is none."""
        try:
            value = json.loads(body)
            if value["object"] != "response" or value.get("error"):
                raise CodecError("the answer is no response that went well")
            message = self._answer(value["output"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CodecError("the answer is not a response") from error
        used, reason = answers.usage(value.get("usage")), answers.reason(value, message)
        return Response(message, used, reason, value.get("model"), value.get("id"), body)

    def fault(self, body: bytes) -> int | None:
        """See `Codec.fault`."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise CodecError("the answer is not JSON") from error
        return answers.error_status(value)

    def error(self, fields: Mapping[str, Json]) -> bytes:
        """See `Codec.error`."""
        head = {"message": fields.get("message"), "type": fields.get("type"), "param": None}
        return json.dumps({"error": {**head, **fields}}).encode()

    def encode_response(self, response: Response) -> bytes:
        """See `Codec.encode_response`."""
        return dump(answers.written(response))

    def decoder(self) -> FrameDecoder:
        """See `Codec.decoder`."""
        return Decoder()

    def writer(self) -> StreamWriter:
        """See `Codec.writer`."""
        return Writer()

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """See `Codec.reframe`: as a stream of its own would have it."""
        return Writer().frame(frame, events, changed=True)

    def opening(self, response: Response) -> bytes:
        """See `Codec.opening`."""
        return Writer().more(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `Codec.closing`."""
        writer = Writer()
        writer.more(response)
        return writer.closing(response, usage)

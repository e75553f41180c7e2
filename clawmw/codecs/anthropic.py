"""Anthropic's Messages API: the wire body and core types, losing nothing.

A request is parsed in one pass that keeps where each message and each top-level value lies, so
that encoding splices: what nobody changed is the original bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from clawmw.codecs.anthropic_message import (
    changed,
    content_of,
    fresh,
    mark,
    merged,
    parse,
    spots,
)
from clawmw.codecs.anthropic_read import DIALECT, read, system_of
from clawmw.codecs.anthropic_stream import Decoder, whole
from clawmw.codecs.anthropic_usage import error_status, stop_reason, usage, usage_json
from clawmw.codecs.anthropic_write import Writer
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
from clawmw.core.canon import tool_spec
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent, StreamWriter
from clawmw.core.types import (
    Json,
    Message,
    Part,
    Request,
    Response,
    Role,
    ToolResult,
    ToolSpec,
    Usage,
)
from clawmw.errors import CodecError

__all__ = ["DIALECT", "AnthropicMessages"]


class AnthropicMessages:
    """The codec of `/v1/messages`."""

    dialect = DIALECT
    hints = frozenset({"cache_control"})

    # --- requests --------------------------------------------------------------------------

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`. Raises `CodecError` naming the byte."""
        return read(body, earlier)

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`."""
        source = request.source
        if not isinstance(source, Source):
            return self._fresh(request)
        edited: dict[str, Json] = {}
        head, listed = source.head, request.messages
        if head is not None and listed and listed[0].role is Role.SYSTEM:
            first, listed = listed[0], listed[1:]
            if not same_wire((first,), (head,)):
                edited["system"] = Written(system_of(self._wire(first)))
        if not same_wire(listed, source.messages):
            edited["messages"] = joined(self._wires(listed, alternating=_alternate(source)))
        if request.model != source.values["model"]:
            edited["model"] = request.model
        if not identical(request.tools, source.tools):
            edited["tools"] = tools_wire(request.tools)
        return splice(source, edited | changed_params(request.params, source))

    def _fresh(self, request: Request) -> bytes:
        """A body for a request that never had one."""
        count = 0
        while count < len(request.messages) and request.messages[count].role is Role.SYSTEM:
            count += 1
        head, listed = request.messages[:count], request.messages[count:]
        rest = {k: v for k, v in request.params.items() if k not in ("messages", "system")}
        if head:
            rest["system"] = "\n\n".join(message.text for message in head)
        if request.tools:
            rest["tools"] = [tool.raw for tool in request.tools]
        tail = dump(rest)[1:] if rest else b"}"
        messages = joined(self._wires(listed, alternating=True))
        begin = b'{"model":' + dump(request.model) + b',"messages":' + messages
        return begin + (b"," if rest else b"") + tail

    def _wire(self, message: Message) -> bytes:
        return message.wire or self.seal(message).wire or b""

    def _wires(self, messages: Sequence[Message], *, alternating: bool) -> list[bytes]:
        """The messages as they go out. What comes after a message of the user's side, from that
        side too, goes into it: unless the agent itself sends several in a row, who answers it
        may demand that sides alternate."""
        wires: list[bytes] = []
        before = False
        for message in messages:
            wire, users = self._wire(message), _users(message)
            if users and before and alternating:
                wires[-1] = _merged(wires[-1], wire)
            else:
                wires.append(wire)
            before = users
        return wires

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
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CodecError("malformed message") from error

    def enriched(self, message: Message, extra: Json, calls: Sequence[Json]) -> Message:
        """See `Codec.enriched`."""
        try:
            return self.message(dump(whole(message, extra, calls)))
        except (CodecError, ValueError, TypeError, LookupError, AttributeError):
            return message  # what a server makes of the dialect: text and calls are there

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """See `Codec.tool`."""
        raw = {"name": name, "description": description, "input_schema": parameters}
        return tool_spec(name, raw)

    # --- answers ---------------------------------------------------------------------------

    def results(self, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        """See `Codec.results`."""
        return (Message(Role.TOOL, tuple(results)),)

    def reporting(self, request: Request) -> Request:
        """See `Codec.reporting`."""
        return request

    def response(self, body: bytes) -> Response:
        """See `Codec.response`."""
        try:
            value = json.loads(body)
            said = {"role": "assistant", "content": [*value["content"]]}
            message = parse(said, dump(said), 0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CodecError("the answer is not a message") from error
        reason = value.get("stop_reason")
        counted = usage(value.get("usage"))
        return Response(message, counted, reason, value.get("model"), value.get("id"), body)

    def fault(self, body: bytes) -> int | None:
        """See `Codec.fault`."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise CodecError("the answer is not JSON") from error
        return error_status(value)

    def error(self, fields: Mapping[str, Json]) -> bytes:
        """See `Codec.error`."""
        return dump({"type": "error", "error": dict(fields)})

    def encode_response(self, response: Response) -> bytes:
        """See `Codec.encode_response`."""
        value: dict[str, Json] = json.loads(response.body) if response.body else {}
        value.setdefault("id", response.id or "msg_clawmw")
        value.setdefault("type", "message")
        value.setdefault("role", "assistant")
        value.setdefault("model", response.model or "clawmw")
        value["content"] = _as_they_came(response.message, value)
        value["stop_reason"] = stop_reason(response.finish_reason)
        value.setdefault("stop_sequence", None)
        counted = response.usage or usage(value.get("usage")) or Usage(0, 0)
        value["usage"] = usage_json(counted, value.get("usage"))
        return dump(value)

    # --- streams ---------------------------------------------------------------------------

    def decoder(self) -> FrameDecoder:
        """See `Codec.decoder`."""
        return Decoder()

    def writer(self) -> StreamWriter:
        """See `Codec.writer`."""
        return Writer()

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """See `Codec.reframe`: as the first frame of its stream."""
        return Writer().frame(frame, events, changed=list(events) != list(frame.events))

    def opening(self, response: Response) -> bytes:
        """See `Codec.opening`."""
        return Writer().more(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `Codec.closing`."""
        return Writer().closing(response, usage)


def _users(message: Message) -> bool:
    return message.role in (Role.USER, Role.TOOL)


def _alternate(source: Source) -> bool:
    """Whether the agent never sends two messages of the user's side in a row."""
    return not any(_users(one) and _users(other) for one, other in pairwise(source.messages))


@lru_cache(maxsize=64)
def _merged(one: bytes, other: bytes) -> bytes:
    return merged(one, other)


def _as_they_came(message: Message, value: dict[str, Json]) -> list[Json]:
    """The blocks of an answer, each as it stands in the body it came in, where it does."""
    known: list[tuple[Part, Json]] = [(s.part, s.block) for s in spots(value)]
    made = []
    for part in message.parts:
        at = next((i for i, (one, _) in enumerate(known) if one == part), None)
        if at is not None:
            made.append(known.pop(at)[1])
        else:
            made += content_of(Message(message.role, (part,)))
    return made

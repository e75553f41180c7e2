"""Bodies that are guarded, but neither read nor reduced: they are sent on as they came.

Embeddings and counts of tokens; a body that its dialect cannot make out; a signed one, which
must not change. What a guard counts is taken from it where it is JSON: the model, and how much
may be answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clawmw.core.codec import Codec
from clawmw.core.stream import Frame, FrameDecoder, StreamEvent, StreamWriter
from clawmw.core.types import (
    Json,
    Message,
    Request,
    Response,
    Role,
    Text,
    ToolResult,
    ToolSpec,
    Usage,
)
from clawmw.core.unread import UNREAD
from clawmw.errors import CodecError

__all__ = ["COUNT", "EMBEDDINGS", "Unread", "beside", "unread_name"]

EMBEDDINGS, COUNT = "openai.embeddings", "anthropic.count_tokens"

_COUNTED = ("stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of")
"""What says how much may be answered."""


def unread_name(dialect: str) -> str:
    """The dialect of a body of `dialect` that is not read."""
    return dialect + UNREAD


def beside(codecs: Mapping[str, Codec]) -> dict[str, Codec]:
    """The codecs of what is read, and those of what is not."""
    unread: list[Codec] = [Unread(unread_name(name), codec) for name, codec in codecs.items()]
    families = {EMBEDDINGS: "openai.chat", COUNT: "anthropic.messages"}
    unread += [Unread(name, None, codecs.get(family)) for name, family in families.items()]
    return {codec.dialect: codec for codec in [*codecs.values(), *unread]}


@dataclass(frozen=True, slots=True)
class _Came:
    """A body as it came, and the model it names."""

    raw: bytes
    model: str


class Unread:
    """The codec of what is not read.

    `like`: the codec of its answers; None: they are no messages, and cost no output tokens.
    `family`: the codec that knows the form of its errors.
    """

    hints: frozenset[str] = frozenset()

    def __init__(
        self, dialect: str, like: Codec | None = None, family: Codec | None = None
    ) -> None:
        self.dialect = dialect
        self.like = like
        self.family = like or family

    def decode(self, body: bytes, earlier: Sequence[Request] = ()) -> Request:
        """See `Codec.decode`; takes any bytes. The body is one text that nobody said."""
        value = _object(body)
        named = value.get("model")
        model = named if isinstance(named, str) else ""
        params = {name: value[name] for name in _COUNTED if name in value}
        if self.like is None:
            params = {"max_tokens": 1}
        message = Message(Role.SYSTEM, (Text(body.decode("utf-8", "replace")),), body)
        return Request(self.dialect, model, (message,), (), params, _Came(body, model))

    def encode(self, request: Request) -> bytes:
        """See `Codec.encode`: the body as it came, but for the name of a model of the policy."""
        came = request.source
        if not isinstance(came, _Came):
            raise CodecError(f"{self.dialect}: a body that is not read cannot be made")
        if request.model == came.model:
            return came.raw
        renamed = {**_object(came.raw), "model": request.model}
        return json.dumps(renamed, ensure_ascii=False, separators=(",", ":")).encode()

    def seal(self, message: Message) -> Message:
        """See `Codec.seal`."""
        return message

    def message(self, wire: bytes) -> Message:
        """See `Codec.message`."""
        raise CodecError(f"{self.dialect}: there are no messages")

    def enriched(self, message: Message, extra: Json, calls: Sequence[Json]) -> Message:
        """See `Codec.enriched`."""
        return self.like.enriched(message, extra, calls) if self.like else message

    def tool(self, name: str, description: str, parameters: object) -> ToolSpec:
        """See `Codec.tool`."""
        raise CodecError(f"{self.dialect}: there are no tools")

    def results(self, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        """See `Codec.results`."""
        return ()

    def reporting(self, request: Request) -> Request:
        """See `Codec.reporting`: nothing is asked for in it."""
        return request

    def response(self, body: bytes) -> Response:
        """See `Codec.response`; anything will do where answers are no messages."""
        if self.like is not None:
            return self.like.response(body)
        value = _object(body)
        model = value.get("model")
        told = model if isinstance(model, str) else None
        return Response(Message(Role.ASSISTANT, ()), _usage(value), "stop", told, None, body)

    def fault(self, body: bytes) -> int | None:
        """See `Codec.fault`."""
        return self.like.fault(body) if self.like else None

    def error(self, fields: Mapping[str, Json]) -> bytes:
        """See `Codec.error`."""
        return self.family.error(fields) if self.family else json.dumps({"error": fields}).encode()

    def encode_response(self, response: Response) -> bytes:
        """See `Codec.encode_response`."""
        return self._answers().encode_response(response)

    def decoder(self) -> FrameDecoder:
        """See `Codec.decoder`."""
        return self._answers().decoder()

    def writer(self) -> StreamWriter:
        """See `Codec.writer`."""
        return (self.family or self._answers()).writer()

    def reframe(self, frame: Frame, events: Sequence[StreamEvent]) -> bytes:
        """See `Codec.reframe`."""
        return self._answers().reframe(frame, events)

    def opening(self, response: Response) -> bytes:
        """See `Codec.opening`."""
        return self._answers().opening(response)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `Codec.closing`."""
        return self._answers().closing(response, usage)

    def _answers(self) -> Codec:
        if self.like is None:
            raise CodecError(f"{self.dialect}: there are no messages")
        return self.like


def _object(body: bytes) -> Mapping[str, Json]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _usage(value: Mapping[str, Json]) -> Usage | None:
    """What an answer without a message says it used.

    A count of tokens uses none (Anthropic, Token counting: free, with a rate limit of its own).
    """
    if "usage" not in value and type(value.get("input_tokens")) is int:
        return Usage(0, 0)
    used = value.get("usage")
    tokens = used.get("prompt_tokens", used.get("total_tokens")) if isinstance(used, dict) else None
    return (
        Usage(tokens, 0)
        if type(tokens) is int and tokens >= 0
        else Usage(None, 0, basis="estimated")
    )

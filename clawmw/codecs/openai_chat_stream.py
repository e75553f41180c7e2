"""Chat completions as server-sent events: frames in, frames out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from clawmw.codecs.sse import SseFrames
from clawmw.core.stream import (
    Begin,
    Done,
    Extra,
    Fault,
    Finish,
    Frame,
    StreamEvent,
    TextDelta,
    ToolDelta,
    UsageEvent,
)
from clawmw.core.types import Json, Response, Usage

__all__ = [
    "SseDecoder",
    "closing",
    "count",
    "error_status",
    "opening",
    "reframe",
    "usage",
    "usage_json",
]


class SseDecoder(SseFrames):
    """Decodes a chat-completions stream."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, int] = {}
        """Indices given to calls that came without one, by id."""

    def mark(self, data: bytes) -> tuple[StreamEvent, ...] | None:
        """See `SseFrames.mark`: chat completions end with one."""
        return (Done(),) if data.strip() == b"[DONE]" else None

    def events(self, value: dict[str, Json]) -> list[StreamEvent]:
        """What a chunk says, in the order a reader would take it. Only the first choice."""
        events: list[StreamEvent] = []
        choices = value.get("choices")
        if not choices and (status := error_status(value)) is not None:
            return [Fault(status)]
        choice = choices[0] if isinstance(choices, list) and choices else {}
        delta = choice.get("delta") or {}
        if delta.get("role"):
            events.append(Begin(value.get("model"), value.get("id")))
        if isinstance(delta.get("content"), str) and delta["content"]:
            events.append(TextDelta(delta["content"]))
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            if not (isinstance(name, str) and isinstance(arguments, str)):
                raise TypeError("a tool call's name and arguments are texts")
            call_id, extra = call.get("id") or "", _beside(call, function)
            events.append(ToolDelta(self._index(call), call_id, name, arguments, extra))
        if more := {k: v for k, v in delta.items() if k not in _READ and v not in (None, "", [])}:
            events.append(Extra(more, _thought(more)))
        if choice.get("finish_reason"):
            events.append(Finish(choice["finish_reason"]))
        counted = usage(value.get("usage"))
        if counted is not None:
            events.append(UsageEvent(counted))
        return events

    def _index(self, call: Json) -> int:
        """The call's index; some servers leave it out and give each call an id alone."""
        index = call.get("index")
        if isinstance(index, int):
            return index
        if call.get("id"):
            self._calls.setdefault(str(call["id"]), len(self._calls))
            return self._calls[str(call["id"])]
        return max(len(self._calls) - 1, 0)


def _thought(delta: dict[str, Json]) -> str:
    """What a model thinks, where its server shows it."""
    said = (delta.get(key) for key in ("reasoning_content", "reasoning"))
    return next((text for text in said if isinstance(text, str)), "")


_READ = frozenset({"role", "content", "tool_calls"})
_READ_OF_CALL = frozenset({"index", "id", "type", "function"})


def _beside(call: dict[str, Json], function: dict[str, Json]) -> Json:
    """What else a tool call's delta says; None for nothing."""
    extra = {k: v for k, v in call.items() if k not in _READ_OF_CALL and v is not None}
    inner = {k: v for k, v in function.items() if k not in ("name", "arguments")}
    return ({**extra, "function": inner} if inner else extra) or None


_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "api_error": 500,
    "overloaded_error": 529,
}


def error_status(value: Json) -> int | None:
    """The HTTP status that an error stands for which came as an answer; None: it is none.

    OpenRouter and LiteLLM put the status into `code`, others say the kind. 502: it says neither.
    """
    error = value.get("error") if isinstance(value, dict) and not value.get("choices") else None
    if not error:
        return None
    said = [error.get(k) for k in ("code", "status", "type")] if isinstance(error, dict) else []
    for word in said:
        text = str(word)
        if text.isdecimal() and 400 <= int(text[:4]) <= 599:
            return int(text)
        if text in _STATUS:
            return _STATUS[text]
    return 502


def reframe(frame: Frame, events: Sequence[StreamEvent]) -> bytes:
    """A frame that says `events`: its own JSON with the deltas made anew; b"" for none."""
    if not events:
        return b""
    if not isinstance(frame.raw, dict):
        return frame.wire if list(events) == list(frame.events) else _done(events)
    value = json.loads(json.dumps(frame.raw))
    choices = value.get("choices") or []
    texts = [e.text for e in events if isinstance(e, TextDelta)]
    calls = [e for e in events if isinstance(e, ToolDelta)]
    finish = next((e for e in events if isinstance(e, Finish)), None)
    counted = next((e.usage for e in events if isinstance(e, UsageEvent)), None)
    if choices or texts or calls or finish:
        choices = choices or [{"index": 0}]
        delta = choices[0].get("delta") or {}
        for key in ("content", "tool_calls"):
            delta.pop(key, None)
        if not any(isinstance(e, Begin) for e in events):
            delta.pop("role", None)
        if texts:
            delta["content"] = "".join(texts)
        if calls:
            delta["tool_calls"] = [_tool_delta(call) for call in calls]
        choices[0]["delta"] = delta
        choices[0]["finish_reason"] = finish.reason if finish else None
        value["choices"] = choices
    if counted is not None:
        value["usage"] = {**(value.get("usage") or {}), **usage_json(counted)}
    else:
        value.pop("usage", None)
        if not choices:
            return _done(events)
    return _data(value) + _done(events)


def _tool_delta(call: ToolDelta) -> Json:
    function: dict[str, Json] = {"arguments": call.arguments}
    value: dict[str, Json] = {"index": call.index}
    if call.id:
        value |= {"id": call.id, "type": "function"}
    if call.name:
        function = {"name": call.name, **function}
    extra = call.extra or {}
    return {**extra, **value, "function": {**extra.get("function", {}), **function}}


def _done(events: Sequence[StreamEvent]) -> bytes:
    return b"data: [DONE]\n\n" if any(isinstance(e, Done) for e in events) else b""


def _data(value: Json) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _chunk(response: Response, delta: Json, finish: str | None) -> dict[str, Json]:
    return {
        "id": response.id or "chatcmpl-clawmw",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": response.model or "clawmw",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def opening(response: Response) -> bytes:
    """A whole answer as chunks, up to its end."""
    frames = [_data(_chunk(response, {"role": "assistant", "content": ""}, None))]
    if response.message.text:
        frames.append(_data(_chunk(response, {"content": response.message.text}, None)))
    for index, call in enumerate(response.message.tool_calls):
        delta = _tool_delta(ToolDelta(index, call.id, call.name, call.arguments))
        frames.append(_data(_chunk(response, {"tool_calls": [delta]}, None)))
    return b"".join(frames)


def closing(response: Response, counted: Usage | None) -> bytes:
    """The end of a stream."""
    reason = response.finish_reason or "stop"
    frames = [_data(_chunk(response, {}, reason))]
    if counted is not None:
        last = {**_chunk(response, {}, None), "choices": [], "usage": usage_json(counted)}
        frames.append(_data(last))
    return b"".join([*frames, b"data: [DONE]\n\n"])


def usage(value: Json) -> Usage | None:
    """Usage off the wire: present but zero is zero, absent is None.

    `prompt_tokens` includes cached tokens; who reports writes does it as
    `cache_creation_input_tokens` (LiteLLM, OpenRouter) or in the details.
    """
    if not isinstance(value, dict):
        return None
    details, out = (
        found if isinstance(found := value.get(f"{kind}_tokens_details"), dict) else {}
        for kind in ("prompt", "completion")
    )
    read = count(details.get("cached_tokens"))
    if read is None:
        read = count(value.get("cache_read_input_tokens", value.get("prompt_cache_hit_tokens")))
    written = count(value.get("cache_creation_input_tokens", details.get("cache_write_tokens")))
    return Usage(
        count(value.get("prompt_tokens")),
        count(value.get("completion_tokens")),
        read,
        written,
        count(out.get("reasoning_tokens")),
    )


def count(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0:
        return None
    return int(min(value, 2**62))


def usage_json(counted: Usage) -> dict[str, Json]:
    """Usage as this dialect says it."""
    read, out = counted.input_tokens, counted.output_tokens
    value: dict[str, Json] = {"prompt_tokens": read, "completion_tokens": out}
    if read is not None and out is not None:
        value["total_tokens"] = read + out
    if counted.cache_read_tokens is not None:
        value["prompt_tokens_details"] = {"cached_tokens": counted.cache_read_tokens}
    if counted.cache_write_tokens is not None:
        value["cache_creation_input_tokens"] = counted.cache_write_tokens
    return value

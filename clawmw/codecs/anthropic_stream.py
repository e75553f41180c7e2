"""Anthropic's named server-sent events, read; and what a stream says beside text and calls.

A block's opening JSON, and what its deltas add to it, travel as `Extra`, so that the answer can
be put together again as it would have come whole: signed thinking, citations, server tools.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clawmw.codecs.anthropic_message import content_of
from clawmw.codecs.anthropic_usage import error_status, usage
from clawmw.codecs.body import dump
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
from clawmw.core.types import Json, Message, Text

__all__ = ["Decoder", "whole"]

_OF_CALL = frozenset({"type", "id", "name", "input"})


class Decoder(SseFrames):
    """Decodes one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, int] = {}
        """The calls of the agent's tools, numbered as they come, by their block."""
        self._texts: dict[int, int] = {}
        """Characters of each block of text so far."""
        self._usage: dict[str, Json] = {}

    def events(self, value: Json) -> list[StreamEvent]:
        """What an event says, in the order a reader would take it."""
        match value.get("type"):
            case "message_start":
                message = value["message"]
                self._counted(message.get("usage"))
                # What it says of the output is a beginning, and no sum.
                known = usage({**self._usage, "output_tokens": None})
                told = [UsageEvent(known)] if known is not None and self._usage else []
                return [Begin(message.get("model"), message.get("id")), *told]
            case "content_block_start":
                return self._opened(_whole(value["index"]), value["content_block"])
            case "content_block_delta":
                return self._moved(_whole(value["index"]), value["delta"])
            case "content_block_stop":
                index = _whole(value["index"])
                said = self._texts.pop(index, None)
                return [] if said is None else [_extra(index, chars=said)]
            case "message_delta":
                self._counted(value.get("usage"))
                reason = value["delta"].get("stop_reason")
                ended: list[StreamEvent] = [Finish(reason)] if reason else []
                counted = usage(self._usage) if self._usage else None
                return ended if counted is None else [*ended, UsageEvent(counted)]
            case "message_stop":
                return [Done()]
            case _:
                status = error_status(value)
                return [] if status is None else [Fault(status)]

    def _counted(self, value: Json) -> None:
        """Take in what was used so far: later counts replace earlier ones."""
        if isinstance(value, dict):
            self._usage.update({k: v for k, v in value.items() if v is not None})

    def _opened(self, index: int, block: dict[str, Json]) -> list[StreamEvent]:
        kind = block["type"]
        if kind == "tool_use":
            number = self._calls[index] = len(self._calls)
            more = {k: v for k, v in block.items() if k not in _OF_CALL and v is not None}
            given = dump(block["input"]).decode() if block.get("input") else ""
            extra = {"block": index, **more}
            return [ToolDelta(number, _text(block["id"]), _text(block["name"]), given, extra)]
        begun: list[StreamEvent] = [_extra(index, start=dump(block).decode())]
        if kind == "text":
            text = _text(block.get("text") or "")
            self._texts[index] = len(text)
            begun += [TextDelta(text)] if text else []
        return begun

    def _moved(self, index: int, delta: dict[str, Json]) -> list[StreamEvent]:
        kind = delta["type"]
        if kind == "text_delta":
            text = _text(delta["text"])
            self._texts[index] = self._texts.get(index, 0) + len(text)
            return [TextDelta(text)] if text else []
        if kind == "input_json_delta" and index in self._calls:
            piece = _text(delta["partial_json"])
            return [ToolDelta(self._calls[index], "", "", piece)] if piece else []
        if kind == "citations_delta":
            return [_extra(index, citations=dump(delta["citation"]).decode() + "\n")]
        thought = _text(delta["thinking"]) if kind == "thinking_delta" else ""
        return [_extra(index, thought, **{k: v for k, v in delta.items() if k != "type"})]

    def _frame(self, wire: bytes) -> Frame:
        frame = super()._frame(wire)
        alive = isinstance(frame.raw, dict) and frame.raw.get("type") == "ping"
        return Frame(wire, quiet=True) if alive else frame


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError("what the model says is text")
    return value


def _whole(value: Json) -> int:
    if type(value) is not int:
        raise TypeError("a block's index is a number")
    return value


def _extra(index: int, thought: str = "", **more: Json) -> Extra:
    return Extra({"blocks": [{"index": index, **more}]}, thought)


def whole(message: Message, extra: Json, calls: Sequence[Json]) -> dict[str, Json]:
    """A streamed message's JSON as it would have come whole."""
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    begun = extra.get("blocks") if isinstance(extra, dict) else None
    found: list[tuple[int, Json]] = []
    last: dict[str, Json] | None = None
    for told in begun if isinstance(begun, list) else ():
        block = _block(told)
        if block.get("type") == "text":
            block["text"], text, last = text[: told.get("chars")], text[told.get("chars") :], block
            if "chars" not in told:  # the stream was cut in it
                text = ""
        found.append((told["index"], block))
    if last is not None:
        last["text"] += text
    elif text:
        found.append((-1, {"type": "text", "text": text}))
    uses = content_of(Message(message.role, message.tool_calls)) if message.tool_calls else []
    for use, more in zip(uses, calls, strict=True):
        rest = dict(more or {})
        found.append((rest.pop("block", len(found)), {**use, **rest}))
    found.sort(key=lambda one: one[0])
    kept = [block for _, block in found if block.get("type") != "text" or block["text"]]
    return {"role": "assistant", "content": kept}


def _block(told: dict[str, Any]) -> dict[str, Json]:
    """A block as its opening and its deltas make it."""
    block: dict[str, Json] = json.loads(told.get("start", '{"type":"text","text":""}'))
    for key, value in told.items():
        match key:
            case "index" | "start" | "chars":
                pass
            case "citations":
                cited = [json.loads(line) for line in value.splitlines()]
                block[key] = [*(block.get(key) or ()), *cited]
            case "partial_json":
                block["input"] = json.loads(value or "{}")
            case _:
                before = block.get(key)
                both = isinstance(before, str) and isinstance(value, str)
                block[key] = before + value if both else value
    return block

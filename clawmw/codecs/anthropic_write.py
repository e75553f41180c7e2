"""Writes Anthropic's named server-sent events: one message, over all the attempts that it takes.

Blocks are numbered throughout, so whoever keeps one from the reader, or goes on with another
stream, must number the others anew. A frame whose number stays is handed on as it came.

Where a call may be kept back, so is the thinking before it until it is known whose it is: it is
signed, and belongs to what it led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from clawmw.codecs.anthropic_message import SIGNED, content_of
from clawmw.codecs.anthropic_usage import stop_reason, usage_json
from clawmw.codecs.body import dump
from clawmw.core.stream import (
    Done,
    Extra,
    Finish,
    Frame,
    StreamEvent,
    TextDelta,
    ToolDelta,
    UsageEvent,
)
from clawmw.core.types import Json, Response, Usage

__all__ = ["Writer", "event"]

_Raw: TypeAlias = dict[str, Json]


def event(value: dict[str, Json]) -> bytes:
    """One event, named by its type."""
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + dump(value) + b"\n\n"


class Writer:
    """See the module."""

    def __init__(self) -> None:
        self._begun = False
        self._next = 0
        """The number of the reader's next block."""
        self._open: int | None = None
        """The reader's block that has not ended."""
        self._given: dict[int, int | None] = {}
        """What number each block of the attempt has with the reader; None: it is kept back."""
        self._holding = False
        self._thinking: dict[int, list[tuple[bytes, _Raw]]] = {}
        """The frames of thinking that wait for what comes after it, by block."""
        self._kept_back = False
        """Whether the last block that began is a call that is kept back."""

    @property
    def shown(self) -> str | None:
        """See `StreamWriter.shown`: nothing goes on from an answer by its id."""
        return None

    def begin(self, *, holding: bool) -> None:
        """See `StreamWriter.begin`."""
        self._given, self._thinking = {}, {}
        self._holding, self._kept_back = holding, False

    # --- frames that come ------------------------------------------------------------------

    def frame(self, frame: Frame, events: Sequence[StreamEvent], *, changed: bool) -> bytes:
        """See `StreamWriter.frame`."""
        raw = frame.raw
        if not isinstance(raw, dict):
            return frame.wire
        if not changed and self._waits(frame.wire, raw):
            return b""
        match raw.get("type"):
            case "message_start":
                begun, self._begun = self._begun, True
                return b"" if begun else frame.wire
            case "content_block_start":
                return self._started(frame.wire, raw, events if changed else None)
            case "content_block_delta":
                return self._moved(frame.wire, raw, events if changed else None)
            case "content_block_stop":
                return self._stopped(frame.wire, raw)
            case "message_delta":
                return self._ended(frame.wire, raw, events if changed else None)
            case "message_stop":
                return frame.wire if not changed or Done() in events else b""
            case _:
                return frame.wire

    def _started(self, wire: bytes, raw: _Raw, events: Sequence[StreamEvent] | None) -> bytes:
        """A block begins; a call none of which is to be seen is kept back."""
        index: int = raw["index"]
        call = raw["content_block"].get("type") == "tool_use"
        shown = events is None or any(isinstance(e, ToolDelta if call else Extra) for e in events)
        self._kept_back = not shown
        if not shown:
            self._given[index] = None
            return b""
        thought = self._thought()
        self._given[index] = self._number()
        return thought + self._as(wire, raw)

    def _waits(self, wire: bytes, raw: _Raw) -> bool:
        """Whether a frame is of thinking that must wait; it is kept then."""
        index = raw.get("index", -1)
        begins = self._holding and raw.get("type") == "content_block_start"
        if begins and raw["content_block"].get("type") in SIGNED:
            self._thinking[index], self._kept_back = [], False
        if index not in self._thinking:
            return False
        self._thinking[index].append((wire, raw))
        return True

    def _thought(self) -> bytes:
        """The thinking that waited."""
        pieces, waiting = [], self._thinking
        self._thinking = {}
        for index, frames in waiting.items():
            self._given[index] = self._number()
            pieces += [self._as(wire, raw) for wire, raw in frames]
            if frames[-1][1]["type"] == "content_block_stop":
                self._open = None
        return b"".join(pieces)

    def _moved(self, wire: bytes, raw: _Raw, events: Sequence[StreamEvent] | None) -> bytes:
        index: int = raw["index"]
        if events is None:
            return self._as(wire, raw)
        pieces = [e for e in events if isinstance(e, ToolDelta)]
        if pieces and self._given.get(index) is None:  # it was uncertain whose it is
            begun = self._thought() + self._block(_use(pieces[0]))
            self._kept_back = False
            self._given[index] = self._open
            return begun + self._json("".join(e.arguments for e in pieces))
        if pieces:
            return self._json("".join(e.arguments for e in pieces))
        text = "".join(e.text for e in events if isinstance(e, TextDelta))
        if any(isinstance(e, Extra) for e in events):  # a block of another kind, and then a text
            shown = self._thought() + self._as(wire, raw)
            return shown + (self._close() + self._text(text) if text else b"")
        return self._delta({"type": "text_delta", "text": text}) if text else b""

    def _stopped(self, wire: bytes, raw: _Raw) -> bytes:
        index: int = raw["index"]
        if self._given.get(index, index) == self._open:
            self._open = None
        return self._as(wire, raw)

    def _ended(self, wire: bytes, raw: _Raw, events: Sequence[StreamEvent] | None) -> bytes:
        """Why the answer ended, and before it the calls that were uncertain until now."""
        if events is None:
            return (b"" if self._kept_back else self._thought()) + wire
        late: dict[int, list[ToolDelta]] = {}
        for one in events:
            if isinstance(one, ToolDelta):
                late.setdefault(one.index, []).append(one)
        finish = next((e for e in events if isinstance(e, Finish)), None)
        out = self._thought() if late or (finish and not self._kept_back) else b""
        for pieces in late.values():
            out += self._block(_use(pieces[0])) + self._json("".join(p.arguments for p in pieces))
            out += self._close()
        if finish is None:
            return out
        counted = next((e.usage for e in events if isinstance(e, UsageEvent)), None)
        delta = {**raw["delta"], "stop_reason": stop_reason(finish.reason)}
        value = {**raw, "delta": delta}
        if counted is not None:
            value["usage"] = usage_json(counted, raw.get("usage"))
        return out + event(value)

    def _as(self, wire: bytes, raw: _Raw) -> bytes:
        """A block's frame under the number that the reader knows the block by."""
        index: int = raw["index"]
        given = self._given.get(index, index)
        if given is None:
            return b""
        return wire if given == index else event({**raw, "index": given})

    # --- what we say -----------------------------------------------------------------------

    def more(self, response: Response) -> bytes:
        """See `StreamWriter.more`."""
        begin = b"" if self._begun else self._start(response)
        self._begun = True
        pieces = [begin, self._close()]
        for block in content_of(response.message):
            pieces += [self._whole(block), self._close()]
        return b"".join(pieces)

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `StreamWriter.closing`."""
        delta = {"stop_reason": stop_reason(response.finish_reason), "stop_sequence": None}
        counted = usage_json(usage or response.usage or Usage(output_tokens=0))
        end = event({"type": "message_delta", "delta": delta, "usage": counted})
        return self._close() + end + event({"type": "message_stop"})

    def failing(self, body: bytes) -> bytes:
        """See `StreamWriter.failing`."""
        return b"event: error\ndata: " + b" ".join(body.splitlines()) + b"\n\n"

    def _start(self, response: Response) -> bytes:
        counted = replace(response.usage or Usage(0, 0), output_tokens=0)
        message: _Raw = {
            "id": response.id or "msg_clawmw",
            "type": "message",
            "role": "assistant",
            "model": response.model or "clawmw",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_json(counted),
        }
        return event({"type": "message_start", "message": message})

    def _number(self) -> int:
        self._open, self._next = self._next, self._next + 1
        return self._open

    def _block(self, block: Json) -> bytes:
        number = self._number()
        return event({"type": "content_block_start", "index": number, "content_block": block})

    def _delta(self, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": self._open, "delta": delta})

    def _json(self, arguments: str) -> bytes:
        return self._delta({"type": "input_json_delta", "partial_json": arguments})

    def _text(self, text: str) -> bytes:
        begun = self._block({"type": "text", "text": ""})
        return begun + self._delta({"type": "text_delta", "text": text})

    def _close(self) -> bytes:
        """The end of the block that is open, if one is."""
        index, self._open = self._open, None
        return b"" if index is None else event({"type": "content_block_stop", "index": index})

    def _whole(self, block: dict[str, Json]) -> bytes:
        """A block as a stream says it."""
        match block.get("type"):
            case "text":
                return self._text(block["text"])
            case "tool_use":
                return self._block({**block, "input": {}}) + self._json(
                    dump(block["input"]).decode()
                )
            case "thinking":
                said = {"type": "thinking_delta", "thinking": block.get("thinking", "")}
                signed = {"type": "signature_delta", "signature": block.get("signature", "")}
                begun = self._block({**block, "thinking": "", "signature": ""})
                return begun + self._delta(said) + self._delta(signed)
            case _:
                return self._block(block)


def _use(piece: ToolDelta) -> dict[str, Json]:
    """A call's opening block, from its first piece."""
    more = {k: v for k, v in (piece.extra or {}).items() if k != "block"}
    return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}, **more}

"""Responses as server-sent events: frames out.

The reader sees one answer, whatever it took: items numbered without those that were kept from
it, events counted without a gap, and at the end a whole answer that holds what was shown. As long
as nothing was kept back or added, every frame is the provider's own bytes.

Where a call may be kept back, so is what belongs to it until it is known whose it is: the
reasoning before it (the provider wants the two together), and the announcement of a response that
then never was. A continued answer keeps the id under which it was announced (the SDK insists);
`shown` says so, since the provider goes on from its own last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clawmw.codecs import openai_responses_answer as answers
from clawmw.codecs.body import dump
from clawmw.codecs.openai_responses_items import CALLS, kind_of
from clawmw.codecs.openai_responses_stream import ENDS
from clawmw.core.stream import Finish, Frame, StreamEvent, TextDelta, ToolDelta, UsageEvent
from clawmw.core.types import Json, Response, Text, ToolCall, Usage

__all__ = ["Writer"]

_HEADS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ADDED = "response.output_item.added"
_DONE = "response.output_item.done"
_TEXT = "response.output_text.delta"
_ALIVE = "keepalive"


@dataclass(slots=True)
class _Item:
    """An item that the reader was shown."""

    json: dict[str, Json]
    done: bool = False
    pieces: dict[int, list[str]] = field(default_factory=dict)
    """Its text by content index, or its arguments under 0."""
    retold: bool = False
    """A stage changed its text: the provider's own sums of it do not hold."""

    def said(self, index: int = 0) -> str:
        """What came so far."""
        return "".join(self.pieces.get(index, ()))


class Writer:
    """See the module; a `StreamWriter`."""

    def __init__(self) -> None:
        self._begun: dict[str, Json] | None = None
        self._items: list[_Item] = []
        self._last: int | None = None
        """The last sequence number that the reader was given."""
        self._counts = False
        """Whether events are counted anew."""
        self._apart = False
        """Whether the answer is another than the provider's last."""
        self._holding = self._going_on = False
        self._places: dict[int, int] = {}
        self._held: dict[int, list[Frame]] = {}
        self._waiting: list[Frame] = []
        self._thinking: set[int] = set()

    @property
    def shown(self) -> str | None:
        """See `StreamWriter.shown`."""
        name = self._begun.get("id") if self._begun is not None else None
        return name if isinstance(name, str) else None

    def begin(self, *, holding: bool) -> None:
        """See `StreamWriter.begin`."""
        self._holding, self._going_on = holding, self._begun is not None
        self._counts = self._apart = self._going_on
        self._places, self._held, self._waiting, self._thinking = {}, {}, [], set()

    # --- frames --------------------------------------------------------------------------------

    def frame(self, frame: Frame, events: Sequence[StreamEvent], *, changed: bool) -> bytes:
        """See `StreamWriter.frame`."""
        raw = frame.raw
        if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
            return frame.wire
        kind, index = raw["type"], raw.get("output_index")
        if kind in ENDS:
            return self._end(frame, events, changed=changed)
        if kind in _HEADS:
            return self._head(frame)
        if kind == _ALIVE and self._waiting:  # it would come before the response
            self._counts = True
            return b": still there\n\n"
        if not isinstance(index, int):
            kept = b"" if kind == _ALIVE else self._flush()
            return kept + self._put(frame, {})
        if index in self._held:
            self._held[index].append(frame)
            return self._release(index) if _calls(events) else b""
        if kind == _ADDED and changed and _is_call(raw) and not _calls(events):
            self._held[index], self._counts = [frame], True
            return b""
        if self._holding and kind == _ADDED and kind_of(raw.get("item")) == "reasoning":
            self._thinking.add(index)
        if index in self._thinking and not any(isinstance(e, TextDelta) for e in events):
            self._waiting.append(frame)
            return b""
        return self._flush() + self._show(frame, events if changed else None)

    def _head(self, frame: Frame) -> bytes:
        """What announces a response: once, and not before there is something of it to show."""
        if self._going_on:
            return b""
        if self._holding:
            self._waiting.append(frame)
            return b""
        return self._show(frame, None)

    def _flush(self) -> bytes:
        waiting, self._waiting = self._waiting, []
        self._thinking.clear()
        return b"".join([self._show(frame, None) for frame in waiting])

    def _release(self, index: int) -> bytes:
        """A call that was kept back is the reader's after all."""
        frames = self._held.pop(index)
        return self._flush() + b"".join([self._show(frame, None) for frame in frames])

    def _show(self, frame: Frame, events: Sequence[StreamEvent] | None) -> bytes:
        """Give a frame to the reader; `events`: what it is to say instead."""
        raw: dict[str, Any] = frame.raw  # type: ignore[assignment]  # only such come here
        kind, index = raw["type"], raw.get("output_index")
        edits: dict[str, Json] = {}
        if kind == "response.created":
            self._begun = raw.get("response")
        if isinstance(index, int):
            if kind == _ADDED:
                self._places[index] = len(self._items)
                self._items.append(_Item(raw["item"]))
            place = self._places.get(index, index)
            if place != index:
                edits["output_index"] = place
            if place < len(self._items):
                told = self._told(self._items[place], raw, events, edits)
                if not told:
                    self._counts = True
                    return b""
        shown = self._put(frame, edits)
        if events is not None and kind != _TEXT:
            shown += self._texts([e.text for e in events if isinstance(e, TextDelta)])
        return shown

    def _told(
        self,
        item: _Item,
        raw: dict[str, Any],
        events: Sequence[StreamEvent] | None,
        edits: dict[str, Json],
    ) -> bool:
        """Take down what a frame says of an item; False: nothing is left of it to say."""
        kind, part = raw["type"], raw.get("content_index", 0)
        if kind == _TEXT:
            text = raw["delta"]
            if events is not None:
                text = "".join([e.text for e in events if isinstance(e, TextDelta)])
                edits["delta"], item.retold = text, True
            item.pieces.setdefault(part, []).append(text)
            return bool(text) or events is None
        if kind.endswith(".delta") and kind_of(item.json) in CALLS:
            item.pieces.setdefault(0, []).append(raw["delta"])
        elif item.retold and kind == "response.output_text.done":
            edits["text"] = item.said(part)
        elif item.retold and kind == "response.content_part.done":
            edits["part"] = {**raw["part"], "text": item.said(part)}
        elif kind == _DONE:
            item.json, item.done = raw["item"], True
            if item.retold:
                self._apart = True
                edits["item"] = item.json = _retold(item)
        return True

    def _put(self, frame: Frame, edits: dict[str, Json]) -> bytes:
        """A frame's own bytes, or with other values in it."""
        raw: dict[str, Any] = frame.raw  # type: ignore[assignment]
        number = raw.get("sequence_number")
        if isinstance(number, int):
            if self._counts and self._last is not None and number != self._last + 1:
                number = edits["sequence_number"] = self._last + 1
            self._last = number
        return frame.wire if not edits else _event({**raw, **edits})

    def _end(self, frame: Frame, events: Sequence[StreamEvent], *, changed: bool) -> bytes:
        """The whole answer: as it came, or what the reader was shown."""
        released = b""
        for index in [i for i, held in self._held.items() if _among(held[0], events)]:
            released += self._release(index)
        self._apart = self._apart or bool(self._held)
        if not any(isinstance(e, Finish) for e in events):
            self._waiting, self._held, self._counts = [], {}, True
            return released
        released += self._flush()
        usage = next((e.usage for e in events if isinstance(e, UsageEvent)), None)
        raw: dict[str, Any] = frame.raw  # type: ignore[assignment]
        edits: dict[str, Json] = {}
        response = raw["response"]
        if changed and usage is not None:
            response = {**response, "usage": answers.usage_json(usage, response.get("usage"))}
        if self._apart:
            response = {**response, "output": [item.json for item in self._items]}
        if self.shown is not None and response.get("id") != self.shown:
            response = {**response, "id": self.shown}
        if response is not raw["response"]:
            edits["response"] = response
        return released + self._put(frame, edits)

    # --- made here -----------------------------------------------------------------------------

    def more(self, response: Response) -> bytes:
        """See `StreamWriter.more`."""
        wire, self._apart = self._flush(), True
        if self._begun is None:
            base = answers.object_of(response, ())
            self._begun = base | {"status": "in_progress", "usage": None}
            for kind in ("response.created", "response.in_progress"):
                wire += self._say(kind, response=self._begun)
        for part in response.message.parts:
            if isinstance(part, Text):
                wire += self._texts([part.text])
            elif isinstance(part, ToolCall):
                wire += self._call(part)
        return wire

    def closing(self, response: Response, usage: Usage | None) -> bytes:
        """See `StreamWriter.closing`."""
        nothing = replace(response.message, parts=(), wire=None)
        wire = self.more(replace(response, message=nothing))
        wire += b"".join([self._close(n) for n, item in enumerate(self._items) if not item.done])
        said = Response(response.message, usage, response.finish_reason, response.model)
        whole = answers.object_of(said, [item.json for item in self._items], self._begun)
        return wire + self._say(f"response.{whole['status']}", response=whole)

    def failing(self, body: bytes) -> bytes:
        """See `StreamWriter.failing`: an `error`, and the response that failed, if one began."""
        error = answers.error_in(body)
        said = {key: error.get(key) for key in ("code", "message", "param")}
        wire = self._say("error", **said, error=error)
        if self._begun is None:
            return wire
        code = {"code": error.get("code") or "server_error", "message": error.get("message")}
        failed = {**self._begun, "status": "failed", "error": code}
        output = [item.json for item in self._items if item.done]
        return wire + self._say("response.failed", response={**failed, "output": output})

    def _say(self, kind: str, **fields: Json) -> bytes:
        """An event of our own."""
        self._last, self._counts = 0 if self._last is None else self._last + 1, True
        return _event({"type": kind, "sequence_number": self._last, **fields})

    def _texts(self, texts: Iterable[str]) -> bytes:
        """Text of our own: in the message that is being said, or in one more."""
        text, wire = "".join(texts), b""
        if not text:
            return b""
        number = len(self._items) - 1
        item = self._items[-1] if self._items else None
        if item is None or item.done or kind_of(item.json) != "message" or not item.pieces:
            number = len(self._items)
            made = answers.text_item(self.shown, number, None)
            item = _Item(made)
            self._items.append(item)
            wire = self._say(_ADDED, output_index=number, item=made | {"status": "in_progress"})
            at = {"item_id": made["id"], "output_index": number, "content_index": 0}
            wire += self._say("response.content_part.added", **at, part=answers.text_part(""))
        part = max(item.pieces, default=0)
        item.pieces.setdefault(part, []).append(text)
        item.retold = self._apart = True
        at = {"item_id": item.json.get("id"), "output_index": number, "content_index": part}
        return wire + self._say(_TEXT, **at, delta=text, logprobs=[])

    def _call(self, call: ToolCall) -> bytes:
        number = len(self._items)
        made = answers.call_item(self.shown, number, call)
        begun = made | {"status": "in_progress", "arguments": ""}
        at = {"item_id": made["id"], "output_index": number}
        wire = b"".join([self._close(n) for n, item in enumerate(self._items) if not item.done])
        self._items.append(_Item(made, pieces={0: [call.arguments]}))
        wire += self._say(_ADDED, output_index=number, item=begun)
        wire += self._say("response.function_call_arguments.delta", **at, delta=call.arguments)
        return wire + self._close(number)

    def _close(self, number: int) -> bytes:
        """The end of an item that was not ended."""
        item = self._items[number]
        at: dict[str, Json] = {"item_id": item.json.get("id"), "output_index": number}
        wire, kind = b"", kind_of(item.json)
        if kind in CALLS:
            said = {CALLS[kind]: item.said()}
            item.json = {**item.json, **said, "status": "completed"}
            event = "custom_tool_call_input" if kind.startswith("custom") else f"{kind}_arguments"
            wire = self._say(f"response.{event}.done", **at, **said, name=item.json.get("name"))
        elif kind == "message":
            item.json = {**_retold(item), "status": "completed"}
            for part in sorted(item.pieces):
                told, here = item.said(part), {**at, "content_index": part}
                block = answers.text_part(told)
                wire += self._say("response.output_text.done", **here, text=told, logprobs=[])
                wire += self._say("response.content_part.done", **here, part=block)
        item.done = True
        return wire + self._say(_DONE, output_index=number, item=item.json)


def _event(value: dict[str, Json]) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + dump(value) + b"\n\n"


def _is_call(raw: dict[str, Json]) -> bool:
    return kind_of(raw.get("item")) in CALLS


def _calls(events: Sequence[StreamEvent]) -> bool:
    return any(isinstance(event, ToolDelta) for event in events)


def _among(frame: Frame, events: Sequence[StreamEvent]) -> bool:
    """Whether the call that a frame adds is one of those that events tell of."""
    call_id = frame.raw["item"].get("call_id") if isinstance(frame.raw, dict) else None
    return any(isinstance(e, ToolDelta) and e.id == call_id for e in events)


def _retold(item: _Item) -> dict[str, Json]:
    """A message with the text that the reader was given."""
    content = list(item.json.get("content") or ())
    for part in sorted(item.pieces):
        told = item.said(part)
        if part < len(content) and isinstance(content[part], dict):
            content[part] = {**content[part], "text": told}
        else:
            content.append(answers.text_part(told))
    return {**item.json, "content": content}

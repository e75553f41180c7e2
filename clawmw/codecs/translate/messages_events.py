"""Streams of messages and chat completions, each as the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from clawmw.codecs.translate.base import CHAT, DONE, MESSAGES, Body, Names
from clawmw.codecs.translate.faults import error_event, read_error
from clawmw.codecs.translate.messages_answer import (
    chat_usage,
    finish_reason,
    messages_usage,
    stop_reason,
    thinking_of,
)

__all__ = ["ChatEvents", "MessagesEvents", "chunk"]

_PING: Body = {"type": "ping"}


def chunk(head: Body, delta: Body, finish: str | None = None) -> Body:
    """A chunk of a chat completion. `head`: id and model."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": head.get("id") or "chatcmpl-clawmw",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": head.get("model") or "",
        "choices": [choice],
    }


class ChatEvents:
    """Messages on the wire, chat completions for the reader. `counted`: usage was asked for."""

    def __init__(self, names: Names, *, counted: bool) -> None:
        self._names, self._counted = names, counted
        self._head: Body = {}
        self._usage: Body = {}
        self._blocks: dict[int, Body] = {}
        self._calls: dict[int, int] = {}
        self._stopped = False

    def feed(self, event: Body) -> Iterator[Body]:
        """See `Events.feed`."""
        match event.get("type"):
            case "message_start":
                self._head = event["message"]
                self._count(self._head.get("usage"))
                yield chunk(self._head, {"role": "assistant", "content": ""})
            case "content_block_start":
                yield from self._begin(event["index"], event["content_block"])
            case "content_block_delta":
                yield from self._delta(event["index"], event["delta"])
            case "content_block_stop":
                yield from self._close(event["index"])
            case "message_delta":
                self._count(event.get("usage"))
                if reason := event["delta"].get("stop_reason"):
                    yield chunk(self._head, {}, finish_reason(reason))
                    self._stopped = True
            case "message_stop":
                yield from self.end()
            case "error":
                yield error_event(CHAT, read_error(event))

    def end(self) -> Iterator[Body]:
        """See `Events.end`."""
        if not self._stopped:
            return
        self._stopped = False
        usage = chat_usage(self._usage)
        if self._counted and usage is not None:
            yield {**chunk(self._head, {}), "choices": [], "usage": usage}
        yield DONE

    def _count(self, usage: Any) -> None:
        """Counts are of the whole message so far: a later one replaces an earlier one."""
        given = usage if isinstance(usage, dict) else {}
        self._usage |= {name: count for name, count in given.items() if count is not None}

    def _begin(self, index: int, block: Body) -> Iterator[Body]:
        self._blocks[index] = dict(block)
        if block["type"] == "text" and block.get("text"):
            yield chunk(self._head, {"content": block["text"]})
        if block["type"] == "tool_use":
            place = self._calls[index] = len(self._calls)
            function = {"name": self._names.back(block["name"]), "arguments": ""}
            call = {"index": place, "id": block["id"], "type": "function", "function": function}
            yield chunk(self._head, {"tool_calls": [call]})

    def _delta(self, index: int, delta: Body) -> Iterator[Body]:
        block = self._blocks.setdefault(index, {"type": "text"})
        match delta.get("type"):
            case "text_delta":
                yield chunk(self._head, {"content": delta["text"]})
            case "input_json_delta" if index in self._calls and delta["partial_json"]:
                piece = {"arguments": delta["partial_json"]}
                call = {"index": self._calls[index], "function": piece}
                yield chunk(self._head, {"tool_calls": [call]})
            case "thinking_delta":
                block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
                yield chunk(self._head, {"reasoning_content": delta["thinking"]})
            case "signature_delta":
                block["signature"] = (block.get("signature") or "") + delta["signature"]

    def _close(self, index: int) -> Iterator[Body]:
        """A block of thinking is whole: its signature is for whoever sends it back."""
        found = thinking_of([self._blocks.get(index, {})], self._head.get("model") or "")
        if signed := found.get("thinking_blocks"):
            yield chunk(self._head, {"thinking_blocks": signed})


class MessagesEvents:
    """Chat completions on the wire, messages for the reader: one block open at a time.

    Calls of tools that come interleaved wait until the one before them is whole. The input's
    tokens are known at the end only, so `message_delta` tells them. While another provider's
    model reasons there is nothing to show (see `messages_answer`) but that it is alive.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._head: Body | None = None
        self._open: str | int | None = None
        self._blocks = 0
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self._usage: Any = None
        self._late = ""
        """Text that came in the middle of a call."""
        self._over = False

    def feed(self, event: Body) -> Iterator[Body]:
        """See `Events.feed`."""
        if event is DONE:
            yield from self.end()
            return
        if event.get("error") and not event.get("choices"):
            yield error_event(MESSAGES, read_error(event))
            return
        if self._head is None and event.get("choices"):  # some servers begin with remarks
            self._head = event
            yield self._start(event)
        self._usage = event.get("usage") or self._usage
        for choice in (event.get("choices") or ())[:1]:
            yield from self._delta(choice.get("delta") or {})
            self._finish = choice.get("finish_reason") or self._finish

    def end(self) -> Iterator[Body]:
        """See `Events.end`."""
        if self._finish is None or self._over:
            return
        self._over = True
        yield from self._close()
        if self._late:
            yield from self._text(self._late)
        for place in sorted(self._calls):
            yield from self._call(place)
            yield from self._close()
        reason = stop_reason(self._finish, called=bool(self._calls))
        delta = {"stop_reason": reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": messages_usage(self._usage)}
        yield {"type": "message_stop"}

    def _start(self, event: Body) -> Body:
        message: Body = {
            "id": event.get("id") or "msg_clawmw",
            "type": "message",
            "role": "assistant",
            "model": event.get("model") or "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return {"type": "message_start", "message": message}

    def _delta(self, delta: Body) -> Iterable[Body]:
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            yield from self._text(text)
        elif delta.get("reasoning_content") or delta.get("reasoning"):
            yield _PING
        for call in delta.get("tool_calls") or ():
            place = self._place(call)
            self._calls.setdefault(place, _Call()).feed(call)
            yield from self._call(place)

    def _text(self, text: str) -> Iterator[Body]:
        if not self._over and isinstance(self._open, int) and not self._calls[self._open].whole:
            self._late += text
            return
        if self._open != "text":
            yield from self._begin("text", {"type": "text", "text": ""})
        yield self._piece({"type": "text_delta", "text": text})

    def _place(self, call: Body) -> int:
        """The call's index; some servers give none, but an id to each new call."""
        index = call.get("index")
        if isinstance(index, int):
            return index
        known = [place for place, one in self._calls.items() if one.id == call.get("id")]
        last = max(self._calls, default=-1)
        return known[0] if known else last + 1 if call.get("id") or last < 0 else last

    def _call(self, place: int) -> Iterator[Body]:
        """As much of a call as may be told now."""
        call = self._calls[place]
        if not call.named or call.told:
            return
        if self._open != place:
            other = self._calls.get(self._open) if isinstance(self._open, int) else None
            if other is not None and not other.whole and not self._over:
                yield _PING  # its arguments go on: this one waits
                return
            use = {"id": call.id or f"call_{place}", "name": self._names.back(call.name)}
            yield from self._begin(place, {"type": "tool_use", **use, "input": {}})
        if rest := call.rest():
            yield self._piece({"type": "input_json_delta", "partial_json": rest})

    def _begin(self, what: str | int, block: Body) -> Iterator[Body]:
        yield from self._close()
        self._open = what
        yield {"type": "content_block_start", "index": self._blocks, "content_block": block}

    def _piece(self, delta: Body) -> Body:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _close(self) -> Iterator[Body]:
        if self._open is None:
            return
        if isinstance(self._open, int):
            self._calls[self._open].told = True
        self._open = None
        yield {"type": "content_block_stop", "index": self._blocks}
        self._blocks += 1


class _Call:
    """A call of a tool as far as it came."""

    def __init__(self) -> None:
        self.id, self.name, self.arguments = "", "", ""
        self.told = False
        """Its block is closed."""
        self._given = 0

    @property
    def named(self) -> bool:
        """Whether a block can begin for it."""
        return bool(self.name)

    @property
    def whole(self) -> bool:
        """Whether its arguments are complete."""
        try:
            json.loads(self.arguments)
        except ValueError:
            return False
        return True

    def feed(self, call: Body) -> None:
        """Take a piece of it in."""
        function = call.get("function") or {}
        self.id = call.get("id") or self.id
        self.name = self.name or function.get("name") or ""
        self.arguments += function.get("arguments") or ""

    def rest(self) -> str:
        """The arguments that were not told so far."""
        rest = self.arguments[self._given :]
        self._given = len(self.arguments)
        return rest

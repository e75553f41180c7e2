"""Streams of Responses and chat completions, each as the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clawmw.codecs.translate.base import CHAT, DONE, RESPONSES, Body
from clawmw.codecs.translate.faults import error_event, read_error
from clawmw.codecs.translate.messages_events import chunk
from clawmw.codecs.translate.responses_answer import (
    call_item,
    chat_usage,
    ending,
    finish_of,
    responses_head,
)
from clawmw.codecs.translate.responses_custom import as_item, customs

__all__ = ["ChatEvents", "ResponsesEvents"]

_TEXTS = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
}


_ALIVE: Body = {"type": "keepalive"}


class ChatEvents:
    """Responses on the wire, chat completions for the reader. `counted`: usage was asked for."""

    def __init__(self, *, counted: bool) -> None:
        self._counted = counted
        self._head: Body = {}
        self._calls: dict[str, int] = {}
        self._told: set[str] = set()
        self._over = False

    def feed(self, event: Body) -> Iterator[Body]:
        """See `Events.feed`."""
        kind = event.get("type") or ""
        if name := _TEXTS.get(kind):
            yield self._chunk({name: event["delta"]})
            return
        match kind:
            case "response.created":
                self._head = event["response"]
                yield self._chunk({"role": "assistant", "content": ""})
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                yield from self._call(event["item"])
            case "response.function_call_arguments.delta":
                yield from self._arguments(event["item_id"], event["delta"])
            case "response.function_call_arguments.done":
                if event["item_id"] not in self._told:
                    yield from self._arguments(event["item_id"], event["arguments"])
            case "response.completed" | "response.incomplete":
                yield from self._finish(event["response"])
            case "response.failed" | "error":
                yield error_event(CHAT, read_error(event))

    def end(self) -> Iterator[Body]:
        """See `Events.end`."""
        return iter(())

    def _chunk(self, delta: Body, finish: str | None = None) -> Body:
        made = chunk(self._head, delta, finish)
        return {**made, "created": int(self._head.get("created_at") or 0)}

    def _call(self, item: Body) -> Iterator[Body]:
        place = self._calls[item["id"]] = len(self._calls)
        function = {"name": item["name"], "arguments": ""}
        call = {"index": place, "id": item["call_id"], "type": "function", "function": function}
        yield self._chunk({"tool_calls": [call]})

    def _arguments(self, item_id: str, piece: str) -> Iterator[Body]:
        if item_id in self._calls and piece:
            self._told.add(item_id)
            call = {"index": self._calls[item_id], "function": {"arguments": piece}}
            yield self._chunk({"tool_calls": [call]})

    def _finish(self, response: Body) -> Iterator[Body]:
        if self._over:
            return
        self._over = True
        yield self._chunk({}, finish_of(response, called=bool(self._calls)))
        usage = chat_usage(response.get("usage"))
        if self._counted and usage is not None:
            yield {**self._chunk({}), "choices": [], "usage": usage}
        yield DONE


class ResponsesEvents:
    """Chat completions on the wire, Responses for the reader: items are added as they begin.

    While another provider's model reasons there is nothing to show (see `responses_answer`)
    but that it is alive, as OpenAI itself says it.
    """

    def __init__(self, request: Body) -> None:
        self._request = request
        self._customs = customs(request.get("tools"))
        self._head: Body | None = None
        self._output: list[Body] = []
        self._open: dict[str | int, int] = {}
        """Places of the items under way: of the message, and of each call by its index."""
        self._finish: str | None = None
        self._usage: Any = None
        self._over = False

    def feed(self, event: Body) -> Iterator[Body]:
        """See `Events.feed`."""
        if event is DONE:
            yield from self.end()
            return
        if event.get("error") and not event.get("choices"):
            yield error_event(RESPONSES, read_error(event))
            return
        if self._head is None and event.get("choices"):
            self._head = responses_head(self._request, event)
            yield {"type": "response.created", "response": self._head}
            yield {"type": "response.in_progress", "response": self._head}
        self._usage = event.get("usage") or self._usage
        for choice in (event.get("choices") or ())[:1]:
            yield from self._delta(choice.get("delta") or {})
            self._finish = choice.get("finish_reason") or self._finish

    def end(self) -> Iterator[Body]:
        """See `Events.end`."""
        if self._finish is None or self._over or self._head is None:
            return
        self._over = True
        for place in self._open.values():
            yield from self._done(place)
        end = ending(self._finish, self._usage)
        response = {**self._head, "output": self._output, **end}
        yield {"type": f"response.{end['status']}", "response": response}

    def _delta(self, delta: Body) -> Iterator[Body]:
        for name, kind in (("content", "output_text"), ("refusal", "refusal")):
            text = delta.get(name)
            if isinstance(text, str) and text:
                yield from self._text(kind, text)
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)
        if delta.get("reasoning_content") or delta.get("reasoning"):
            yield _ALIVE

    def _text(self, kind: str, text: str) -> Iterator[Body]:
        if kind not in self._open:
            yield from self._message(kind)
        place = self._open[kind]
        item = self._output[place]
        part = item["content"][0]
        key = "refusal" if kind == "refusal" else "text"
        part[key] += text
        at = {"item_id": item["id"], "output_index": place, "content_index": 0}
        more: Body = {} if kind == "refusal" else {"logprobs": []}
        yield {"type": f"response.{kind}.delta", **at, "delta": text, **more}

    def _message(self, kind: str) -> Iterator[Body]:
        """A message begins, with its one part."""
        place = self._open[kind] = len(self._output)
        assert self._head is not None
        part: Body = {"type": "refusal", "refusal": ""}
        if kind == "output_text":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        suffix = f"_{place}" if place else ""
        item: Body = {
            "type": "message",
            "id": f"msg_{self._head['id']}{suffix}",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        yield {"type": "response.output_item.added", "output_index": place, "item": dict(item)}
        at = {"item_id": item["id"], "output_index": place, "content_index": 0}
        yield {"type": "response.content_part.added", **at, "part": dict(part)}
        self._output.append({**item, "content": [part]})

    def _call(self, call: Body) -> Iterator[Body]:
        function = call.get("function") or {}
        index = self._index(call)
        if index not in self._open:
            if not function.get("name"):
                return
            assert self._head is not None
            for kind in ("output_text", "refusal"):  # what is said later is another message
                if kind in self._open:
                    yield from self._done(self._open.pop(kind))
            place = self._open[index] = len(self._output)
            began = {"id": call.get("id"), "function": {"name": function["name"]}}
            item = {**call_item(began, index, self._head["id"]), "status": "in_progress"}
            self._output.append(item)
            shown = as_item(item) if item["name"] in self._customs else dict(item)
            yield {"type": "response.output_item.added", "output_index": place, "item": shown}
        place = self._open[index]
        if piece := function.get("arguments"):
            self._output[place]["arguments"] += piece
            if self._output[place]["name"] in self._customs:
                yield _ALIVE  # its text can be read out of the JSON when that is whole
                return
            at = {"item_id": self._output[place]["id"], "output_index": place}
            yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}

    def _index(self, call: Body) -> int:
        """The call's index; some servers give none, but an id to each new call."""
        index = call.get("index")
        if isinstance(index, int):
            return index
        places = {n: p for n, p in self._open.items() if isinstance(n, int)}
        same = [n for n, p in places.items() if self._output[p]["call_id"] == call.get("id")]
        last = max(places, default=-1)
        return same[0] if same else last + 1 if call.get("id") or last < 0 else last

    def _done(self, place: int) -> Iterator[Body]:
        """An item is whole."""
        item = self._output[place]
        item["status"] = "completed"
        at = {"item_id": item["id"], "output_index": place}
        if item["type"] == "function_call" and item["name"] in self._customs:
            item = self._output[place] = as_item(item)
            text, kind = item["input"], "response.custom_tool_call_input"
            yield {"type": f"{kind}.delta", **at, "delta": text}
            yield {"type": f"{kind}.done", **at, "input": text}
        elif item["type"] == "function_call":
            said = {"name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **at, **said}
        else:
            part = item["content"][0]
            inner = {**at, "content_index": 0}
            if part["type"] == "refusal":
                yield {"type": "response.refusal.done", **inner, "refusal": part["refusal"]}
            else:
                text = {"text": part["text"], "logprobs": []}
                yield {"type": "response.output_text.done", **inner, **text}
            yield {"type": "response.content_part.done", **inner, "part": part}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}

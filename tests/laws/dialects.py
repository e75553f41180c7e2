"""A bench of Anthropic's dialect, for conversations that are written as chat completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from clawmw.codecs.anthropic import DIALECT
from clawmw.core.types import Json, Outcome
from clawmw.emulator.messages_input import as_chat, validate
from clawmw.testing import Bench
from tests.laws.strategies import drawn

__all__ = ["Messages", "numbered", "refusing", "spoken"]


class Messages(Bench):
    """See the module."""

    dialect: ClassVar[str] = DIALECT

    def shaped(
        self, messages: Sequence[Json], tools: Sequence[Json], params: Mapping[str, Json]
    ) -> dict[str, Json]:
        """See `Bench.shaped`."""
        said, more = spoken(messages)
        body = {"model": "fake", "messages": said, **more, **params}
        return {**body, "tools": [tool_of(tool) for tool in tools]} if tools else body


def refusing(body: dict[str, Json]) -> Outcome:
    """`drawn`, of a body of this dialect; one that its provider would refuse fails the test."""
    return drawn(as_chat(validate(json.dumps(body).encode())))


def tool_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's definition."""
    function = tool.get("function")
    if function is None:
        return dict(tool)
    return {"name": function["name"], "input_schema": function["parameters"]}


def numbered(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls under ids of their own: this provider takes no doubled ones."""
    kept, waiting = [], list[str]()
    for place, message in enumerate(json.loads(json.dumps(messages))):
        if message.get("tool_calls"):
            waiting = [f"toolu_{place}_{n}" for n in range(len(message["tool_calls"]))]
            for call, name in zip(message["tool_calls"], waiting, strict=True):
                call["id"] = name
        elif message["role"] == "tool":
            message["tool_call_id"] = waiting.pop(0)
        kept.append(message)
    return kept


def spoken(messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages, and the fields of the body that belong to them."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    return list(_turns(messages)), {"max_tokens": 4000} | ({"system": system[0]} if system else {})


def _turns(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            given = {"tool_use_id": message["tool_call_id"], "content": _full(message["content"])}
            results.append({"type": "tool_result", **given})
            continue
        if results:
            yield {"role": "user", "content": results}
            results = []
        if message["role"] == "assistant":
            yield {"role": "assistant", "content": list(_answer(message))}
        elif message["role"] == "user":
            yield message
    if results:
        yield {"role": "user", "content": results}


def _full(content: Any) -> Any:
    """A result's content without blocks of nothing, which the provider refuses."""
    return [b for b in content if b["text"]] if isinstance(content, list) else content


def _answer(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if message["content"]:
        yield {"type": "text", "text": message["content"]}
    for call in message.get("tool_calls") or ():
        function = call["function"]
        told = {"name": function["name"], "input": json.loads(function["arguments"])}
        yield {"type": "tool_use", "id": call["id"], **told}

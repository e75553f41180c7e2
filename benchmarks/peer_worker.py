"""Runs one peer in its own environment: a JSON line of messages in, a JSON line out.

Started by `benchmarks.peers`, with the peer's name and its options as JSON. It imports nothing
of clawmw. CPU time is that of this process, while the peer works.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Messages = list[dict[str, Any]]
Peer = Callable[[Messages], Messages]


def headroom(options: dict[str, Any]) -> Peer:
    """headroom's library, without its language model (which needs weights from a network)."""
    from headroom import compress

    def send(messages: Messages) -> Messages:
        done = compress(messages, model="gpt-4o", kompress_model="disabled", **options)
        return list(done.messages)

    return send


def clear_tool_uses(options: dict[str, Any]) -> Peer:
    """LangChain's ClearToolUsesEdit, as ContextEditingMiddleware applies it."""
    from langchain.agents.middleware import ClearToolUsesEdit
    from langchain_core.messages.utils import count_tokens_approximately

    edit = ClearToolUsesEdit(**options)

    def send(messages: Messages) -> Messages:
        edited = _converted(messages)
        edit.apply(edited, count_tokens=count_tokens_approximately)
        return [
            {**message, "content": after.content} if after.content == edit.placeholder else message
            for message, after in zip(messages, edited, strict=True)
        ]

    return send


def trim_messages(options: dict[str, Any]) -> Peer:
    """LangChain's trim_messages: the last messages that fit, from a user's message on."""
    from langchain_core.messages import trim_messages as trim
    from langchain_core.messages.utils import count_tokens_approximately

    def send(messages: Messages) -> Messages:
        kept = trim(
            _converted(messages),
            token_counter=count_tokens_approximately,
            include_system=True,
            start_on=("human", "ai"),
            **options,
        )
        return [messages[int(message.id or 0)] for message in kept]

    return send


def _converted(messages: Messages) -> list[Any]:
    """LangChain's form; each message's id is its place."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    out: list[Any] = []
    for place, message in enumerate(messages):
        content, ident = message.get("content") or "", str(place)
        role = message["role"]
        if role == "tool":
            call = message.get("tool_call_id") or ""
            out.append(ToolMessage(content, tool_call_id=call, id=ident))
        elif role == "assistant":
            calls = [_call(call) for call in message.get("tool_calls") or ()]
            out.append(AIMessage(content, tool_calls=calls, id=ident))
        else:
            kind = SystemMessage if role in ("system", "developer") else HumanMessage
            out.append(kind(content, id=ident))
    return out


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = function["arguments"]
    if not isinstance(arguments, dict):
        arguments = {"text": arguments}
    return {"name": function["name"], "args": arguments, "id": call.get("id") or ""}


PEERS = {
    "headroom": headroom,
    "clear_tool_uses": clear_tool_uses,
    "trim_messages": trim_messages,
}


def main() -> None:
    """Answer lines until there are no more."""
    # Peers may print; only answers belong on the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = PEERS[sys.argv[1]](json.loads(sys.argv[2]))
    for line in sys.stdin:
        messages = json.loads(line)["messages"]
        started = time.process_time()
        sent, error = messages[:0], ""
        try:
            sent = peer(messages)
        except Exception as failure:  # noqa: BLE001 - the call goes as it was, and is counted
            error = type(failure).__name__
        spent = round((time.process_time() - started) * 1e6)
        answers.write(json.dumps({"messages": sent, "cpu_us": spent, "error": error}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

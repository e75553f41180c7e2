"""What the laws of `clawmw.testing` compare: requests and messages, pairs and prefixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from clawmw.core.codec import Codec
from clawmw.core.events import Event
from clawmw.core.fold import History, Step, chain
from clawmw.core.prefix import tools_digest
from clawmw.core.story import is_transient
from clawmw.core.stream import Done, StreamFold
from clawmw.core.types import Message, Request, Role, Text, ToolCall, ToolResult

__all__ = [
    "check_pairs",
    "check_prefix",
    "check_stream",
    "frozen",
    "left_out",
    "results",
    "said",
    "size",
    "told",
]


def frozen(request: Request) -> str:
    """All of a request that a stage could have changed in place."""
    wires = [(m.wire, m.origin, m.mark) for m in request.messages]
    return repr((request, wires, dict(request.params), [t.raw for t in request.tools]))


def said(messages: Sequence[Message]) -> list[tuple[Role, str]]:
    """What each side says: a tool's message may have words of the user's in it."""
    return [
        (_side(message), part.text)
        for message in messages
        for part in message.parts
        if isinstance(part, Text)
    ]


def size(request: Request) -> int:
    """Of how many parts a conversation is."""
    return sum(len(message.parts) for message in request.messages)


def _side(message: Message) -> Role:
    return Role.USER if message.role is Role.TOOL else message.role


def check_pairs(raw: Sequence[Message], sent: Sequence[Message]) -> None:
    """Every call and result of the agent's is there, in order, each under its own id.

    What an epoch left out, it left out whole.
    """

    def ids(messages: Sequence[Message]) -> Iterator[str]:
        for message in messages:
            for part in message.parts:
                if isinstance(part, ToolCall):
                    yield f"call {part.id}"
                elif isinstance(part, ToolResult):
                    yield f"result {part.call_id}"

    left = ids(sent)
    assert all(any(one == other for other in left) for one in ids(raw)), (
        "law: tool calls and results stay paired"
    )


def left_out(step: Step) -> bool:
    """Whether a message is under a marker for several (`window`)."""
    return step.form is not None and step.form.whole is not None


def results(messages: Sequence[Message]) -> list[str]:
    """The texts of all results."""
    return [result.text for message in messages for result in message.tool_results]


def check_prefix(before: Request, now: Request, *, cached: bool) -> None:
    """Messages are kept always; the tools unless no provider had cached the prefix yet.

    Part by part: where sides alternate, what comes after a message may stand in it. But for a
    last message that its agent says anew with each call.
    """
    last = len(before.messages) - 1
    tail = last > 0 and is_transient(before.messages[last])
    sent = before.messages[:last] if tail else before.messages
    one, two = (chain(History(), list(_parted(m)))[0] for m in (sent, now.messages))
    assert two[: len(one)] == one, "law: the sent prefix is kept"
    if cached:
        assert tools_digest(before.tools) == tools_digest(now.tools), "law: the tools are kept"


def check_stream(codec: Codec, stream: bytes, outcome: Message) -> None:
    """Who reads a stream sees one message: the outcome, without what clawmw answered."""
    fold, ends = StreamFold(), 0
    for frame in codec.decoder().feed(stream):
        for event in frame.events:
            fold.feed(event)
            ends += isinstance(event, Done)
    read = fold.response(complete=True).message
    assert read.tool_calls == outcome.tool_calls, "law: a stream is its outcome"
    assert ends == 1, "law: a stream ends once"


def told(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Events without what is different by nature: names of exchanges, times, and the byte that
    only a process that still has the call before can tell."""
    apart = ("exchange", "time", "seconds", "overhead", "since", "byte")
    return [
        {"": type(event).__name__}
        | {f.name: getattr(event, f.name) for f in fields(event) if f.name not in apart}
        for event in events
    ]


def _parted(messages: Sequence[Message]) -> Iterator[Message]:
    for message in messages:
        for part in message.parts or (Text(""),):
            yield Message(_side(message), (part,))

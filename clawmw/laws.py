"""What the laws of `clawmw.testing` compare: requests and messages, pairs and prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clawmw.core.fold import History, Step, chain
from clawmw.core.prefix import tools_digest
from clawmw.core.story import is_transient
from clawmw.core.types import Json, Request

__all__ = ["check_pairs", "check_prefix", "frozen", "left_out", "plain", "results"]


def frozen(request: Request) -> str:
    """All of a request that a stage could have changed in place."""
    wires = [(m.wire, m.origin, m.mark) for m in request.messages]
    return repr((request, wires, dict(request.params), [t.raw for t in request.tools]))


def plain(message: Mapping[str, Json]) -> tuple[str, str]:
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(block.get("text", "") for block in content)
    return message["role"], content or ""


def check_pairs(raw: Sequence[Json], sent: Sequence[Json]) -> None:
    """Every call and result of the agent's is there, in order, each under its own id.

    What an epoch left out, it left out whole.
    """

    def ids(messages: Sequence[Json]) -> list[str]:
        found = []
        for message in messages:
            found += ["call " + str(c.get("id")) for c in message.get("tool_calls") or ()]
            if message["role"] == "tool":
                found.append("result " + str(message.get("tool_call_id")))
        return found

    left = iter(ids(sent))
    assert all(any(one == other for other in left) for one in ids(raw)), (
        "law: tool calls and results stay paired"
    )


def left_out(step: Step) -> bool:
    """Whether a message is under a marker for several (`window`)."""
    return step.form is not None and step.form.whole is not None


def results(messages: Sequence[Json]) -> list[tuple[str, str]]:
    return [plain(message) for message in messages if message["role"] == "tool"]


def check_prefix(before: Request, now: Request, *, cached: bool) -> None:
    """Messages are kept always; the tools unless no provider had cached the prefix yet.

    But for a last message that its agent says anew with each call.
    """
    last = len(before.messages) - 1
    tail = last > 0 and is_transient(before.messages[last])
    sent = before.messages[:last] if tail else before.messages
    one, two = (chain(History(), messages)[0] for messages in (sent, now.messages))
    assert two[: len(one)] == one, "law: the sent prefix is kept"
    if cached:
        assert tools_digest(before.tools) == tools_digest(now.tools), "law: the tools are kept"

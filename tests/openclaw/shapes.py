"""Requests in the shape that OpenClaw 2026.9.6 sends them; what they say is our own.

Measured: one system message with a stable and a dynamic part; the runtime line at the end of the
first user message (or of Anthropic's last system block); a minute before each user's text; tools
that are found through `tool_search` called through `tool_call`; ids without punctuation; and a last
user message in blocks that is said anew with each call, and never kept.
"""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import tool

Body = dict[str, Any]
SYSTEM = (
    "<!-- openclaw:attempt:STABLE -->\nYou are a personal assistant running inside OpenClaw.\n"
    + "\n".join(f"- Rule {i}: what is asked for under {i * 7} is done first." for i in range(260))
    + "\n<!-- /openclaw:attempt:STABLE -->\n<!-- openclaw:attempt:DYNAMIC -->\n"
    "Current date: 2026-11-22\n<!-- /openclaw:attempt:DYNAMIC -->"
)
_NAMES = ["apply_patch", "edit", "exec", "ls", "process", "read", "tool_call", "tool_search"]
TOOLS = [tool(name) for name in _NAMES]
HEARTBEAT = (
    "Follow the heartbeat monitor scratch context when provided. If nothing needs attention, reply "
    "NO_REPLY.\nCurrent time: Sunday, November 22nd, 2026 - 4:33 PM (UTC)"
)
ANNOUNCE = (
    "A background task completed. Tell the user what matters of it.\n"
    "source: subagent\nsession_key: agent:main:subagent:77c4\n\nhello"
)
SUBAGENT = (
    "[Subagent Context] You are running as a subagent (depth 1/5).\n\n[Subagent Task]\n\nsay hello"
)


def headers(trace: str = "ab", span: str = "01") -> dict[str, str]:
    """What comes with a request: the trace is one for all that a turn leads to."""
    return {"user-agent": "OpenAI/JS 7.15.0", "traceparent": f"00-{trace * 16}-{span * 8}-01"}


def opening(text: str, key: str = "agent:main:main", session: str = "s-1") -> Body:
    """The first user message of a session."""
    line = f"Runtime: agent=main | session={key} | sessionId={session} | host=vm | shell=bash"
    return {"role": "user", "content": f"[Sun 2026-11-22 16:23 UTC] {text}\n\n{line}"}


def later(text: str) -> Body:
    """A user message after that."""
    return {"role": "user", "content": f"[Sun 2026-11-22 16:26 UTC] {text}"}


def called(number: int, name: str, arguments: Body, result: str) -> list[Body]:
    """A tool's call and its result."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"callfake{number:04d}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": result, "tool_call_id": call["id"]},
    ]


def deferred(number: int, name: str, arguments: Body, result: str) -> list[Body]:
    """The same through `tool_call`, as most tools are called."""
    return called(number, "tool_call", {"id": name, "args": arguments}, result)


def tail(running: str = "none") -> Body:
    """The message that is last in every request, and in none that follows."""
    text = (
        "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nConversation data (data, not instructions):\n"
        f"Active exec sessions:\n{running}\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    )
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def request(*messages: Body, running: str = "none", **more: Any) -> Body:
    """A whole request."""
    said = [{"role": "system", "content": SYSTEM}, *messages, tail(running)]
    return {"model": "fake", "messages": said, "stream": False, "tools": TOOLS, **more}

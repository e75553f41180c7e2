"""How a stopped call is answered: in the caller's dialect, once, with what binds and a way on.

Three audiences. Agents that people chat with (OpenClaw, Claude Code, Codex, OpenCode) show a
message to their user, and some retry an error seven times and more with the whole context: they
get a normal assistant message that ends the turn. A program that parses the answer (structured
output, a forced tool) could take such a message for the result, so it gets an error, as does
whoever is not known. Errors are 402 for what the policy limits and 503 for what is busy, both
with `x-should-retry: false`, which the SDKs of OpenAI and Anthropic obey; never 429.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from clawmw.adapters.wire import Headers
from clawmw.codecs.unread import Unread
from clawmw.core.codec import Codec
from clawmw.core.decisions import Halt
from clawmw.core.engine import Result
from clawmw.core.identity import Identity
from clawmw.core.types import OURS, Json, Message, Request, Response, Role, Text, Usage
from clawmw.errors import InternalError
from clawmw.runtime import Live

__all__ = ["Style", "refusal", "style_of", "told"]

Style: TypeAlias = Literal["message", "error"]

_BUSY = 5.0
"""Seconds after which to ask again, where who is busy does not say."""
_LONGEST = 3600.0


def refusal(
    live: Live, result: Result, policy: Literal["auto", "message", "error"]
) -> tuple[int, Headers, bytes]:
    """Status, headers and body for a stopped call; a stream's message is a stream."""
    halt, request = result.halt, live.request
    if halt is None:
        raise InternalError("no guard stopped this call")
    headers: Headers = [("x-clawmw-stopped", str(halt.because)), ("x-should-retry", "false")]
    if halt.kind == "busy" or halt.retry_after is not None:
        headers.append(("retry-after", str(_seconds(halt.retry_after))))
    style = style_of(policy, result.finished.identity, request)
    if style == "error" or (isinstance(live.codec, Unread) and live.codec.like is None):
        headers.append(("content-type", "application/json"))
        return 503 if halt.kind == "busy" else 402, headers, _error(halt, live.codec)
    message = Message(Role.ASSISTANT, (Text(str(halt)),))
    none = Usage(0, 0, 0)
    # Who goes on from an answer by its id shall go on from the last one that there is.
    name = request.previous or f"{OURS}{live.exchange}"
    answer = Response(message, none, "stop", request.model, name)
    if request.stream:
        body = live.codec.opening(answer) + live.codec.closing(answer, None)
        return 200, [*headers, ("content-type", "text/event-stream")], body
    return 200, [*headers, ("content-type", "application/json")], live.codec.encode_response(answer)


def style_of(policy: Literal["auto", "message", "error"], who: Identity, request: Request) -> Style:
    """What the caller asked for (`x-clawmw-refusal`), else what the policy says."""
    if who.wishes.refusal is not None:
        return "message" if who.wishes.refusal == "message" else "error"
    if policy != "auto":
        return policy
    read = request.structured or _forced(request.params)
    return "message" if who.client and not read else "error"


def _forced(params: Mapping[str, Json]) -> bool:
    """Whether the answer must be a tool call: a form that no message of ours has."""
    choice = params.get("tool_choice") or params.get("function_call")
    allowed = _inside(choice, "allowed_tools") or choice
    chosen = _inside(allowed, "mode") or _inside(choice, "type") or choice
    return chosen not in (None, "auto", "none")


def _inside(value: Json, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _error(halt: Halt, codec: Codec) -> bytes:
    """The error in the dialect's shape, for people and for programs."""
    what = {**halt.detail(), "resume": halt.resume, "code": str(halt.because)}
    return codec.error({"message": str(halt), "type": "clawmw_refused", **what})


def _seconds(after: float | None) -> int:
    """Whole seconds, at least one, at most an hour."""
    if after is None or not after > 0:
        after = _BUSY
    return max(math.ceil(min(after, _LONGEST)), 1)


def told(error: BaseException | None) -> str | None:
    """Why a call was stopped, of what an SDK raised for such an error; None: it is another one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # CrewAI raises an error from itself
        seen.add(id(error))
        body = getattr(error, "body", None)  # openai gives what is within, anthropic the whole
        inner = _inside(body, "error") or body
        if _inside(inner, "type") == "clawmw_refused":
            return str(_inside(inner, "message"))
        error = error.__cause__
    return None

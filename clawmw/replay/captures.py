"""Captured requests: what an agent really sent, one JSON object a request.

Requests of one session form one run, in the order given. Which session a request belongs to
is decided as for live calls: by `x-clawmw-session`, else by the opening messages. What the
model answered is not captured; it is read off the session's next request, where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clawmw.core.canon import Ids, message_digest
from clawmw.core.identity import HEADERS, identify
from clawmw.core.types import Json, Message, Role
from clawmw.errors import CodecError
from clawmw.replay.records import CODEC, Call, Found, Run, Skipped, dump

__all__ = ["Captures"]

_KEPT = frozenset({*HEADERS.values(), "traceparent"})
"""Headers that say who is calling; the others may hold keys."""
_NO_CODEC = {"/messages": "Anthropic messages", "/responses": "OpenAI responses"}


@dataclass(slots=True)
class _Captured:
    where: str
    name: str
    body: bytes
    messages: tuple[Message, ...]
    headers: Mapping[str, str]
    size: int


class Captures:
    """The captured requests of all files, by session."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[_Captured]] = {}

    def add(self, value: Mapping[str, Json], path: Path, where: str, size: int) -> Iterator[Found]:
        """Take one captured request in. `ValueError` when it is none."""
        body = value["body"]
        if isinstance(body, str):
            try:
                body = json.loads(body)
            except (ValueError, RecursionError):
                raise ValueError("`body` is not JSON") from None
        target = str(value.get("path") or "/chat/completions").partition("?")[0]
        missing = next((name for end, name in _NO_CODEC.items() if target.endswith(end)), None)
        if missing is None and not target.endswith("/chat/completions"):
            missing = f"requests to {target}"
        if missing is not None:
            yield Skipped(where, f"no codec for {missing} yet")
            return
        wire = dump(body)
        try:
            request = CODEC.decode(wire)
        except (CodecError, TypeError, KeyError, AttributeError) as error:
            reason = str(error) if isinstance(error, CodecError) else "malformed messages"
            raise ValueError(f"`body` is no chat completions request: {reason}") from None
        given = value.get("headers")
        headers = {
            str(name).lower(): str(text)
            for name, text in (given.items() if isinstance(given, Mapping) else ())
            if str(name).lower() in _KEPT
        }
        session = identify(request, headers).session
        name = path.stem if where.endswith(":1") else f"{path.stem}:{where.rpartition(':')[2]}"
        captured = _Captured(where, name, wire, request.messages, headers, size)
        self._sessions.setdefault(session, []).append(captured)

    def runs(self) -> Iterator[Run]:
        """One run a session, named after its first request."""
        for requests in self._sessions.values():
            first = requests[0]
            following: list[_Captured | None] = [*requests[1:], None]
            calls = [
                Call(len(c.messages), c.body, (), b"", _answer(c, after), headers=c.headers)
                for c, after in zip(requests, following, strict=True)
            ]
            size = sum(c.size for c in requests)
            yield Run(
                "captures",
                first.name,
                first.where,
                calls,
                world="captures",
                chained=any("traceparent" in c.headers for c in requests),
                open_end=True,
                bytes=size,
            )


def _answer(captured: _Captured, following: _Captured | None) -> bytes | None:
    """The assistant message that the next request has where this one ended.

    Agents may end a request in a message they do not keep, so the place is where the two
    part, not the length.
    """
    if following is None:
        return None
    place = len(_common(captured.messages, following.messages))
    message = following.messages[place] if place < len(following.messages) else None
    return message.wire if message is not None and message.role is Role.ASSISTANT else None


def _common(one: tuple[Message, ...], other: tuple[Message, ...]) -> list[bytes]:
    """Digests of the messages that both begin with."""
    digest = other_digest = b""
    ids, other_ids, shared = Ids(), Ids(), []
    for left, right in zip(one, other, strict=False):
        digest = message_digest(digest, left, ids)
        other_digest = message_digest(other_digest, right, other_ids)
        if digest != other_digest:
            break
        shared.append(digest)
    return shared

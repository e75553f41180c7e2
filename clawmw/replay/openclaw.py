"""OpenClaw session files: JSON lines that begin with `{"type": "session"}`.

Entries form a tree (`id`, `parentId`); what a model call saw is the path from the root to
its answer. A `compaction` entry replaces what lies before `firstKeptEntryId` by its summary.
The file holds neither the system prompt nor the tool definitions, so both sides of the
figures lack them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clawmw.core.types import Json
from clawmw.replay.records import Call, Found, Note, Problem, Run, checked, derived_tools, dump

__all__ = ["Session"]


@dataclass(slots=True)
class _Entry:
    parent: str | None
    message: Json | None
    """In chat form; None for entries the model does not see."""
    wire: bytes
    kept_from: str | None = None
    """Of a compaction: the first entry that stays."""
    reported: int | None = None
    index: int = 0
    """Which message of the file it is."""


class Session:
    """One session as its lines are read."""

    def __init__(self, path: Path, line: int) -> None:
        self._path, self._line = path, line
        self._id = path.stem
        self._model = ""
        self._entries: dict[str, _Entry] = {}
        self._last: str | None = None
        self._count = self._size = 0
        self._problems: list[Problem] = []

    def add(self, value: Mapping[str, Json], line: int, size: int) -> None:
        """Take one entry in; what is wrong with it is said by `runs`."""
        self._size += size
        kind = value["type"]
        if kind == "session":
            self._id = str(value.get("id") or self._id)
            return
        if kind == "model_change" and isinstance(value.get("modelId"), str):
            self._model = self._model or "/".join(
                str(p) for p in (value.get("provider"), value["modelId"]) if p
            )
        try:
            message, kept_from = _seen(value)
            wire = checked(message, self._count) if message is not None else b""
        except (ValueError, TypeError, KeyError, AttributeError):
            where = f"{self._path}:{line}"
            self._problems.append(Problem(where, f"no readable {kind!r} entry"))
            message, wire, kept_from = None, b"", None
        parent = value.get("parentId", self._last)
        entry = _Entry(parent, message, wire, kept_from, _reported(value), self._count)
        self._count += message is not None
        self._last = str(value.get("id") or f"line {line}")
        self._entries[self._last] = entry

    def runs(self, model: str) -> Iterator[Found]:
        """The session's run, and what there is to say of it."""
        yield from self._problems
        where = f"{self._path}:{self._line}"
        entries = self._entries.values()
        tools = derived_tools(e.message for e in entries if e.message is not None)
        head = b'{"model":' + dump(self._model or model) + b',"messages":['
        tail = b"]" + (b',"tools":' + dump(tools) if tools else b"") + b"}"
        calls, paths = [], _Paths(self._entries)
        for entry in entries:
            if entry.message is None or entry.message["role"] != "assistant":
                continue
            context = paths.to(entry.parent)
            if context:
                calls.append(Call(entry.index, head, context, tail, entry.wire, entry.reported))
        last = next((e.message for e in reversed(entries) if e.message is not None), None)
        open_end = last is not None and last["role"] != "assistant"
        source = "openclaw-sessions"
        yield Run(source, self._id, where, calls, open_end=open_end, bytes=self._size)
        yield Note(where, _NOTE)


_NOTE = (
    "an OpenClaw session file holds no system prompt and no tool definitions; both sides of "
    "the figures lack them (tools are taken from the calls seen)"
)


class _Paths:
    """What a call whose answer follows an entry saw: the messages from the root to it."""

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self._entries = entries
        self._memo: dict[str, tuple[tuple[str, bytes], ...]] = {}

    def to(self, entry: str | None) -> tuple[bytes, ...]:
        """The messages, as JSON."""
        return tuple(wire for _, wire in self._path(entry) if wire)

    def _path(self, entry: str | None) -> tuple[tuple[str, bytes], ...]:
        """Entries and their JSON; those the model does not see stay, as a compaction may name
        one as the first it keeps."""
        above: dict[str, None] = {}
        at = entry
        while at is not None and at in self._entries and at not in self._memo:
            if at in above:  # a circle: the file is no tree
                break
            above[at] = None
            at = self._entries[at].parent
        path = self._memo.get(at, ()) if at is not None else ()
        for name in reversed(above):
            found = self._entries[name]
            if found.kept_from is not None:
                names = [n for n, _ in path]
                kept = names.index(found.kept_from) if found.kept_from in names else len(path)
                path = ((name, found.wire), *path[kept:])
            else:
                path = (*path, (name, found.wire))
            self._memo[name] = path
        return path


def _seen(value: Mapping[str, Json]) -> tuple[Json | None, str | None]:
    """What the model sees of an entry, in chat form, and where a compaction begins to keep."""
    kind = value["type"]
    if kind == "message":
        return _message(value["message"]), None
    if kind == "custom_message":
        return {"role": "user", "content": _content(value.get("content"))}, None
    if kind in ("compaction", "branch_summary"):
        summary = {"role": "user", "content": str(value["summary"])}
        kept = str(value.get("firstKeptEntryId")) if kind == "compaction" else None
        return summary, kept
    return None, None


def _message(message: Mapping[str, Json]) -> Json | None:
    role = message["role"]
    content = message.get("content")
    if role == "toolResult":
        return {
            "role": "tool",
            "tool_call_id": str(message.get("toolCallId") or ""),
            "name": str(message.get("toolName") or ""),
            "content": _content(content),
        }
    if role != "assistant":
        return {"role": role, "content": _content(content)} if role in ("user", "system") else None
    blocks = content if isinstance(content, list) else []
    calls = [b for b in blocks if isinstance(b, dict) and b.get("type") == "toolCall"]
    said = _content([b for b in blocks if b not in calls]) if blocks else content
    answer: dict[str, Json] = {"role": "assistant", "content": said or None}
    if calls:
        answer["tool_calls"] = [
            {
                "id": str(call.get("id") or ""),
                "type": "function",
                "function": {
                    "name": str(call.get("name") or ""),
                    "arguments": json.dumps(call.get("arguments") or {}, ensure_ascii=False),
                },
            }
            for call in calls
        ]
    return answer


def _content(content: Json) -> Json:
    """Text as one string; blocks only where there is more than text. Thinking is not resent."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    blocks: list[Json] = []
    for block in content:
        if isinstance(block, dict) and block.get("type") == "text":
            blocks.append({"type": "text", "text": str(block.get("text") or "")})
        elif isinstance(block, dict) and block.get("type") == "image":
            url = f"data:{block.get('mimeType') or 'image/png'};base64,{block.get('data') or ''}"
            blocks.append({"type": "image_url", "image_url": {"url": url}})
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _reported(value: Mapping[str, Json]) -> int | None:
    """Input tokens by the provider's usage, cached ones included."""
    message = value.get("message")
    usage = message.get("usage") if isinstance(message, dict) else None
    if not isinstance(usage, dict):
        return None
    parts = [usage.get(key) for key in ("input", "cacheRead", "cacheWrite")]
    known = [p for p in parts if isinstance(p, int)]
    return sum(known) if known and sum(known) > 0 else None

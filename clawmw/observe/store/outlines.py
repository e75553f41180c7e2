"""What was asked of a model against what was sent: the outline of a call, without its content.

An agent sends its whole history each time, so an outline that named every message would grow as
that does. A history is a chain of prefix digests: each message is written down once, as the
`Turn` that leads from one prefix to the next; an `Outline` of a call names only the last. What a
process wrote down before, it does not write again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

from clawmw.core.charges import Near
from clawmw.core.fold import History
from clawmw.core.journal import Journal
from clawmw.core.prefix import tools_tokens
from clawmw.core.render import Replacement, message_tokens
from clawmw.core.setup import Result
from clawmw.core.story import tool_name
from clawmw.core.types import (
    Image,
    Message,
    Part,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from clawmw.core.unread import UNREAD
from clawmw.observe.base import Ended
from clawmw.observe.spans.attributes import label
from clawmw.observe.spans.content import Writer, dumped
from clawmw.observe.spans.rungs import level_of
from clawmw.observe.store.outlinerows import Batch, Outline, PartOutline, TextRow, Turn, line_of

__all__ = ["Outliner"]

_LINES = 4096
"""Conversations of which is known what was written; the one longest unused is forgotten."""
_NEWEST = 64
"""Turns of one conversation that are remembered as written: what comes before them was, too."""
_MANY = 64
"""Parts of a message, and messages of ours, that are listed one by one."""


class Outliner:
    """Makes outlines of calls; remembers, bounded, what was made before. For one thread.

    With `longest` it also gives the texts, of at most that many bytes a message.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._written: OrderedDict[tuple[int, str], deque[str]] = OrderedDict()

    def outline(self, call: Ended) -> Batch:
        """What is new of a call."""
        result, finished = call.result, call.result.finished
        line = line_of(finished.identity.scope("session"))
        # A body that is not read has no messages that we know.
        history = History() if call.asked.dialect.endswith(UNREAD) else result.history
        epoch = history.epoch.id if history.epoch is not None else ""
        now = int(finished.time * 1e9)
        texts = _Texts(line, Writer(call.redactor, self._longest)) if self._longest else None
        turns = [
            _turn(history, place, line, now, texts) for place in self._new(line, epoch, history)
        ]
        facts = _facts(call, texts)
        tip = bytes.fromhex(history.steps[-1].digest) if history.steps else None
        outline = Outline(call.exchange, line, tip, epoch, now, facts)
        if finished.attempts:  # what was never sent may yet be folded otherwise
            self._wrote(line, epoch, [history.steps[turn.place].digest for turn in turns])
        return Batch(outline, tuple(turns), tuple(texts.rows.values()) if texts else ())

    def forget(self) -> None:
        """Take nothing as written: a batch was lost, or this is another process now."""
        self._written.clear()

    def _new(self, line: int, epoch: str, history: History) -> Sequence[int]:
        """Places of the steps that were not written so far: those after the last that was."""
        known = self._written.get((line, epoch), ())
        place = len(history.steps)
        while place and history.steps[place - 1].digest not in known:
            place -= 1
        return range(place, len(history.steps))

    def _wrote(self, line: int, epoch: str, digests: Sequence[str]) -> None:
        key = (line, epoch)
        kept = self._written.setdefault(key, deque(maxlen=_NEWEST))
        self._written.move_to_end(key)
        kept.extend(digests)
        if len(self._written) > _LINES:
            self._written.popitem(last=False)


class _Texts:
    """The texts of one call, each once."""

    def __init__(self, line: int, writer: Writer) -> None:
        self._line, self._writer = line, writer
        self.rows: dict[bytes, TextRow] = {}

    def of(self, message: Message) -> bytes:
        """The digest of a message's text, which is kept."""
        text = dumped(self._writer.message(message))
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=16).digest()
        self.rows[digest] = TextRow(self._line, digest, text)
        return digest


def _turn(history: History, place: int, line: int, now: int, texts: _Texts | None) -> Turn:
    step = history.steps[place]
    omitted = step.form is not None and step.form.omits
    epoch = history.epoch.id if step.form is not None and history.epoch is not None else ""
    parts = _parts(history, place)
    changed = step.sent is not step.raw and not omitted
    return Turn(
        line,
        bytes.fromhex(step.digest),
        epoch,
        bytes.fromhex(history.steps[place - 1].digest) if place else None,
        place,
        now,
        str(step.raw.role),
        parts,
        sum(part.asked for part in parts),
        sum(part.sent for part in parts),
        step.raw_tokens,
        0 if omitted else step.sent_tokens,
        step.would_tokens,
        texts.of(step.raw) if texts else None,
        texts.of(step.sent) if texts and changed else None,
    )


def _parts(history: History, place: int) -> tuple[PartOutline, ...]:
    """Each part: what it was, and what became of it."""
    step = history.steps[place]
    whole = step.form.whole if step.form is not None else None
    found = []
    for index, part in enumerate(step.raw.parts):
        change = whole or step.parts.get(index)
        found.append(_part(part, change, _name(history, place, part), alone=whole is None))
    if whole is not None and whole.text:
        size = _size(whole.text)
        found.append(PartOutline("text", "", 0, size, whole.by, whole.ref is not None))
    if len(found) > _MANY:
        rest = found[_MANY:]
        asked, sent = sum(p.asked for p in rest), sum(p.sent for p in rest)
        by = next((p.by for p in rest if p.by), "")
        found[_MANY:] = [PartOutline(f"{len(rest)} more", "", asked, sent, by)]
    return tuple(found)


def _part(part: Part, change: Replacement | None, name: str, *, alone: bool) -> PartOutline:
    asked = _weight(part)
    if change is None:
        return PartOutline(_kind(part), name, asked, asked, "")
    sent = _size(change.text) if alone else 0
    return PartOutline(_kind(part), name, asked, sent, change.by, change.ref is not None)


_KINDS: tuple[tuple[type[Any], str], ...] = (
    (Text, "text"),
    (ToolCall, "call"),
    (ToolResult, "result"),
    (Image, "image"),
    (Thinking, "thinking"),
)


def _kind(part: Part) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(part, type_)), "other")


def _name(history: History, place: int, part: Part) -> str:
    """The tool that a part is about; a result's is that of the call before it."""
    if isinstance(part, ToolCall):
        return label(tool_name(part), 64)
    if not isinstance(part, ToolResult):
        return ""
    if part.name:
        return label(part.name, 64)
    earlier = history.steps[max(place - _MANY, 0) : place]
    calls = chain.from_iterable(step.raw.tool_calls for step in reversed(earlier))
    return next((label(tool_name(c), 64) for c in calls if c.id == part.call_id), "")


def _weight(part: Part) -> int:
    match part:
        case Text(text) | ToolResult(_, text):
            return _size(text)
        case ToolCall(_, name, arguments):
            return _size(name) + _size(arguments)
        case _:
            return _size(dumped(part.raw))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _facts(call: Ended, texts: _Texts | None) -> dict[str, Any]:
    """What is known of a call besides the messages of its history; no content."""
    result, asked = call.result, call.asked
    facts: dict[str, Any] = {
        "asked": _request(asked),
        "sent": _request(result.request) if result.finished.attempts else None,
        "added": _added(result, texts),
        "answer": _answer(call, texts),
    }
    if result.limits:
        facts["limits"] = [_limit(near) for near in result.limits if near.meter != "concurrent"]
    asked_names = {tool.name for tool in asked.tools}
    more = [tool.name for tool in result.request.tools if tool.name not in asked_names]
    if more:
        facts["tools_added"] = [label(name, 64) for name in more[:_MANY]]
    body = getattr(asked.source, "body", b"") or getattr(asked.source, "raw", b"")
    if isinstance(body, bytes) and body:
        facts["body"] = len(body)
    if asked.held:
        facts["held"] = True
    return facts


def _limit(near: Near) -> list[Any]:
    """Of what scope (its name is on the span), whether it is a day's, and how much is used."""
    level, daily = level_of(near)
    return [level, daily, near.meter, near.used, near.limit]


def _request(request: Request) -> dict[str, Any]:
    return {
        "model": label(request.model),
        "messages": len(request.messages),
        "tools": len(request.tools),
        "tools_tokens": tools_tokens(request.tools),
        "tools_digest": _tools(request),
        "limit": request.max_output,
    }


def _tools(request: Request) -> str:
    """By which offers of tools are told apart."""
    digest = hashlib.blake2b(digest_size=8)
    for tool in request.tools:
        digest.update(f"{tool.name}\x1f{tool.digest}\x1e".encode("utf-8", "surrogatepass"))
    return digest.hexdigest() if request.tools else ""


def _added(result: Result, texts: _Texts | None) -> list[list[Any]]:
    """Messages of ours among those sent: after which message, whose, and how large."""
    if not result.finished.attempts or not result.journal.entries:
        return []
    ours = _ours(result.journal)
    if not ours:
        return []
    found: list[list[Any]] = []
    places = {step.digest: place for place, step in enumerate(result.history.steps)}
    for message in result.request.messages:
        entry = ours.get(message.wire or b"")
        if entry is None:
            continue
        anchor, by = entry
        text = texts.of(message).hex() if texts else None
        size = sum(_weight(part) for part in message.parts)
        tokens = message_tokens(message)
        found.append([places.get(anchor), by, str(message.role), size, tokens, text])
    return found[-_MANY:]


def _ours(journal: Journal) -> dict[bytes, tuple[str, str]]:
    """What each message of the journal follows and who put it there, by its bytes."""
    return {wire: (entry.anchor, entry.by) for entry in journal.entries for wire in entry.wire}


def _answer(call: Ended, texts: _Texts | None) -> dict[str, Any] | None:
    """The outline of what came back; None where nothing did."""
    answer, clean = call.result.outcome, call.redactor.text
    if not isinstance(answer, Response):
        return None
    message = answer.message
    sizes: dict[str, int] = {}
    for part in message.parts:
        sizes[_kind(part)] = sizes.get(_kind(part), 0) + _weight(part)
    calls = [label(clean(tool_name(one)), 64) for one in message.tool_calls]
    said: dict[str, Any] = {
        "finish": label(clean(answer.finish_reason), 64) if answer.finish_reason else None,
        "complete": answer.complete,
        "bytes": sizes,
        "calls": calls[:_MANY],
        "tokens": message_tokens(message),
    }
    if texts:
        said["text"] = texts.of(message).hex()
    return said

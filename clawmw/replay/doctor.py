"""Why a provider's prompt cache was missed: recorded or captured calls, one by one.

Each call is held against a provider's rules and the calls before it: what would be read and
written, which part moved (tools, system, message *i*, first differing byte), what in the head
looks volatile, and marks that do no good. Nothing is sent, nothing expires; tokens are
estimates. A call is compared with the one before it in its session; a session's first call with
the call of an earlier session that it has most in common with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from clawmw.core.breakpoints import TOOLS, Given, given, ordered
from clawmw.core.fold import message_tokens
from clawmw.core.money import Profile
from clawmw.core.moved import Moved, between
from clawmw.core.prefix import common_prefix, digests, tools_tokens
from clawmw.core.types import Request, Role, Usage
from clawmw.core.volatile import find
from clawmw.replay.records import CODEC, Run

__all__ = ["Bill", "CallNote", "Doctor", "Finding", "RunNote"]

Bill: TypeAlias = Callable[[Mapping[str, Any]], Usage]
"""A provider: a body, and the usage it would report. It remembers what it was sent."""

_VOLATILE = 4
"""Volatile bits told a part of the head."""
_OPENING = 64
"""Characters by which system prompts of one agent are known."""
_NEAR = 48
"""Bytes by which a volatile bit and the first differing byte may be apart and be one thing."""
_WORTH = 1024
"""Tokens below which no provider caches, so nothing is lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend. `rule` is what it is, `place` where, `advice` what to do."""

    rule: str
    place: str
    advice: str


@dataclass(slots=True)
class CallNote:
    """One call as its provider's cache sees it. Tokens, estimated."""

    number: int
    input: int
    read: int
    write: int
    moved: Moved | None = None
    against: str = ""
    """The run it is compared with, when that is not its own."""
    lost: int = 0
    """What the compared call had put into the cache and this one did not read."""
    tail: bool = False
    """The call before ended in a message that this one replaced."""
    unmarked: bool = False
    """It has no mark, and the provider caches only what is marked."""
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class RunNote:
    """One run: its calls, and what its head holds."""

    source: str
    id: str
    where: str
    calls: list[CallNote] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """A call that was looked at, to compare later ones with."""

    run: str
    request: Request
    digests: list[str]
    tokens: list[int]


class Doctor:
    """Looks at runs, one after the other, as calls to one provider."""

    def __init__(self, profile: Profile, provider: Callable[[], Bill]) -> None:
        self.profile = profile
        self._provider = provider
        self._world: tuple[str, Bill, list[_Seen]] | None = None

    def run(self, run: Run) -> RunNote:
        """Look at one run. Runs of one world share their provider's cache."""
        bill, others = self._shared(run)
        note = RunNote(run.source, run.id, run.where)
        before: _Seen | None = None
        for number, call in enumerate(run.calls, 1):
            body = call.body()
            earlier = (before.request,) if before else ()
            request = CODEC.decode(body, earlier)
            tokens = [tools_tokens(request.tools), *map(message_tokens, request.messages)]
            now = _Seen(run.id, request, digests(request), tokens)
            usage = bill(json.loads(body))
            known = note.calls[-1] if note.calls else None
            note.calls.append(
                self._call(number, usage, now, before or _nearest(now, others), known)
            )
            if before is None:
                others.append(now)
                note.findings += _head(request)
            before = now
        if before is not None:
            note.findings += self._marks(note, before)
            others.append(before)
        return note

    def _shared(self, run: Run) -> tuple[Bill, list[_Seen]]:
        if not run.world or self._world is None or self._world[0] != run.world:
            self._world = (run.world, self._provider(), [])
        return self._world[1], self._world[2]

    def _call(
        self, number: int, usage: Usage, now: _Seen, before: _Seen | None, known: CallNote | None
    ) -> CallNote:
        """What became of the cache in one call; the call before learns that its tail went."""
        read = usage.cache_read_tokens or 0
        total = usage.input_tokens or 0
        rules = self.profile.cache
        write = usage.cache_write_tokens or 0
        if not rules.bills_writes and rules.style == "automatic":
            write = total - read if total >= rules.min_tokens else 0
        note = CallNote(number, total, read, write)
        note.unmarked = rules.style == "marks" and not given(now.request)
        if before is None:
            return note
        same = before.run == now.run
        shared = common_prefix(before.digests, now.digests)
        messages = max(shared - 1, 0)
        note.against = "" if same else before.run
        held = len(before.tokens) if same else _head_blocks(before.request)
        if same and messages == len(before.request.messages) - 1 < len(now.request.messages):
            note.tail, held = True, held - 1
        elif shared < len(before.digests):
            both = [(r.request.tools, r.request.messages) for r in (before, now)]
            note.moved = between(both[0], both[1], messages)
            if not same and shared >= held:
                note.moved = None  # sessions differ in their messages: that is what they are for
        least = max(rules.min_tokens, _WORTH)
        could = sum(before.tokens[:held])
        if rules.style != "none" and could >= least:
            note.lost = max(could - read, 0) if read * 2 < could else 0
        note.findings += self._broken(note, now, before)
        return note

    def _broken(self, note: CallNote, now: _Seen, before: _Seen) -> Iterator[Finding]:
        moved = note.moved
        if note.unmarked and not moved:
            return  # told once for the run
        if note.tail and note.lost:
            place = f"message {len(before.request.messages) - 1}"
            yield Finding("transient_tail", place, _ADVICE[f"tail_{self.profile.cache.style}"])
        elif moved is not None:
            bit = _volatile_near(moved, now.request)
            if bit:
                yield Finding(f"volatile_{bit}", str(moved), _ADVICE["volatile"])
            else:
                yield Finding(f"{moved.part}_moved", str(moved), _ADVICE[moved.part])
        elif note.against and note.lost:
            yield Finding("head_unmarked", f"shared with {note.against}", _ADVICE["head_unmarked"])

    def _marks(self, note: RunNote, last: _Seen) -> Iterator[Finding]:
        """What is wrong with the marks of a run's last call; its calls are marked alike."""
        rules, request = self.profile.cache, last.request
        marks = given(request)
        if rules.hint not in ("cache_control", "prompt_cache_breakpoint"):
            return
        if not marks:
            if rules.style == "marks" and sum(last.tokens) >= rules.min_tokens:
                yield Finding("no_marks", "request", _ADVICE["no_marks"])
            return
        if rules.max_marks and len(marks) > rules.max_marks:
            yield Finding("too_many_marks", f"{len(marks)} marks", _ADVICE["too_many_marks"])
        if not ordered(marks, rules):
            yield Finding("ttl_order", "request", _ADVICE["ttl_order"])
        tail = any(call.tail for call in note.calls)
        yield from self._misplaced(marks, last, tail=tail)

    def _misplaced(self, marks: Sequence[Given], last: _Seen, *, tail: bool) -> Iterator[Finding]:
        rules, count = self.profile.cache, len(last.request.messages)
        newest = marks[-1].message
        if tail and newest == count - 1:
            yield Finding("mark_on_tail", f"message {newest}", _ADVICE["mark_on_tail"])
        for mark in marks:
            covered = sum(last.tokens[: mark.message + 2])
            if covered < rules.min_tokens:
                yield Finding("mark_too_early", _place(mark), _ADVICE["mark_too_early"])
        behind = sum(last.tokens[newest + 2 : count + 1 - tail])
        if rules.style == "marks" and behind >= _WORTH:
            said = f"{behind:,} tokens behind {_place(marks[-1])}"
            yield Finding("end_unmarked", said, _ADVICE["end_unmarked"])


def _nearest(now: _Seen, others: Sequence[_Seen]) -> _Seen | None:
    """The call of another session that begins most like this one; of equal ones the latest."""
    best, most = None, -1
    for other in reversed(others):
        if _opening(other.request) != _opening(now.request):
            continue  # another agent: nothing to share
        shared = common_prefix(other.digests, now.digests)
        if shared > most:
            best, most = other, shared
    return best


def _head_blocks(request: Request) -> int:
    """Tools and leading system messages, in blocks: what sessions of one agent share."""
    count = 1
    for message in request.messages:
        if message.role is not Role.SYSTEM:
            break
        count += 1
    return count


def _opening(request: Request) -> str:
    first = request.messages[0]
    return first.text[:_OPENING] if first.role is Role.SYSTEM else ""


def _head(request: Request) -> Iterator[Finding]:
    """Volatile bits in what every session of the agent begins with."""
    parts = [(f"tool {i} ({t.name})", json.dumps(t.raw)) for i, t in enumerate(request.tools)]
    for index, message in enumerate(request.messages):
        if message.role is not Role.SYSTEM:
            break
        parts.append((f"system {index}", message.text))
    for place, text in parts:
        for count, bit in enumerate(find(text)):
            if count >= _VOLATILE:
                break
            byte = len(text[: bit.at].encode("utf-8", "surrogatepass"))
            yield Finding(f"head_{bit.kind}", f"{place}, byte {byte:,}", _ADVICE["head"])


def _volatile_near(moved: Moved, request: Request) -> str:
    """The kind of volatile bit that the first differing byte lies in or beside; "" for none."""
    if moved.part != "system" or moved.byte is None:
        return ""
    text = request.messages[moved.index].text
    # Characters do for bytes here: the window is wide, and the text before it long or ASCII.
    at = len(text.encode("utf-8", "surrogatepass")[: moved.byte].decode("utf-8", "ignore"))
    window = text[max(at - _NEAR, 0) : at + _NEAR]
    start = at - max(at - _NEAR, 0)
    for bit in find(window):
        if bit.at - 2 <= start <= bit.at + _NEAR:
            return bit.kind
    return ""


def _place(mark: Given) -> str:
    if mark.automatic:
        return "the mark of the whole request"
    return (
        "the mark on the tools" if mark.message == TOOLS else f"the mark on message {mark.message}"
    )


_ADVICE: Mapping[str, str] = {
    "tools": "Offer the same tools in the same order in every call of a session; a tool that comes "
    "or goes loses everything behind it. `prompt_cache: {tools: sort}` mends the order.",
    "system": "Keep the system prompt as it is for a session; put what changes into the last user "
    "message.",
    "message": "Only append: a message that was sent and is edited, cut or dropped loses all that "
    "follows. Let clawmw compress results when they first come.",
    "volatile": "Move the date, time or id out of the system prompt: into the last user message, "
    "or into a last system block of its own, behind the mark.",
    "head_unmarked": "Sessions begin alike, and the provider reads that only at a mark: mark the "
    "end of the system prompt (`prompt_cache` does).",
    "head": "If this differs between sessions they share nothing behind it: move it to the end.",
    "tail_automatic": "The last message is replaced each time; keep it short, or keep it.",
    "tail_marks": "Mark the message before the one that is replaced (`prompt_cache` does).",
    "tail_breakpoints": "The provider's own breakpoint falls on the message that is replaced: set "
    "prompt_cache_breakpoint on the one before it (`prompt_cache` does).",
    "tail_none": "This provider caches nothing.",
    "no_marks": "This provider caches only what is marked: mark the end of the system prompt and "
    "of the history (`prompt_cache` does).",
    "too_many_marks": "The provider refuses more; leave out those in the middle.",
    "ttl_order": "Marks for an hour must come before marks for five minutes.",
    "mark_on_tail": "This message is replaced by the next call: mark the one before it.",
    "mark_too_early": "Less than the provider's minimum lies before it: it caches nothing.",
    "end_unmarked": "They are paid in full in every call: mark the last message.",
}

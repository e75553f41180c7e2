"""What the messages of a call say about who is calling: a fold over the conversation.

It depends on the messages alone, so that any process comes to the same: the opener that tells
conversations apart, OpenClaw's runtime line, and the newest message that a human seems to have
written. A message is an agent's when it is known as one, or when the same was said before in
this conversation with other numbers, dates or ids (a poll, a template).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import is_

from clawmw.core.memo import MOST, by_identity
from clawmw.core.types import Message, Role, Text, ToolCall

__all__ = ["TRANSIENT", "Story", "is_transient", "told", "tool_name"]

_NAME = "OpenClaw"
"""In its system prompt; without it, a runtime line is just something that somebody wrote."""
_RUNTIME_LINE = "Runtime: agent="
_RUNTIME = re.compile(r"Runtime: agent=(\S+) \| session=(\S+) \| sessionId=(\S+)")
_WRAPPED = re.compile(r'\s*\{\s*"id"\s*:\s*"([\w.:/-]{1,128})"')
_HEARTBEAT = (
    "[OpenClaw heartbeat poll]",
    "Read HEARTBEAT.md",
    "Follow the heartbeat monitor scratch context",
)
_ANNOUNCE = "A background task completed."
TRANSIENT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
"""How begins the message that OpenClaw puts behind each call's history, and never keeps."""
_SUMMARIES = (
    TRANSIENT,
    "This session is being continued from a previous conversation",
    "Another language model started to solve this problem",
    "The conversation history before this point was compacted",
)
"""How what agents say to themselves begins: OpenClaw's tail, and summaries after compaction."""
_FED = re.compile(r"<(?!system-reminder)[a-z_][\w-]*>|\[\w+ for '|(?:observation|output|result)s?:")
"""How agents without native tools begin a tool's result; what follows is not looked at."""
_REMINDER = re.compile(r"(?s)^\s*<system-reminder>.*?</system-reminder>\s*")
_DAYS = "sun mon tue tues wed thu thur thurs fri sat sunday monday tuesday wednesday thursday "
_DAYS += "friday saturday am pm "
_MONTHS = "jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june "
_MONTHS += "july august september october november december"
_DATES = frozenset(
    f"{before}{word}{after}"
    for word in (_DAYS + _MONTHS).split()
    for before in ("", "[", "(")
    for after in ("", ",", ".", "]", ")")
)
_digit = re.compile(r"\d").search
_ENDS = 300
"""Characters at a message's beginning, and at its end, by which it is told from others."""
_LINE = 2000
"""Characters at a message's beginning and end in which the signs of OpenClaw are looked for."""
_LOOKED_AT = 64
"""Messages of users among which a recurring one is looked for."""


@dataclass(frozen=True, slots=True)
class Story:
    """What was told so far."""

    opener: str = ""
    """Digest of everything up to and including the first user message."""
    runtime: tuple[str, str, str] | None = None
    """OpenClaw's agent, session key and session id, where its runtime line is in the opener."""
    task: str = ""
    """Names the newest message of a human; "": there is none."""
    kind: str | None = None
    """Of the newest user message: `heartbeat`, `announce` or None."""
    opening: bool = True
    """No answer of a model is in it."""
    forms: tuple[str, ...] = ()
    """What was said before, without what varies in it; the newest."""


def is_transient(message: Message) -> bool:
    """Whether a message is one that its agent says anew with each call.

    Others are found when the next call lacks them; this one is known from the first on.
    """
    return message.role is Role.USER and message.text.startswith(TRANSIENT)


def tool_name(call: ToolCall) -> str:
    """The tool that is called: out of OpenClaw's `tool_call {"id": NAME, ...}`, where it is one."""
    if call.name == "tool_call":
        wrapped = _WRAPPED.match(call.arguments)
        if wrapped:
            return wrapped[1]
    return call.name


_kept: dict[int, tuple[Message, int, tuple[Message, ...], Story]] = {}
"""Stories up to a message, by its identity: a call costs its new messages."""


def told(messages: Sequence[Message]) -> Story:
    """The story of a conversation; what an earlier call told is not read again."""
    at, opener, story = _resumed(messages)
    last = len(messages)
    for index in range(at, last):
        if index == last - 1 and index:  # agents resend all but a transient tail
            _keep(messages, index, opener, story)
        story = _heard(story, messages[index])
        if not opener and messages[index].role is Role.USER:
            opener = tuple(messages[: index + 1])
            story = _opened(story, opener)
    if not opener:
        return _opened(story, messages)
    if at < last:
        _keep(messages, last, opener, story)
    return story


def _resumed(messages: Sequence[Message]) -> tuple[int, tuple[Message, ...], Story]:
    for index in range(len(messages) - 1, -1, -1):
        known = _kept.get(id(messages[index]))
        if known is not None and known[0] is messages[index] and known[1] == index + 1:
            opener = known[2]
            if all(map(is_, opener, messages)):
                return index + 1, opener, known[3]
    return 0, (), Story()


def _keep(
    messages: Sequence[Message], count: int, opener: tuple[Message, ...], story: Story
) -> None:
    if not opener:
        return
    if len(_kept) >= MOST:
        _kept.clear()
    last = messages[count - 1]
    _kept[id(last)] = (last, count, opener, story)


def _heard(story: Story, message: Message) -> Story:
    """The story with one message more."""
    if message.role is Role.ASSISTANT:
        if not story.opening:
            return story
        return Story(story.opener, story.runtime, story.task, story.kind, False, story.forms)
    if message.role is not Role.USER or message.tool_results:
        return story
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    text = texts[0] if len(texts) == 1 else "\n".join(texts)
    if text.startswith(_SUMMARIES):
        return story
    head = text[:2000]
    kind = "announce" if _ANNOUNCE in head else None
    if any(sign in head for sign in _HEARTBEAT):
        kind = "heartbeat"
    form = _form(_REMINDER.sub("", text[: 2 * _ENDS])[:_ENDS], text[-_ENDS:])
    if form in story.forms:
        return Story(story.opener, story.runtime, story.task, kind, story.opening, story.forms)
    forms = (*story.forms, form)[-_LOOKED_AT:]
    return Story(story.opener, story.runtime, form, kind, story.opening, forms)


@lru_cache(maxsize=1024)
def _form(head: str, tail: str) -> str:
    """Digest of a message without what varies in a template: words with digits, and dates."""
    head = head.lower()
    fed = _FED.match(head.lstrip())
    if fed:
        said = fed.group()
    else:
        words = f"{head} {tail.lower()}".split()
        kept = [w for w in words if (w.isalpha() or not _digit(w)) and w not in _DATES]
        said = " ".join(kept) or head  # nothing but numbers: those are what was said
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _opened(story: Story, opener: Sequence[Message]) -> Story:
    """The story of a conversation whose first user message is here."""
    digest = hashlib.blake2b(digest_size=12)
    runtime, theirs = None, False
    for message in opener:
        digest.update(_digest(message))
        text = message.text
        if message.role is Role.SYSTEM:
            theirs = theirs or _NAME in text[:_LINE]
        if theirs and message.role in (Role.SYSTEM, Role.USER):
            runtime = _runtime(text) or runtime
    more = (story.task, story.kind, story.opening, story.forms)
    return Story(digest.hexdigest(), runtime, *more)


@by_identity
def _digest(message: Message) -> bytes:
    said = f"{message.role}\x1f{message.text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16).digest()


def _runtime(text: str) -> tuple[str, str, str] | None:
    """The last one in a text: OpenClaw adds its own after whatever a user wrote."""
    end = text[-_LINE:]
    at = end.rfind(_RUNTIME_LINE)
    match = _RUNTIME.match(end, at) if at >= 0 else None
    return (match[1], match[2], match[3]) if match else None

"""One call as a page: what happened to it in plain words, and its messages as asked and as sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from clawmw.core.money import Profile
from clawmw.observe.explained.context import mechanism
from clawmw.observe.explained.facts import Facts, Section, many, name
from clawmw.observe.explained.telling import facts_of, tell
from clawmw.observe.explained.texts import Row, differences, plain, sides, visible
from clawmw.observe.reading.calls import call
from clawmw.observe.reading.figures import tokens
from clawmw.observe.store.outlinestore import Said
from clawmw.observe.store.spanstore import SpanRow, SpanStore

__all__ = ["Look", "look"]

_FOLDED = 3
"""Messages in a row that nothing changed, from which on they are folded away."""
_LINES = 400
"""Lines of one message that are shown."""
_BARS = 100


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a row."""

    place: str
    """Its number among those asked; empty for one of clawmw's own."""
    role: str
    what: str
    """Its kinds of parts, and the tool it is about."""
    asked_bytes: int
    sent_bytes: int
    asked_tokens: int
    sent_tokens: int
    asked_bar: float
    """Per cent of the largest message."""
    sent_bar: float
    state: str
    """`same`, `changed`, `gone` or `added`."""
    how: str
    """What was done, in words; empty where nothing was."""
    mechanisms: str
    digest: str
    rows: tuple[Row, ...]
    """Its text, or how that was changed; none where it is not kept."""
    pairs: tuple[tuple[Row | None, Row | None], ...]
    """Of a changed one, what was asked and what was sent, side by side."""
    more: int
    """Lines beyond those."""


@dataclass(frozen=True, slots=True)
class Run:
    """Messages next to each other; many that nothing changed are shown on demand."""

    messages: tuple[Message, ...]
    folded: bool
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A call, as its page needs it."""

    span: SpanRow
    chain: str
    exchange: str
    saved_nano: int | None
    sections: tuple[Section, ...]
    runs: tuple[Run, ...]
    changed: int
    count: int
    added: int
    tools: str
    answer: tuple[str, ...]
    """Lines of what came back, where they are kept."""
    calls: tuple[str, ...]
    known: bool
    """There is an outline of its messages."""
    kept: bool
    """There are texts."""


def look(
    store: SpanStore,
    now_ns: int,
    trace_id: str,
    span_id: str,
    prices: Callable[[str], Profile] | None = None,
) -> Look | None:
    """What a page shows of one call; None when there is no such call."""
    span = call(store, trace_id, span_id)
    if span is None:
        return None
    facts = facts_of(store, span, now_ns, prices)
    seen = facts.inside
    messages = seen.messages if seen is not None else ()
    shown = list(_messages(messages))
    answer = _cut(plain(seen.answer)) if seen is not None and seen.answer is not None else ()
    called = (seen.facts.get("answer") or {}).get("calls") or () if seen is not None else ()
    return Look(
        span,
        visible(span.chain_id or span.trace_id),
        visible(span.exchange or ""),
        None
        if span.baseline_nano is None or span.cost_nano is None
        else span.baseline_nano - span.cost_nano,
        tell(facts),
        tuple(_runs(shown)),
        sum(one.state in ("changed", "gone") for one in shown),
        sum(one.state != "added" for one in shown),
        sum(one.state == "added" for one in shown),
        _tools(facts),
        answer,
        tuple(map(name, called)),
        seen is not None,
        seen is not None and seen.kept,
    )


def _messages(messages: Sequence[Said]) -> Iterator[Message]:
    largest = max((max(one.asked_tokens, one.sent_tokens) for one in messages), default=1) or 1
    for one in messages:
        rows = _rows(one)
        pairs = tuple(sides(rows)) if _state(one) == "changed" and one.sent is not None else ()
        yield Message(
            "" if one.place is None else str(one.place + 1),
            visible(one.role),
            _what(one),
            one.asked_bytes,
            one.sent_bytes,
            one.asked_tokens,
            one.sent_tokens,
            round(_BARS * one.asked_tokens / largest, 1),
            round(_BARS * one.sent_tokens / largest, 1),
            _state(one),
            mechanism(one.added_by) if one.added_by else ", ".join(map(mechanism, one.by)),
            one.added_by or ", ".join(one.by),
            one.digest[:8],
            rows[:_LINES],
            pairs[:_LINES],
            max(len(pairs or rows) - _LINES, 0),
        )


def _state(one: Said) -> str:
    if one.added_by:
        return "added"
    if not one.changed:
        return "same"
    return "changed" if one.sent_bytes else "gone"


def _what(one: Said) -> str:
    """The kinds of its parts, each once, with the tools they are about."""
    kinds = {part.kind: "" for part in one.parts if part.asked or part.sent}
    for part in one.parts:
        if part.name and not kinds.get(part.kind):
            kinds[part.kind] = f" of {name(part.name)}"
    return ", ".join(f"{kind}{tool}" for kind, tool in kinds.items())


def _rows(one: Said) -> tuple[Row, ...]:
    """The text of a message, line by line; of a changed one, how it was changed."""
    if one.asked is None and one.sent is None:
        return ()
    if one.place is None:
        return tuple([Row("new", visible(line)) for line in plain(one.sent)])
    if one.changed:
        return tuple(differences(one))
    return tuple([Row("same", visible(line)) for line in plain(one.asked)])


def _runs(messages: Sequence[Message]) -> Iterator[Run]:
    """The messages, long stretches of unchanged ones folded away."""
    for same, group in groupby(messages, key=lambda one: one.state == "same"):
        run = tuple(group)
        if same and len(run) >= _FOLDED:
            weight = tokens(sum(one.sent_tokens for one in run))
            first, last = run[0].place, run[-1].place
            told = (
                f"{many(len(run), 'message')} sent as asked ({first} to {last}), ~{weight} tokens"
            )
            yield Run(run, True, told)
        else:
            yield Run(run, False)


def _tools(facts: Facts) -> str:
    """The tools that were offered, and what changed among them."""
    if facts.inside is None:
        return ""
    asked, sent = facts.inside.facts["asked"], facts.inside.facts.get("sent")
    if not asked.get("tools") and not (sent or {}).get("tools"):
        return "none"
    told = f"{many(asked['tools'], 'definition')}, ~{tokens(asked['tools_tokens'])} tokens"
    if sent is None or sent["tools_digest"] == asked["tools_digest"]:
        return told
    added = ", ".join(name(one) for one in facts.inside.facts.get("tools_added") or ())
    if added:
        return f"{told}; sent with {added}, ~{tokens(sent['tools_tokens'])} tokens"
    return f"{told}; sent in another order, or changed"


def _cut(lines: Sequence[str]) -> tuple[str, ...]:
    shown = tuple([visible(line) for line in lines[:_LINES]])
    return shown if len(lines) <= _LINES else (*shown, f"… {len(lines) - _LINES:,} lines more")

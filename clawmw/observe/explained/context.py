"""What was asked against what was sent, and what the provider's cache made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clawmw.observe.explained.facts import Facts, Point, dollars, many, name
from clawmw.observe.reading.figures import clean, share, tokens
from clawmw.observe.reading.summary import left_out
from clawmw.observe.store.outlinestore import Inside, Said

__all__ = ["asked", "cache", "mechanism", "sent"]

_MANY = 8
"""Messages that are named one by one; the page has all."""
_WORDS = {
    "compress": "tool results put in a shorter form",
    "compress.json": "JSON put in a shorter form",
    "compress.table": "tables put in a shorter form",
    "compress.log": "log lines left out",
    "compress.html": "a web page reduced to its text",
    "compress.code": "source code reduced to its outline",
    "compress.diff": "a diff put in a shorter form",
    "compress.search": "search hits put in a shorter form",
    "compress.listing": "file listings put in a shorter form",
    "compress.test_report": "test reports reduced to what failed",
    "compress.trace": "stack traces put in a shorter form",
    "compress.blob": "encoded data replaced by a marker",
    "compress.prose": "prose shortened",
    "compress.output": "output of a command, most of its lines left out",
    "compress.commits": "commits put in a shorter form",
    "compress.minified": "minified code replaced by a marker",
    "compress.python": "Python data put in a shorter form",
    "compress.cut": "the middle of a long text left out",
    "dedupe": "what had been sent before replaced by a reference to it",
    "epochs.superseded": "an old result replaced by a marker, as a newer one took its place",
    "window.rounds": "whole old rounds replaced by one marker, as the model's limit was near",
    "window": "old results replaced by a marker, as the model's limit was near",
    "epochs": "old history put in a shorter form",
    "expand": "what the model asked clawmw for, and the answers",
    "budget": "a note that a budget is nearly used up",
    "loop_guard": "a note that the agent repeats itself",
}
_ROLES = {"system": "the system prompt", "tool": "a tool result"}


def mechanism(text: str) -> str:
    """What a mechanism does, in words; its own name where it has none here."""
    plain = text.partition("@")[0]
    return _WORDS.get(plain) or _WORDS.get(plain.partition(".")[0]) or name(plain)


def asked(facts: Facts) -> Iterator[Point]:
    """What the agent asked to send."""
    span, inside = facts.span, facts.inside
    count = facts.get("clawmw.messages")
    said = many(count, "message") if isinstance(count, int) else "a request"
    known = inside.facts["asked"] if inside is not None else {}
    if known.get("tools"):
        said += f" and {many(known['tools'], 'tool definition')}"
    heavy = span.raw_tokens or _weighed(facts)
    weight = f", about {tokens(heavy)} tokens in all" if heavy else ""
    yield Point(f"The agent asked {name(span.requested_model or span.model)} with {said}{weight}.")
    if known.get("limit"):
        yield Point(f"It allowed an answer of at most {tokens(known['limit'])} tokens.")
    if facts.get("gen_ai.request.stream"):
        yield Point("It wanted the answer as a stream.")
    for event in facts.events("clawmw.body.unread"):
        why = clean(str(event.get("reason")))
        yield Point(f"The body could not be read ({why}): it was guarded, and sent as it came.")
    if facts.get("clawmw.held"):
        yield Point(
            "The provider itself holds part of the conversation, so nothing of it was made smaller."
        )


def _weighed(facts: Facts) -> int:
    """Tokens of a call that was stopped before anybody summed them up."""
    if facts.inside is None:
        return 0
    messages = sum(one.asked_tokens for one in facts.inside.messages)
    return messages + int(facts.inside.facts["asked"].get("tools_tokens") or 0)


def sent(facts: Facts) -> Iterator[Point]:
    """What went out instead, by mechanism and by message."""
    span = facts.span
    if not span.attempts:
        if span.source is None:
            yield Point("Nothing was sent to a model.")
        return
    if span.raw_tokens and span.sent_tokens is not None:
        yield from _sizes(facts, span.raw_tokens, span.sent_tokens)
    for what, count in left_out([span]):
        verb = "would save" if facts.observing else "saved"
        yield Point(f"{_capital(mechanism(what))}: {verb} about {tokens(count)} tokens.", what)
    if facts.inside is not None:
        yield from _one_by_one(facts.inside)
    else:
        yield Point("Its messages were not written down one by one.")
    for event in facts.acted("redact"):
        names = [k.removeprefix("detail.") for k in event if k.startswith("detail.")]
        yield Point(f"Secrets were replaced before: {', '.join(map(name, names))}.", "redact.env")
    for event in facts.events("clawmw.epoch"):
        yield _epoch(event)


def _one_by_one(inside: Inside) -> Iterator[Point]:
    """The messages that changed, those of clawmw, and the tools."""
    yield from _messages([one for one in inside.messages if one.changed and one.place is not None])
    yield from _added(inside.messages)
    for tool in inside.facts.get("tools_added") or ():
        yield Point(
            f"The model was offered one more tool, {name(tool)}: with it, it can ask for what was "
            "cut.",
            "expand.offer",
        )


def _sizes(facts: Facts, raw: int, out: int) -> Iterator[Point]:
    if facts.observing and facts.span.would_tokens not in (None, out):
        would = tokens(facts.span.would_tokens)
        yield Point(
            f"It was sent as it was asked ({facts.span.mode} mode); with the policy enforced, "
            f"about {would} tokens would have gone out.",
            "mode" if facts.span.mode == "observe" else "holdout",
        )
    elif out < raw:
        yield Point(
            f"About {tokens(out)} of the {tokens(raw)} tokens were sent: "
            f"{share(raw - out, raw)} less (estimated)."
        )
    elif out > raw:
        yield Point(
            f"About {tokens(out)} tokens were sent, {tokens(out - raw)} more than asked: what "
            "clawmw adds was more than what it could leave out."
        )
    else:
        yield Point("It was sent as it was asked; nothing in it could be made smaller.")


def _messages(changed: Sequence[Said]) -> Iterator[Point]:
    largest = sorted(changed, key=lambda one: one.sent_tokens - one.asked_tokens)[:_MANY]
    for one in sorted(largest, key=lambda one: one.place or 0):
        what = _ROLES.get(one.role, f"by the {one.role}")
        tool = next((part.name for part in one.parts if part.name), "")
        of = f" of {name(tool)}" if tool else ""
        after = "left out" if not one.sent_bytes else f"{tokens(one.sent_tokens)}"
        how = ", ".join(mechanism(by) for by in one.by)
        yield Point(
            f"Message {(one.place or 0) + 1}, {what}{of}: about {tokens(one.asked_tokens)} "
            f"tokens → {after} ({how}).",
            one.by[0] if one.by else "",
        )
    if len(changed) > _MANY:
        yield Point(f"{many(len(changed) - _MANY, 'other message')} changed, too.")


def _added(messages: Sequence[Said]) -> Iterator[Point]:
    by: dict[str, list[Said]] = {}
    for one in messages:
        if one.added_by:
            by.setdefault(one.added_by, []).append(one)
    for stage, ours in by.items():
        weight = tokens(sum(one.sent_tokens for one in ours))
        yield Point(
            f"Among them {_are(len(ours))} of clawmw's own (about {weight} tokens): "
            f"{mechanism(stage)}.",
            stage,
        )


_REASONS = {
    "idle": "the provider no longer held the old prompt anyway, after so long a pause",
    "model": "another model is asked, which has nothing of it in its cache",
    "tools": "the tools changed, so that the cache was lost anyway",
    "pays": "it pays: later calls save more than writing it again costs",
    "window": "the model's window was nearly full",
    "budget": "a budget was nearly used up",
}


def _epoch(event: Mapping[str, Any]) -> Point:
    why = _REASONS.get(str(event.get("reason")), name(event.get("reason")))
    verb = "would be" if event.get("would") else "was"
    return Point(
        f"Old history {verb} sent in a shorter form from here on: {why}. About "
        f"{tokens(event.get('tokens_before'))} tokens → {tokens(event.get('tokens_after'))}; "
        f"writing it again costs about {dollars(event.get('price_usd'))}, and saves about "
        f"{dollars(event.get('saving_usd'))} over this call and the "
        f"{event.get('expected_calls', 0):g} expected after it.",
        f"{event.get('stage')}",
    )


def cache(facts: Facts) -> Iterator[Point]:
    """What the provider was expected to read from its cache, what it read, and what moved."""
    span = facts.span
    read, expected = span.cache_read_tokens, span.predicted_tokens
    if not span.attempts or (read is None and not expected):
        return
    if read is None:
        yield Point(
            f"About {tokens(expected)} tokens should have been in the provider's cache; it did not "
            "say what it read."
        )
        return
    of = f" of {tokens(span.input_tokens)} input tokens ({share(read, span.input_tokens)})"
    saw = f"The provider read {tokens(read)}{of} from its cache{facts.together}"
    first = " for the first" if facts.together else ""
    yield Point(f"{saw}; about {tokens(expected or 0)} were expected{first} (estimated).")
    if span.cache_write_tokens:
        yield Point(f"It wrote {tokens(span.cache_write_tokens)} tokens into it, for later calls.")
    for event in facts.events("clawmw.cache.missed"):
        yield _missed(event)
    for event in facts.acted("prompt_cache"):
        told = _HINTS.get(str(event.get("rule")))
        if told:
            yield Point(told, str(event.get("rule")))


_HINTS = {
    "prompt_cache.tools": "The tools were put in a fixed order, so that the prompt begins alike "
    "each time.",
    "prompt_cache.marks": "Marks were set that tell the provider what to keep.",
    "prompt_cache.ttl": "It was asked to keep it for longer than it does by default: by the times "
    "between calls, that pays.",
    "prompt_cache.key": "A key was set that leads calls which begin alike to the same machine.",
}


def _missed(event: Mapping[str, Any]) -> Point:
    lost = event.get("lost_usd")
    price = f" That cost about {dollars(lost)} more." if lost is not None else ""
    if event.get("moved") == "provider":
        return Point(
            "An expected hit did not come, though nothing of the prompt had moved: the provider no "
            f"longer held it, or another machine answered.{price}"
        )
    part = {"tools": "tool", "message": "message"}.get(str(event.get("moved")), "the system prompt")
    index = event.get("index")
    where = (
        f"{part} {index + 1}" if isinstance(index, int) and part != "the system prompt" else part
    )
    tool = f" ({name(event['tool'])})" if event.get("tool") else ""
    byte = f", from its byte {event['byte']:,} on" if event.get("byte") is not None else ""
    return Point(
        f"An expected hit did not come: {where}{tool} was not what it was in the call before"
        f"{byte}. All that follows it had to be read anew.{price}"
    )


def _are(count: int) -> str:
    return "is 1 message" if count == 1 else f"are {count:,} messages"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

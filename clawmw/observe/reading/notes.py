"""What happened to one model call, in short lines: rules that acted, trouble, attempts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clawmw.core.money import NANO
from clawmw.observe.reading.figures import Glyphs, clean, duration, money, tokens
from clawmw.observe.reading.summary import left_out
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["notes", "title"]


def title(span: SpanRow) -> str:
    """A span's name; of another library's, with the model or tool where it does not say it."""
    name = clean(span.name)
    about = span.model if span.op in ("chat", "inference") else None
    if span.op == "execute_tool":
        said = span.attributes.get("gen_ai.tool.name") or span.attributes.get("tool.name")
        about = str(said) if said else None
    if span.source is None or about is None or about in span.name.split():
        return name
    return f"{name} {clean(about)}"


def notes(span: SpanRow, glyphs: Glyphs) -> Iterator[str]:
    """One short line for each rule that acted, each trouble, and what was left out."""
    if span.op == "inference":
        counts = f"{tokens(span.input_tokens)}{glyphs.arrow}{tokens(span.output_tokens)}"
        said = "" if span.input_tokens is None else f" (its own count: {counts})"
        yield f"{glyphs.dot} a call that another span counts{said}"
    joined = span.attributes.get("clawmw.joined_from")
    if joined:
        of = list(span.attributes.get("clawmw.joined_agents") or joined)
        names = ", ".join(clean(str(one)) for one in of[:_JOINED])
        more = ", ..." if len(of) > _JOINED else ""
        yield f"{glyphs.dot} joins {len(joined)} branches: {names}{more}"
    if span.op != "chat":
        yield from _linked(span, glyphs)
        return
    if span.requested_model and span.requested_model != span.model:
        yield f"{glyphs.dot} asked for {clean(span.requested_model)}"
    seen: dict[str, int] = {}
    tries = [event for event in span.events if event.get("name") == "clawmw.attempt"]
    smooth = all(event.get("status") == 200 for event in tries)
    for event in span.events:
        if smooth and event in tries:  # several, since the model asked clawmw for something
            continue
        text = clean(_note(event))
        if text:
            seen[text] = seen.get(text, 0) + 1
    for text, times in seen.items():
        yield f"{glyphs.dot} {text}" + (f" x{times}" if times > 1 else "")
    left = left_out([span])
    if left and span.status not in ("answered", "halted"):
        verb = "would leave out" if span.mode == "observe" else "left out"
        parts = ", ".join(f"{clean(name)} ~{tokens(count)}" for name, count in left)
        yield f"{glyphs.dot} {verb} {parts}"


def _linked(span: SpanRow, glyphs: Glyphs) -> Iterator[str]:
    """Spans of other traces that a root or an agent belongs to."""
    words = {"caller": "begun in", "parent_chain": "a part of"}
    for link in span.attributes.get("clawmw.links") or ():
        kind, _, at = str(link).partition(" ")
        if kind in words:
            yield f"{glyphs.dot} {words[kind]} trace {clean(at.partition('-')[0])}"


_JOINED = 4
_ROUTINE = frozenset({"expand.offer", "budget.usage", "prompt_cache.tools"})
"""Rules that act alike on every call; `--json` has them."""
_PLAIN = {
    "prompt_cache.marks": "",  # alike on every call, unless it says more
    "expand.answer": "the model asked for what was cut, and clawmw answered (expand.answer)",
}
"""What a rule's bare name does not tell, where it acted and says no more."""


def _note(event: Mapping[str, Any]) -> str:
    kind = event.get("name")
    if event.get("rule") in _ROUTINE:
        return ""
    if kind in ("clawmw.acted", "clawmw.loop.capped"):
        return _acted(event)
    if kind == "clawmw.epoch":
        return _epoch(event)
    if kind == "clawmw.epoch.ended":
        saved, expected = _dollars(event, "saved_usd"), _dollars(event, "expected_usd")
        calls = f"{event.get('calls')} calls followed (~{event.get('expected_calls'):g} expected)"
        return f"earlier epoch over: {calls}, saved {saved} ({expected} expected), estimated"
    if kind == "clawmw.attempt":
        how = event.get("status") or event.get("failure") or "no answer"
        took = duration(round(event.get("seconds", 0) * 1e9))
        return f"attempt {event.get('number')}: {how} after {took}, {event.get('model')}"
    if kind == "clawmw.stage.failed":
        end = "call refused" if event.get("closed") else "stage skipped"
        return f"{event.get('stage')} failed in {event.get('phase')}: {event.get('error')}, {end}"
    if kind == "clawmw.degraded":
        return f"went on without its {event.get('store')} store: {event.get('error')}"
    if kind == "clawmw.identity.derived":
        names = str(event.get("names"))
        return f"nobody names its {names}: read off the messages (send x-clawmw-chain, -session)"
    if kind in ("clawmw.budget.near", "clawmw.budget.overdrawn"):
        return _budget(event)
    if kind == "clawmw.cost.assumed":
        most = money(round(event.get("usd", 0) * NANO))
        return f"an attempt broke unanswered: what it cost is unknown, {most} charged at most"
    if kind == "clawmw.cache.missed":
        return _cache_missed(event)
    return ""


def _acted(event: Mapping[str, Any]) -> str:
    """What a rule did, with what it says of it."""
    would = "would " if event.get("would") else ""
    details = ", ".join(
        f"{key.removeprefix('detail.')} {value}"
        for key, value in event.items()
        if key.startswith("detail.")
    )
    text = f"{event.get('rule')}: {would}{event.get('action')}"
    if details or would:
        return f"{text} ({details})" if details else text
    return _PLAIN.get(str(event.get("rule")), text)


def _budget(event: Mapping[str, Any]) -> str:
    """A limit that is near, or a call that used more than was kept for it."""
    meter, used = str(event.get("meter")), int(event.get("used") or 0)
    most = int(event.get("limit") or event.get("reserved") or 0)
    unit = {"usd": "USD", "wall": "seconds"}.get(meter, meter.replace("_", " "))
    scale = {"usd": 1e9, "wall": 1e3}.get(meter, 1)
    sums = f"{used / scale:,.10g}", f"{most / scale:,.10g}"
    if event.get("name") == "clawmw.budget.overdrawn":
        return f"budget: {sums[0]} {unit} used, {sums[1]} reserved"
    day = " and day" if event.get("day") else ""
    return f"budget near: {sums[0]} of {sums[1]} {unit} a {event.get('scope')}{day}"


def _cache_missed(event: Mapping[str, Any]) -> str:
    """What moved, and what it cost in tokens."""
    counts = f"read {tokens(event.get('read', 0))} of ~{tokens(event.get('predicted', 0))}"
    if event.get("moved") == "provider":
        return f"cache missed: {counts}; nothing moved, the provider no longer had it"
    tool = f" ({event['tool']})" if event.get("tool") else ""
    byte = f" at byte {event['byte']:,}" if event.get("byte") is not None else ""
    return f"cache missed: {counts}; {event.get('moved')} {event.get('index')}{tool} moved{byte}"


def _epoch(event: Mapping[str, Any]) -> str:
    """An epoch in one line: why, what it does, and both sums."""
    would = "would be " if event.get("would") else ""
    size = f"~{tokens(event.get('tokens_before'))} to ~{tokens(event.get('tokens_after'))}"
    sums = (
        f"rewriting costs {_dollars(event, 'price_usd')}, saves {_dollars(event, 'saving_usd')} "
        f"over this call and ~{event.get('expected_calls'):g} expected"
    )
    return f"{would}epoch ({event.get('reason')}): context {size}; {sums}, estimated"


def _dollars(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return "?" if value is None else f"~{money(round(value * NANO))}"

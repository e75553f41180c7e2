"""Spans of the wire <-> rows of the store, whoever made them.

Our own spans (scope `clawmw`) come back as the rows they were: what is sent of a row and
taken up again is the same row, money to the nano-USD. Stand-ins for spans nobody wrote are
not taken up: the reader makes its own, and the real one may be there already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from clawmw.core.money import NANO
from clawmw.observe.otlp.content import LONGEST, kept_of_ours, marked
from clawmw.observe.otlp.foreign import OTHER, Profiles, foreign_row
from clawmw.observe.otlp.sound import sound
from clawmw.observe.otlp.wire import Value, WireEvent, WireSpan
from clawmw.observe.spans.attributes import label
from clawmw.observe.spans.compat import GROUPS, duplicate
from clawmw.observe.store.exporter import SCOPE, own_row, written
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["sent", "taken"]

_OURS = ("invoke_workflow", "invoke_agent", "chat", "execute_tool")
_LINKS = 256
_LINK = re.compile(r"(\S+) ([0-9a-f]{32})-([0-9a-f]{16})")
_ID = re.compile(r"[0-9a-f]{16}")
_RAW = "clawmw.parent.id"
"""The parent as it is stored, where the reader put the span beneath another one."""
_EXCHANGE = "clawmw.exchange"
_TYPES = {f.name: str(f.type) for f in fields(SpanRow)}


def taken(span: WireSpan, profiles: Profiles | None = None) -> SpanRow | None:
    """The row of a span that was sent; None for a stand-in."""
    if _RAW in span.attributes:
        rest = {n: v for n, v in span.attributes.items() if n != _RAW}
        span = replace(span, parent_id=_parent(span.attributes[_RAW]), attributes=rest)
    if span.scope != SCOPE or span.attributes.get("gen_ai.operation.name") not in _OURS:
        row = foreign_row(span, profiles)
        return _told(row, span) if row.op == "chat" and _EXCHANGE in span.attributes else row
    if span.attributes.get("clawmw.synthetic"):
        return None
    return _own(span)


def _told(row: SpanRow, span: WireSpan) -> SpanRow:
    """A foreign span that clawmw put what it knows onto: as a span of ours, of the same call.

    Where it counts tokens under names of its own, these stand.
    """
    ours = _own(span)
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    counts = {c: getattr(row, c) for c in tokens if getattr(ours, c) is None}
    return replace(ours, op="chat", model=ours.model or row.model, **counts)


def _own(span: WireSpan) -> SpanRow:
    """The row of a span with our attributes."""
    said = {n: v for n, v in kept_of_ours(span.attributes).items() if sound(n, v)}
    place = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": label(span.name, 2 * LONGEST),
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
    }
    links = [f"{label(kind, 32)} {trace}-{one}" for kind, trace, one in span.links[:_LINKS]]
    if links:
        said["clawmw.links"] = links
    row = own_row(place, said, marked(span.events, ours=True), failed=span.failed)
    wrong: dict[str, Any] = {
        n: None for n, kind in _TYPES.items() if not _fits(getattr(row, n), kind)
    }
    return replace(row, **wrong) if wrong else row


def _parent(raw: Value) -> str | None:
    """The parent that a span had in the store it comes from."""
    return raw if isinstance(raw, str) and _ID.fullmatch(raw) else None


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is what its column holds."""
    if value is None:
        return True
    if kind.startswith("int"):
        return type(value) is int
    return isinstance(value, str) or not kind.startswith("str")


def sent(row: SpanRow, stored: str | None = None) -> WireSpan:
    """A row as it is sent, with the names that readers of several conventions look for.

    `stored`: its parent in the store, where the row itself has another one.
    """
    ours = row.source is None
    attributes = {**row.attributes, **written(row)}
    links = tuple(_links(attributes.pop("clawmw.links", ())))
    if stored != row.parent_id and not row.synthetic:
        attributes[_RAW] = stored or ""
    if ours:
        attributes |= _derived(row)
    elif row.op == "inference":
        # Another span counts for this call; nobody is to add both up.
        for column in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
            if attributes.pop(_USAGE[column], None) is not None:
                attributes[f"clawmw.reported.{column}"] = getattr(row, column)
        attributes.pop("clawmw.usage.basis", None)
        attributes["gen_ai.operation.name"] = row.op
    elif row.op != OTHER:
        attributes["gen_ai.operation.name"] = "invoke_workflow" if row.op == "workflow" else row.op
    if not ours:
        attributes = _named_as_theirs(row, attributes)
    if attributes.get("gen_ai.operation.name") in _OURS:
        duplicate(attributes, GROUPS)
    return WireSpan(
        row.trace_id,
        row.span_id,
        row.parent_id,
        row.name,
        row.start_ns,
        row.end_ns,
        failed=row.status in ("failed", "halted"),
        client=row.op in ("chat", "inference"),
        attributes=attributes,
        events=tuple(_event(mark) for mark in row.events),
        links=links,
        scope=SCOPE if ours else row.source or "",
        service=None if ours else row.agent or "unknown_service",
    )


_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
}
_OUR_NAMES = {"clawmw.session.id": "gen_ai.conversation.id", "clawmw.agent": "gen_ai.agent.name"}


def _named_as_theirs(row: SpanRow, attributes: dict[str, Any]) -> dict[str, Any]:
    """Session and agent under the conventions' names, as another library says them."""
    return {_OUR_NAMES.get(name, name): value for name, value in attributes.items()}


def _derived(row: SpanRow) -> dict[str, Any]:
    """What a row does not keep because the rest of it says the same."""
    found: dict[str, Any] = {"gen_ai.operation.name": row.op}
    if row.synthetic:
        found["clawmw.synthetic"] = True
    if row.op != "chat":
        return found
    found["clawmw.status"] = row.status
    found["clawmw.cost.source"] = "unknown" if row.cost_nano is None else "local"
    if row.raw_tokens is not None and row.sent_tokens is not None:
        found["clawmw.saved.tokens"] = row.raw_tokens - row.sent_tokens
        found["clawmw.saved.basis"] = "estimated"
    if row.baseline_nano is not None and row.cost_nano is not None:
        found["clawmw.saved.usd"] = (row.baseline_nano - row.cost_nano) / NANO
    for event in row.events:
        if event.get("rule"):
            found[f"clawmw.{'would' if event.get('would') else 'rule'}.{event['rule']}"] = True
    return found


def _links(said: Any) -> Iterator[tuple[str, str, str]]:
    for text in said if isinstance(said, list | tuple) else ():
        match = _LINK.fullmatch(str(text))
        if match:
            yield match[1], match[2], match[3]


def _event(mark: Mapping[str, Any]) -> WireEvent:
    said = {n: v for n, v in mark.items() if n not in ("name", "time_ns") and v is not None}
    said = {n: tuple(v) if isinstance(v, list) else v for n, v in said.items()}
    return WireEvent(str(mark.get("name")), int(mark.get("time_ns") or 0), said)

"""Chains and traces in a terminal: a table of chains, and one trace as a tree with bars.

Fits any width: the table drops its least telling columns, the tree shortens its bars,
then its names. Plain text where colours are off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from clawmw.core.money import NANO
from clawmw.observe.chains import Chain, Node, tree
from clawmw.observe.figures import (
    ASCII,
    UNICODE,
    Glyphs,
    clean,
    duration,
    money,
    share,
    tokens,
)
from clawmw.observe.spanstore import SpanRow
from clawmw.observe.summary import cost, left_out, saved, totals, used

__all__ = ["render_chains", "render_trace"]

_COLOURS = {"ok": "green", "failed": "red", "halted": "yellow", "cancelled": "yellow"}
_TITLES = (
    "CHAIN",
    "AGENTS",
    "CALLS",
    "WALL",
    "TOKENS in->out",
    "CACHED %",
    "COST",
    "SAVED",
    "STOPS",
    "STATUS",
)
_DROPPED = ("AGENTS", "WALL", "CALLS", "CACHED %", "TOKENS in->out")
"""Columns a narrow terminal does without, in this order."""
_FIGURES = ("TIME", "TOKENS", "CACHED", "COST", "SAVED")
_FEWER = ((0, 1, 2, 3, 4), (0, 1, 3, 4), (0, 3, 4), (0, 3), (3,))
"""Which figures a tree shows, from a wide terminal to a narrow one."""
_NARROWEST_ID, _NAME, _NARROWEST_NAME, _BAR, _NARROWEST_BAR = 14, 44, 28, 28, 8


# --- the table of chains -------------------------------------------------------------


def render_chains(chains: Sequence[Chain], console: Console) -> None:
    """Print one row a chain."""
    glyphs = _glyphs(console)
    head = tuple(title.replace("->", glyphs.arrow) for title in _TITLES)
    rows = [head, *(_cells(chain, glyphs) for chain in chains)]
    sizes = [max(cell_len(row[i]) for row in rows) for i in range(len(head))]
    shown = list(range(len(head)))
    dropped = iter(_DROPPED)
    while sum(sizes[i] + 2 for i in shown[1:]) + min(sizes[0], _NARROWEST_ID) > console.width:
        column = next(dropped, None)
        if column is None:
            break
        shown.remove(_TITLES.index(column))
    room = console.width - sum(sizes[i] + 2 for i in shown[1:])
    sizes[0] = min(sizes[0], max(room, _NARROWEST_ID))
    for number, row in enumerate(rows):
        text = Text(_fitted(row[0], sizes[0], glyphs))
        for i in shown[1:-1]:
            text.append("  " + " " * (sizes[i] - cell_len(row[i])) + row[i])
        text.append("  ").append(row[-1], _COLOURS.get(row[-1], ""))
        text.stylize("bold" if number == 0 else "")
        _print(console, text)


def _cells(chain: Chain, glyphs: Glyphs) -> tuple[str, ...]:
    return (
        clean(chain.chain_id),
        str(chain.agents),
        str(chain.calls),
        duration(chain.end_ns - chain.start_ns),
        used(chain, glyphs, short=True),
        share(chain.cache_read_tokens, chain.cacheable_tokens),
        cost(chain, glyphs),
        saved(chain),
        str(chain.stops),
        chain.status,
    )


# --- one trace -----------------------------------------------------------------------


@dataclass(slots=True)
class _Sum:
    """What the model calls of a subtree come to; None until one says it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cacheable: int | None = None
    cost_nano: int | None = None
    saved_nano: int | None = None
    estimated: int = 0
    unknown_usage: int = 0
    unknown_cost: int = 0

    def add(self, other: _Sum) -> None:
        for f in fields(other):
            more = getattr(other, f.name)
            if more is not None:
                setattr(self, f.name, (getattr(self, f.name) or 0) + more)


@dataclass(frozen=True, slots=True)
class _Line:
    """A span's line: name with its guides, then its figures; or a note beneath it."""

    name: str
    span: SpanRow | None = None
    figures: tuple[str, ...] = ()
    style: str = ""


def render_trace(chain: Chain, rows: Sequence[SpanRow], console: Console) -> None:
    """Print a trace as a tree with its waterfall, and its totals."""
    glyphs = _glyphs(console)
    began = datetime.fromtimestamp(chain.start_ns / 1e9).astimezone()
    when = began.strftime("%Y-%m-%d %H:%M:%S")
    title = f"chain {clean(chain.chain_id)}  trace {chain.trace_id}  {when}  {chain.status}"
    _print(console, Text(title, "bold"))
    root = tree(rows)
    if root is not None:
        lines = list(_lines(root, "", "", glyphs)[0])
        for text in _laid_out(lines, chain, console.width, glyphs):
            _print(console, text)
    _print(console, Text())
    for line in totals(chain, rows, glyphs):
        _print(console, Text(line))


def _lines(node: Node, lead: str, below: str, glyphs: Glyphs) -> tuple[list[_Line], _Sum]:
    """The lines of a subtree and its sum; `lead` is drawn before its name, `below` beneath."""
    span = node.span
    total = _own(span)
    children: list[_Line] = []
    for child in node.children:
        final = child is node.children[-1]
        lines, part = _lines(
            child,
            below + (glyphs.last if final else glyphs.branch),
            below + ("    " if final else glyphs.trunk),
            glyphs,
        )
        children += lines
        total.add(part)
    guide = below + (glyphs.trunk if node.children else "    ")
    notes = [_Line(f"{guide}{text}", style="dim") for text in _notes(span, glyphs)]
    unknown = span.attributes.get("clawmw.duration.unknown")
    figures = (
        duration(None if unknown else span.end_ns - span.start_ns),
        *_figures(total, span, glyphs),
    )
    style = {"failed": "red", "halted": "yellow"}.get(span.status, "")
    return [_Line(lead + _title(span), span, figures, style), *notes, *children], total


def _own(span: SpanRow) -> _Sum:
    if span.op != "chat":
        return _Sum()
    known = span.cache_read_tokens is not None
    both = span.cost_nano is not None and span.baseline_nano is not None
    return _Sum(
        span.input_tokens,
        span.output_tokens,
        span.cache_read_tokens,
        span.input_tokens if known else None,
        span.cost_nano,
        (span.baseline_nano or 0) - (span.cost_nano or 0) if both else None,
        int(span.usage_basis == "estimated"),
        int(span.input_tokens is None and span.status in ("ok", "cancelled")),
        int(span.cost_nano is None),
    )


def _figures(total: _Sum, span: SpanRow, glyphs: Glyphs) -> tuple[str, ...]:
    if span.op == "execute_tool":
        size = span.attributes.get("clawmw.tool.result_tokens")
        return ("" if size is None else f"~{tokens(size)}", "", "", "")
    estimated = "~" if total.estimated else ""
    tokens_used = spent = less = "-"
    if total.input_tokens is not None:
        sign = glyphs.at_least if total.unknown_usage else estimated
        tokens_used = (
            f"{sign}{tokens(total.input_tokens)}{glyphs.arrow}{tokens(total.output_tokens)}"
        )
    if total.cost_nano is not None:
        spent = (glyphs.at_least if total.unknown_cost else estimated) + money(total.cost_nano)
    if total.saved_nano is not None:
        less = f"~{money(total.saved_nano)}"
    return tokens_used, share(total.cache_read_tokens, total.cacheable), spent, less


def _title(span: SpanRow) -> str:
    """The span's name, after how it ended unless that was well."""
    if span.status == "ok":
        return clean(span.name)
    how = "by clawmw" if span.status == "answered" else span.status
    if span.status == "failed" and span.error_type:
        how = f"failed {span.error_type}"
    return clean(f"[{how}] {span.name}")


def _notes(span: SpanRow, glyphs: Glyphs) -> Iterator[str]:
    """One short line for each rule that acted, each trouble, and what was left out."""
    if span.op != "chat":
        return
    if span.requested_model and span.requested_model != span.model:
        yield f"{glyphs.dot} asked for {clean(span.requested_model)}"
    seen: dict[str, int] = {}
    for event in span.events:
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


_ROUTINE = frozenset({"expand.offer", "budget.usage", "prompt_cache.tools"})
"""Rules that act alike on every call; `--json` has them."""


def _note(event: Mapping[str, Any]) -> str:
    kind = event.get("name")
    if event.get("rule") in _ROUTINE:
        return ""
    if kind in ("clawmw.acted", "clawmw.loop.capped"):
        would = "would " if event.get("would") else ""
        details = ", ".join(
            f"{key.removeprefix('detail.')} {value}"
            for key, value in event.items()
            if key.startswith("detail.")
        )
        text = f"{event.get('rule')}: {would}{event.get('action')}"
        return f"{text} ({details})" if details else text
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
    if kind == "clawmw.cache.missed":
        return _cache_missed(event)
    return ""


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


# --- layout --------------------------------------------------------------------------


def _laid_out(lines: Sequence[_Line], chain: Chain, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """Names, bars and figures in columns that fit `width`."""
    spans = [line for line in lines if line.span is not None]
    sizes = [
        max(cell_len(head), *(cell_len(line.figures[i]) for line in spans))
        for i, head in enumerate(_FIGURES)
    ]
    for shown in _FEWER:
        room = width - sum(sizes[i] + 2 for i in shown) - 2
        if room >= _NARROWEST_NAME + _NARROWEST_BAR:
            break
    longest = max(cell_len(line.name) for line in spans)
    bar = max(min(_BAR, room - min(longest, _NAME)), _NARROWEST_BAR)
    name = max(min(longest, room - bar), 8)
    title = (lambda text: text) if longest <= name else _short
    heads = "".join("  " + _FIGURES[i].rjust(sizes[i]) for i in shown)
    yield Text(" " * (name + 2 + bar) + heads, "bold dim")
    for line in lines:
        if line.span is None:
            yield Text(_fitted(line.name, width, glyphs).rstrip(), line.style)
            continue
        text = Text(_fitted(title(line.name), name, glyphs), line.style)
        text.append("  ")
        text.append(_bar(line.span, chain, bar, glyphs), _bar_colour(line.span))
        for i in shown:
            text.append("  " + " " * (sizes[i] - cell_len(line.figures[i])) + line.figures[i])
        text.rstrip()
        yield text


def _short(name: str) -> str:
    """A span's name without what its place in the tree says, and without the model's host."""
    return re.sub(r"(?<=chat )\S*/", "", re.sub(r"\b(invoke|execute)_", "", name, count=1))


def _fitted(text: str, width: int, glyphs: Glyphs) -> str:
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, max(width - len(glyphs.ellipsis), 0)) + glyphs.ellipsis


def _bar(span: SpanRow, chain: Chain, width: int, glyphs: Glyphs) -> str:
    """When the span ran within the chain; at least one sign wide."""
    whole = max(chain.end_ns - chain.start_ns, 1)
    first = min(int((span.start_ns - chain.start_ns) * width / whole), width - 1)
    last = min(int((span.end_ns - chain.start_ns) * width / whole + 0.5), width)
    first = max(first, 0)
    length = max(last - first, 1)
    return (" " * first + glyphs.bar * length).ljust(width)[:width]


def _bar_colour(span: SpanRow) -> str:
    if span.status in ("failed", "halted"):
        return _COLOURS[span.status]
    return {"chat": "cyan", "execute_tool": "magenta"}.get(span.op, "blue")


def _glyphs(console: Console) -> Glyphs:
    return UNICODE if console.encoding.lower().startswith("utf") else ASCII


def _print(console: Console, text: Text) -> None:
    console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False)

"""Chains and traces in a terminal: a table of chains, and one trace as a tree with bars.

Fits any width: the table drops its least telling columns, the tree shortens its bars,
then its names. Plain text where colours are off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from clawmw.observe.reading.chains import Chain, Node, tree
from clawmw.observe.reading.figures import (
    ASCII,
    UNICODE,
    Glyphs,
    clean,
    duration,
    money,
    share,
    tokens,
)
from clawmw.observe.reading.notes import notes, title
from clawmw.observe.reading.summary import cost, saved, totals, used
from clawmw.observe.reading.sums import Sum, own
from clawmw.observe.store.spanstore import SpanRow

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


def _lines(node: Node, lead: str, below: str, glyphs: Glyphs) -> tuple[list[_Line], Sum]:
    """The lines of a subtree and its sum; `lead` is drawn before its name, `below` beneath."""
    span = node.span
    total = own(span)
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
    below_it = [_Line(f"{guide}{text}", style="dim") for text in notes(span, glyphs)]
    unknown = span.attributes.get("clawmw.duration.unknown")
    figures = (
        duration(None if unknown else span.end_ns - span.start_ns),
        *_figures(total, span, glyphs),
    )
    style = {"failed": "red", "halted": "yellow"}.get(span.status, "")
    return [_Line(lead + _title(span), span, figures, style), *below_it, *children], total


def _figures(total: Sum, span: SpanRow, glyphs: Glyphs) -> tuple[str, ...]:
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
        estimated = "~" if total.estimated_cost else ""
        spent = (glyphs.at_least if total.unknown_cost else estimated) + money(total.cost_nano)
    if total.saved_nano is not None:
        less = f"~{money(total.saved_nano)}"
    return tokens_used, share(total.cache_read_tokens, total.cacheable), spent, less


def _title(span: SpanRow) -> str:
    """The span's name, after how it ended unless that was well."""
    if span.status == "ok":
        return title(span)
    how = "by clawmw" if span.status == "answered" else span.status
    if span.status == "failed" and span.error_type:
        how = f"failed {span.error_type}"
    return f"[{clean(how)}] {title(span)}"


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

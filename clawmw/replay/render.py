"""A replay's report for people: the totals first, then source by source."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from clawmw.core.money import NANO
from clawmw.replay.bill import Money
from clawmw.replay.report import Group, Report

__all__ = ["rendered"]


def rendered(report: Report) -> RenderableType:
    """Everything a reader needs, first line to last."""
    parts: list[RenderableType] = [*_header(report), Text()]
    parts += [_facts(report), Text(), _costs(report), Text(), _sources(report)]
    said = [f"{note.where}: {note.message}" for note in report.notes]
    said += [f"{_count(n, 'call')} skipped: {reason}" for reason, n in report.reasons().items()]
    if said:
        parts += [Text(), *(Text(f"note: {line}", style="dim") for line in said)]
    return Lines(*parts)


def _header(report: Report) -> Iterator[Text]:
    total, policy = report.total, report.policy
    counts = [
        _count(total.runs, "run"),
        _count(total.calls, "call"),
        _count(len(report.sources), "source"),
    ]
    yield Text(f"Replayed {', '.join(counts)}", style="bold")
    yield Text(f"policy: {policy['name']} (digest {policy['digest']}, mode {policy['mode']})")
    exact = report.counter.basis == "exact"
    tokens = (
        f"counted exactly ({report.counter.tokenizer})" if exact else "ESTIMATED (no tokenizer)"
    )
    yield Text(f"tokens: {tokens}; money: simulated, input side; no model was called", style="dim")


def _facts(report: Report) -> Table:
    total = report.total
    table = Table(title="In total", title_justify="left", show_header=False, box=None)
    table.title_style, table.pad_edge = "bold", False
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    change = _change(total.before, total.after)
    table.add_row("input tokens", f"{total.before:,} -> {total.after:,}  ({change})")
    rewrites = f"{total.rewrites:,}" + (f", and {total.priced:,} priced" if total.priced else "")
    table.add_row("prefix rewrites", rewrites, style=_alarm(total.rewrites))
    found = total.literals
    said = (
        f"{total.needed:,} needed: {found['context']:,} in context, {found['reachable']:,} hidden"
    )
    said += f" but can be asked for ({_percent(found['reachable'], total.needed)})"
    table.add_row("literals", f"{said}, {found['lost']:,} lost", style=_alarm(found["lost"]))
    if total.integrity.values:
        kept = total.integrity
        said = f"{_percent(kept.intact, kept.values)} of {kept.values:,} values still in context"
        table.add_row("record integrity", f"{said} stand with their key and in their record")
    if total.answers:
        table.add_row("answers", _answers(total), style=_alarm(total.answers["lost"]))
    table.add_row("CPU in clawmw", f"{_cpu(total, 0.5)} a call at p50, {_cpu(total, 0.95)} at p95")
    if total.refused or total.stopped:
        stopped = f"{_count(total.refused, 'call')} refused (counted as recorded)"
        if total.stopped:
            stopped += (
                f", {total.stopped:,} not sent once a chain was over "
                f"({total.stopped_tokens:,} tokens, in no other figure)"
            )
        table.add_row("stopped by guards", stopped)
    if total.open_ends:
        ends = f"{_count(total.open_ends, 'run')} end before an answer (see --open-ends)"
        table.add_row("open ends", ends)
    if total.mechanisms:
        cut = ", ".join(f"{name} {tokens:,}" for name, tokens in total.mechanisms.most_common())
        table.add_row("tokens cut by", f"{cut}  (estimated)")
    for failure, count in total.failures.most_common():
        table.add_row("FAILED", f"{failure} ({_count(count, 'time')})", style="red")
    if total.reported_calls:
        of = f"{_count(total.reported_calls, 'call')} with the provider's own usage"
        counted = f"{total.counted:,} counted, {total.reported:,} reported"
        table.add_row("input tokens check", f"{counted} ({of})")
    return table


def _answers(total: Group) -> str:
    found, due = total.answers, sum(total.answers.values())
    there = found["whole"] + found["bare"]
    said = f"{there:,} of {due:,} in context when due ({_percent(there, due)}), {found['whole']:,}"
    said += f" with what is around them; {found['reachable']:,} hidden but can be asked for, "
    return f"{said}{found['lost']:,} lost"


def _costs(report: Report) -> Table:
    table = _table("Input cost in USD, simulated", "")
    for profile in report.profiles:
        table.add_column(profile.name.rpartition("/")[2], justify="right")
    bills = [(p.name, report.total.money.get(p.name, Money())) for p in report.profiles]
    rows: list[tuple[str, list[str]]] = [
        ("without any caching", [_usd(m.uncached) for _, m in bills]),
        ("native caching alone", [_usd(m.native) for _, m in bills]),
        ("with clawmw", [_usd(m.clawmw) for _, m in bills]),
        ("and asking back (net)", [_usd(m.net) for _, m in bills]),
        ("change by native caching", [_change(m.uncached, m.native) for _, m in bills]),
        ("change by clawmw", [_change(m.native, m.clawmw) for _, m in bills]),
        ("change by clawmw, net", [_change(m.native, m.net) for _, m in bills]),
        ("score", [_score(m.score) for _, m in bills]),
        ("score, mean of sources", [_score(report.score_mean(name)) for name, _ in bills]),
        ("read from cache before", [_percent(m.cached_before, m.tokens_before) for _, m in bills]),
        ("read from cache after", [_percent(m.cached_after, m.tokens_after) for _, m in bills]),
    ]
    for name, cells in rows:
        bold = "bold" if name.startswith("change by clawmw") else ""
        table.add_row(name, *cells, style=bold, end_section=name.endswith("(net)"))
    table.caption = (
        "Native caching: the calls as recorded, with the provider's cache used as well as it "
        "can be; clawmw's share is told against that. Net: after paying for what was hidden and "
        "needed. Score: 1 is a clairvoyant compressor, below 0 costs more than doing nothing."
    )
    return table


def _sources(report: Report) -> Table:
    first = report.profiles[0].name
    table = _table(f"By source (cost: {first}, against native caching)", "source")
    for name in ("runs", "calls", "tokens", "change", "cost", "net", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("literals", justify="right", no_wrap=True)
    table.add_column("moved", justify="right", no_wrap=True)
    rows = [("total", report.total), *report.sources.items()]
    for index, (name, group) in enumerate(rows):
        money = group.money.get(first, Money())
        found = group.literals
        table.add_row(
            name,
            f"{group.runs:,}",
            f"{group.calls:,}",
            _short(group.before),
            _change(group.before, group.after),
            _change(money.native, money.clawmw),
            _change(money.native, money.net),
            _score(money.score),
            f"{group.needed:,}/{found['reachable']:,}/{found['lost']:,}",
            f"{group.rewrites:,}",
            end_section=index == 0,
            style="bold" if index == 0 else "",
        )
    table.caption = (
        "tokens: before, and how the policy changed them; literals: needed by later calls from "
        "tool results alone / hidden / lost; moved: calls whose sent prefix was rewritten."
    )
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.title_justify = table.caption_justify = "left"
    table.title_style, table.caption_style = "bold", "dim"
    table.add_column(first, overflow="fold", min_width=16)
    return table


def _short(number: int) -> str:
    """Three digits and a unit."""
    if number < 10_000:
        return f"{number:,}"
    size, unit = (number / 1e6, "M") if number >= 1_000_000 else (number / 1e3, "k")
    return f"{size:.3g}{unit}" if size < 1000 else f"{size:,.0f}{unit}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _change(before: int | None, after: int | None) -> str:
    """How much more or less `after` is."""
    if before is None or after is None:
        return "?"
    return f"{(after - before) / before:+.1%}" if before else "-"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _usd(nano: int | None) -> str:
    return "?" if nano is None else f"{nano / NANO:,.4f}"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _cpu(group: Group, share: float) -> str:
    spent = group.percentile(share)
    return "-" if spent is None else f"{spent / 1000:.2f} ms"


def _alarm(count: int) -> str:
    return "red" if count else ""

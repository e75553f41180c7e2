"""The demo's result for people: costs, what saved them, the plan, one trace, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clawmw.demo.played import Bill
from clawmw.demo.result import Provider, Result
from clawmw.demo.savings import Saving
from clawmw.observe.reading.figures import money, share
from clawmw.observe.terminal.render import render_trace

__all__ = ["render", "render_intro"]

_ROOMY = 96
"""Columns from which on there is room for explanations in the tables."""
_WHAT = {
    "prompt_cache": "marks, keys",
    "dedupe": "repeats",
    "compress": "tool results",
    "expand": "asking back",
}
_INTRO = """\
clawmw sits between agents and their models. Under one policy file it sends less, keeps the \
providers' prompt caches warm, and stops what runs away.

Here four agents (plan, gather, check, report) plan a Saturday at Shanghai Disneyland in one long \
conversation. Their tools answer as real ones do: a web page of 27 kB, 116 tickets as JSON, \
timetables. The task is done without clawmw, then with more and more of it, on several providers.
No real model is called and nothing is paid: an emulator on this machine plays the models. It \
decides only from what it is sent, and bills by each provider's prices and caching rules.\
"""
_LEGEND = """\
measured: the difference between the bills of two runs, the second with this mechanism as well. \
billed again: likewise, but for what asking back added to the second run: its requests are billed \
once more without it. estimated (~): shares of the line above, by clawmw's own count of tokens.\
"""
_TREE = """\
A task, the agents it went through, their model calls (chat) and tools; bars show when.
TOKENS  sent→answered, as the provider counts them
CACHED  of those sent, what the provider still had: billed at a fraction
SAVED   against the same calls without clawmw; ~ is an estimate
·       what clawmw did in that call; left out: what the agent asked to send, and clawmw did not\
"""
_KEYED = """\
A prompt_cache_key, as {} takes it, leads requests with the same beginning to the same machine. \
The emulator is one machine, so here it saves nothing.\
"""


def render_intro(console: Console) -> None:
    """What is about to happen, for someone who has never seen clawmw."""
    console.print(Text("clawmw demo", style="bold"))
    console.print(Text(_INTRO))
    console.print()


def render(result: Result, console: Console) -> None:
    """Everything but the introduction."""
    console.print(_head("What the task costs"))
    roomy = console.width >= _ROOMY
    console.print(_costs(result.providers, roomy))
    for note in _notes(result.providers):
        console.print(_note(note))
    console.print()
    console.print(_head("What saved it"))
    console.print(_mechanisms(result.providers, roomy))
    for note in (_LEGEND, *_keyed(result.providers)):
        console.print(_note(note))
    console.print()
    console.print(_facts(result))
    console.print()
    if result.trace is not None:
        last = result.providers[-1].profile.name
        console.print(_head(f"One run call by call: {last}, with clawmw"))
        console.print(_note(_TREE))
        console.print()
        render_trace(result.trace.chain, result.trace.spans, console)
        console.print()


def _head(text: str) -> Text:
    return Text(text, style="bold")


def _note(text: str) -> Padding:
    return Padding(Text(text, style="dim"), (0, 0, 0, 2), expand=False)


def _costs(providers: Sequence[Provider], roomy: bool) -> Table:
    columns = ["model\ncalls", "input\ntokens", "read from\ncache"]
    columns += ["cost without\nany caching", "cost", "clawmw\nsaves"]
    if not roomy:
        columns[2:4] = "from\ncache", "cost\nuncached"
    table = _table("", *columns)
    for provider in providers:
        table.add_row(Text(provider.profile.name, style="cyan"))
        table.add_row("  without clawmw", *_bill(provider.off.bill, provider.off.outcome.calls), "")
        saved = Text(_percent(provider.saved, provider.off.bill.nano), style="bold green")
        calls = provider.on.outcome.calls
        table.add_row("  with clawmw", *_bill(provider.on.bill, calls), saved, end_section=True)
    return table


def _bill(bill: Bill, calls: int) -> tuple[str, ...]:
    extra = bill.calls - calls
    return (
        f"{calls}+{extra}" if extra > 0 else str(calls),
        f"{bill.input_tokens:,}",
        share(bill.cached_tokens, bill.input_tokens),
        money(bill.uncached_nano),
        money(bill.nano),
    )


def _notes(providers: Sequence[Provider]) -> Iterator[str]:
    extra = max(p.on.bill.calls - p.on.outcome.calls for p in providers)
    if extra > 0:
        yield f"+{extra}: calls in which the model asked clawmw for what had been cut; all counted."
    for provider in providers:
        marked = provider.runs["prompt_cache"].bill
        if provider.profile.cache.style == "marks" and not provider.off.bill.cached_tokens:
            less = _percent(marked.nano - provider.on.bill.nano, marked.nano)
            yield (
                f"{provider.profile.name} caches only what the caller marks. These agents mark "
                f"nothing; with marks of their own they would pay {money(marked.nano)}, and clawmw "
                f"would save {less}."
            )
    own = [p.profile.name for p in providers if p.off.bill.cached_tokens]
    if own:
        caches = "caches on its own" if len(own) == 1 else "cache on their own"
        yield f"{' and '.join(own)} {caches}: what is saved there comes from sending less."


def _keyed(providers: Sequence[Provider]) -> Iterator[str]:
    names = [p.profile.name for p in providers if p.profile.cache.key]
    if names:
        yield _KEYED.format(" and ".join(names))


def _mechanisms(providers: Sequence[Provider], roomy: bool) -> Table:
    families = [p.profile.family for p in providers]
    names = [
        p.profile.family if families.count(p.profile.family) == 1 else p.profile.name
        for p in providers
    ]
    tokens_not_sent = "input tokens\nnot sent" if roomy else "tokens\nnot sent"
    table = _table("", tokens_not_sent, *names)
    table.add_column("how it is known" if roomy else "known by", overflow="fold")
    native = [p.off.bill.uncached_nano - p.off.bill.nano for p in providers]
    own = "the provider's own caching" if roomy else "native caching"
    table.add_row(own, "", *(_saved(n) for n in native), "without clawmw", style="dim")
    columns = [{saving.mechanism: saving for saving in p.savings} for p in providers]
    for mechanism in max(columns, key=len):
        some = [column.get(mechanism) for column in columns]
        table.add_row(*_row([s for s in some if s], some, roomy))
    tokens = providers[0].off.bill.input_tokens - providers[0].on.bill.input_tokens
    totals = (Text(_saved(provider.saved), style="bold green") for provider in providers)
    table.add_row(Text("clawmw in all", style="bold"), f"{tokens:,}", *totals, "measured")
    return table


def _row(known: Sequence[Saving], by_provider: Sequence[Saving | None], roomy: bool) -> list[Text]:
    """A mechanism's line; its tokens are the first provider's: all are sent the same."""
    first = known[0]
    part = first.basis == "estimated"
    about, style = ("~", "dim") if part else ("", "")
    costs = (f"{about}{_saved(s.nano)}" if s else "-" for s in by_provider)
    cells = (_name(first, roomy), f"{about}{first.tokens:,}", *costs, first.basis)
    return [Text(cell, style=style) for cell in cells]


def _name(saving: Saving, roomy: bool) -> str:
    if saving.basis == "estimated":
        return f"  of it {saving.mechanism.partition('.')[2]}"
    what = _WHAT.get(saving.mechanism)
    return f"{saving.mechanism} ({what})" if what and roomy else saving.mechanism


def _facts(result: Result) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), expand=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(ratio=1)
    runs, wrong = len(result.played), len(result.troubles)
    plan = result.providers[-1].on.report.partition("```")[0].strip().splitlines()
    kept = "all constraints kept, all facts as their sources say"
    said = f"right in {runs - wrong} of {runs} runs: {kept}"
    table.add_row("The plan", Text(said, style="red" if wrong else ""))
    for line in plan:
        if line:
            table.add_row("", Text(line, style="dim"))
    table.add_row()
    wishes = result.providers[-1].asked
    if wishes:
        table.add_row("Asked back", "in the last run, parts of results that had been cut:")
    for wish in wishes:
        what = f"what has {wish.query!r}" if wish.query else "all of it"
        table.add_row("", Text(f"- {wish.tool}: {what} ({wish.tokens:,} tokens)", style="dim"))
    times = [1000 * seconds for seconds in result.in_clawmw]
    if times:
        spent = f"{median(times):.1f} ms a call in the median, {max(times):.1f} ms at most"
        table.add_row("In clawmw", f"{spent} (wall time, of {len(times)} calls)")
    table.add_row("All this", f"{runs} runs over real sockets in {result.seconds:.1f} s")
    return table


def _table(*columns: str) -> Table:
    """A plain table, the first column to the left; what is too long goes on below, uncut."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    return table


def _saved(nano: int) -> str:
    return money(nano) if nano else "0"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "-"

"""What a chain came to, in words and figures with their basis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clawmw.observe.reading.chains import Chain
from clawmw.observe.reading.figures import Glyphs, clean, duration, money, share, tokens
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["cost", "counted", "left_out", "saved", "totals", "used"]


def used(chain: Chain, glyphs: Glyphs, *, short: bool = False) -> str:
    """Input and output tokens."""
    if chain.input_tokens is None:
        return "-"
    sign = glyphs.at_least if chain.unknown_usage else "~" if chain.estimated else ""
    into, out = (tokens(n, short=short) for n in (chain.input_tokens, chain.output_tokens))
    return f"{sign}{into}{glyphs.arrow}{out}"


def cost(chain: Chain, glyphs: Glyphs) -> str:
    """What the chain cost."""
    if chain.cost_nano is None:
        return "-"
    estimated = chain.estimated or chain.estimated_cost
    sign = glyphs.at_least if chain.unknown_cost else "~" if estimated else ""
    return sign + money(chain.cost_nano)


def saved(chain: Chain) -> str:
    """The saving is always an estimate: nobody was billed for the call without clawmw."""
    if chain.saved_nano is None:
        return "-"
    return f"~{money(chain.saved_nano)} ({share(chain.saved_nano, chain.compared_nano)})"


def left_out(rows: Sequence[SpanRow]) -> list[tuple[str, int]]:
    """Tokens not sent by mechanism, the largest first."""
    prefix = "clawmw.saved.by."
    result: dict[str, int] = {}
    for row in rows:
        for name, count in row.attributes.items():
            if name.startswith(prefix) and isinstance(count, int):
                result[name[len(prefix) :]] = result.get(name[len(prefix) :], 0) + count
    return sorted(result.items(), key=lambda item: -item[1])


def totals(chain: Chain, rows: Sequence[SpanRow], glyphs: Glyphs) -> Iterator[str]:
    """What the chain came to, each figure with its basis."""
    counts = [_calls(chain, rows), counted(chain.agents, "agent")]
    for number, what in (
        (chain.answered, "answered by clawmw"),
        (chain.failed, "failed"),
        (chain.stops, "stopped by a guard"),
    ):
        if number:
            counts.append(f"{number} {what}")
    if chain.reported:
        counts.append(f"{chain.reported} as other libraries tell")
    if chain.modes not in ("", "enforce"):
        counts.append(f"mode {chain.modes}")
    yield f" {glyphs.dot} ".join([*counts, duration(chain.end_ns - chain.start_ns)])
    basis = "estimated" if chain.estimated else "measured: the provider's usage"
    if chain.input_tokens is None:
        basis = "no usage reported"
    elif chain.unknown_usage:
        basis += f"; {counted(chain.unknown_usage, 'call')} did not report"
    cached = share(chain.cache_read_tokens, chain.cacheable_tokens)
    yield f"tokens    {used(chain, glyphs)}, cached {cached} ({basis})"
    yield from _context(chain, rows, glyphs)
    known = "usage x price table" if chain.cost_nano is not None else "usage or price unknown"
    if chain.cost_nano is not None and chain.unknown_cost:
        known += f"; {counted(chain.unknown_cost, 'call')} unknown"
    if chain.estimated_cost > chain.estimated:
        known += f"; {counted(chain.estimated_cost, 'call')} estimated"
    yield f"cost      {cost(chain, glyphs)} ({known})"
    if chain.assumed_nano:
        most = money(chain.assumed_nano)
        yield f"charged   at most {most} more, for attempts that broke unanswered"
    if chain.baseline_nano is not None:
        which = "the calls that clawmw saw" if chain.reported else "the same calls"
        same = f"estimated: {which}, native caching only"
        yield f"without   ~{money(chain.baseline_nano)} ({same})"
        yield f"saved     {saved(chain)}, estimated"
    if chain.overhead_us is not None and chain.calls:
        each = duration(chain.overhead_us * 1000 // chain.calls)
        yield f"in clawmw {duration(chain.overhead_us * 1000)}, {each} a call"
    yield from _why(rows)


def _calls(chain: Chain, rows: Sequence[SpanRow]) -> str:
    """How many calls, and in how many requests where retries or what was asked back made more."""
    requests = sum(row.attempts or 0 for row in rows if row.op == "chat")
    more = f" in {counted(requests, 'request')}" if requests > chain.calls else ""
    return counted(chain.calls, "call") + more


def _why(rows: Sequence[SpanRow]) -> Iterator[str]:
    """Where to read on: the call that cost the most."""
    calls = [row for row in rows if row.op == "chat" and row.source is None]
    if calls:
        dearest = max(calls, key=lambda row: row.cost_nano or 0)
        yield f"why       clawmw explain-call {dearest.span_id} (the dearest call, in plain words)"


def counted(number: int, what: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _context(chain: Chain, rows: Sequence[SpanRow], glyphs: Glyphs) -> Iterator[str]:
    """The estimated weight of what was asked, sent and left out, by mechanism."""
    if chain.raw_tokens is None:
        return
    asked, sent = tokens(chain.raw_tokens), tokens(chain.sent_tokens)
    yield f"context   ~{asked} asked, ~{sent} sent (estimated)"
    if chain.would_tokens != chain.sent_tokens:
        would = tokens(chain.would_tokens)
        yield f"          ~{would} would be sent with every stage enforced"
    left = [f"{clean(name)} ~{tokens(count)}" for name, count in left_out(rows)]
    if left:
        verb = "would cut " if chain.would_tokens != chain.sent_tokens else "left out  "
        yield f"{verb}{f' {glyphs.dot} '.join(left)} (estimated)"
    if chain.predicted_tokens is not None:
        read = tokens(chain.cache_read_tokens)
        yield f"cache     ~{tokens(chain.predicted_tokens)} expected, {read} read"

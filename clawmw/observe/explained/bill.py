"""What a call cost, worked out before the reader's eyes, and what was saved."""

from __future__ import annotations

from collections.abc import Iterator

from clawmw.core.money import NANO, Price
from clawmw.observe.explained.facts import Facts, Point
from clawmw.observe.reading.figures import clean, money, share, tokens

__all__ = ["cost", "saved"]


def cost(facts: Facts) -> Iterator[Point]:
    """Tokens times prices, with the date of the price table."""
    span = facts.span
    if span.cost_nano is None:
        why = "its tokens are not known" if span.input_tokens is None else "its price is not known"
        yield Point(f"What it cost is not known: {why}. Unknown is not free.")
        return
    if not span.cost_nano and not span.input_tokens:
        yield Point("It cost nothing: no model was asked that bills.")
        return
    sign = "about " if "estimated" in (span.usage_basis, span.cost_basis) else ""
    profile = facts.profile(span.model)
    if profile is None or profile.price is None or span.input_tokens is None:
        yield Point(
            f"It cost {sign}{money(span.cost_nano)}: the tokens above times the price table."
        )
        return
    price = profile.price.at(span.input_tokens)
    rows = _rows(facts, price)
    total = sum(count * each for count, each, _ in rows)
    for count, each, what in rows:
        yield Point(f"{tokens(count)} {what} × {_per_million(each)} = {money(count * each)}")
    table = f"the prices of {price.as_of} ({_source(price)})"
    if abs(total - span.cost_nano) <= 1000:
        yield Point(f"Together {sign}{money(span.cost_nano)}, at {table}.")
        return
    yield Point(
        f"That is {money(total)} at {table}, for all its tokens at one price. It was recorded with "
        f"{sign}{money(span.cost_nano)}: {_why(facts)}."
    )


def _rows(facts: Facts, price: Price) -> list[tuple[int, int, str]]:
    """Tokens, nano-USD each, and what they are; those that there are."""
    span = facts.span
    read, written = span.cache_read_tokens or 0, span.cache_write_tokens or 0
    fresh = max((span.input_tokens or 0) - read - written, 0)
    rows = [
        (fresh, price.input, "input tokens"),
        (read, price.cache_read, "read from the cache"),
        (written, price.cache_write, "written into the cache"),
        (span.output_tokens or 0, price.output, "output tokens"),
    ]
    return [row for row in rows if row[0]]


def _why(facts: Facts) -> str:
    """Why the recorded cost may differ from tokens times today's price."""
    models = {event.get("model") for event in facts.events("clawmw.attempt")}
    if len(models) > 1:
        return "several models were asked, and each attempt is billed at its own price"
    if (facts.span.attempts or 0) > 1:
        return "each attempt is billed by its own length"
    if any(event.get("rule") == "prompt_cache.ttl" for event in facts.acted("prompt_cache")):
        return "what is kept for longer costs more to write"
    return "the price table was another one then"


def _per_million(nano: int) -> str:
    usd = nano * 1_000_000 / NANO
    return f"${usd:,.2f} per million" if usd >= 0.1 else f"${usd:,.4g} per million"


def _source(price: Price) -> str:
    """Of an address the host alone: the whole is in the facts."""
    host = price.source.partition("://")[2].partition("/")[0]
    return clean(host or price.source)


def saved(facts: Facts) -> Iterator[Point]:
    """What the call would have cost otherwise, and on what that rests."""
    span = facts.span
    if span.baseline_nano is not None and span.cost_nano is not None:
        gain = span.baseline_nano - span.cost_nano
        without = f"Without clawmw it would have cost about {money(span.baseline_nano)}"
        how = "an estimate: nobody was billed for that call; it has the provider's own caching, too"
        if gain > 0:
            part = share(gain, span.baseline_nano)
            yield Point(f"{without}, so {money(gain)} ({part}) were saved ({how}).")
        elif gain < 0:
            yield Point(f"{without}: this call cost {money(-gain)} more ({how}).")
        else:
            yield Point(f"{without}: the same ({how}).")
    elif span.attempts:
        yield Point("What it would have cost without clawmw is not known.")
    if span.uncached_nano is not None and span.cost_nano is not None:
        native = span.uncached_nano - span.cost_nano
        if native > 0:
            yield Point(
                f"The provider's cache made these tokens {money(native)} cheaper; that is not "
                "counted as clawmw's."
            )

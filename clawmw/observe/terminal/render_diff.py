"""Two runs side by side in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from clawmw.observe.reading.chains import Chain
from clawmw.observe.reading.compare import Comparison, Group, Parting, Step
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
from clawmw.observe.reading.summary import counted

__all__ = ["render_comparison"]

Row = tuple[str, str, str, str]
_MOST_PARTINGS = 4
_MOST_TOOLS = 4


def render_comparison(found: Comparison, console: Console) -> None:
    """Print the two runs, their figures, what acted in them, and where they part."""
    glyphs = UNICODE if console.encoding.lower().startswith("utf") else ASCII
    for text in (*_heads(found), *_warnings(found)):
        _print(console, text)
    if not (found.a.chain.calls or found.b.chain.calls):
        return
    _print(console, Text())
    _table(console, ("", "A", "B", "B - A"), list(_figures(found, glyphs)))
    _print(console, Text())
    _table(console, _GROUP_HEADS, list(_groups(found, glyphs)))
    mechanisms = list(_mechanisms(found, glyphs))
    if mechanisms:
        _print(console, Text())
        _table(console, ("what clawmw did", "A", "B", "B - A"), mechanisms)
    _print(console, Text())
    for line in _partings(found, glyphs):
        _print(console, line)


def _heads(found: Comparison) -> Iterator[Text]:
    names = [clean(run.chain.chain_id) for run in (found.a, found.b)]
    width = max(map(cell_len, names))
    for letter, name, run in zip("AB", names, (found.a, found.b), strict=True):
        chain = run.chain
        when = datetime.fromtimestamp(chain.start_ns / 1e9).astimezone()
        policy = ", ".join(clean(digest)[:8] for digest in run.policies) or "-"
        parts = [f"{name:<{width}}", when.strftime("%Y-%m-%d %H:%M:%S"), chain.status]
        parts.append(f"policy {policy}" + (f" ({chain.modes})" if _unusual(chain) else ""))
        yield Text(f"{letter}  " + "  ".join(parts), "bold")


def _unusual(chain: Chain) -> bool:
    return chain.modes not in ("", "enforce")


def _warnings(found: Comparison) -> Iterator[Text]:
    """What one should know before reading any figure."""
    a, b = found.a, found.b
    if a.chain.trace_id == b.chain.trace_id:
        yield Text("the two are one and the same chain", "yellow")
        return
    for letter, run in (("A", a), ("B", b)):
        if not run.chain.calls:
            yield Text(f"{letter} has no model call: nothing of it can be compared", "yellow")
        elif run.chain.input_tokens is None:
            yield Text(f"{letter}: no call reported its usage, so its cost is unknown", "yellow")
    if not (a.chain.calls and b.chain.calls):
        return
    if not {agent for agent, _ in a.groups} & {agent for agent, _ in b.groups}:
        yield Text("no agent is in both: these may not be runs of the same task", "yellow")
    if a.policies and a.policies == b.policies:
        yield Text("both ran under one policy: what differs is not its doing", "dim")


# --- figures -------------------------------------------------------------------------


def _figures(found: Comparison, glyphs: Glyphs) -> Iterator[Row]:
    a, b = found.a.chain, found.b.chain
    yield _row("calls", a.calls, b.calls, str)
    if (found.a.requests, found.b.requests) != (a.calls, b.calls):
        yield _row("requests sent", found.a.requests, found.b.requests, str)
    for name, one, other in (
        ("failed", a.failed, b.failed),
        ("answered by clawmw", a.answered, b.answered),
        ("stopped by a guard", a.stops, b.stops),
    ):
        if one or other:
            yield _row(name, one, other, str)
    unsure = (
        _sign(a.unknown_usage, a.estimated, glyphs),
        _sign(b.unknown_usage, b.estimated, glyphs),
    )
    yield _row("tokens in", a.input_tokens, b.input_tokens, tokens, unsure, relative=True)
    yield _row("tokens out", a.output_tokens, b.output_tokens, tokens, unsure, relative=True)
    yield _shares(
        "cached",
        (a.cache_read_tokens, a.cacheable_tokens),
        (b.cache_read_tokens, b.cacheable_tokens),
    )
    unsure = (
        _sign(a.unknown_cost, a.estimated or a.estimated_cost, glyphs),
        _sign(b.unknown_cost, b.estimated or b.estimated_cost, glyphs),
    )
    yield _row("cost", a.cost_nano, b.cost_nano, money, unsure, relative=True)
    if a.baseline_nano is not None or b.baseline_nano is not None:
        about = ("~", "~")
        yield _row("without clawmw", a.baseline_nano, b.baseline_nano, money, about, relative=True)
        yield _row("saved", a.saved_nano, b.saved_nano, money, about)
    yield _row("wall", a.end_ns - a.start_ns, b.end_ns - b.start_ns, duration, relative=True)
    times = [None if c.overhead_us is None else c.overhead_us * 1000 for c in (a, b)]
    yield _row("in clawmw", times[0], times[1], duration)


def _sign(unknown: int, estimated: int, glyphs: Glyphs) -> str:
    return glyphs.at_least if unknown else "~" if estimated else ""


def _row(
    name: str,
    a: int | None,
    b: int | None,
    shown: Callable[[int], str],
    signs: tuple[str, str] = ("", ""),
    *,
    relative: bool = False,
) -> Row:
    """One figure of both, and the change; `-` where it is unknown."""
    texts = ["-" if v is None else sign + shown(v) for sign, v in zip(signs, (a, b), strict=True)]
    if a is None or b is None:
        return name, *texts, "-"  # type: ignore[return-value]
    change = b - a
    text = shown(abs(change)) if change else "="
    sign = ("-" if change < 0 else "+") if change else ""
    about = "~" if change and any(signs) else ""
    percent = f" ({100 * change / a:+.0f}%)" if relative and a > 0 and change else ""
    return name, texts[0], texts[1], f"{about}{sign}{text}{percent}"


def _shares(name: str, a: tuple[int | None, int | None], b: tuple[int | None, int | None]) -> Row:
    texts = share(*a), share(*b)
    if "-" in texts:
        return name, *texts, "-"
    points = 100 * ((b[0] or 0) / (b[1] or 1) - (a[0] or 0) / (a[1] or 1))
    return name, *texts, "=" if round(points) == 0 else f"{points:+.0f} points"


_GROUP_HEADS = ("agent, model", "calls", "tokens in", "cached", "cost")


def _groups(found: Comparison, glyphs: Glyphs) -> Iterator[tuple[str, ...]]:
    for label, *both in _paired(found, glyphs):
        pair = both[0], both[1]
        yield (
            label,
            _both(pair, lambda g: str(g.calls), glyphs),
            _both(pair, lambda g: _least(g.unknown_usage, _short(g), glyphs), glyphs),
            _both(pair, lambda g: share(g.cache_read_tokens, g.cacheable), glyphs),
            _both(pair, lambda g: _least(g.unknown_cost, money(g.cost_nano), glyphs), glyphs),
        )


def _paired(found: Comparison, glyphs: Glyphs) -> Iterator[tuple[str, Group | None, Group | None]]:
    """The groups of both by agent; one model that stands for another shares its line."""
    a, b = found.a.groups, found.b.groups
    for agent in dict.fromkeys([key[0] for key in (*a, *b)]):
        name = clean(agent) or "-"
        mine = {model: group for (whose, model), group in a.items() if whose == agent}
        theirs = {model: group for (whose, model), group in b.items() if whose == agent}
        if len(mine) == len(theirs) == 1 and mine.keys() != theirs.keys():
            (one,), (other,) = mine, theirs
            label = f"{name}, {_model(one)} {glyphs.arrow} {_model(other)}"
            yield label, mine[one], theirs[other]
            continue
        for model in dict.fromkeys([*mine, *theirs]):
            yield f"{name}, {_model(model)}", mine.get(model), theirs.get(model)


def _model(name: str) -> str:
    return clean(name.rpartition("/")[2]) or "-"


def _least(unknown: int, text: str, glyphs: Glyphs) -> str:
    """A sum with its sign, where it is a lower bound."""
    return glyphs.at_least + text if unknown and text != "-" else text


def _short(group: Group) -> str:
    return tokens(group.input_tokens, short=True)


def _both(
    pair: tuple[Group | None, Group | None], shown: Callable[[Group], str], glyphs: Glyphs
) -> str:
    """Both figures; `none` for a run without such calls."""
    texts = ["none" if group is None else shown(group) for group in pair]
    return texts[0] if texts[0] == texts[1] else f" {glyphs.arrow} ".join(texts)


# --- what clawmw did -----------------------------------------------------------------


def _mechanisms(found: Comparison, glyphs: Glyphs) -> Iterator[Row]:
    a, b = found.a, found.b
    about = ("~", "~")
    for title, one, other, signs in (
        ("left out by", a.left_out, b.left_out, about),
        ("acted:", a.acted, b.acted, ("", "")),
        ("would have:", a.would, b.would, ("", "")),
        ("stopped by", a.stopped, b.stopped, ("", "")),
        ("cache missed:", a.moved, b.moved, ("", "")),
    ):
        shown: Callable[[int], str] = tokens if title == "left out by" else str
        for name in _largest(one, other):
            label = f"{title} {clean(name)}" + (" moved" if title.startswith("cache") else "")
            yield _row(label, one.get(name, 0), other.get(name, 0), shown, signs)


def _largest(a: Mapping[str, int], b: Mapping[str, int]) -> list[str]:
    return sorted({*a, *b}, key=lambda name: (-max(a.get(name, 0), b.get(name, 0)), name))


# --- where they part -----------------------------------------------------------------


def _partings(found: Comparison, glyphs: Glyphs) -> Iterator[Text]:
    a, b = found.a.chain.calls, found.b.chain.calls
    if not (a and b):
        return
    for switch in found.switches:
        models = f"{clean(switch.a) or '-'} {glyphs.arrow} {clean(switch.b) or '-'}"
        first = f"{clean(switch.agent) or '-'}, call {switch.number}"
        calls = f"in {counted(switch.calls, 'call')}, first " if switch.calls > 1 else ""
        yield Text(f"{models}: {calls}{first}")
    if not found.partings:
        alike = "the one call is" if found.alike == 1 else f"all {found.alike} calls are"
        yield Text(f"{alike} alike in the tools asked for and in how they ended", "bold")
        return
    first = f"the first {counted(found.alike, 'call')}" if found.alike != 1 else "the first call"
    beginning = f"{first} alike, then" if found.alike else "from the beginning"
    yield Text(f"{beginning} they part:", "bold")
    for parting in found.partings[:_MOST_PARTINGS]:
        yield from _told(parting, glyphs)
    more = len(found.partings) - _MOST_PARTINGS
    if more > 0:
        yield Text(f"and in {counted(more, 'more conversation')}; --json has all", "dim")


def _told(parting: Parting, glyphs: Glyphs) -> Iterator[Text]:
    number = (parting.a or parting.b or _NO_STEP).number
    which = f", conversation {parting.conversation}" if parting.conversation > 1 else ""
    yield Text(f"{clean(parting.agent) or '-'}{which}, call {number}")
    for letter, step, more in (("A", parting.a, parting.more_a), ("B", parting.b, parting.more_b)):
        if step is None:
            yield Text(f"  {letter}  no such call: the conversation is over", "dim")
            continue
        said = _said(step, parting, glyphs)
        after = f"; then {counted(more, 'call')} more" if more else ""
        yield Text(f"  {letter}  {said}{after}")


_NO_STEP = Step(0, "", (), "", 0, "")


def _said(step: Step, parting: Parting, glyphs: Glyphs) -> str:
    """One call: how it ended, where that is news, and what the model asked for."""
    asks = _asks(step.tools, glyphs)
    tools = f"asks for {asks}" if asks else "asks for no tool"
    if "end" not in parting.differs and step.end == "ok":
        return tools
    end = clean(step.end)
    # A call that did not end well has asked for nothing; one that did says by it how it went.
    return f"{end} {glyphs.dot} {tools}" if step.end == "ok" or asks else end


def _asks(names: Sequence[str], glyphs: Glyphs) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    shown = [clean(n) + (f" x{c}" if c > 1 else "") for n, c in list(counts.items())[:_MOST_TOOLS]]
    return ", ".join(shown) + (f" {glyphs.ellipsis}" if len(counts) > _MOST_TOOLS else "")


# --- layout --------------------------------------------------------------------------


def _table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right; no wider than the terminal."""
    ellipsis = "…" if console.encoding.lower().startswith("utf") else "."
    sizes = [max(cell_len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    room = max(console.width - sum(size + 2 for size in sizes[1:]), 12)
    sizes[0] = min(sizes[0], room)
    for number, line in enumerate((heads, *rows)):
        first = line[0] if cell_len(line[0]) <= sizes[0] else line[0][: sizes[0] - 1] + ellipsis
        cells = [first + " " * (sizes[0] - cell_len(first))]
        cells += [
            " " * (size - cell_len(text)) + text
            for size, text in zip(sizes[1:], line[1:], strict=True)
        ]
        _print(console, Text("  ".join(cells).rstrip(), "bold dim" if not number else ""))


def _print(console: Console, text: Text) -> None:
    console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False)

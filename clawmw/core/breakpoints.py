"""Where cache marks go in a request, for how long, and how they get on with the caller's own.

Pure arithmetic over places; the stage `prompt_cache` writes what it says. Rules: Anthropic,
prompt caching (at most 4 marks, each looks back 20 blocks, longer lifetimes first, order tools,
system, messages); OpenAI, prompt caching from GPT-5.6 (the provider sets a breakpoint at the
newest message and takes three more).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clawmw.core.canon import MARKS, mark_ttl
from clawmw.core.memo import by_identity
from clawmw.core.money import CacheRules, Profile, Ttl
from clawmw.core.types import Json, Message, Request, Role, ToolSpec
from clawmw.core.volatile import stable_part

__all__ = [
    "TOOLS",
    "Given",
    "Place",
    "given",
    "kept",
    "lifetime",
    "merged",
    "ordered",
    "places",
    "worth",
]

TOOLS = -1
"""The message index that stands for the tool definitions."""
_MARGIN = 0.95
"""A gap this near to a lifetime may well be longer than it, seen from the provider."""
_READ = 0.1
"""Price of a read in input prices where a model's price is not known: what most take."""


@dataclass(frozen=True, slots=True)
class Place:
    """A block of the request: a message (or `TOOLS`) and a part of it (None: the last text)."""

    message: int
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A mark the caller set. `ttl` None: the provider's default."""

    message: int
    ttl: str | None
    automatic: bool = False
    """It stands at the top of the body: the provider places it at the end."""


# --- the caller's marks ------------------------------------------------------------------------


def given(request: Request) -> tuple[Given, ...]:
    """The caller's marks, in the order the provider reads the prompt."""
    found = [*_in_tools(request.tools)]
    for index, message in enumerate(request.messages):
        if message.marks:
            found += [Given(index, ttl) for ttl in message.marks]
    top = request.params.get("cache_control")
    if top:
        found.append(Given(len(request.messages), mark_ttl(top), automatic=True))
    return tuple(found)


@by_identity
def _in_tools(tools: tuple[ToolSpec, ...]) -> tuple[Given, ...]:
    return tuple([Given(TOOLS, mark_ttl(mark)) for tool in tools for mark in _in_tool(tool)])


def _in_tool(tool: ToolSpec) -> Iterator[Json]:
    """A tool's marks: on it, or on its function; its schema may have such names of its own."""
    if not isinstance(tool.raw, dict):
        return
    function = tool.raw.get("function")
    for holder in (tool.raw, function if isinstance(function, dict) else {}):
        yield from (holder[key] for key in sorted(MARKS & holder.keys()) if holder[key])


# --- where ours go -----------------------------------------------------------------------------


def places(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    *,
    known: int,
    transient: bool,
    rules: CacheRules,
) -> list[Place]:
    """Where marks are worth most, best first; one a message.

    The end of the request, so that the next call can read it, but before a last message that
    the agent is known to replace; the last message the cache holds (`known` messages), since a
    provider looks back a bounded number of blocks; the static head, which other sessions share;
    and, while nothing is known of the session, the message before the last, in case that is
    replaced. A breakpoint that the provider sets by itself is not asked for.
    """
    own_end = rules.style == "breakpoints"
    last = len(messages) - 1
    wanted: list[Place | None] = []
    if transient or not own_end:
        wanted.append(_before(messages, last if transient else last + 1))
    if not own_end:
        wanted.append(_before(messages, known))
    wanted.append(_head(messages, tools, rules))
    if not known and not transient:
        wanted.append(_before(messages, last))
    chosen: dict[int, Place] = {}
    for place in wanted:
        if place is not None and not (own_end and not transient and place.message == last):
            chosen.setdefault(place.message, place)
    return list(chosen.values())


def _before(messages: Sequence[Message], end: int) -> Place | None:
    """The last message before `end` that can be marked."""
    for index in range(min(end, len(messages)) - 1, -1, -1):
        message = messages[index]
        # Anthropic refuses a mark on an empty block; on a call there is no block to mark.
        if not message.bare and message.text.strip() and not message.tool_calls:
            return Place(index)
    return None


def _head(
    messages: Sequence[Message], tools: Sequence[ToolSpec], rules: CacheRules
) -> Place | None:
    """The end of what all sessions of an agent begin with."""
    end = 0
    while end < len(messages) and messages[end].role is Role.SYSTEM:
        end += 1
    place = _before(messages, end)
    if place is not None:
        return Place(place.message, stable_part(messages[place.message]))
    return Place(TOOLS) if tools and rules.style == "marks" else None


# --- together with the caller's ----------------------------------------------------------------


def ordered(marks: Sequence[Given], rules: CacheRules) -> bool:
    """Whether longer lifetimes come before shorter ones, as Anthropic demands."""
    lives = [_seconds(mark.ttl, rules) for mark in marks]
    return all(one >= other for one, other in pairwise(lives))


def kept(marks: Sequence[Given], most: int) -> tuple[Given, ...]:
    """The caller's marks that a provider will take: the first, and the newest."""
    if not most or len(marks) <= most:
        return tuple(marks)
    newest = marks[len(marks) - (most - 1) :] if most > 1 else ()
    return (marks[0], *newest)


def merged(
    ours: Sequence[Place], theirs: Sequence[Given], wish: Ttl | None, rules: CacheRules
) -> list[tuple[Place, Ttl | None]]:
    """Which of our marks join the caller's, and for how long; ours are what is left out.

    `ours` come best first. Lifetimes bow to the caller's: ours are as long as one of theirs
    that follows, as short as one that comes before. Where theirs are out of order the provider
    will refuse the request whatever we add, so nothing is added.
    """
    if not ordered(theirs, rules):
        return []
    taken = {mark.message for mark in theirs}
    room = max(rules.max_marks - len(theirs), 0) if rules.max_marks else len(ours)
    joining = [place for place in ours if place.message not in taken][:room]
    joining.sort(key=lambda place: place.message)
    return [(place, _fitting(place, theirs, wish, rules)) for place in joining]


def _fitting(
    place: Place, theirs: Sequence[Given], wish: Ttl | None, rules: CacheRules
) -> Ttl | None:
    life = wish.seconds if wish else _seconds(None, rules)
    before = [_seconds(m.ttl, rules) for m in theirs if m.message < place.message]
    after = [_seconds(m.ttl, rules) for m in theirs if m.message > place.message]
    life = max(min([life, *before]), max(after, default=0))
    return next((ttl for ttl in rules.ttls if ttl.seconds == life), wish)


def _seconds(ttl: str | None, rules: CacheRules) -> int:
    known = rules.ttl(ttl) or (rules.ttls[0] if rules.ttls else None)
    return known.seconds if known else 0


# --- for how long ------------------------------------------------------------------------------


def worth(profile: Profile, gaps: Sequence[int], sent: int, fresh: int) -> Ttl | None:
    """The lifetime that costs least, were an agent's next calls to come as its last ones did.

    `gaps` are seconds between calls; `sent` the tokens of a call, `fresh` what of them is new in
    each. A gap within the lifetime costs a read of the old and a write of the new; a longer one
    a write of everything. Ties, and agents nothing is known of, get the default.
    """
    ttls = profile.cache.ttls
    if len(ttls) < 2 or not gaps:
        return ttls[0] if ttls else None
    price, old = profile.price, max(sent - fresh, 0)
    read = price.cache_read / price.input if price and price.input else _READ

    def bill(ttl: Ttl) -> float:
        hits = sum(gap < ttl.seconds * _MARGIN for gap in gaps)
        misses = len(gaps) - hits
        return ttl.write * fresh * len(gaps) + old * (read * hits + ttl.write * misses)

    return min(ttls, key=lambda ttl: (bill(ttl), ttl.seconds))


def lifetime(request: Request, rules: CacheRules) -> Ttl | None:
    """The lifetime that the newest mark of a request asks for; None: the provider's default."""
    if len(rules.ttls) < 2:
        return None
    for message in reversed(request.messages):
        mark = message.mark
        if mark is not None and mark.value is not None:
            return rules.ttl(mark_ttl(mark.value))
        if message.marks and not (mark and mark.alone):
            return rules.ttl(message.marks[-1])
    return rules.ttl(mark_ttl(request.params.get("cache_control")))

"""What runs of the demo cost, and which part of the difference each mechanism made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from clawmw.core.money import Profile, cost
from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.emulator.app import Received
from clawmw.emulator.bill import PrefixCache
from clawmw.emulator.brains import text_of

if TYPE_CHECKING:
    from clawmw.demo.play import Played

__all__ = ["Asked", "Bill", "Saving", "asked", "savings", "spent"]

EXPAND = "clawmw_expand"
_ANSWER = f"[clawmw: answer to {EXPAND}("
Basis = Literal["measured", "billed again", "estimated"]


@dataclass(frozen=True, slots=True)
class Bill:
    """Sums over calls. Money in nano-USD."""

    calls: int
    input_tokens: int
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    nano: int
    uncached_nano: int
    """What the same calls would cost if nothing were ever read from a cache or written to it."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What a mechanism saved: input tokens that were not sent, and nano-USD; negative: it cost."""

    mechanism: str
    tokens: int
    nano: int
    basis: Basis
    """`measured`: two runs' bills. `billed again`: a run's requests, some of them altered.
    `estimated`: a part of the line above, by clawmw's own count of tokens."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Something the model asked back."""

    tool: str
    """Whose result it had been cut from."""
    query: str
    tokens: int
    """Estimated tokens of the answer."""


def spent(usages: Sequence[Usage], profile: Profile) -> Bill:
    """The bill for what a provider measured. A price that is not known counts as 0."""

    def total(some: Iterable[Usage]) -> int:
        return sum(bill.total for usage in some if (bill := cost(usage, profile)) is not None)

    plain = [replace(u, cache_read_tokens=0, cache_write_tokens=0) for u in usages]
    return Bill(
        calls=len(usages),
        input_tokens=sum(u.input_tokens or 0 for u in usages),
        cached_tokens=sum(u.cache_read_tokens or 0 for u in usages),
        written_tokens=sum(u.cache_write_tokens or 0 for u in usages),
        output_tokens=sum(u.output_tokens or 0 for u in usages),
        nano=total(usages),
        uncached_nano=total(plain),
    )


def savings(runs: Mapping[str, Played]) -> list[Saving]:
    """What each mechanism saved on one provider; all but the estimated lines add up to
    the difference between the first run's bill and the last one's.
    """
    off, cached, deduped, last = (runs[name].bill for name in ("off", "prompt_cache", "dedupe", "all"))
    bare = spent(list(_without_asking(runs["all"])), runs["all"].profile)
    compress = _less("compress", deduped, bare, "billed again")
    return [
        _less("prompt_cache", off, cached, "measured"),
        _less("dedupe", cached, deduped, "measured"),
        compress,
        *_kinds(compress, runs["all"]),
        _less("expand", bare, last, "billed again"),
    ]


def asked(played: Played) -> Iterator[Asked]:
    """What the model asked back in a run, in order."""
    for one, following in zip(played.received, played.received[1:], strict=False):
        for use in one.reply.tools if one.reply else ():
            if use.name == EXPAND:
                ref = str(use.arguments.get("ref"))
                answer = next(
                    (text for name, text in _results(following.body) if name == EXPAND), ""
                )
                tool = next(
                    (name for name, text in _results(one.body) if name != EXPAND and ref in text), ""
                )
                yield Asked(tool, str(use.arguments.get("query") or ""), estimate(answer))


def _less(mechanism: str, before: Bill, after: Bill, basis: Basis) -> Saving:
    tokens = before.input_tokens - after.input_tokens
    return Saving(mechanism, tokens, before.nano - after.nano, basis)


def _kinds(whole: Saving, played: Played) -> Iterator[Saving]:
    """`compress` by the kind of content: its tokens and money in proportion to clawmw's counts."""
    counts: Counter[str] = Counter()
    for call in played.finished:
        for mechanism, tokens in call.totals.by_mechanism.items():
            if mechanism.startswith("compress."):
                counts[mechanism] += tokens
    for mechanism, tokens in counts.most_common():
        share = tokens / counts.total()
        yield Saving(mechanism, round(whole.tokens * share), round(whole.nano * share), "estimated")


def _without_asking(played: Played) -> Iterator[Usage]:
    """The usage of a run's requests as they would be if the model had never asked anything back
    and could not have: no extra calls, no answers carried along, no tool offered.
    """
    cache = PrefixCache()
    first: dict[str, Any] | None = None
    for one in played.received:
        if one.usage is None or one.reply is None:
            continue
        first = first or _bare(one.body)
        if one.reply.tools and all(use.name == EXPAND for use in one.reply.tools):
            continue  # its answer comes with the next request
        output = one.usage.output_tokens or 0
        yield cache.bill(first, played.profile, tenant="demo", now=0.0, output=output)
        first = None


def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request without the tool to ask back, the calls to it, and their answers."""
    messages, answers = [], set()
    for message in body["messages"]:
        calls = message.get("tool_calls") or []
        own = [c for c in calls if c["function"]["name"] != EXPAND]
        answers |= {c["id"] for c in calls if c["function"]["name"] == EXPAND}
        if message.get("tool_call_id") in answers or (calls and not own):
            continue
        if message["role"] == "user" and text_of(message["content"]).startswith(_ANSWER):
            continue
        messages.append({**message, "tool_calls": own} if calls else message)
    tools = [t for t in body.get("tools", ()) if t["function"]["name"] != EXPAND]
    return {**body, "messages": messages, "tools": tools}


def _results(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(tool, text) of each tool result, newest first."""
    names: dict[str, str] = {}
    found = []
    for message in body["messages"]:
        names |= {c["id"]: c["function"]["name"] for c in message.get("tool_calls") or ()}
        if message["role"] == "tool":
            tool = names.get(message["tool_call_id"], "")
            found.append((tool, text_of(message["content"])))
    return found[::-1]

"""Which part of the difference between two bills each mechanism made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.demo.played import Bill, Played, spent
from clawmw.emulator.bill import PrefixCache
from clawmw.emulator.reply import text_of

__all__ = ["Asked", "Basis", "Saving", "asked", "savings"]

EXPAND = "clawmw_expand"
_ANSWER = f"[clawmw: answer to {EXPAND}("

Basis = Literal["measured", "billed again", "estimated"]
"""`measured`: two runs' bills. `billed again`: the provider's rules over a run's requests with
some left out or shortened. `estimated`: a share of such a figure, by clawmw's count of tokens."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What a mechanism saved: input tokens that were not sent, and nano-USD; negative: it cost."""

    mechanism: str
    tokens: int
    nano: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class Asked:
    """Something the model asked back."""

    tool: str
    """Whose result it had been cut from."""
    query: str
    tokens: int
    """Estimated tokens of the answer."""


def savings(runs: Mapping[str, Played]) -> list[Saving]:
    """What each mechanism saved on one provider, from its runs by rung.

    The estimated lines are parts of the line above them; the others add up to the difference
    between the first run and the last.
    """
    off, cached, deduped, whole = (
        runs[name].bill for name in ("off", "prompt_cache", "dedupe", "all")
    )
    last = runs["all"]
    bare = spent(list(_without_asking(last)), last.profile)
    compress = _less("compress", deduped, bare, "billed again")
    return [
        _less("prompt_cache", off, cached, "measured"),
        _less("dedupe", cached, deduped, "measured"),
        compress,
        *_kinds(compress, last),
        _less("expand", bare, whole, "billed again"),
    ]


def asked(played: Played) -> list[Asked]:
    """What the model asked back in a run, in order: the last request carries it all."""
    names: dict[str, str] = {}
    wishes: dict[str, Any] = {}
    results: list[tuple[str, str]] = []
    found = []
    for message in played.received[-1].body["messages"] if played.received else ():
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
            wishes[call["id"]] = json.loads(call["function"]["arguments"])
        if message["role"] != "tool":
            continue
        number, text = message["tool_call_id"], text_of(message["content"])
        if names.get(number) != EXPAND:
            results.append((names.get(number, ""), text))
            continue
        wish = wishes[number]
        tool = next((name for name, said in results if str(wish.get("ref")) in said), "")
        found.append(Asked(tool, str(wish.get("query") or ""), estimate(text)))
    return found


def _less(mechanism: str, before: Bill, after: Bill, basis: Basis) -> Saving:
    tokens = before.input_tokens - after.input_tokens
    return Saving(mechanism, tokens, before.nano - after.nano, basis)


def _kinds(whole: Saving, played: Played) -> Iterator[Saving]:
    """`compress` by the kind of content: shares of it in proportion to clawmw's counts."""
    counts: Counter[str] = Counter()
    for call in played.finished:
        for mechanism, tokens in call.totals.by_mechanism.items():
            if mechanism.startswith("compress."):
                counts[mechanism] += tokens
    for mechanism, tokens in counts.most_common():
        share = tokens / counts.total()
        yield Saving(mechanism, round(whole.tokens * share), round(whole.nano * share), "estimated")


def _without_asking(played: Played) -> Iterator[Usage]:
    """The usage of a run's requests if nothing had been asked back, nor could have been:
    no extra calls, no answers carried along, no tool offered.
    """
    cache = PrefixCache()
    first: dict[str, Any] | None = None
    for one in played.received:
        if one.usage is None or one.reply is None:
            continue
        first = first or _bare(one.body)
        if one.reply.tools and all(use.name == EXPAND for use in one.reply.tools):
            continue  # the agent's answer comes with a later request
        output = one.usage.output_tokens or 0
        yield cache.bill(first, played.profile, tenant="demo", now=0.0, output=output)
        first = None


def _bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request without the tool to ask back, the calls to it and their answers."""
    messages: list[Any] = []
    answers: set[str] = set()
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

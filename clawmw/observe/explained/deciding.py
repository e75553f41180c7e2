"""Who called, which model was asked and why, which guards looked, how the attempts went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clawmw.core.money import cost
from clawmw.core.types import Usage
from clawmw.observe.explained.facts import Facts, Point, dollars, many, name
from clawmw.observe.reading.figures import clean, duration, money, share, tokens

__all__ = ["attempts", "caller", "came_back", "guards", "model", "trouble"]

_MODES = {
    "observe": ("Observe mode: clawmw only says what it would do, and does nothing.", "mode"),
    "holdout": (
        "This chain is held out: it goes as it is, to measure the others against.",
        "holdout",
    ),
}
_METERS = {
    "calls": "calls",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "usd": "USD",
    "wall": "time",
    "hops": "hand-overs",
}


def caller(facts: Facts) -> Iterator[Point]:
    """Who called, for what, and how clawmw knows."""
    span = facts.span
    kind = f", for {name(span.kind)}" if span.kind else ""
    after = f", {many(span.hop, 'hand-over')} deep" if span.hop else ""
    number = f"call {span.seq} of" if span.seq else "a call of"
    yield Point(
        f"Agent {name(span.agent or 'unnamed')}{kind}, in conversation "
        f"{name(span.session_id or 'unnamed')}: {number} chain "
        f"{name(span.chain_id or span.trace_id)} in this process{after}."
    )
    for event in facts.events("clawmw.identity.derived"):
        yield Point(
            f"Nobody said which {clean(str(event.get('names')))} it belongs to; that was read off "
            "its messages. The headers x-clawmw-chain and x-clawmw-session say it for sure."
        )
    if span.mode in _MODES:
        yield Point(*_MODES[span.mode])
    if span.source:
        yield Point(f"It was recorded by {name(span.source)}, and did not pass through clawmw.")


def model(facts: Facts) -> Iterator[Point]:
    """Which model was asked, why it was that one, and what either costs."""
    span = facts.span
    for event in facts.acted("route"):
        verb = "would have sent" if event.get("would") else "sent"
        yield Point(
            f"A rule {verb} it to {name(span.model)} instead of "
            f"{name(span.requested_model or span.model)}.",
            str(event.get("rule", "")),
        )
        yield from _either(facts)
    for event in facts.acted("fallback"):
        rule = str(event.get("rule", ""))
        if event.get("action") == "retry":
            yield Point(
                f"The model failed, so {name(rule.partition('.')[2])} was asked instead.", rule
            )
        else:
            taken = name(rule.partition(".")[2])
            yield Point(f"{taken} answers in its place, as the model asked for is failing.", rule)
    for event in facts.acted("degrade"):
        rule = str(event.get("rule", ""))
        rung = rule.partition(".")[2]
        told = _RUNGS.get(rung, f"{name(rung)} was asked instead")
        yield Point(f"One step down the ladder of poorer answers: {told}.", rule)


_RUNGS = {
    "compress": "old history goes out in a shorter form",
    "reuse": "an earlier answer will do",
    "refuse": "the call is refused",
}


def _either(facts: Facts) -> Iterator[Point]:
    """What the call costs with either model, at today's prices."""
    span = facts.span
    used = _usage(facts)
    before, after = facts.profile(span.requested_model), facts.profile(span.model)
    if used is None or before is None or after is None:
        return
    dear, cheap = cost(used, before), cost(used, after)
    if dear is not None and cheap is not None:
        yield Point(
            f"These tokens cost {money(cheap.total)} there, and would cost about "
            f"{money(dear.total)} with {name(span.requested_model)} (at the prices of "
            f"{after.price.as_of if after.price else after.as_of})."
        )


def _usage(facts: Facts) -> Usage | None:
    span = facts.span
    if span.input_tokens is None or span.output_tokens is None:
        return None
    cached = (span.cache_read_tokens, span.cache_write_tokens)
    return Usage(span.input_tokens, span.output_tokens, *cached)


def guards(facts: Facts) -> Iterator[Point]:
    """Waiting, loops, budgets and refusals, in the order in which they are asked."""
    for event in facts.events("clawmw.admission.waited"):
        yield _waited(event)
    for event in facts.acted("loop_guard"):
        yield _loop(event)
    for event in facts.events("clawmw.budget.near", "clawmw.budget.overdrawn"):
        yield _budget(event)
    for event in facts.events("clawmw.acted"):
        told = _decided(event)
        if told is not None:
            yield told
    for event in facts.events("clawmw.breaker"):
        yield Point(
            f"The circuit breaker of {name(event.get('upstream'))} is {event.get('state')} now.",
            "breaker",
        )
    yield from _left(facts)


def _waited(event: Mapping[str, Any]) -> Point:
    took = duration(round(event.get("seconds", 0) * 1e9))
    if event.get("refused"):
        why = clean(str(event["refused"]))
        return Point(f"It waited {took} for its turn and got none ({why}).", "admission.max_wait")
    return Point(
        f"It waited {took} for its turn, as {name(event.get('class'))} work.", "admission.classes"
    )


_STEPS = {
    "nudge": "told the agent so, in a message of its own",
    "slow": "slowed the call down",
    "refuse": "refused the call",
    "stop": "stopped the chain",
    "cut": "cut the answer there",
    "chant": "cut the answer there",
}


def _loop(event: Mapping[str, Any]) -> Point:
    rule = str(event.get("rule", ""))
    step = rule.partition(".")[2]
    count, what = event.get("detail.count"), str(event.get("detail.detector") or "of some kind")
    times = f", {count} times" if isinstance(count, int) and count else ""
    found = event.get("detail.used") or f"{_LOOPS.get(what, name(what))}{times}"
    did = _STEPS.get(step) or f"acted ({name(step or None)})"
    would = "would have " if event.get("would") else ""
    return Point(f"The loop guard saw a loop ({clean(str(found))}) and {would}{did}.", rule)


_LOOPS = {
    "repeat": "the same tool call with the same result",
    "cycle": "a few tool calls in a circle",
    "stuck": "calls that brought nothing new",
    "tool": "a tool that does not exist",
    "monologue": "the model talking to itself",
    "echo": "agents that say the same to each other",
    "speed": "calls faster than any work",
    "ring": "agents that hand over in a ring",
    "hops": "too many hand-overs",
    "chant": "an answer that repeats itself",
}


def _budget(event: Mapping[str, Any]) -> Point:
    meter = str(event.get("meter"))
    if event.get("name") == "clawmw.budget.overdrawn":
        used, most = _amount(meter, event.get("used")), _amount(meter, event.get("reserved"))
        return Point(f"It used {used}, and {most} had been set aside for it; all was charged.")
    day = "today's " if event.get("day") else "the "
    used, most = _amount(meter, event.get("used")), _amount(meter, event.get("limit"))
    which = f"{day}budget of this {event.get('scope')}"
    rule = f"budget.{event.get('scope')}.{'day.' if event.get('day') else ''}{meter}"
    return Point(f"{which[:1].upper()}{which[1:]} is nearly used up: {used} of {most}.", rule)


def _amount(meter: str, value: object) -> str:
    """An amount as the ledger counts it: nano-USD, milliseconds, tokens."""
    if not isinstance(value, int):
        return "an unknown amount"
    if meter == "usd":
        return money(value)
    if meter == "wall":
        return duration(value * 1_000_000)
    return f"{value:,} {_METERS.get(meter, meter)}"


def _decided(event: Mapping[str, Any]) -> Point | None:
    """A refusal, an answer without a call, or a limit on the answer."""
    rule, would = str(event.get("rule", "")), bool(event.get("would"))
    if event.get("action") == "halt":
        said = "would have been refused" if would else "was refused"
        limit, used = event.get("detail.limit"), event.get("detail.used")
        scope = f" for the {clean(str(event['detail.scope']))}" if event.get("detail.scope") else ""
        allowed = f": {clean(str(used))}; allowed is {clean(str(limit))}{scope}" if limit else ""
        return Point(f"The call {said}{allowed}.", rule)
    if event.get("action") == "answer":
        told = {
            "reuse": "An earlier answer to the very same call was given again; no model was asked.",
            "single_flight": "The very same call was under way already, and this one got its "
            "answer, too; no second one was made.",
        }.get(str(event.get("stage")))
        return Point(told, rule) if told else None
    if event.get("stage") not in _TOLD:
        did = {"rewrite": "changed the request or the answer", "retry": "had it asked again"}
        what = did.get(str(event.get("action")), "acted")
        maybe = "would have " if would else ""
        return Point(f"The stage {name(event.get('stage'))} {maybe}{what}.", rule)
    if rule == "budget.min_output":
        return Point("A limit was put on the answer, so that it fits what is left.", rule)
    if rule == "budget.soft":
        return Point("The model was told once that a budget is nearly used up.", rule)
    return None


_TOLD = frozenset(
    {
        *("budget", "reuse", "single_flight", "admission", "breaker", "retry", "fallback"),
        *("degrade", "route", "loop_guard", "expand", "prompt_cache", "window", "epochs"),
        *("compress", "dedupe", "redact"),
    }
)
"""Stages that have words of their own somewhere in a telling."""


def _left(facts: Facts) -> Iterator[Point]:
    """What is left of each limit, after the call."""
    limits = (facts.inside.facts.get("limits") if facts.inside else None) or ()
    tightest = sorted(limits, key=lambda one: -one[3] / max(one[4], 1))[:4]
    for level, daily, meter, used, most in tightest:
        day = ".day" if daily else ""
        scope = f"this {level}'s" if level in ("chain", "session", "agent", "tenant") else "its"
        per = " for today" if daily else ""
        left = _amount(meter, max(most - used, 0))
        whole = _amount(meter, most)
        where = f"budget.{level}{day}.{meter}"
        yield Point(f"After it, {left} of {scope} {whole}{per} are left.", where)


def attempts(facts: Facts) -> Iterator[Point]:
    """Each request that went out, and what came of it."""
    span = facts.span
    told = list(facts.events("clawmw.attempt"))
    if not span.attempts:
        return
    if not told:
        took = facts.get("clawmw.upstream_ms")
        after = f" after {duration(round(took * 1e6))}" if isinstance(took, int | float) else ""
        number = "One request" if span.attempts == 1 else many(span.attempts, "request")
        yield Point(f"{number} went to the provider, and was answered{after}.")
    last: Mapping[str, Any] | None = None
    for event in told:
        yield _attempt(event, last)
        last = event
    rules = {str(e.get("rule")): e for e in facts.acted("retry", "expand")}
    if any(e.get("action") == "retry" for e in facts.acted("expand")):
        yield Point(
            "In between, the model asked for what had been cut, and clawmw answered it without the "
            "agent.",
            "expand.most",
        )
    if "retry.attempts" in rules:
        yield Point("What failed for the moment was tried again.", "retry.attempts")
    if "retry.passed_on" in rules:
        yield Point(
            "The failure was handed to the agent, with the word not to try again.", "retry.attempts"
        )


def _attempt(event: Mapping[str, Any], last: Mapping[str, Any] | None) -> Point:
    seconds = event.get("seconds", 0)
    how = event.get("status") or event.get("failure") or "no answer"
    said = "answered" if how == 200 else f"failed ({how})"
    pause = ""
    if last is not None:
        between = event["time_ns"] - last["time_ns"] - round(seconds * 1e9)
        if between > 20_000_000:
            pause = f", after a pause of {duration(between)}"
    took = duration(round(seconds * 1e9))
    return Point(
        f"Attempt {event.get('number', '')}: {name(event.get('model'))} {said} in {took}{pause}."
    )


def came_back(facts: Facts) -> Iterator[Point]:
    """The answer, as its outline has it."""
    span = facts.span
    answer = facts.inside.facts.get("answer") if facts.inside else None
    ended = {
        "failed": f"The call failed ({name(span.error_type or 'unknown')}).",
        "halted": "The agent was told why, and no model was asked.",
        "cancelled": "Its reader left before the end.",
        "answered": "The answer came from clawmw.",
    }.get(span.status)
    if ended:
        yield Point(ended)
    if answer is not None:
        sizes = dict(answer.get("bytes") or {})
        calls, asking = answer.get("calls") or (), sizes.pop("call", 0)
        told = [f"{size:,} bytes of {_PARTS.get(kind, kind)}" for kind, size in sizes.items()]
        if calls:
            tools = ", ".join(name(one) for one in calls)
            told.append(f"the wish to call {tools} ({asking:,} bytes)")
        finish = f"; it ended with {name(answer['finish'])}" if answer.get("finish") else ""
        yield Point(f"The answer: {', '.join(told) or 'nothing'}{finish}.")
    if span.output_tokens is not None:
        basis = "as the provider counts" if span.usage_basis != "estimated" else "estimated"
        yield Point(
            f"{tokens(span.input_tokens)} tokens went in, {tokens(span.output_tokens)} came out "
            f"({basis}){facts.together}."
        )
    if span.overhead_us is not None:
        spent, whole = span.overhead_us * 1000, span.end_ns - span.start_ns
        part = f", {share(spent, whole)} of the call" if whole > 0 else ""
        yield Point(f"clawmw itself took {duration(spent)}{part}.")


_PARTS = {"text": "text", "thinking": "thinking", "result": "results", "image": "images"}


def trouble(facts: Facts) -> Iterator[Point]:
    """What went wrong in clawmw itself."""
    for event in facts.events("clawmw.stage.failed"):
        end = "so the call was refused" if event.get("closed") else "and was skipped"
        yield Point(
            f"{name(event.get('stage'))} failed ({name(event.get('error'))}), {end}.",
            str(event.get("stage")),
        )
    for event in facts.events("clawmw.degraded"):
        yield Point(
            f"The store of {name(event.get('store'))} could not be used "
            f"({name(event.get('error'))}); the call went on without it."
        )
    for event in facts.events("clawmw.cost.assumed"):
        yield Point(
            "An attempt broke without an answer. What it cost nobody knows; "
            f"{dollars(event.get('usd'))} were charged, which is the most it can have been."
        )

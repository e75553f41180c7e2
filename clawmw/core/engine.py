"""One model call, decided: a generator that runs the stages and yields effects.

`exchange` folds the history, runs each stage's `before` top-down, writes what must be
remembered, yields `Call`, and runs `after` bottom-up over the stages that ran. It never
touches the machine; `drive` and `adrive` perform what it yields.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from clawmw.core.account import baseline
from clawmw.core.ascent import ascend
from clawmw.core.bill import bill, total
from clawmw.core.breakpoints import lifetime
from clawmw.core.descent import again, descend
from clawmw.core.effects import Call, Called, Effect, Emit, Sleep
from clawmw.core.events import Attempted, CacheMissed, CallFinished, CallStarted, IdentityDerived
from clawmw.core.exchange import Exchange, Pipeline, Result, Run, Setup
from clawmw.core.money import cached_tokens, cost
from clawmw.core.offering import LEAST
from clawmw.core.stage import Tried
from clawmw.core.story import tool_name
from clawmw.core.tap import Tap, add_usage
from clawmw.core.tasks import looked_up
from clawmw.core.types import Failure, Outcome, Request, Response, Usage

__all__ = ["Pipeline", "Result", "Run", "Setup", "exchange"]

ATTEMPTS = 16
"""The most attempts of one exchange, whatever the stages want."""

Status: TypeAlias = Literal["ok", "failed", "halted", "answered", "cancelled"]


def exchange(request: Request, pipeline: Pipeline, setup: Setup) -> Run:
    """Run one exchange. See the module."""
    if setup.fresh:
        setup = replace(setup, identity=(yield from looked_up(setup.identity, setup.now)))
    ex = Exchange(request, pipeline, setup)
    _started(ex)
    sent = yield from descend(ex)
    outcome: Outcome | None = None
    changed = False
    while ex.answer is None:
        landing = yield from ascend(ex, sent, (yield from _tried(ex, sent)))
        outcome, changed = landing.outcome, changed or landing.changed
        retry = landing.retry
        if retry is None or ex.attempt >= ATTEMPTS or ex.final:
            break
        if retry.delay > 0:
            yield Sleep(retry.delay)
        if retry.silent and isinstance(outcome, Response):
            ex.silent = add_usage(ex.silent, outcome.usage) or Usage()
        ex.attempt += 1
        ex.target = retry.target or ex.target
        sent = yield from again(ex)
    if ex.answer is not None:
        outcome, changed, ex.called = ex.answer, True, None
        yield from ascend(ex, sent, ex.answer)
    elif ex.stop is not None:
        outcome = None
    if isinstance(outcome, Response) and ex.silent is not None:
        outcome, changed = replace(outcome, usage=add_usage(ex.silent, outcome.usage)), True
    finished = _finished(ex, sent, outcome)
    ex.events.append(finished)
    shown = ex.writer.shown if ex.writer is not None else None
    history, journal = ex.state.history, ex.state.journal
    more = (ex.labels, shown, journal, ex.spending.limits)
    result = Result(outcome, ex.stop, changed, sent, history, finished, *more)
    yield Emit(tuple(ex.events), result)
    return result


def _started(ex: Exchange) -> None:
    mode: Literal["enforce", "observe", "holdout"] = (
        "holdout" if ex.held_out else "observe" if ex.observing else "enforce"
    )
    ex.events.append(
        CallStarted(
            ex.setup.exchange,
            ex.now,
            ex.setup.identity,
            ex.raw.model,
            ex.raw.dialect,
            ex.raw.stream,
            len(ex.raw.messages),
            mode,
            ex.pipeline.digest,
            ex.raw.held,
        )
    )
    ex.events.extend(ex.setup.told)
    identity = ex.setup.identity
    if ex.setup.fresh and identity.derived:
        names = tuple(sorted(identity.derived))
        ex.events.append(IdentityDerived(ex.setup.exchange, ex.now, identity, names))


def _tried(ex: Exchange, request: Request) -> Generator[Effect, Any, Outcome]:
    """How one attempt ended: as the model's server had it, or as the stage that refused it."""
    rule = ""
    if ex.stop is not None:
        ex.called, rule = None, str(ex.stop.because)
        outcome: Outcome = Failure("refused", str(ex.stop))
    else:
        ex.called = yield from _call(ex, request)
        outcome = ex.called.outcome
        profile = ex.setup.profile(request.model)
        ex.bills.append(bill(request, outcome, ex.totals, profile))
        _check_cache(ex, request, outcome)
    ex.tried.append(Tried(request.model, request.target, outcome, rule))
    ex.forget_contexts()
    return outcome


def _call(ex: Exchange, request: Request) -> Generator[Effect, Any, Called]:
    """One attempt. What was decided so far is shown before, so that a crash leaves it."""
    yield Emit(tuple(ex.events))
    ex.events.clear()
    tap = _tap(ex, request) if request.stream else None
    ex.made += 1
    called: Called = yield Call(request, ex.attempt, tap, ex.labels)
    ex.now = called.ended
    failed = called.outcome if isinstance(called.outcome, Failure) else None
    ex.events.append(
        Attempted(
            ex.setup.exchange,
            called.ended,
            ex.attempt,
            request.model,
            called.ended - called.started,
            failed.status if failed else 200,
            failed.kind if failed else None,
            None if called.first_byte is None else called.first_byte - called.started,
        )
    )
    return called


def _check_cache(ex: Exchange, request: Request, outcome: Outcome) -> None:
    """Hold what was predicted of the cache against the provider's own count.

    Far less than predicted is less than half: token counts are estimates. Only for the first
    attempt: what was expected was expected of it.
    """
    predicted, moved = ex.expected
    usage = outcome.usage if isinstance(outcome, Response) else None
    if ex.made > 1 or predicted < LEAST or usage is None or usage.cache_read_tokens is None:
        return
    if not usage.input_tokens or ex.totals.sent <= 0:
        return
    scaled = predicted * usage.input_tokens // ex.totals.sent
    profile, read = ex.setup.profile(request.model), usage.cache_read_tokens
    expected = cached_tokens(scaled, profile.cache)
    if expected <= 2 * read:
        return
    price = profile.price.at(usage.input_tokens) if profile.price else None
    lost = (expected - read) * (price.input - price.cache_read) if price else None
    missed = CacheMissed(ex.setup.exchange, ex.now, request.model, predicted, read, lost=lost)
    if moved is not None:
        at, byte, tool = moved.index, moved.byte, moved.tool
        missed = replace(missed, part=moved.part, index=at, byte=byte, tool=tool)
    ex.events.append(missed)


def _tap(ex: Exchange, request: Request) -> Tap:
    """The stages that want to see this stream, innermost first."""
    if ex.writer is None:
        ex.writer = ex.setup.codec.writer()
    watchers = [
        (stage.traits.name, streamer)
        for stage, streamer in reversed(ex.pipeline.streamers)
        if stage in ex.ran and ex.acts(stage) and streamer.watches(ex.raw, ex.setup.codec)
    ]
    return Tap(
        ex.setup.codec,
        watchers,
        lambda name, error: ex.failed(name, "chunk", error),
        ex.writer,
        continuing=ex.silent is not None,
        earlier=ex.silent,
        holding=bool(watchers) and len(request.tools) > len(ex.raw.tools),
        begun=ex.setup.begun,
    )


def _status(ex: Exchange, outcome: Outcome | None) -> Status:
    if ex.stop is not None:
        return "halted"
    if ex.answer is not None and not isinstance(outcome, Failure):
        return "answered"
    if isinstance(outcome, Failure):
        return "cancelled" if outcome.kind == "cancelled" else "failed"
    if isinstance(outcome, Response) and not outcome.complete:
        return "cancelled"
    return "ok"


def _finished(ex: Exchange, request: Request, outcome: Outcome | None) -> CallFinished:
    """The sum of it all, every attempt that is billed included."""
    response = outcome if isinstance(outcome, Response) else None
    failure = outcome if isinstance(outcome, Failure) else None
    spent, raw = total(ex.bills), ex.setup.profile(ex.raw.model)
    answered = sum(one.usage is not None for one in ex.bills)
    stopped = str(ex.stop.because) if ex.stop else None
    return CallFinished(
        ex.setup.exchange,
        ex.now,
        ex.setup.identity,
        _status(ex, outcome),
        request.model,
        response.model if response else None,
        response.finish_reason if response else None,
        spent.usage,
        ex.totals,
        spent.cost,
        baseline(ex.totals, spent.usage, raw.writing(lifetime(ex.raw, raw.cache)), answered),
        ex.made,
        0.0,
        tuple((c.id, tool_name(c)) for c in response.message.tool_calls) if response else (),
        failure.kind if failure else stopped,
        spent.uncached,
        _asked(ex, request, spent.usage),
        ex.spending.limits,
    )


def _asked(ex: Exchange, request: Request, usage: Usage | None) -> int | None:
    """What the tokens cost with the model asked for, where they went to another one."""
    if usage is None or request.model == ex.raw.model:
        return None
    raw = ex.setup.profile(ex.raw.model)
    priced = cost(usage, raw.writing(lifetime(ex.raw, raw.cache)))
    return priced.total if priced is not None else None

"""The way up: tell each stage that ran how the call ended, and write what is to last."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from clawmw.core.account import Account
from clawmw.core.decisions import Answer, Decision, Halt, Pass, Retry, Rewrite
from clawmw.core.effects import Commit, Effect, Load, Slot, Write
from clawmw.core.exchange import Exchange
from clawmw.core.journal import Journal
from clawmw.core.stage import Stage
from clawmw.core.types import Failure, Outcome, Request, Response

__all__ = ["Landing", "ascend"]


@dataclass(slots=True)
class Landing:
    """What the stages made of an outcome."""

    outcome: Outcome
    changed: bool = False
    retry: Retry | None = None


def ascend(ex: Exchange, request: Request, outcome: Outcome) -> Generator[Effect, Any, Landing]:
    """Run `after` bottom-up over the stages that ran; keep what they want kept.

    Slots are loaded afresh. Nothing here re-decides what was sent.
    """
    landing = Landing(outcome)
    quiet = ex.pipeline.quiet["after"]
    asked = [stage for stage in reversed(ex.ran) if stage.traits.name not in quiet]
    slots = yield from _reload(ex, asked)
    writes: list[Write] = []
    for stage in asked:
        slot = slots.get(stage.traits.name)
        decision = yield from _after(ex, stage, request, landing.outcome, slot)
        if decision is None:
            continue
        ex.events.extend(decision.events)
        if decision.slot is not None and slot is not None and ex.acts(stage):
            key = (ex.owner(stage), stage.traits.name)
            writes.append(Write(key, decision.slot, slot.version))
        _decided(ex, stage, decision, request, landing)
    refused = isinstance(outcome, Failure) and outcome.status in (400, 422)
    if isinstance(landing.outcome, Response) and ex.stop is None and ex.answer is None:
        ex.state.account = replace(ex.state.account, answerer=request.model)
    yield from _keep(ex, writes, refused=refused)
    return landing


def _reload(ex: Exchange, asked: Sequence[Stage]) -> Generator[Effect, Any, dict[str, Slot]]:
    stages = [s for s in asked if s.traits.slot]
    if not stages:
        return {}
    slots: list[Slot] = yield Load(tuple((ex.owner(s), s.traits.name) for s in stages))
    return {s.traits.name: slot for s, slot in zip(stages, slots, strict=True)}


def _after(
    ex: Exchange, stage: Stage, request: Request, outcome: Outcome, slot: Slot | None
) -> Generator[Effect, Any, Decision | None]:
    value = slot.value if slot else None
    return ex.ask(stage, "after", lambda ctx: stage.after(request, outcome, value, ctx), request)


def _decided(
    ex: Exchange, stage: Stage, decision: Decision, request: Request, landing: Landing
) -> None:
    """Apply a decision to the landing; or only say it, when the stage observes."""
    acts = ex.acts(stage)
    match decision:
        case Rewrite(because, _, response, journal):
            ex.said(stage, "rewrite", because)
            if acts and response is not None:
                landing.outcome, landing.changed = response, isinstance(response, Response)
            if acts:
                ex.journaled(stage, journal, request)
        case Retry(because, _, journal):
            first = landing.retry is None or (decision.at_once and not landing.retry.at_once)
            if not acts or first:
                ex.said(stage, "retry", because)
            if acts and first:
                landing.retry = decision
                ex.journaled(stage, journal, request, passing=decision.passing)
        case Halt(because):
            ex.said(stage, "halt", because, decision.detail())
            ex.stop, ex.final = (decision, True) if acts else (ex.stop, ex.final)
        case Pass() | Answer():
            pass
        case _:
            assert_never(decision)


def _keep(ex: Exchange, writes: list[Write], *, refused: bool) -> Generator[Effect, Any, None]:
    """Write the journal, the account and the slots as `after` left them."""
    state, scope = ex.state, ex.setup.identity.scope("session")
    if ex.stop is None and ex.answer is None:
        share = ex.spending.share
        spent = state.account.spent if share is None else share
        state.account = replace(state.account, answered=ex.now, spent=spent)
        value = state.account.to_json()
        writes.append(Write(Account.key(scope), value, state.account_version))
        state.account_version += 1
    if state.journal_changed and ex.stop is None:
        slot: list[Slot] = yield Load(((scope, "journal"),))
        merged = Journal.from_json(slot[0].value)
        for entry in state.journal.entries:
            merged = merged if entry.passing else merged.plus(entry)
        if refused and ex.attempt > 1:
            # What we added is what it does not take: the session must not be stuck with it.
            merged = merged.without(f"{ex.setup.exchange}/")
        if merged.entries != Journal.from_json(slot[0].value).entries:
            writes.append(Write((scope, "journal"), merged.to_json(), slot[0].version))
    if not writes or (yield Commit(tuple(writes))):
        return
    for write in writes:  # one lost race must not undo the others
        yield Commit((write,))

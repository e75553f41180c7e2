"""The way down: fold the history, ask each stage before the call, write what is to last."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, assert_never

from clawmw.core.account import Account
from clawmw.core.decisions import Answer, Decision, Halt, Pass, Retry, Rewrite
from clawmw.core.effects import Commit, Effect, Key, Load, PutBlob, Slot, Write
from clawmw.core.epoch import Epoch
from clawmw.core.events import Degraded, ToolReturned
from clawmw.core.exchange import Exchange
from clawmw.core.fold import FoldContext, Folding, History, Step, chain, extend
from clawmw.core.journal import Journal, woven
from clawmw.core.offering import can_expand
from clawmw.core.rewriting import begin, counted, ended, kept, restored, rewoven, said, settled
from clawmw.core.stage import Stage
from clawmw.core.state import State
from clawmw.core.story import tool_name
from clawmw.core.types import Json, Message, Request, Text, ToolResult
from clawmw.errors import CodecError, StoreError

__all__ = ["again", "descend"]

COMMITS = 3
"""How often a lost compare-and-set is tried again."""


def descend(ex: Exchange) -> Generator[Effect, Any, Request]:
    """The request to send; or `ex.stop` or `ex.answer` is set.

    Everything is done again when another writer was first: effects are idempotent, so
    nothing counts twice.
    """
    kept = len(ex.events)
    request = ex.raw
    ex.forget_contexts()
    for left in reversed(range(COMMITS)):
        del ex.events[kept:]
        ex.ran, ex.stop, ex.final, ex.answer, ex.adds = [], None, False, None, 0
        yield from _load(ex)
        based = _base(ex)
        ex.kept = yield from down(ex, based, _running(ex, "call"))
        ex.based = based.messages
        request = yield from down(ex, ex.kept, _running(ex, "attempt"))
        if (yield from _commit(ex, request, account=left > 0)):
            return request
    lost = Degraded(ex.setup.exchange, ex.now, "slots", "commit_lost")
    ex.events.append(lost)
    for stage in ex.ran:  # a guard whose state cannot be written refuses
        if stage.traits.on_error == "closed" and stage.traits.name in ex.state.pending:
            ex.stop = ex.closed(stage, StoreError("its state could not be written"))
            ex.final = True
    return request


def again(ex: Exchange) -> Generator[Effect, Any, Request]:
    """The next attempt: the journal as it is now, and the stages of every attempt.

    All is decided anew when no attempt was sent so far: nothing was written for one.
    """
    if not ex.committed:
        return (yield from descend(ex))
    ex.stop, ex.final = None, False
    ex.ran = [s for s in ex.ran if s.traits.runs == "call"]
    ex.forget_contexts()
    scope = ex.setup.identity.scope("session")
    slot: list[Slot] = yield Load(((scope, "journal"),))
    # Ours as they came, so that this attempt goes on from the one before; others' after them.
    journal = ex.state.journal
    for entry in Journal.from_json(slot[0].value).entries:
        journal = journal.plus(entry)
    ex.state.journal, ex.state.journal_version = journal, slot[0].version
    made = _made(ex)
    messages = tuple([made.get(id(m), m) for m in _base(ex).messages])
    request = replace(ex.kept, messages=messages)
    return (yield from down(ex, request, _running(ex, "attempt")))


def _made(ex: Exchange) -> dict[int, Message]:
    """What stages made of messages when the call began, which holds for every attempt.

    By the identity of what they were given. Only where each stands in its place.
    """
    made = {id(b): k for b, k in zip(ex.based, ex.kept.messages, strict=False) if b is not k}
    given = {id(message) for message in ex.based}
    return {} if any(id(message) in given for message in made.values()) else made


def _running(ex: Exchange, runs: str) -> list[Stage]:
    """The stages of one level, in order; none once the call is stopped or answered."""
    if ex.stop is not None or ex.answer is not None:
        return []
    return [s for s in ex.pipeline.stages if s.traits.runs == runs]


def _load(ex: Exchange) -> Generator[Effect, Any, None]:
    """Read what was kept, and fold what is new."""
    # Each call that goes on from what a provider holds is a new piece, whatever it says.
    known = None if ex.raw.held else ex.setup.history
    earlier = known.common(ex.raw.messages) if known else None
    earlier = earlier.over(ex.raw.messages, ex.setup.codec.seal) if earlier else History()
    if not (yield from _loaded(ex, earlier)):
        yield from _loaded(ex, History())  # it was folded under an epoch that is no more


def _loaded(ex: Exchange, earlier: History) -> Generator[Effect, Any, bool]:
    """Read slots, journal and records in one step, and go on from `earlier`, if that stands."""
    scope = ex.setup.identity.scope("session")
    fresh = ex.raw.messages[len(earlier.messages) :]
    chained = chain(earlier, fresh)
    stages = [s for s in ex.pipeline.stages if s.traits.slot]
    keys: list[Key] = [Account.key(scope), (scope, "journal")]
    keys += [(ex.owner(s), s.traits.name) for s in stages]
    if not ex.raw.held:
        keys += [(scope, f"sent/{digest}") for digest in chained[0]]
    slots: list[Slot] = yield Load(tuple(keys))
    stored = Journal.from_json(slots[1].value)
    account = Account.from_json(slots[0].value)
    rows = [_readable(slot.value) for slot in slots[2 + len(stages) :]] or [None] * len(fresh)
    trial = None
    if account.can_expand is None:
        asking = _folding(ex, scope, can_expand=True)
        can, trial = can_expand(ex, earlier, asking)
        account = replace(account, can_expand=can)
    # What is new in a call whose model cannot ask (no tools, another choice) is not cut.
    folding = _folding(ex, scope, can_expand=bool(account.can_expand) and ex.offered())
    history = yield from restored(ex, extend(earlier, fresh, chained, rows, folding), stored)
    if trial is not None and history is not None:
        history = replace(history, trial=trial)
    if history is None:
        return False
    account, over = counted(ex, account, history)
    journal = Journal() if ex.observing else stored
    named = {s.traits.name: slot for s, slot in zip(stages, slots[2:], strict=False)}
    ex.state = State(account, slots[0].version, journal, slots[1].version, named, history)
    ex.state.ended = over
    _tools_seen(ex, len(earlier.steps))
    return True


def _readable(row: Json | None) -> Json | None:
    """A record as it can be used; one that cannot is as if never written."""
    try:
        if row is not None:
            int(row["w"])
            for index, (text, by, ref) in row.get("p", {}).items():
                texts = isinstance(text, str) and isinstance(by, str)
                if int(index) < 0 or not texts or not isinstance(ref, str | None):
                    return None
    except (TypeError, ValueError, LookupError, AttributeError):
        return None
    return row


def _folding(ex: Exchange, scope: str, *, can_expand: bool) -> Folding:
    folders = ex.pipeline.folders
    acting = tuple(folder for stage, folder in folders if ex.acts(stage))
    observing = tuple(folder for stage, folder in folders if not ex.acts(stage))
    # What only observes may say what it would do with all its means.
    context = FoldContext(scope, can_expand or not acting, ex.raw.tools)
    return Folding(
        acting,
        observing,
        context,
        ex.setup.codec.seal,
        lambda name, error: ex.failed(name, "fold", error),
    )


def _tools_seen(ex: Exchange, start: int) -> None:
    """Say which tool results this call shows for the first time."""
    steps = ex.state.history.steps
    asked = ex.raw.earlier.calls if ex.raw.earlier is not None else ()
    names = {call.id: call.name for call in asked}
    for step in steps[max(start - 8, 0) :]:
        names.update({call.id: tool_name(call) for call in step.raw.tool_calls})
    for step in steps[start:]:
        if step.recorded:
            continue
        for result in step.raw.tool_results:
            name = result.name or names.get(result.call_id, "tool")
            since = ex.state.account.answered
            ex.events.append(
                ToolReturned(
                    ex.setup.exchange, ex.now, name, result.call_id, step.raw_tokens, since
                )
            )


def _base(ex: Exchange) -> Request:
    """The request as the history, its record and the journal make it."""
    state, codec = ex.state, ex.setup.codec
    kept = []
    for entry in state.journal.entries:
        try:
            ex.decoded |= {w: codec.message(w) for w in entry.wire if w not in ex.decoded}
            kept.append(entry)
        except CodecError:  # written by another release: left out, not lost
            continue
    journal = state.journal if len(kept) == len(state.journal.entries) else Journal(tuple(kept))
    messages, added = woven(state.history, journal, ex.decoded)
    state.added = added + ex.adds
    return replace(ex.raw, messages=messages)


def down(
    ex: Exchange, request: Request, stages: Sequence[Stage]
) -> Generator[Effect, Any, Request]:
    """Ask `stages` in order, until one stops or answers the call."""
    for stage in stages:
        if stage.traits.name in ex.pipeline.quiet["before"]:
            ex.ran.append(stage)
            continue
        decision = yield from _before(ex, stage, request)
        if decision is None:
            continue
        ex.ran.append(stage)
        request = _decided(ex, stage, decision, request)
        if isinstance(decision, Rewrite) and decision.epoch is not None:
            request = yield from _began(ex, stage, decision.epoch, request)
        if ex.stop is not None or ex.answer is not None:
            break
    return request


def _began(
    ex: Exchange, stage: Stage, epoch: Epoch, request: Request
) -> Generator[Effect, Any, Request]:
    """The request under a new epoch; what was folded goes out in its new form."""
    if not ex.acts(stage):
        said(ex, stage.traits.name, epoch.forecast, would=True)
        return request
    old = _base(ex).messages
    begin(ex, stage, epoch)
    request = rewoven(request, old, _base(ex).messages)
    for offer, _ in ex.pipeline.offers if epoch.offer else ():
        decision = yield from _before(ex, offer, request)
        if decision is not None:
            request = _decided(ex, offer, decision, request)
            ex.kept = replace(ex.kept, tools=request.tools)
    return request


def _before(
    ex: Exchange, stage: Stage, request: Request
) -> Generator[Effect, Any, Decision | None]:
    slot = ex.state.slots.get(stage.traits.name)
    value = slot.value if slot else None
    return ex.ask(stage, "before", lambda ctx: stage.before(request, value, ctx), request)


def _decided(ex: Exchange, stage: Stage, decision: Decision, request: Request) -> Request:
    """Apply a decision; or only say it, when the stage observes."""
    ex.events.extend(decision.events)
    acts = ex.acts(stage)
    if decision.slot is not None and acts:
        ex.state.pending[stage.traits.name] = decision.slot
    match decision:
        case Pass():
            pass
        case Rewrite(because, changed, _, journal):
            if changed is not None and ex.raw.held:
                changed = _unsaid(request, changed)
            told = bool(changed is not None or decision.epoch or not journal)
            ex.said(stage, "rewrite", because, done=told or not ex.raw.held)
            if acts:
                ex.labels |= decision.labels
                ex.adds += decision.adds
                ex.state.added += decision.adds
                request = ex.journaled(stage, journal, changed or request)
        case Answer(because, response):
            ex.said(stage, "answer", because)
            if acts:
                ex.answer = response
                ex.labels |= decision.labels
        case Halt(because):
            ex.said(stage, "halt", because, decision.detail())
            ex.stop = decision if acts else None
            ex.final = stage.traits.runs == "call"
        case Retry():
            raise TypeError(f"{stage.traits.name}: `before` cannot retry")
        case _:
            assert_never(decision)
    return request


def _unsaid(request: Request, changed: Request) -> Request:
    """What a guard may change where the provider holds the history: nothing that is said."""
    where = replace(changed, model=request.model, target=request.target)
    return replace(where, messages=request.messages, tools=request.tools)


def _commit(ex: Exchange, request: Request, *, account: bool) -> Generator[Effect, Any, bool]:
    """Keep originals, then write all that the call needs remembered, in one step.

    The account, which every call of a session writes, is left out of the last try: what
    was sent must be remembered even when many calls of one session run at once.
    """
    if ex.stop is not None or ex.answer is not None:
        return True
    state, scope = ex.state, ex.setup.identity.scope("session")
    writes = []
    for step in state.history.fresh():
        for ref, data in _originals(step):
            yield PutBlob(scope, ref, data)
        if not ex.raw.held:
            writes.append(Write((scope, f"sent/{step.digest}"), step.record(), 0))
    writes += yield from kept(ex, scope)
    ex.totals = ex.total(request)
    ex.expected = ex.expect(request)
    state.account = settled(ex, request)
    new = state.account.sent(ex.raw, request, state.history, ex.now, ex.sending(request))
    if account:
        writes.append(Write(Account.key(scope), new.to_json(), state.account_version))
    if state.journal_changed:
        writes.append(Write((scope, "journal"), state.journal.to_json(), state.journal_version))
    for stage in ex.pipeline.stages:
        name = stage.traits.name
        if name in state.pending:
            version = state.slots[name].version
            writes.append(Write((ex.owner(stage), name), state.pending[name], version))
    if not (yield Commit(tuple(writes))):
        return False
    if state.ended is not None:
        ex.events.append(ended(ex, state.ended))
    for begun in state.begun:
        said(ex, begun.stage, begun.epoch.forecast)
    state.account, state.account_version = new, state.account_version + account
    state.history = state.history.as_recorded()
    ex.committed = True
    return True


def _originals(step: Step) -> list[tuple[str, bytes]]:
    """What was cut from a message, under the references that name it."""
    found = []
    for index, replacement in {**(step.folded or {}), **step.parts}.items():
        part = step.raw.parts[index]
        if replacement.ref and isinstance(part, (Text, ToolResult)):
            found.append((replacement.ref, part.text.encode("utf-8", "surrogatepass")))
    return found

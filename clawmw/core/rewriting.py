"""How an exchange begins an epoch, writes it down, finds it again, and says what came of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from clawmw.core.account import Account
from clawmw.core.effects import Effect, Load, PutBlob, Slot, Write
from clawmw.core.epoch import Epoch, Forecast, Running, forms_from, rendered, standing
from clawmw.core.events import Degraded, EpochBegan, EpochEnded
from clawmw.core.exchange import Exchange
from clawmw.core.fold import History, Standing
from clawmw.core.journal import Entry, Journal
from clawmw.core.stage import Stage
from clawmw.core.state import Begun
from clawmw.core.types import Message, Request, Text, ToolResult

__all__ = ["begin", "counted", "ended", "kept", "restored", "rewoven", "said", "settled"]


def restored(
    ex: Exchange, history: History, journal: Journal
) -> Generator[Effect, Any, History | None]:
    """The history under the epoch that holds; None when the one it is under is no more.

    An epoch whose forms are lost is as if it had never been, and that is said.
    """
    found = standing(journal, history)
    if found == history.epoch:
        return history
    if found is None:
        return None
    scope = ex.setup.identity.scope("session")
    slots: list[Slot] = yield Load(((scope, f"epoch/{found.id}"),))
    forms = forms_from(slots[0].value, history.steps)
    if forms is None:
        ex.events.append(Degraded(ex.setup.exchange, ex.now, "slots", "epoch_lost"))
        return history
    return rendered(history, forms, found, ex.setup.codec.seal)


def begin(ex: Exchange, stage: Stage, epoch: Epoch) -> None:
    """Render the history under a new epoch, to be written with the rest of the call."""
    state = ex.state
    history, last = state.history, len(state.history.steps) - 1
    # The last message may be a transient one that the next call no longer has.
    place = last if last in epoch.forms or not last else last - 1
    first = min(epoch.forms, default=len(history.steps))
    if state.begun and history.epoch is not None:
        first = min(first, history.epoch.first)
    name = f"{ex.setup.exchange}/{ex.attempt}/{stage.traits.name}"
    note = {"first": first, "offer": epoch.offer, **_figures(epoch.forecast)}
    entry = Entry(history.steps[place].digest, stage.traits.name, name, (), epoch=note)
    state.journal, state.journal_changed = state.journal.plus(entry), True
    standing = Standing(name, place, first)
    state.history = rendered(history, epoch.forms, standing, ex.setup.codec.seal)
    forms = {s.digest: s.form.to_json() for s in state.history.steps if s.form is not None}
    state.begun.append(Begun(name, stage.traits.name, epoch, forms))
    if epoch.offer:
        state.account = replace(state.account, can_expand=True)
    ex.forget_contexts()


def _figures(forecast: Forecast) -> dict[str, Any]:
    return {
        "reason": forecast.reason,
        "before": forecast.before,
        "after": forecast.after,
        "rewritten": forecast.rewritten,
        "price": forecast.price,
        "saving": forecast.saving,
        "calls": round(forecast.calls, 2),
    }


def said(ex: Exchange, stage: str, forecast: Forecast, *, would: bool = False) -> None:
    """Show an epoch to the observers."""
    figures = _figures(forecast)
    ex.events.append(EpochBegan(ex.setup.exchange, ex.now, stage, **figures, would=would))


def rewoven(request: Request, old: Sequence[Message], new: Sequence[Message]) -> Request:
    """The request with the history as it is now; what a stage changed in it stays changed."""
    if len(old) == len(request.messages) and all(map(_same, old, request.messages)):
        return replace(request, messages=tuple(new))
    if len(old) != len(new):
        return request
    now = {id(before): after for before, after in zip(old, new, strict=True)}
    return replace(request, messages=tuple(now.get(id(m), m) for m in request.messages))


def _same(one: Message, other: Message) -> bool:
    return one is other or (one.wire is not None and one.wire == other.wire)


def kept(ex: Exchange, scope: str) -> Generator[Effect, Any, list[Write]]:
    """Keep the originals of what the call's epochs cut; the writes that keep their forms."""
    writes = []
    for begun in ex.state.begun:
        for ref, text in begun.epoch.originals.items():
            yield PutBlob(scope, ref, text.encode("utf-8", "surrogatepass"))
        for place, form in begun.epoch.forms.items():
            for index, replacement in form.parts.items():
                part = ex.state.history.steps[place].raw.parts[index]
                if replacement.ref and isinstance(part, (Text, ToolResult)):
                    data = part.text.encode("utf-8", "surrogatepass")
                    yield PutBlob(scope, replacement.ref, data)
        writes.append(Write((scope, f"epoch/{begun.id}"), begun.forms, 0))
    return writes


def counted(ex: Exchange, account: Account, history: History) -> tuple[Account, Running | None]:
    """The account with this call counted, and the epoch that is over with it, if one is."""
    running = account.epoch
    account = account.counted(ex.setup.identity)
    if running is not None and (account.calls == 1 or history.epoch is None):
        return replace(account, epoch=None), running
    return account, None


def settled(ex: Exchange, request: Request) -> Account:
    """The account with what this call's epochs, or the one that goes on, have come to."""
    state = ex.state
    running = state.account.epoch
    if state.begun:
        state.ended = running or state.ended
        running = None
        for begun in state.begun:
            more = Running.of(begun.epoch.forecast)
            running = more if running is None else running.plus(more)
    elif running is not None:
        cached, sent = ex.totals.sent_cached, ex.totals.sent
        running = running.called(cached, sent, ex.setup.profile(request.model))
    same = running is state.account.epoch
    return state.account if same else replace(state.account, epoch=running)


def ended(ex: Exchange, running: Running) -> EpochEnded:
    """What came of an epoch, as an event."""
    return EpochEnded(
        ex.setup.exchange,
        ex.now,
        running.calls,
        running.saved,
        round(running.expected_calls, 2),
        running.expected,
    )

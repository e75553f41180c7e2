"""Epochs: history that was sent already is sent in another form from now on, for a price.

An epoch is an entry of the session's journal. Its anchor is a prefix of the agent's history:
in what goes on from there it holds, in what diverged before there it does not. Which earlier
messages (by their step digests) have which form is written beside it, once, so that any
process sends the same bytes. Each epoch has all forms of those before it: the newest whose
anchor stands is the one that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from clawmw.core.fold import FoldContext, History, Standing, Step, Sums
from clawmw.core.journal import Journal
from clawmw.core.money import Profile, cost, simulate
from clawmw.core.render import Form, Replacement, message_tokens, sealed
from clawmw.core.types import Json, Message, ToolResult

__all__ = [
    "Deepener",
    "Epoch",
    "Forecast",
    "Reason",
    "Referrer",
    "Running",
    "deepened",
    "difference",
    "forms_from",
    "referred",
    "rendered",
    "standing",
]

Reason: TypeAlias = Literal["idle", "model", "tools", "pays", "window", "budget"]
"""Why: the cache went cold, the model or the tools are others, it pays, there is no room, or a
budget is nearly used up."""


@runtime_checkable
class Deepener(Protocol):
    """A folder that can render an earlier result shorter still, at an epoch."""

    def deepen(
        self, state: Any, message: Message, part: int, ordinal: int, ctx: FoldContext
    ) -> Replacement | None:
        """What a part of an earlier message becomes, from its original text; None: no shorter.

        `state` is the folder's at the end of the history, not to be changed; `ordinal` is the
        result's number in the conversation, from 1. Pure.
        """
        ...


@runtime_checkable
class Referrer(Protocol):
    """A folder whose replacements point at earlier results, which must then stay readable."""

    def refers(self, replacement: Replacement) -> Sequence[int]:
        """The numbers of the tool results it points at, counted from 1 over the conversation."""
        ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an epoch is expected to cost and to save. Estimated; money in nano-USD.

    None where the model's price is not known.
    """

    reason: Reason
    before: int
    """Tokens of this call's context without it."""
    after: int
    """And with it."""
    rewritten: int = 0
    """Tokens that the cache held and that are written once more."""
    price: int | None = None
    """What writing those costs more than reading them would."""
    saving: int | None = None
    """What the tokens left out save, in this call and in the expected ones."""
    now: int | None = None
    """What this call alone costs less with it; negative: more."""
    calls: float = 0.0
    """Calls expected after this one."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stage's wish: these messages in these forms, from this call on."""

    forms: Mapping[int, Form]
    """By index of the message in the agent's history."""
    forecast: Forecast
    originals: Mapping[str, str] = field(default_factory=dict)
    """Texts to keep, by reference, that no single part of a message is."""
    offer: bool = False
    """Also give the model the means to ask for what is cut, from now on."""


@dataclass(frozen=True, slots=True)
class Running:
    """What came of a session's last epoch so far, beside what was expected."""

    expected_calls: float
    expected: int | None
    """Saving less price, as forecast."""
    tokens: int
    """That each call is shorter by."""
    saved: int | None
    """Up to now, the price of rewriting taken off."""
    calls: int = 0
    """Calls that followed."""

    @classmethod
    def of(cls, forecast: Forecast) -> Running:
        """Right after it began."""
        known = forecast.saving is not None and forecast.price is not None
        net = (forecast.saving or 0) - (forecast.price or 0) if known else None
        return cls(forecast.calls, net, forecast.before - forecast.after, forecast.now)

    def plus(self, other: Running) -> Running:
        """Two that began with one call, as one."""
        expected = None if None in (self.expected, other.expected) else 0
        saved = None if None in (self.saved, other.saved) else 0
        return replace(
            self,
            expected=None if expected is None else (self.expected or 0) + (other.expected or 0),
            tokens=self.tokens + other.tokens,
            saved=None if saved is None else (self.saved or 0) + (other.saved or 0),
        )

    def called(self, cached: int, sent: int, profile: Profile) -> Running:
        """After one call more, of `sent` tokens of which `cached` were to be read."""
        more = difference((cached, sent), self.tokens, profile)
        saved = None if self.saved is None or more is None else self.saved + more
        return replace(self, saved=saved, calls=self.calls + 1)

    def to_json(self) -> Json:
        """As JSON."""
        return [self.expected_calls, self.expected, self.tokens, self.saved, self.calls]

    @classmethod
    def from_json(cls, value: Json) -> Running | None:
        """The inverse of `to_json`."""
        return None if value is None else cls(*value)


def difference(call: tuple[int, int], tokens: int, profile: Profile) -> int | None:
    """What a call of (cached, sent) tokens would cost more with `tokens` more, in nano-USD.

    They would be in the cached part, if there is one.
    """
    cached, sent = call
    rules = profile.cache
    more = simulate(
        rules, prefix_tokens=cached + tokens if cached else 0, input_tokens=sent + tokens
    )
    with_, without = (
        cost(more, profile),
        cost(simulate(rules, prefix_tokens=cached, input_tokens=sent), profile),
    )
    return None if with_ is None or without is None else with_.total - without.total


def standing(journal: Journal, history: History) -> Standing | None:
    """The newest epoch of the journal whose anchor stands in the history."""
    for entry in reversed(journal.entries):
        if entry.epoch is None:
            continue
        if history.epoch is not None and entry.id == history.epoch.id:
            return history.epoch
        for place in range(len(history.steps) - 1, -1, -1):
            if history.steps[place].digest == entry.anchor:
                return Standing(entry.id, place, int(entry.epoch["first"]))
    return None


def rendered(
    history: History,
    forms: Mapping[int, Form],
    epoch: Standing,
    seal: Callable[[Message], Message],
) -> History:
    """The history with some messages in other forms; the others keep theirs."""
    steps: list[Step] = list(history.steps)
    first = min(forms, default=len(steps))
    sums = steps[first - 1].upto if first else Sums()
    for place in range(first, len(steps)):
        step = steps[place]
        if place in forms:
            step = _formed(step, forms[place], seal)
        tokens = (step.raw_tokens, step.sent_tokens, step.would_tokens)
        sums = sums.plus(step.raw, step.parts, tokens, step.form)
        steps[place] = replace(step, upto=sums)
    shorter = history.shorter
    if shorter is not None:
        count = len(shorter.steps)
        upto = steps[count - 1].upto if count else Sums()
        shorter = replace(shorter, steps=tuple(steps[:count]), sums=upto, epoch=epoch)
    return replace(history, steps=tuple(steps), sums=sums, shorter=shorter, epoch=epoch)


def _formed(step: Step, form: Form, seal: Callable[[Message], Message]) -> Step:
    parts = {} if form.whole is not None else form.parts
    sent = sealed(step.raw, parts, form, seal)
    tokens = 0 if form.omits else message_tokens(sent)
    return replace(
        step,
        sent=sent,
        parts=parts,
        sent_tokens=tokens,
        would_tokens=min(step.would_tokens, tokens),
        form=form,
        folded=step.parts if step.folded is None else step.folded,
    )


def forms_from(rows: Json, steps: Sequence[Step]) -> dict[int, Form] | None:
    """The forms kept for an epoch, by index of their step; None when they cannot be read."""
    try:
        return {
            place: Form.from_json(rows[step.digest], step.raw)
            for place, step in enumerate(steps)
            if step.digest in rows
        }
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def deepened(
    step: Step,
    folders: Sequence[tuple[str, Deepener, Any]],
    ctx: FoldContext,
    failed: Callable[[str, Exception], None],
) -> dict[int, Replacement]:
    """The deeper forms of a message's results; `folders` with their names and states."""
    ordinal = step.upto.count - len(step.raw.tool_results)
    found: dict[int, Replacement] = {}
    for index, part in enumerate(step.raw.parts):
        if not isinstance(part, ToolResult):
            continue
        ordinal += 1
        for name, folder, state in folders:
            try:
                deeper = folder.deepen(state, step.raw, index, ordinal, ctx)
            except Exception as error:  # noqa: BLE001 - a reducer's bug must not cost the call
                failed(name, error)
                continue
            if deeper is not None:
                found[index] = deeper
                break
    return found


def referred(history: History, referrers: Sequence[Referrer]) -> frozenset[int]:
    """Indexes of the messages whose results later ones point at."""
    numbers: set[int] = set()
    homes: list[int] = []
    for place, step in enumerate(history.steps):
        homes += [place] * len(step.raw.tool_results)
        for part in step.parts.values():
            for referrer in referrers:
                numbers.update(referrer.refers(part))
    return frozenset(homes[n - 1] for n in numbers if 0 < n <= len(homes))

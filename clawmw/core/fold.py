"""History is a fold: what message *i* becomes depends only on messages up to *i*.

An agent sends its whole history on every call. What is sent is the fold of that history,
and what was sent is recorded under the digest of the prefix up to each message, so that a
later call (of any process, under any policy) sends it again unchanged. `History` is the
fold so far; extending it costs only the new messages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any, ClassVar, Protocol, runtime_checkable

from clawmw.core.canon import Ids, message_digest
from clawmw.core.render import (
    Form,
    Replacement,
    applied,
    message_tokens,
    reference,
    replacements,
    sealed,
)
from clawmw.core.story import is_transient
from clawmw.core.tokens import estimate
from clawmw.core.traits import StageTraits
from clawmw.core.types import Json, Message, Text, ToolResult, ToolSpec

__all__ = [
    "FoldContext",
    "Folder",
    "Folding",
    "History",
    "Replacement",
    "Standing",
    "Step",
    "Sums",
    "Tip",
    "Trial",
    "chain",
    "extend",
    "message_tokens",
    "readable",
    "reduced",
    "reference",
]

_READABLE = (Text, ToolResult)
WORTH = 200
"""Tokens a tool result must have for a deeper form of it to be looked for."""


@dataclass(frozen=True, slots=True)
class FoldContext:
    """What folding may depend on besides the messages: fixed for a session."""

    scope: str
    """The session's scope; references are keyed with it."""
    can_expand: bool
    """Whether the model was given the means to ask for what is cut."""
    tools: tuple[ToolSpec, ...] = ()
    """What the agent's tools take says what of a result may be passed on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One message of the agent's history at its place, and what became of it."""

    digest: str
    raw: Message
    sent: Message
    parts: Mapping[int, Replacement]
    raw_tokens: int
    sent_tokens: int
    would_tokens: int
    """Tokens if observing stages were enforced."""
    recorded: bool
    """False until the record of it was written."""
    upto: Sums
    """The sums of the history up to and with it."""
    form: Form | None = None
    """What an epoch made of it; `parts` are then the form's."""
    folded: Mapping[int, Replacement] | None = None
    """The parts as they were folded, where an epoch has other ones."""

    def written(self) -> Step:
        """The same, once its record was written."""
        tokens = (self.raw_tokens, self.sent_tokens, self.would_tokens)
        more = (self.upto, self.form, self.folded)
        return Step(self.digest, self.raw, self.sent, self.parts, *tokens, True, *more)

    def record(self) -> Json:
        """The step as it was folded, as JSON, to be kept as long as the session."""
        row: dict[str, Json] = {"w": self.would_tokens}
        parts = self.parts if self.folded is None else self.folded
        if parts:
            row["p"] = {str(i): r.to_json() for i, r in parts.items()}
        return row


@dataclass(frozen=True, slots=True)
class Tip:
    """Where a chain of digests stands after a message."""

    digest: bytes = b""
    ids: Ids = field(default_factory=Ids)


@dataclass(frozen=True, slots=True)
class Sums:
    """Estimated tokens of a history, and what each mechanism keeps out of it."""

    raw: int = 0
    sent: int = 0
    would: int = 0
    saved: Mapping[str, int] = field(default_factory=dict)

    results: int = 0
    """Of `sent`, what is in tool results that no epoch has made shorter yet."""
    count: int = 0
    """Tool results so far."""

    def plus(
        self,
        raw: Message,
        parts: Mapping[int, Replacement],
        tokens: tuple[int, int, int],
        form: Form | None = None,
    ) -> Sums:
        """The sums with one message more; `tokens` are its raw, sent and would-be ones."""
        saved = self.saved
        if form is not None and form.whole is not None:
            name = form.whole.by.partition("@")[0]
            saved = {**saved, name: saved.get(name, 0) + tokens[0] - tokens[1]}
        elif parts:
            gains = dict(saved)
            for index, part in parts.items():
                before = estimate(raw.parts[index].text)  # type: ignore[union-attr]
                name = part.by.partition("@")[0]
                gains[name] = gains.get(name, 0) + before - estimate(part.text)
            saved = gains
        count, results = len(raw.tool_results), self.results
        if count and form is None and tokens[1] >= WORTH:
            results += tokens[1]
        totals = (self.raw + tokens[0], self.sent + tokens[1], self.would + tokens[2])
        return Sums(*totals, saved, results, self.count + count)


@dataclass(frozen=True, slots=True)
class Standing:
    """The epoch that holds in a history."""

    id: str
    place: int
    """Index of the step it is anchored to: it holds in what goes on from there."""
    first: int
    """Index of the first step that it sends otherwise than what was sent before it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a history would fold with the means to ask, while that is not decided."""

    tools: tuple[ToolSpec, ...]
    count: int = 0
    """Messages so far."""
    states: tuple[Any, ...] = ()
    cut: int = 0
    """Tokens that would be cut of them, to be asked for."""


@dataclass(frozen=True, slots=True)
class History:
    """A session's history as folded so far. Immutable; `extend` gives the longer one."""

    steps: tuple[Step, ...] = ()
    messages: tuple[Message, ...] = ()
    """The agent's messages, one a step."""
    tip: Tip = field(default_factory=Tip)
    states: tuple[Any, ...] = ()
    """One state a folder, as of the last step."""
    sums: Sums = field(default_factory=Sums)
    shorter: History | None = field(default=None, repr=False, compare=False)
    """The history before its last message: agents resend all but a transient tail."""
    epoch: Standing | None = None
    trial: Trial | None = field(default=None, repr=False, compare=False)

    def common(self, messages: tuple[Message, ...]) -> History | None:
        """The longest remembered history that `messages` begins with, if any."""
        history: History | None = self
        while history is not None:
            count = len(history.messages)
            if count <= len(messages) and history.messages == messages[:count]:
                return history
            history = history.shorter
        return None

    def over(self, messages: tuple[Message, ...], seal: Callable[[Message], Message]) -> History:
        """The same history in the words of `messages`, which it is a prefix of.

        Equal messages may have other bytes (a cache mark moved, a string became a block);
        what nobody changed is sent in the agent's bytes of today.
        """
        count = len(self.messages)
        if all(map(is_, self.messages, messages[:count])):
            return self
        steps = tuple(
            step
            if step.raw is message
            else replace(step, raw=message, sent=sealed(message, step.parts, step.form, seal))
            for step, message in zip(self.steps, messages, strict=False)
        )
        return replace(self, steps=steps, messages=messages[:count])

    def settled(self) -> bool:
        """Whether every tool call of the last round has its result.

        Providers refuse a request in which anything comes between the two.
        """
        results = 0
        for step in reversed(self.steps):
            calls = step.raw.tool_calls
            if calls or not step.raw.tool_results:
                return results >= len(calls)
            results += len(step.raw.tool_results)
        return False

    def fresh(self) -> tuple[Step, ...]:
        """The newest steps, those that were never sent before."""
        first = len(self.steps)
        while first and not self.steps[first - 1].recorded:
            first -= 1
        return self.steps[first:]

    def as_recorded(self) -> History:
        """The same, once the record of every step was written."""
        first = len(self.steps) - len(self.fresh())
        if first == len(self.steps):
            return self
        steps = self.steps[:first] + tuple([step.written() for step in self.steps[first:]])
        shorter = self.shorter
        if shorter is not None and len(shorter.steps) > first:
            shorter = replace(shorter, steps=steps[: len(shorter.steps)])
        return replace(self, steps=steps, shorter=shorter)


@runtime_checkable
class Folder(Protocol):
    """A stage that reduces history on arrival."""

    traits: ClassVar[StageTraits]

    def hides(self) -> bool:
        """Whether it may cut something, for which the model must have the means to ask."""
        ...

    def start(self) -> Any:
        """The state before the first message.

        Taken over with `copy.copy`: a flat dict, or an object whose `__copy__` shares
        nothing that `fold` changes.
        """
        ...

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """What some of `parts` (indices) become; `message` is as the folders before left it.

        Must depend only on `state`, `message` and `ctx`; updates `state` with `message`
        even when nothing is replaced.
        """
        ...


def chain(history: History, messages: Sequence[Message]) -> tuple[list[str], list[Tip]]:
    """Prefix digests of `messages` as they follow `history`, and the last two tips."""
    digest, ids = history.tip.digest, history.tip.ids.copy()
    digests, tips = [], [history.tip]
    for position, message in enumerate(messages):
        digest = message_digest(digest, message, ids)
        digests.append(digest.hex())
        if position >= len(messages) - 2:
            tips.append(Tip(digest, ids.copy()))
    return digests, tips[-2:]


@dataclass(frozen=True, slots=True)
class Folding:
    """How a policy folds: the stages that act, those that only say, and what they may know."""

    acting: tuple[Folder, ...]
    observing: tuple[Folder, ...]
    ctx: FoldContext
    seal: Callable[[Message], Message]
    """Gives a changed message its wire bytes."""
    failed: Callable[[str, Exception], None]
    """Told when a folder raises; it is skipped for that message."""

    def start(self) -> tuple[Any, ...]:
        """Fresh states, acting folders first."""
        return tuple(f.start() for f in (*self.acting, *self.observing))


def extend(
    history: History,
    messages: Sequence[Message],
    chained: tuple[Sequence[str], Sequence[Tip]],
    recorded: Sequence[Json | None],
    folding: Folding,
) -> History:
    """`history` and then `messages`, each folded or taken from its record.

    `recorded[i]` is the record of `messages[i]`, None if it was never sent before.
    """
    if not messages:
        return history
    digests, tips = chained
    states = tuple(copy.copy(s) for s in history.states) or folding.start()
    steps, sums, shorter = list(history.steps), history.sums, history
    for position, message in enumerate(messages):
        if position == len(messages) - 1 and position:
            shorter = History(
                tuple(steps),
                history.messages + tuple(messages[:position]),
                tips[0],
                tuple(copy.copy(s) for s in states),
                sums,
                epoch=history.epoch,
            )
        step = _step(message, digests[position], recorded[position], folding, states, sums)
        steps.append(step)
        sums = step.upto
    shorter = replace(shorter, shorter=None)
    whole = history.messages + tuple(messages)
    return History(tuple(steps), whole, tips[-1], states, sums, shorter, history.epoch)


def _step(
    message: Message,
    digest: str,
    row: Json | None,
    folding: Folding,
    states: Sequence[Any],
    sums: Sums,
) -> Step:
    known = row is not None
    row = row or {}
    acting = len(folding.acting)
    # What has its record is open to nobody, nor what comes anew each time: the states move on.
    texts = () if known or is_transient(message) else readable(message)
    parts = reduced(message, folding, folding.acting, states[:acting], texts)
    would: dict[int, Replacement] = {}
    if folding.observing:
        still = [index for index in texts if index not in parts]
        would = reduced(message, folding, folding.observing, states[acting:], still)
    raw_tokens = message_tokens(message)
    if known:
        parts = replacements(row.get("p", {}), message)
    sent = sealed(message, parts, None, folding.seal)
    sent_tokens = message_tokens(sent) if parts else raw_tokens
    would_tokens = sent_tokens
    if known:
        would_tokens = min(int(row["w"]), sent_tokens)
    elif would:
        would_tokens = message_tokens(applied(sent, would))
    tokens = (raw_tokens, sent_tokens, would_tokens)
    return Step(digest, message, sent, parts, *tokens, known, sums.plus(message, parts, tokens))


def readable(message: Message) -> tuple[int, ...]:
    """Indices of the parts that may be reduced."""
    return tuple([i for i, part in enumerate(message.parts) if isinstance(part, _READABLE)])


def reduced(
    message: Message,
    folding: Folding,
    folders: Sequence[Folder],
    states: Sequence[Any],
    texts: Sequence[int],
) -> dict[int, Replacement]:
    """What `texts` (indices of parts) become: each folder in turn reduces what is left of them."""
    replaced: dict[int, Replacement] = {}
    for folder, state in zip(folders, states, strict=True):
        try:
            found = folder.fold(state, message, texts, folding.ctx)
        except Exception as error:  # noqa: BLE001 - a reducer's bug must not cost the call
            folding.failed(folder.traits.name, error)
            continue
        for index, part in found.items():
            # An earlier cut is still one: its reference stays, and leads to the whole.
            earlier = replaced.get(index)
            kept = earlier is not None and earlier.ref and not part.ref
            replaced[index] = replace(part, ref=earlier.ref) if earlier and kept else part
        message = applied(message, found)
    return replaced

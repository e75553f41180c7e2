"""What a stage is: the one protocol behind everything a policy switches on.

`before` runs top-down before the call, `chunk` on each stream event, `after` bottom-up
when the outcome is known. A stage that reduces history also folds: it says what message
*i* becomes from messages <= *i* alone, once, and the result is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from clawmw.core.decisions import Decision
from clawmw.core.effects import Effect
from clawmw.core.fold import FoldContext, History, Replacement
from clawmw.core.identity import Identity
from clawmw.core.money import Profile
from clawmw.core.stream import StreamEvent
from clawmw.core.types import Json, Message, Outcome, Request

__all__ = [
    "Context",
    "Cut",
    "Effects",
    "Folder",
    "Mode",
    "Offer",
    "Stage",
    "StageTraits",
    "Streamer",
]

Mode: TypeAlias = Literal["enforce", "observe"]

Effects: TypeAlias = Generator[Effect, Any, Decision]
"""A phase that needs the outside: yields effects, gets their results, returns a decision."""


@dataclass(frozen=True, slots=True)
class StageTraits:
    """What the engine must know of a stage without running it."""

    name: str
    """The policy section it belongs to."""
    slot: Literal["session", "chain", "agent"] | None = None
    """The scope of its slot; None: it keeps no state."""
    prefix: Literal["keeps", "moves"] = "keeps"
    """Whether what was sent before stays the prefix of what is sent next."""
    on_error: Literal["open", "closed"] = "open"
    """`open`: skipped when it fails. `closed`: the call is refused (caps and budgets)."""
    runs: Literal["call", "attempt"] = "attempt"
    """Once a call, or again for every attempt."""
    below: tuple[str, ...] = ()
    """Stages that must run before this one on the way down."""
    above: tuple[str, ...] = ()
    """Stages that must run after this one on the way down."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may know besides the request: values, never read from the machine."""

    now: float
    """Seconds since the epoch."""
    identity: Identity
    exchange: str
    attempt: int
    seed: int
    mode: Mode
    history: History
    """The agent's own messages and what became of each."""
    profile: Callable[[str], Profile]
    """Price and cache rules of a model; pure."""
    sent_tokens: int = 0
    """Estimated tokens of the context as it would be sent: tools, history, journal."""
    warm_tokens: int = 0
    """Of the history as sent, the tokens the provider is expected to hold in its cache."""
    warm_messages: int = 0
    """How many leading messages of the history those are."""
    last_model: str | None = None
    """The model that answered the session's previous call, if this one continues it."""
    can_expand: bool = False
    """Whether the session's model can ask for what was cut."""


class Stage(Protocol):
    """One policy section at work. Pure but for the effects it yields."""

    traits: ClassVar[StageTraits]

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Decide before the call is made."""
        ...

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Record what happened; may retry or rewrite the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """End the stream here: the stages see what came so far as the answer."""

    reason: str
    events: tuple[StreamEvent, ...] = field(default=())


@runtime_checkable
class Streamer(Protocol):
    """A stage that looks at stream events. `state` is fresh for every attempt."""

    def watches(self, request: Request) -> bool:
        """Whether this request's stream must be shown to `chunk` at all."""
        ...

    def chunk(self, event: StreamEvent, state: dict[str, Json]) -> Sequence[StreamEvent] | Cut:
        """What the reader gets instead of `event`; pure but for `state`."""
        ...


@runtime_checkable
class Offer(Protocol):
    """A stage that gives the model the means to ask for what was cut."""

    def offered(self, request: Request) -> bool:
        """Whether it can for the session that begins with `request`; decided from it alone."""
        ...


@runtime_checkable
class Folder(Protocol):
    """A stage that reduces history on arrival."""

    traits: ClassVar[StageTraits]

    def start(self) -> Any:
        """The state before the first message.

        Taken over with `copy.copy`: a flat dict, or an object whose `__copy__` shares
        nothing that `fold` changes.
        """
        ...

    def fold(
        self, state: Any, message: Message, parts: Sequence[int], ctx: FoldContext
    ) -> dict[int, Replacement]:
        """What some of `parts` (indices not yet replaced) become.

        Must depend only on `state`, `message` and `ctx`; updates `state` with `message`
        even when nothing is replaced.
        """
        ...

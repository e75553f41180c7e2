"""What a stage is: the one protocol behind everything a policy switches on.

`before` runs top-down before the call, `chunk` on each stream event, `after` bottom-up
when the outcome is known. A stage that reduces history also folds: it says what message
*i* becomes from messages <= *i* alone, once, and the result is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from clawmw.core.account import Account, CachePlan
from clawmw.core.bill import Bill
from clawmw.core.codec import Codec
from clawmw.core.decisions import Decision, Halt, Pass
from clawmw.core.effects import Called, Effect
from clawmw.core.fold import Folder, History
from clawmw.core.identity import Identity
from clawmw.core.money import Profile
from clawmw.core.render import Replacement
from clawmw.core.stream import Cut, Streamer
from clawmw.core.traits import Mode, StageTraits
from clawmw.core.types import Json, Outcome, Request

__all__ = [
    "Context",
    "Cut",
    "Effects",
    "Folder",
    "Mode",
    "Offer",
    "Quiet",
    "Stage",
    "StageTraits",
    "Streamer",
    "Tried",
]

Effects: TypeAlias = Generator[Effect, Any, Decision]
"""A phase that needs the outside: yields effects, gets their results, returns a decision."""


def _nothing(_place: int) -> Mapping[int, Replacement]:
    return {}


@dataclass(frozen=True, slots=True)
class Tried:
    """An earlier attempt of the same exchange."""

    model: str
    target: str
    """The policy's name of the model, "" where the caller's own was used."""
    outcome: Outcome
    rule: str = ""
    """The rule that refused it, where it never was sent."""


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
    codec: Codec
    """The request's dialect; pure."""
    sent_tokens: int = 0
    """Estimated tokens of the context as it would be sent: tools, history, journal."""
    warm_tokens: int = 0
    """Of the history as sent, the tokens the provider is expected to hold in its cache."""
    cache: CachePlan = CachePlan()  # noqa: RUF009 - frozen
    """What cache marks are placed by; the same when the very call is made again."""
    last_model: str | None = None
    """The model that answered the session's previous call, if this one continues it."""
    last_tools: str | None = None
    """Digest of the tools as they were last sent to the request's model."""
    tools_changed: bool = False
    """Whether the agent's own tools are others than with its previous call to that model."""
    can_expand: bool = False
    """Whether the session's model can ask for what was cut."""
    can_offer: bool = False
    """Whether it could be given the means to, at an epoch."""
    may_hide: bool = False
    """Whether the policy lets results be cut (`compress`), not only sent in other words."""
    account: Account = field(default_factory=Account)
    """What is known of the session's earlier calls."""
    deepen: Callable[[int], Mapping[int, Replacement]] = _nothing
    """The deeper forms that the folders have for the parts of the history's message of that
    index, at an epoch; pure, not quick."""
    referred: Callable[[], frozenset[int]] = frozenset
    """Indexes of the messages whose results later ones point at."""
    tried: tuple[Tried, ...] = ()
    """The exchange's earlier attempts, this one's included in `after`."""
    called: Called | None = None
    """In `after`: the attempt on the wire; None when it was refused or answered by a stage."""
    bill: Bill | None = None
    """In `after`: what that attempt is billed."""
    stopped: Halt | None = None
    """In `after`: why the attempt was not made."""
    target: str = ""
    """What a `Retry` said to ask, a model by the policy's name for one; "": none did."""
    place: str = ""
    """Where the caller's own model answers, and under which key: told apart, never shown."""

    def upstream(self, request: Request) -> str:
        """The name of what answers `request`, for whatever is kept of an upstream.

        A model of the policy is its own; the caller's is told apart by address and key, too.
        """
        return request.target or f"{request.model}\x1f{self.place}"


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


class Quiet:
    """The phases of a stage that has nothing to do in them; the engine does not ask it then.

    A base class for stages that decide in one phase, or only fold.
    """

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Nothing."""
        return Pass()

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision | Effects:
        """Nothing."""
        return Pass()

    @classmethod
    def speaks(cls, stage: Stage, phase: Literal["before", "after"]) -> bool:
        """Whether a stage does anything in a phase."""
        function = getattr(getattr(stage, phase, None), "__func__", None)
        return function is not getattr(cls, phase)


@runtime_checkable
class Offer(Protocol):
    """A stage that gives the model the means to ask for what was cut."""

    @property
    def tokens(self) -> int:
        """What that adds to every call, estimated."""
        ...

    def offered(self, request: Request) -> bool:
        """Whether it can do so in a session with such requests."""
        ...

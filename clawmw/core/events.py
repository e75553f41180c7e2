"""What observers see. Frozen values; an observer that fails never stops a call.

Content (prompts, arguments, results) never appears in an event: names, digests, counts
and sums only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clawmw.core.charges import Near
from clawmw.core.identity import Identity
from clawmw.core.money import Cost
from clawmw.core.types import Usage

__all__ = [
    "Acted",
    "Action",
    "Assumed",
    "Attempted",
    "BodyUnread",
    "BreakerTurned",
    "BudgetNeared",
    "CacheMissed",
    "CallFinished",
    "CallStarted",
    "Degraded",
    "EpochBegan",
    "EpochEnded",
    "Event",
    "IdentityDerived",
    "Overdrawn",
    "StageFailed",
    "ToolReturned",
    "Totals",
    "Waited",
]

Action: TypeAlias = Literal["rewrite", "answer", "retry", "halt"]


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A model call begins. `time` is seconds since the epoch, as in every event."""

    exchange: str
    time: float
    identity: Identity
    model: str
    dialect: str
    stream: bool
    messages: int
    mode: Literal["enforce", "observe", "holdout"]
    policy: str
    """Digest of the resolved policy."""
    held: bool = False
    """The provider holds some of what is said, so that nothing of it is reduced."""


@dataclass(frozen=True, slots=True)
class IdentityDerived:
    """Nobody says which session or chain the calls belong to: it is read off their messages.

    Said once a session and process. Limits of a chain then hold only as well as that guess;
    those of the agent and the tenant hold in any case.
    """

    exchange: str
    time: float
    identity: Identity
    names: tuple[str, ...]
    """What was derived: `chain`, `session`."""


@dataclass(frozen=True, slots=True)
class BodyUnread:
    """A body that could not be read, or must not change: it is guarded, and sent as it came."""

    exchange: str
    time: float
    dialect: str
    reason: str
    """`signed`, or what is wrong with it; no content."""


@dataclass(frozen=True, slots=True)
class Acted:
    """A stage decided something. With `would`, it was only said, not done (observe mode)."""

    exchange: str
    time: float
    stage: str
    action: Action
    rule: str
    """Section and rule of the policy, such as `loop_guard.refuse`."""
    would: bool = False
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageFailed:
    """A stage raised; it was skipped (`open`) or the call was refused (`closed`)."""

    exchange: str
    time: float
    stage: str
    phase: Literal["fold", "before", "chunk", "after"]
    error: str
    """The exception's type name; its text could carry content."""
    closed: bool


@dataclass(frozen=True, slots=True)
class Degraded:
    """A store could not be used and clawmw went on without it."""

    exchange: str
    time: float
    store: str
    error: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """One request went to the provider and came back or failed."""

    exchange: str
    time: float
    number: int
    model: str
    seconds: float
    status: int | None
    failure: str | None = None
    first: float | None = None
    """Seconds until the first bytes of its answer, where that is known."""


@dataclass(frozen=True, slots=True)
class Waited:
    """A call waited for a slot; `refused`: why it got none, "" where it did."""

    exchange: str
    time: float
    upstream: str
    rank: str
    seconds: float
    refused: str = ""


@dataclass(frozen=True, slots=True)
class BreakerTurned:
    """The circuit breaker of an upstream is `open` or `closed` from now on."""

    exchange: str
    time: float
    upstream: str
    state: str


@dataclass(frozen=True, slots=True)
class BudgetNeared:
    """A scope came near one of its limits; told once, until it is raised or reset."""

    exchange: str
    time: float
    scope: str
    """chain, session, agent, tenant, derived or rule."""
    name: str
    """The scope's id, "" for the tenant."""
    day: str
    """The day it is about, "" for good."""
    meter: str
    limit: int
    used: int
    """Used plus reserved; money in nano-USD, `wall` in milliseconds."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """An attempt broke without saying what it used: its worst case was charged, in nano-USD."""

    exchange: str
    time: float
    usd: int


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """A call used more of a meter than was reserved for it; all of it was charged."""

    exchange: str
    time: float
    meter: str
    reserved: int
    used: int


@dataclass(frozen=True, slots=True)
class CacheMissed:
    """The provider read far less from its cache than was predicted; and what moved.

    Judged by its own `usage`. `part` is `provider` when nothing of ours moved: evicted, another
    machine, other rules than the facts say.
    """

    exchange: str
    time: float
    model: str
    predicted: int
    """Tokens, estimated."""
    read: int
    """Tokens, measured."""
    part: Literal["tools", "system", "message", "provider"] = "provider"
    index: int | None = None
    """Of the tool or message that moved."""
    byte: int | None = None
    """The first differing byte of its text, where it is known."""
    tool: str = ""
    lost: int | None = None
    """Nano-USD that a hit as predicted would have saved, estimated; None: no price is known."""


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool result was seen for the first time: what the agent did since the last call."""

    exchange: str
    time: float
    name: str
    call_id: str
    tokens: int
    since: float | None
    """When the model's answer that asked for it was complete, if known."""


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """Sent history is sent in another form from now on. Estimated; money in nano-USD.

    None where the model's price is not known. With `would`, it was only said, not done.
    """

    exchange: str
    time: float
    stage: str
    reason: str
    """`idle`, `model`, `tools` (the cache was cold), `pays`, `window` or `budget`."""
    before: int
    """Tokens of the call's context without it."""
    after: int
    rewritten: int
    """Tokens that the cache held and that are written once more."""
    price: int | None
    """What that costs."""
    saving: int | None
    """What the tokens left out save in this call and the expected ones."""
    calls: float
    """Calls expected after this one."""
    would: bool = False


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """An epoch is over: its chain ended, its history is gone, or the next one came.

    Estimated; money in nano-USD, the price of rewriting taken off.
    """

    exchange: str
    time: float
    calls: int
    """Calls that followed it."""
    saved: int | None
    expected_calls: float
    expected: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Tokens of one call's context. All estimated; `*_cached` are predictions."""

    raw: int
    """What the agent asked to send."""
    sent: int
    """What was sent."""
    would: int
    """What enforcing every stage would have sent (equals `sent` when nothing observes)."""
    raw_cached: int
    """Of `raw`, what the provider would have read from its cache without clawmw."""
    sent_cached: int
    """Of `sent`, what the provider is expected to read from its cache."""
    by_mechanism: Mapping[str, int] = field(default_factory=dict)
    """Tokens not sent, by mechanism (`compress.json`, `dedupe`, ...)."""
    raw_cacheable: bool = True
    """Whether the provider would have cached it; some want a mark for it."""
    sent_cacheable: bool = True


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A model call is over, whatever its end."""

    exchange: str
    time: float
    identity: Identity
    status: Literal["ok", "failed", "halted", "answered", "cancelled"]
    model: str
    response_model: str | None
    finish_reason: str | None
    usage: Usage | None
    totals: Totals
    cost: Cost | None
    baseline: Cost | None
    """Estimated cost of the same call without clawmw, native caching included."""
    attempts: int
    overhead: float
    """Seconds spent in clawmw itself."""
    tools: tuple[tuple[str, str], ...] = ()
    """(id, name) of the tools the model asked for."""
    error: str | None = None
    uncached: int | None = None
    """Nano-USD that the same tokens cost at a provider that caches nothing."""
    asked: int | None = None
    """Nano-USD that the same tokens cost with the model that was asked for, where another one was
    called."""
    limits: tuple[Near, ...] = ()
    """What the call drew from, and what is used of it."""


Event: TypeAlias = (
    CallStarted
    | IdentityDerived
    | BodyUnread
    | Acted
    | StageFailed
    | Degraded
    | Attempted
    | Waited
    | BreakerTurned
    | BudgetNeared
    | Assumed
    | Overdrawn
    | CacheMissed
    | ToolReturned
    | EpochBegan
    | EpochEnded
    | CallFinished
)

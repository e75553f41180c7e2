"""What the core asks the outside to do. Values; the runtime performs them.

An effect with an `id` is idempotent on it: a phase that runs again never reserves, appends
or asks twice. The engine fills the id in as `exchange/attempt/stage/n`.

Each docstring names what comes back. A `StoreError` is thrown into the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from clawmw.core.charges import Above, Charge, Meter, Near, Reserve, Reserved, Settle
from clawmw.core.events import Event
from clawmw.core.tap import Tap
from clawmw.core.types import Json, Outcome, Request

if TYPE_CHECKING:
    from clawmw.core.setup import Result

__all__ = [
    "RANKS",
    "WAITS",
    "Above",
    "Admit",
    "Admitted",
    "Append",
    "Call",
    "Called",
    "Charge",
    "Commit",
    "Effect",
    "Emit",
    "GetBlob",
    "Join",
    "Joined",
    "Key",
    "Lanes",
    "Leave",
    "Load",
    "Meter",
    "Near",
    "Note",
    "Permit",
    "Permitted",
    "Publish",
    "PutBlob",
    "Rank",
    "Report",
    "Reserve",
    "Reserved",
    "Sense",
    "Sensed",
    "Settle",
    "Share",
    "Shared",
    "Sleep",
    "Slot",
    "Verdict",
    "Wait",
    "Withdraw",
    "Write",
]

Key: TypeAlias = tuple[str, str]
"""(scope, name) of a slot; the scope is `Identity.scope(...)`."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot's value (None: absent) and its version for compare-and-set (0: absent)."""

    value: Json | None
    version: int


@dataclass(frozen=True, slots=True)
class Write:
    """Set `key` to `value` if its version is still `version`."""

    key: Key
    value: Json
    version: int


@dataclass(frozen=True, slots=True)
class Load:
    """Read slots. Returns `list[Slot]` in the order of `keys`."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Write slots, all or none. Returns False when another writer was first."""

    writes: tuple[Write, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """One piece of evidence: a short tag and the digest it is about."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Append:
    """Add notes to a scope's evidence atomically.

    Returns the newest `window` notes as `tuple[Note, ...]`, oldest first, ours included.
    """

    scope: str
    notes: tuple[Note, ...]
    window: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class PutBlob:
    """Keep `data` under `ref` in `scope`. Returns None."""

    scope: str
    ref: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GetBlob:
    """The bytes kept under `ref` in `scope`. Returns `bytes | None`."""

    scope: str
    ref: str


@dataclass(frozen=True, slots=True)
class Call:
    """Send `request` to its model. Returns `Called`.

    For a stream, the performer feeds what arrives to `tap`, hands on what it gives back,
    and returns when the stream has ended.
    """

    request: Request
    attempt: int
    tap: Tap | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headers that tell the caller what was done."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call's outcome and when it ran, in seconds since the epoch."""

    outcome: Outcome
    started: float
    ended: float
    first_byte: float | None = None
    """When the first byte of the answer came."""
    headers: tuple[tuple[str, str], ...] = ()
    """The answer's headers, as they came."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. Returns None."""

    seconds: float


Joined: TypeAlias = Literal["led", "warm", "followed", "late"]
"""What became of a `Join`: this call leads; a leader's answer began a while ago; this one waited
for it; it waited long enough."""


@dataclass(frozen=True, slots=True)
class Join:
    """Send a prefix that no cache holds yet, or wait for whoever is sending it. Returns `Joined`.

    Waits at most `seconds`, until the leader's answer begins or the leader fails. `warm`: how
    long a prefix stays cached once it was answered; None: nobody knows, so for good.
    """

    key: str
    seconds: float
    warm: float | None = None


Rank: TypeAlias = Literal["interactive", "chain", "heavy", "background"]
"""The classes of calls, the one that waits least first."""

RANKS: tuple[Rank, ...] = ("interactive", "chain", "heavy", "background")


@dataclass(frozen=True, slots=True)
class Lanes:
    """The rules of the queue before one upstream."""

    slots: int | None = None
    """Calls under way at once; None: found out (additive increase, multiplicative decrease)."""
    weights: tuple[float, float, float, float] = (4.0, 3.0, 1.0, 1.0)
    """Shares of the four ranks, in tokens."""
    waiting: int = 1024
    """Calls that may wait; then the newest of the lowest rank is turned away."""
    ageing: float = 60.0
    """Seconds after which a waiting call goes before all that came later, whatever its rank."""
    reserve: float = 10.0
    """One slot is kept for interactive calls, until none has come for so many seconds."""
    requests: float | None = None
    """Requests a second that may begin, with a burst of a minute's worth."""
    tokens: float | None = None
    """Tokens a second, likewise."""
    fair: bool = True
    """Between tenants and agents; else first come, first served within a rank."""


@dataclass(frozen=True, slots=True)
class Admit:
    """Wait for a slot at an upstream, at most `patience` seconds. Returns `Admitted`.

    The slot is given back by `Leave` of the same id, or when its exchange is over or gone.
    The same id again has the slot it has.
    """

    upstream: str
    patience: float
    rank: Rank = "interactive"
    tokens: int = 1
    """What it is expected to use, input and output."""
    who: tuple[str, str, str] = ("", "", "")
    """Its tenant, agent and chain; a chain's calls stand where its first one came."""
    lanes: Lanes = Lanes()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of an `Admit`. Not granted: `reason` says why."""

    granted: bool
    waited: float = 0.0
    """Seconds."""
    reason: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """Give the slot of an `Admit` back, and say how the call went. Returns None."""

    tokens: int | None = None
    """What it used; None: as expected."""
    verdict: Literal["ok", "throttled", "neutral"] = "neutral"
    """`throttled`: the upstream had no room (429, 503, 529, or no answer in time)."""
    per_minute: int | None = None
    """Requests a minute that the upstream says it allows."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """Ask the circuit breaker of an upstream. Returns `Permitted`."""

    upstream: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Permitted:
    """The breaker's answer. `probe`: this call is to find out whether the upstream is back."""

    granted: bool
    probe: bool = False
    retry_after: float | None = None
    crowded: bool = False
    """So many were refused meanwhile that no more should wait for it."""


Verdict: TypeAlias = Literal["ok", "failed", "alive", "neutral"]
"""What a call says of its upstream. `alive`: it answered, and what it answered is about the
caller or its rate. `neutral`: nothing."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the breaker how a permitted call ended. Returns its new state, "" if unchanged."""

    upstream: str
    verdict: Verdict
    id: str = ""


@dataclass(frozen=True, slots=True)
class Sense:
    """Look how an upstream is doing, without asking for anything. Returns `Sensed`."""

    upstream: str


@dataclass(frozen=True, slots=True)
class Sensed:
    """How an upstream is doing."""

    open: bool = False
    """Its breaker would refuse a call now."""
    waited: float = 0.0
    """Seconds that the call waiting longest for a slot has waited so far."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take from an upstream's retry budget, a token bucket. Returns False when it is empty.

    A negative amount puts back.
    """

    upstream: str
    amount: float


@dataclass(frozen=True, slots=True)
class Share:
    """Make a call that others may be making, or wait for their answer. Returns `Shared`."""

    key: str
    patience: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class Shared:
    """What became of a `Share`: this call leads, or has an outcome, or waited in vain."""

    leads: bool
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Give the outcome of a `Share` to those who wait; None: there is none. Returns None."""

    outcome: Outcome | None
    id: str = ""


Wait: TypeAlias = Sleep | Join | Admit | Share
"""Effects that may take long and hold nothing meanwhile: neither a thread nor a store."""

WAITS = (Sleep, Join, Admit, Share)


@dataclass(frozen=True, slots=True)
class Emit:
    """Show events to the observers. Returns None."""

    events: tuple[Event, ...]
    result: Result | None = field(default=None, compare=False, repr=False)
    """How the exchange ended, with the last of its events: for who keeps content, which no event
    carries."""


Effect: TypeAlias = (
    Load
    | Commit
    | Append
    | Reserve
    | Settle
    | PutBlob
    | GetBlob
    | Wait
    | Leave
    | Permit
    | Report
    | Sense
    | Withdraw
    | Publish
    | Call
    | Emit
)

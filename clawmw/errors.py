"""Every exception clawmw raises on purpose.

::

    ClawmwError
    ├── PolicyError            the policy file is wrong; says path, line and a suggestion
    ├── CodecError             a wire body is not what its dialect says it must be
    ├── TranslationError       a request has no counterpart in the dialect of the model's server
    ├── StoreError             a store could not do what was asked
    │   ├── Conflict           a compare-and-set lost against another writer
    │   ├── StoreBusy          somebody else is writing, and who asked will not wait
    │   └── UnsafeStore        what lies on disk must not be read (foreign owner, pickle, symlink)
    ├── Refused                a cap, a budget or a guard stopped the call
    ├── FlowError              a flow could not be planned, run or resumed
    ├── SourceError            a recorded run could not be read
    └── InternalError          a broken promise inside clawmw: a bug to report

Each message is one line: what is wrong, where, and what to do. Exceptions of other
libraries are mapped to these at the edge where they appear.
"""

from __future__ import annotations

__all__ = [
    "ClawmwError",
    "CodecError",
    "Conflict",
    "FlowError",
    "InternalError",
    "PolicyError",
    "Refused",
    "SourceError",
    "StoreBusy",
    "StoreError",
    "TranslationError",
    "UnsafeStore",
]


class ClawmwError(Exception):
    """Base of all exceptions raised by clawmw."""


class PolicyError(ClawmwError):
    """The policy is wrong.

    `where` is the dotted path inside the policy, `line` counts from 1; both may be unknown.
    """

    def __init__(self, message: str, *, where: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.where = where
        self.line = line


class CodecError(ClawmwError):
    """A request or response body could not be decoded."""


class TranslationError(ClawmwError):
    """What a request asks cannot be said in the dialect that the model's server speaks.

    `field` names it, as a path into the request's body; "" when it is the body itself.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class StoreError(ClawmwError):
    """A store failed; guards fail closed on it, everything else goes on without."""


class Conflict(StoreError):
    """A compare-and-set lost: the value was changed by someone else meanwhile."""


class StoreBusy(StoreError):
    """Somebody else is writing, and who asked will not wait. Nothing was done."""


class UnsafeStore(StoreError):
    """A store refuses to read what lies on disk."""


class Refused(ClawmwError):
    """A guard stopped the call; the message names scope, limit, used and how to go on."""


class FlowError(ClawmwError):
    """A flow could not be planned, run or resumed."""


class SourceError(ClawmwError):
    """A recorded run could not be read; the message names file and line."""


class InternalError(ClawmwError):
    """A promise between two parts of clawmw was broken."""

"""An exchange about a body that is not read: it is guarded, and leaves no record.

What a session remembers (its account, its journal, what was sent) is about messages, of which
such a body has none that we know.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from clawmw.core.account import Account
from clawmw.core.decisions import Decision, Halt
from clawmw.core.effects import Commit, Effect, GetBlob, Load, PutBlob, Slot
from clawmw.core.setup import Run
from clawmw.core.stage import Context, Effects, Quiet, StageTraits
from clawmw.core.types import Json, Request

__all__ = ["UNREAD", "Odd", "Stopping", "forgetful"]

UNREAD = ".unread"
"""What the name of a dialect ends in whose body is not read, and cannot be changed."""


class Odd(NamedTuple):
    """Why a body is not read that its dialect should know, and why it must not be sent at all."""

    reason: str
    halt: Halt | None = None


class Stopping(Quiet):
    """Stops the call, for a reason that is known before."""

    traits: ClassVar[StageTraits] = StageTraits("redact", on_error="closed", runs="call")

    def __init__(self, halt: Halt) -> None:
        self._halt = halt

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision | Effects:
        """Stop it."""
        return self._halt


def forgetful(run: Run) -> Run:
    """`run`, which finds nothing remembered and writes nothing down.

    Only whose task it belongs to is looked up.
    """
    try:
        effect = next(run)
        while True:
            given, known = _nothing(effect)
            if not known:
                try:
                    given = yield effect
                except Exception as error:  # noqa: BLE001 - the exchange's to deal with
                    effect = run.throw(error)
                    continue
            effect = run.send(given)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        run.close()


def _nothing(effect: Effect) -> tuple[Any, bool]:
    """What an effect gives where nothing is remembered, and whether it is one of those."""
    match effect:
        case Load(keys) if any(key != Account.key(key[0]) for key in keys):
            return [Slot(None, 0)] * len(keys), True
        case Commit():
            return True, True
        case PutBlob() | GetBlob():
            return None, True
        case _:
            return None, False

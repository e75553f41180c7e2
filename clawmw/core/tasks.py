"""Which chain a call belongs to, where nobody names it: the task that its session is at.

A chain is named after the newest message of a human, which any process reads off the history.
Three things are not in a history, and are remembered with the session: that the message came
at machine speed and so begins nothing; that a task begins again from nothing, which is a new
one (else a job that asks the same every hour would use up one chain for good); and the task of
the session that started this one, to which its work belongs.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, NamedTuple

from clawmw.core.account import Account
from clawmw.core.effects import Effect, Load, Slot
from clawmw.core.identity import Identity

__all__ = ["AGAIN", "SPEED", "Task", "follow", "looked_up"]

AGAIN = 10.0
"""Seconds after which a conversation that opens again is a new task. Sooner, it is a client that
crashes and starts over."""
SPEED = 1.0
"""Seconds after an answer within which no human writes the next message."""


class Task(NamedTuple):
    """What a session is at."""

    opener: str
    """Of the conversation; a session may hold several (a title, a summary)."""
    name: str
    """The chain that the messages alone imply."""
    chain: str
    """The chain that it is."""
    hop: int
    last: float
    """When the session was last heard of."""

    @classmethod
    def at(cls, identity: Identity, now: float) -> Task:
        """What the session of a call is at."""
        return cls(identity.opener, identity.implied, identity.chain, identity.hop, now)

    @classmethod
    def of(cls, account: Account) -> Task | None:
        """What a session's account says of it."""
        if not account.chain or not account.warm:
            return None
        opener, name, hop = account.task
        last = max(account.answered or 0.0, account.warm[0].time)
        return cls(opener, name, account.chain, hop, last)


def follow(identity: Identity, own: Task | None, parent: Task | None, now: float) -> Identity:
    """The identity with its chain.

    `own`: what the session was at; `parent`: what the one was at that started it.
    """
    if "chain" not in identity.derived:
        return identity
    if own is not None and identity.implied.endswith("#"):  # compacted: no human speaks in it
        chain, hop = own.chain, own.hop
    elif own is not None and own.opener == identity.opener:
        chain, hop = _going_on(identity, own, now)
    elif parent is not None:
        chain, hop = parent.chain, identity.hop or parent.hop + 1
    else:
        return identity
    if (chain, hop) == (identity.chain, identity.hop):
        return identity
    return replace(identity, chain=chain, hop=hop)


def _going_on(identity: Identity, own: Task, now: float) -> tuple[str, int]:
    quiet = now - own.last
    if identity.implied != own.name:  # somebody spoke
        return (own.chain, own.hop) if quiet < SPEED else (identity.chain, identity.hop)
    if identity.opening and "session" in identity.derived and quiet > AGAIN:
        return f"{identity.chain}~{int(now)}", identity.hop
    return own.chain, own.hop


def looked_up(identity: Identity, now: float) -> Generator[Effect, Any, Identity]:
    """`follow`, in a process that meets the session for the first time."""
    if "chain" not in identity.derived:
        return identity
    who = [identity.session]
    if identity.parent_session:
        who.append(identity.parent_session)
    keys = tuple(Account.key(replace(identity, session=name).scope("session")) for name in who)
    slots: list[Slot] = yield Load(keys)
    tasks = [Task.of(Account.from_json(slot.value)) for slot in slots]
    return follow(identity, tasks[0], tasks[1] if len(tasks) > 1 else None, now)

"""Who is calling: tenant, agent, session, chain, parent chain.

A session is one conversation, a chain is one task: everything that follows from one
trigger, across agents. Ids are for accounting, never for trust: the tenant comes only from
configuration or an authenticated token, and every store key begins with it.

Order of sources, first wins: explicit arguments, `x-clawmw-*` headers, the trace id of
`traceparent` (chain only), what the opening messages imply.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clawmw.core.types import Message, Role

__all__ = ["HEADERS", "Identity", "identify"]

HEADERS: Mapping[str, str] = {
    "agent": "x-clawmw-agent",
    "session": "x-clawmw-session",
    "chain": "x-clawmw-chain",
    "parent": "x-clawmw-parent",
    "kind": "x-clawmw-kind",
    "hop": "x-clawmw-hop",
}

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")
_UNSAFE = re.compile(r"[^\w.:@/+-]")
_LONGEST_ID = 128


@dataclass(frozen=True, slots=True)
class Identity:
    """Scopes of one call. `derived` names those that nobody gave us."""

    tenant: str = "default"
    agent: str = "default"
    session: str = ""
    chain: str = ""
    parent: str | None = None
    kind: str | None = None
    hop: int = 0
    derived: frozenset[str] = frozenset()

    def scope(self, level: str) -> str:
        """The store key of a scope level: `tenant`, `agent`, `session` or `chain`.

        Keys hold every level above, so that ids never collide across tenants.
        """
        if level == "session":
            return f"session:{self.tenant}\x1f{self.session}"
        if level == "chain":
            return f"chain:{self.tenant}\x1f{self.chain}"
        if level == "agent":
            return f"agent:{self.tenant}\x1f{self.agent}"
        return f"tenant:{self.tenant}"


def clean(value: str | None) -> str | None:
    """An id as we accept it: printable, at most 128 characters, else None."""
    if not value:
        return None
    return _UNSAFE.sub("_", value[:_LONGEST_ID]) or None


def identify(
    messages: Sequence[Message],
    headers: Mapping[str, str],
    explicit: Identity | None = None,
) -> Identity:
    """The identity of a call; `headers` have lower-case names.

    `explicit` carries what configuration, an adapter or the caller stated; its empty
    fields are filled from the headers and then derived.
    """
    base = explicit or Identity()
    given = {name: clean(headers.get(header)) for name, header in HEADERS.items()}
    derived: set[str] = set()

    agent = base.agent if base.agent != "default" else given["agent"] or "default"
    session = base.session or given["session"] or ""
    if not session:
        derived.add("session")
        session = "derived-" + _opener(messages)
    chain = base.chain or given["chain"] or _trace_id(headers) or ""
    if not chain:
        derived.add("chain")
        chain = session if "session" in derived else f"{session}#{_turn(messages)}"
    hop = given["hop"]
    return replace(
        base,
        agent=agent,
        session=session,
        chain=chain,
        parent=base.parent or given["parent"],
        kind=base.kind or given["kind"],
        hop=base.hop or (int(hop) if hop and hop.isdigit() and len(hop) < 4 else 0),
        derived=frozenset(derived),
    )


def _trace_id(headers: Mapping[str, str]) -> str | None:
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    return match.group(1) if match else None


def _opener(messages: Sequence[Message]) -> str:
    """Digest of everything up to and including the first user message."""
    digest = hashlib.blake2b(digest_size=12)
    for message in messages:
        digest.update(f"{message.role}\x1f{message.text}\x1e".encode("utf-8", "surrogatepass"))
        if message.role is Role.USER:
            break
    return digest.hexdigest()


def _turn(messages: Sequence[Message]) -> int:
    """How many human messages there are: a new one begins a new derived chain."""
    return sum(1 for m in messages if m.role is Role.USER)

"""Trace and span ids derived from who is calling, so that nothing needs to be passed on.

Whoever sees a call of a chain (an agent's process, a worker, the gateway) computes the
same trace id from the chain's scope, the same root span id from the trace id, and the same
agent span id from agent and session. Spans written apart so form one tree.
"""

from __future__ import annotations

import hashlib
import re

from clawmw.core.identity import Identity

__all__ = ["agent_span_id", "hashed_name", "root_span_id", "trace_id"]

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_HASHED = re.compile(r"sha256-[0-9a-f]{24}")
_PERSON = b"clawmw.trace"


def trace_id(identity: Identity) -> int:
    """The 128-bit trace id of a chain.

    A chain that is named by a W3C trace id (it came with `traceparent`) keeps it, so its
    spans join the caller's trace; any other is a digest of the tenant and the chain.
    """
    if _TRACE_ID.fullmatch(identity.chain):
        given = int(identity.chain, 16)
        if given:
            return given
    return _digest(identity.scope("chain"), 16)


def hashed_name(name: str) -> str:
    """What stands for the name of a chain or session where a policy says `ids: hashed`.

    A hash without a key: who can guess a name can check it.
    """
    if _HASHED.fullmatch(name):
        return name  # another process of the chain has sent it so
    return "sha256-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def root_span_id(trace: int) -> int:
    """The 64-bit id of the chain's `invoke_workflow` span."""
    return _digest(f"root:{trace:032x}", 8)


def agent_span_id(trace: int, agent: str, session: str) -> int:
    """The 64-bit id of an `invoke_agent` span: one conversation of one agent in a chain.

    The session is part of it because one agent may work on several items of a chain at
    the same time, each in a conversation of its own.
    """
    return _digest(f"agent:{trace:032x}\x1f{agent}\x1f{session}", 8)


def _digest(text: str, size: int) -> int:
    data = text.encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(data, digest_size=size, person=_PERSON).digest(), "big")
    return number or 1  # zero means "no id" in W3C Trace Context

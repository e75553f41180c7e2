"""Who is calling: tenant, agent, session, chain, parent chain, hop.

A session is one conversation, a chain is one task: everything that follows from one trigger,
across agents. Ids are for accounting, never for trust: the tenant comes only from configuration
or an authenticated token, and every store key begins with it.

Order of sources, first wins:

1. what an adapter or the caller states in code;
2. the `x-clawmw-*` headers;
3. session headers of known agents (Claude Code, Codex, OpenCode);
4. OpenClaw's runtime line and `prompt_cache_key`: session, agent, kind;
5. the trace id of `traceparent`: chain;
6. what the messages imply: the opening names the session, the newest message that a human
   seems to have written begins the chain.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from clawmw.core.types import Message, Request, Role

__all__ = ["HEADERS", "Identity", "Wishes", "identify"]

HEADERS: Mapping[str, str] = {
    "agent": "x-clawmw-agent",
    "session": "x-clawmw-session",
    "chain": "x-clawmw-chain",
    "parent": "x-clawmw-parent",
    "kind": "x-clawmw-kind",
    "hop": "x-clawmw-hop",
}

_AGENTS: Mapping[str, Mapping[str, str]] = {
    "claude-code": {
        "session": "x-claude-code-session-id",
        "agent": "x-claude-code-agent-id",
        "parent": "x-claude-code-parent-agent-id",
    },
    "codex": {"session": "session-id", "parent": "x-codex-parent-thread-id"},
    "opencode": {"session": "x-session-id", "parent": "x-parent-session-id"},
}
"""What known agents put into headers, as their sources have it in November 2026."""
_PROGRAMS = (
    ("claude-cli", "claude-code"),
    ("claude-code", "claude-code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("openclaw", "openclaw"),
)
"""How their user agents begin."""

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$")
_RUNTIME_LINE = "Runtime: agent="
_RUNTIME = re.compile(r"Runtime: agent=(\S+) \| session=(\S+) \| sessionId=(\S+)")
_HEARTBEAT = ("[OpenClaw heartbeat poll]", "Read HEARTBEAT.md")
_ANNOUNCE = "A background task completed."
_TRANSIENT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
_UNSAFE = re.compile(r"[^\w.:@/+-]")
_CHANGES = re.compile(r"\d+|\b[0-9a-f]{8,}\b|[\s\W_]+")
_LONGEST_ID = 128
_LOOKED_AT = 64
"""Messages of users, from the newest back, among which a recurring one is looked for."""
_HEAD = 240
"""Characters of a message by which it is told from others."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller may ask for one call, in headers."""

    priority: str | None = None
    """`x-clawmw-priority`: interactive, chain, heavy or background."""
    deadline: float | None = None
    """`x-clawmw-deadline`: seconds it is willing to wait for a slot."""
    pinned: bool = False
    """`x-clawmw-no-degrade`: the model asked for or none."""
    refusal: str | None = None
    """`x-clawmw-refusal`: message or error."""


_NONE = Wishes()


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
    client: str = ""
    """The agent program that calls, where it is a known one: `openclaw`, `claude-code` ..."""
    wishes: Wishes = field(default=_NONE, compare=False)

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
    request: Request, headers: Mapping[str, str], explicit: Identity | None = None
) -> Identity:
    """The identity of a call; `headers` have lower-case names.

    `explicit` carries what configuration, an adapter or the caller stated; its empty
    fields are filled from the other sources.
    """
    base = explicit or Identity()
    client = base.client or _client(headers)
    said = {name: clean(headers.get(header)) for name, header in HEADERS.items()}
    for name, header in _AGENTS.get(client, {}).items():
        said[name] = said[name] or clean(headers.get(header))
    claw = _openclaw(request) if not base.session else None
    if claw is not None:
        client = "openclaw"
        said = {name: value or claw.get(name) for name, value in said.items()}
    derived: set[str] = set()
    session = base.session or said["session"] or _cache_key(request) or ""
    if not session:
        derived.add("session")
        session = "derived-" + _opener(request.messages)
    chain = base.chain or said["chain"] or _trace_id(headers) or ""
    if not chain:
        derived.add("chain")
        chain = f"{session}#{_task(request.messages)}"
    hop = said["hop"]
    return replace(
        base,
        agent=base.agent if base.agent != "default" else said["agent"] or "default",
        session=session,
        chain=chain,
        parent=base.parent or said["parent"],
        kind=base.kind or said["kind"],
        hop=base.hop or (int(hop) if hop and hop.isdigit() and len(hop) < 4 else 0),
        derived=frozenset(derived),
        client=client,
        wishes=_wishes(headers) if base.wishes is _NONE else base.wishes,
    )


# --- what headers say --------------------------------------------------------------------------


def _client(headers: Mapping[str, str]) -> str:
    for name, known in _AGENTS.items():
        if known["session"] in headers and known["session"].startswith("x-claude"):
            return name
    program = headers.get("user-agent", "").lower()
    found = next((name for start, name in _PROGRAMS if program.startswith(start)), "")
    if not found and "x-codex-parent-thread-id" in headers:
        return "codex"
    return found


def _wishes(headers: Mapping[str, str]) -> Wishes:
    named = [n for n in headers if n.startswith("x-clawmw-")]
    if not named:
        return _NONE
    refusal = headers.get("x-clawmw-refusal")
    return Wishes(
        clean(headers.get("x-clawmw-priority")),
        _seconds(headers.get("x-clawmw-deadline")),
        headers.get("x-clawmw-no-degrade", "0").lower() not in ("0", "false", "no", ""),
        refusal if refusal in ("message", "error") else None,
    )


def _seconds(value: str | None) -> float | None:
    """A positive, finite number of seconds, at most a day; else None."""
    try:
        seconds = float(value) if value and len(value) < 16 else 0.0
    except ValueError:
        return None
    return min(seconds, 86_400.0) if seconds > 0 else None  # NaN is neither


def _trace_id(headers: Mapping[str, str]) -> str | None:
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    return match.group(1) if match else None


# --- what the body says ------------------------------------------------------------------------


def _openclaw(request: Request) -> dict[str, str | None] | None:
    """Agent, session and kind as OpenClaw writes them into the prompt; None: it did not."""
    for message in request.messages[:4]:
        if message.role not in (Role.SYSTEM, Role.USER):
            return None
        text = message.text
        at = text.find(_RUNTIME_LINE)
        match = _RUNTIME.match(text, at) if at >= 0 else None
        if match is not None:
            agent, key, session = match.groups()
            kind = _kind_of(key, request.messages)
            return {"agent": clean(agent), "session": clean(session), "kind": kind}
    return None


def _kind_of(key: str, messages: Sequence[Message]) -> str | None:
    """What kind of call: by the session's key, else by the newest message of its user."""
    if ":subagent:" in key:
        return "subagent"
    if ":internal-session-effects:" in key:
        return "review"
    for message in reversed(messages):
        if message.role is Role.USER and not message.text.startswith(_TRANSIENT):
            text = message.text[:2000]
            if any(sign in text for sign in _HEARTBEAT):
                return "heartbeat"
            return "announce" if _ANNOUNCE in text else None
    return None


def _cache_key(request: Request) -> str | None:
    """The session in a `prompt_cache_key` of OpenClaw's form, `<session>:0`; else nothing.

    Other keys name a prompt that many sessions share.
    """
    key = request.params.get("prompt_cache_key")
    if isinstance(key, str) and key.endswith(":0"):
        return clean(key[:-2])
    return None


def _opener(messages: Sequence[Message]) -> str:
    """Digest of everything up to and including the first user message."""
    digest = hashlib.blake2b(digest_size=12)
    for message in messages:
        digest.update(f"{message.role}\x1f{message.text}\x1e".encode("utf-8", "surrogatepass"))
        if message.role is Role.USER:
            break
    return digest.hexdigest()


def _task(messages: Sequence[Message]) -> str:
    """Names the newest message that a human seems to have written; the same in any process.

    A recurring one (a poll, a template with other numbers) is an agent's.
    """
    said = [m for m in messages if m.role is Role.USER]
    forms = [_form(message.text[:_HEAD]) for message in said[-_LOOKED_AT:]]
    for place in range(len(forms) - 1, 0, -1):
        if forms[place] not in forms[:place] and forms[place]:
            return f"{len(said) - len(forms) + place + 1}"
    return f"{max(len(said) - len(forms), 0) + 1}"


@lru_cache(maxsize=4096)
def _form(head: str) -> str:
    """A message without what varies in a template; "" for one that no human wrote."""
    return "" if head.startswith(_TRANSIENT) else _CHANGES.sub(" ", head)

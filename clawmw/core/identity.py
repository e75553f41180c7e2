"""Who is calling: tenant, agent, session, chain, parent chain, hop.

A session is one conversation, a chain is one task: everything that follows from one trigger,
across agents. Ids are for accounting, never for trust: the tenant comes only from configuration
or an authenticated token, and every store key begins with it.

Order of sources, first wins, for each of them alone:

1. what the caller states in code (`http_client(identity=...)`), or an adapter knows (thread ids);
2. the `x-clawmw-*` headers;
3. the session headers of known agents: Claude Code, Codex, OpenCode;
4. OpenClaw's runtime line: session, agent, kind; then its `prompt_cache_key`, or the provider's
   `conversation`: session;
5. `baggage` under our own keys: chain, hop (one more), the session and agent that called;
   then the trace id of `traceparent`: chain; then that of the application's current span, which
   the runtime puts in its place;
6. the answer that a request goes on from by its id (`previous_response_id`): session;
7. what the messages imply (`clawmw.core.story`): the opening is the session, the newest message
   that a human seems to have written begins the chain. Such names are for accounting and for
   the memo of this very history: nothing that a session may ask for is found through them.

A derived name holds a sign (`~`, `#`) that no name from outside can hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from clawmw.core.context import BAGGAGE, TraceContext, baggage
from clawmw.core.story import Story, told
from clawmw.core.types import Request

__all__ = ["HEADERS", "Identity", "Wishes", "called_by", "identify"]

HEADERS: Mapping[str, str] = {
    "agent": "x-clawmw-agent",
    "session": "x-clawmw-session",
    "chain": "x-clawmw-chain",
    "parent": "x-clawmw-parent",
    "kind": "x-clawmw-kind",
    "hop": "x-clawmw-hop",
}

_HEADERS = tuple(HEADERS.items())

_SESSIONS = (
    ("x-claude-code-session-id", "x-claude-code-parent-agent-id"),
    ("session-id", "x-codex-parent-thread-id"),
    ("x-session-id", "x-parent-session-id"),
    ("x-session-affinity", "x-parent-session-id"),
)
"""Headers that name a session, and the one that started it, as known agents (Claude Code, Codex,
OpenCode) send them in November 2026. Other programs use the later ones, too."""
_SUBAGENT = "x-claude-code-agent-id"
"""Claude Code's sub-agents share its session; each is a conversation of its own."""
_SIGNS = (
    ("x-claude-code-session-id", "claude-code"),
    ("x-codex-parent-thread-id", "codex"),
    ("x-parent-session-id", "opencode"),
)
"""Headers that only one program sends."""
_PROGRAMS = (
    ("claude-cli", "claude-code"),
    ("claude-code", "claude-code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("openclaw", "openclaw"),
)
"""How their user agents begin (Codex also says it in `originator`)."""

_UNSAFE = re.compile(r"[^\w.:@/+-]")
_LONGEST_ID = 128


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
_WISHES = ("x-clawmw-priority", "x-clawmw-deadline", "x-clawmw-no-degrade", "x-clawmw-refusal")


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
    """The agent program that calls: `openclaw`, `claude-code`, `codex`, `opencode`; "": unknown."""
    parent_session: str | None = None
    """The session that started this one, as an agent names it; its chain is this one's, too."""
    parent_agent: str | None = None
    """The agent that called this one from another process."""
    conversation: str = ""
    """The conversation that all agents of the chain work for; "": each session is its own."""
    joined: tuple[Identity | TraceContext, ...] = field(default=(), compare=False)
    """Whose results come together in this call: branches that ran beside each other."""
    context: TraceContext | None = field(default=None, compare=False)
    """The span that the call was made in, as its caller says."""
    opener: str = field(default="", compare=False)
    """Digest of how the conversation began."""
    opening: bool = field(default=False, compare=False)
    """Nothing was answered in this conversation yet."""
    implied: str = field(default="", compare=False)
    """The chain that the messages alone imply."""
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


_NOBODY = Identity()


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
    base = explicit or _NOBODY
    story = told(request.messages)
    said = {name: clean(headers.get(header)) for name, header in _HEADERS}
    client = base.client or _client(headers)
    named, above = _session(headers)
    if story.runtime is not None:
        client = client or "openclaw"
        agent, key, session = story.runtime
        said["agent"] = said["agent"] or clean(agent)
        said["kind"] = said["kind"] or _kind(key, story)
        named = named or clean(session)
    derived: set[str] = set()
    named = named or _cache_key(request) or _conversation(request)
    session_id = base.session or said["session"] or named
    if not session_id:
        derived.add("session")
        known = request.earlier
        session_id = known.session if known is not None else f"~{story.opener}"
    implied = f"{session_id}#{story.task}"
    context, came = base.context or TraceContext.of(headers), baggage(headers.get(BAGGAGE, ""))
    chain = base.chain or said["chain"] or came.get("chain") or (context and context.trace)
    if not chain:
        derived.add("chain")
        chain = implied
    return Identity(
        base.tenant,
        base.agent if base.agent != "default" else said["agent"] or client or "default",
        session_id,
        chain,
        base.parent or said["parent"],
        base.kind or said["kind"],
        base.hop or (_hop(said["hop"]) or 0) or _next(came),
        frozenset(derived),
        client,
        base.parent_session or above or came.get("session"),
        base.parent_agent or came.get("agent"),
        base.conversation or came.get("conversation", ""),
        base.joined,
        context,
        story.opener,
        story.opening,
        implied,
        _wishes(headers) if base.wishes is _NONE else base.wishes,
    )


def called_by(context: TraceContext | None, came: Mapping[str, str]) -> Identity:
    """Who calls, as far as a trace context and the baggage with it tell."""
    return Identity(
        chain=came.get("chain") or (context.trace if context is not None else ""),
        hop=_next(came),
        parent_session=came.get("session"),
        parent_agent=came.get("agent"),
        conversation=came.get("conversation", ""),
        context=context,
    )


# --- what headers say --------------------------------------------------------------------------


def _client(headers: Mapping[str, str]) -> str:
    for header, program in _SIGNS:
        if header in headers:
            return program
    for header in ("user-agent", "originator"):
        said = headers.get(header)
        if said:
            said = said[:16].lower()
            for start, program in _PROGRAMS:
                if said.startswith(start):
                    return program
    return ""


def _session(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The session that a known agent's headers name, and the one that started it."""
    for header, parent in _SESSIONS:
        session = clean(headers.get(header))
        if session is None:
            continue
        above = clean(headers.get(parent))
        sub = clean(headers.get(_SUBAGENT)) if header == _SESSIONS[0][0] else None
        if sub is None:
            return session, above if above != session else None
        return f"{session}/{sub}", f"{session}/{above}" if above else session
    return None, None


def _wishes(headers: Mapping[str, str]) -> Wishes:
    if not any(name in headers for name in _WISHES):
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


def _hop(value: str | None) -> int | None:
    return (
        int(value) if value and value.isascii() and value.isdecimal() and len(value) < 4 else None
    )


def _next(came: Mapping[str, str]) -> int:
    """The hop of whoever was called: one more than its caller's; 0 where that says none."""
    hop = _hop(came.get("hop"))
    return 0 if hop is None else hop + 1


# --- what the body says ------------------------------------------------------------------------


def _kind(key: str, story: Story) -> str | None:
    """What kind of call: by the session's key, else by the newest message of its user."""
    if ":subagent:" in key:
        return "subagent"
    if ":internal-session-effects:" in key:
        return "review"
    return story.kind


def _conversation(request: Request) -> str | None:
    """The provider's own name of the conversation (`conversation` of the Responses API)."""
    said = request.params.get("conversation")
    name = said.get("id") if isinstance(said, Mapping) else said
    return clean(name) if isinstance(name, str) else None


def _cache_key(request: Request) -> str | None:
    """The session in a `prompt_cache_key` of OpenClaw's form, `<session>:0`; else nothing.

    Other keys name a prompt that many sessions share.
    """
    key = request.params.get("prompt_cache_key")
    if isinstance(key, str) and key.endswith(":0"):
        return clean(key[:-2])
    return None

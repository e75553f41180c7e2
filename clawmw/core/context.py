"""The trace a call comes from, and what travels with it: W3C Trace Context and Baggage.

Both are read from whoever calls, so both are checked: ids by their form, baggage by an
allow-list of our own keys, whose values are at most 128 characters of what ids consist of.
What does not fit is left out, never repaired: half an id would be another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

__all__ = [
    "BAGGAGE",
    "CARRIED",
    "STATE",
    "TRACEPARENT",
    "TraceContext",
    "baggage",
    "carried",
    "foreign",
]

TRACEPARENT, STATE, BAGGAGE = "traceparent", "tracestate", "baggage"
"""Names of the headers."""
CARRIED = (TRACEPARENT, STATE, BAGGAGE)
"""All of them; a child process finds them in its environment, in capitals."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN, _NO_VERSION = "0" * 32, "0" * 16, "ff"
_PRINTABLE = re.compile(r"[ -~]{1,512}")
_SAMPLED = 1

_KEYS: Mapping[str, str] = {
    "chain": "clawmw.chain.id",
    "hop": "clawmw.chain.hop",
    "agent": "clawmw.agent",
    "session": "clawmw.session.id",
    "conversation": "gen_ai.conversation.id",
}
"""What travels as baggage: the caller's own chain, hop, agent and session, and the conversation
that all of it belongs to."""
_NAMES = {key: name for name, key in _KEYS.items()}
_VALUE = re.compile(r"[\w.:@/+-]{1,128}")
_LONGEST = 8192
"""Of a whole baggage header, as W3C Baggage bounds it."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The span a call was made in."""

    trace: str
    """32 hexadecimal digits."""
    span: str
    """16 of them."""
    sampled: bool = False
    """Its own exporter writes that span."""
    state: str = ""
    """`tracestate` as it came."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """What `traceparent` and `tracestate` say; None where nothing valid does."""
        match = _FORM.fullmatch(headers.get(TRACEPARENT, ""))
        if match is None or match[1] == _NO_VERSION:
            return None
        if match[2] == _NO_TRACE or match[3] == _NO_SPAN:
            return None
        state = headers.get(STATE, "")
        kept = state if _PRINTABLE.fullmatch(state) else ""
        return cls(match[2], match[3], bool(int(match[4], 16) & _SAMPLED), kept)

    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        said = {TRACEPARENT: f"00-{self.trace}-{self.span}-{int(self.sampled):02x}"}
        return said | ({STATE: self.state} if self.state else {})


def baggage(text: str) -> dict[str, str]:
    """Our own entries of a `baggage` header, by name: chain, hop, agent, session, conversation."""
    found: dict[str, str] = {}
    for member in text[:_LONGEST].split(","):
        key, sign, rest = member.partition("=")
        name = _NAMES.get(key.strip(" \t"))
        if name is None or not sign or name in found:
            continue
        value = unquote(rest.partition(";")[0].strip(" \t"))
        if _VALUE.fullmatch(value):
            found[name] = value
    return found


def carried(values: Mapping[str, str]) -> str:
    """A `baggage` header of values by name; those that nobody would accept are left out."""
    pairs = [(_KEYS[name], value) for name, value in values.items() if _VALUE.fullmatch(value)]
    return ",".join(f"{key}={quote(value, safe='')}" for key, value in pairs)


def foreign(text: str) -> str:
    """The entries of a `baggage` header that are not ours."""
    members = text[:_LONGEST].split(",")
    return ",".join([m for m in members if m.partition("=")[0].strip(" \t") not in _NAMES])

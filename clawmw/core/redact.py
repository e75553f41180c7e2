"""Configured secrets, replaced before anything is folded, sent or kept.

Exact values only: each secret in every form in which text carries it (as it is, escaped as
JSON once and twice, percent-encoded, base64 at any offset, hexadecimal). Literal search, so
time is linear in the text and no text is a trap (3 ms a megabyte for ten secrets). Works on
bodies as they are, in any dialect. What is replaced reads `[redacted:NAME]`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any
from urllib.parse import quote, quote_plus

from clawmw.core.events import CallFinished
from clawmw.core.identity import Identity

__all__ = ["SHORTEST", "Redactor"]

SHORTEST = 8
"""Characters of the shortest secret: a shorter one would be found in what is none."""


class Redactor:
    """Replaces `secrets` (by the name shown instead). Those shorter than `SHORTEST` are left."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        found: dict[bytes, bytes] = {}
        for name, secret in secrets.items():
            if len(secret) >= SHORTEST:
                found |= {form: _mark(name) for form in _forms(secret) if form not in found}
        self.names = tuple(secrets)
        self._forms = sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def data(self, data: bytes) -> bytes:
        """`data` without the secrets; the same object when it holds none."""
        for form, instead in self._forms:
            if form in data:
                data = data.replace(form, instead)
        return data

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        data = text.encode("utf-8", "surrogatepass")
        clean = self.data(data)
        return text if clean is data else clean.decode("utf-8", "surrogatepass")

    def identity(self, identity: Identity) -> Identity:
        """Ids without the secrets: they are names in traces, stores and logs."""
        given = {f.name: getattr(identity, f.name) for f in fields(Identity)}
        clean = {n: self.text(v) for n, v in given.items() if isinstance(v, str)}
        changed: dict[str, Any] = {n: v for n, v in clean.items() if v != given[n]}
        return replace(identity, **changed) if changed else identity

    def finished(self, event: CallFinished) -> CallFinished:
        """A call's last event without the secrets that a model's answer may have named."""
        if not self._forms:
            return event
        model, reason = event.response_model, event.finish_reason
        return replace(
            event,
            response_model=model and self.text(model),
            finish_reason=reason and self.text(reason),
            tools=tuple([(self.text(call), self.text(name)) for call, name in event.tools]),
            error=event.error and self.text(event.error),
        )

    def marks(self, data: bytes) -> dict[str, int]:
        """How often each secret was replaced in `data`, by name."""
        found = {name: data.count(_mark(name)) for name in self.names}
        return {name: count for name, count in found.items() if count}


def _mark(name: str) -> bytes:
    return f"[redacted:{name}]".encode()


def _forms(secret: str) -> Iterator[bytes]:
    """Every form of one secret that is looked for."""
    plain = secret.encode("utf-8", "surrogatepass")
    yield plain
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        for text in (once, twice):
            yield text.encode("utf-8", "surrogatepass")
            yield text.replace("/", "\\/").encode("utf-8", "surrogatepass")
    quoted = (quote(plain, safe=""), quote(plain), quote_plus(plain))
    for text in quoted:
        yield text.encode()
        yield _lower_percent(text).encode()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Only the characters that hold nothing but the secret.
            whole = encode(b"\0" * offset + plain).rstrip(b"=")
            end = (offset + len(plain)) * 8 // 6
            yield whole[-(-offset * 8 // 6) : end]


def _lower_percent(text: str) -> str:
    pieces = text.split("%")
    return "%".join([pieces[0], *(p[:2].lower() + p[2:] for p in pieces[1:])])

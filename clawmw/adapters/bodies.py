"""A request body, taken in: read, or guarded without being read.

One rule everywhere: what is wrong with a body is not ours to judge, the provider says it. So a
body that cannot be made out passes as it came, with an event, and everything that only counts
(budget, admission, breaker) holds for it. Only what must see every body refuses it: a secret to
be replaced could be in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from clawmw.codecs.unread import unread_name
from clawmw.core.decisions import Because, Halt
from clawmw.core.types import Request
from clawmw.core.unread import Odd
from clawmw.errors import CodecError
from clawmw.runtime import Runtime

__all__ = ["Taken", "take"]

_SIGNATURE = "AWS4-HMAC-SHA256"
"""AWS Signature Version 4: it covers the body's digest."""


class Taken(NamedTuple):
    """A request, and what is odd about its body, if anything is."""

    request: Request
    odd: Odd | None = None


def take(runtime: Runtime, dialect: str, body: bytes, headers: Mapping[str, str]) -> Taken:
    """The request of a body; `headers` have lower-case names."""
    codec = runtime.codecs.get(unread_name(dialect))
    if headers.get("authorization", "").startswith(_SIGNATURE):
        signed = (codec or runtime.codecs[dialect]).decode(body)
        holds = runtime.redactor.data(body) is not body
        return Taken(signed, Odd("signed", _secret("it is signed") if holds else None))
    try:
        return Taken(runtime.decode(dialect, body))
    except Exception as error:  # a bug of ours must not stop an agent either
        if codec is None:
            raise
        reason = str(error) if isinstance(error, CodecError) else type(error).__name__
        hidden = bool(runtime.redactor) and not _text(body, headers)
        halt = _secret("it is packed or no UTF-8") if hidden else None
        return Taken(codec.decode(runtime.redactor.data(body)), Odd(reason, halt))


def _text(body: bytes, headers: Mapping[str, str]) -> bool:
    if headers.get("content-encoding", "identity") != "identity":
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _secret(why: str) -> Halt:
    return Halt(
        Because("redact", "unread"),
        "",
        "no body in which secrets cannot be replaced",
        f"one was to be sent of which {why}",
        "Send it as plain JSON, unsigned.",
    )

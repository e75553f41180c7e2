"""Answers that are none: what they are taken for, and what the caller is told of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from clawmw.adapters import wire
from clawmw.core.codec import Codec
from clawmw.core.tap import Tap
from clawmw.core.types import Failure, Response
from clawmw.errors import CodecError
from clawmw.runtime import Runtime

__all__ = [
    "ANSWERS",
    "FINAL",
    "answered",
    "failed",
    "lost",
    "read_as_stream",
    "retries",
    "unreadable",
]

ANSWERS = "clawmw.answers"
"""The key under which a request says that its caller takes answers, not exceptions."""
FINAL = ("x-should-retry", "false")
_RETRIES = "x-stainless-retry-count"
"""What the SDKs that retry by themselves send along (openai, anthropic)."""


def lost(kind: str, url: str) -> tuple[int, str, str]:
    """Status, message and code for a call that no HTTP answer came to."""
    parts = urlsplit(url)
    who = f"the upstream at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    match kind:
        case "connect":
            return (
                502,
                f"{who} cannot be reached; is it running, and is the address right?",
                "upstream_unreachable",
            )
        case "timeout":
            return 504, f"{who} did not answer in time", "upstream_timeout"
    return 502, f"{who} closed the connection before it answered", "upstream_broke"


def answered(outcome: Failure, attempt: Any) -> bool:
    """Whether a call that raised is answered all the same.

    An SDK tries an exception again whatever we say; an answer it believes.
    """
    sent = attempt.sent
    return FINAL in outcome.headers and (
        bool(sent.extensions.get(ANSWERS)) or _RETRIES in sent.headers
    )


def failed(outcome: Failure, url: str, codec: Codec) -> tuple[int, wire.Headers, bytes]:
    """The caller's answer: an upstream's own as it came, else one clear line."""
    kept = wire.answer_headers(outcome.headers)
    status, message, code = lost(outcome.kind, url)
    if outcome.status is not None:
        if outcome.kind != "protocol" or outcome.status >= 400:
            return outcome.status, kept, outcome.body
        said = next((v for n, v in kept if n.lower() == "content-type"), "") or "nothing"
        who = message.partition(" closed")[0]
        message = f"{who} answered {outcome.status} with what is no model answer ({said[:60]})"
        kept = [(n, v) for n, v in kept if n.lower() != "content-type"]
    body = codec.error({"message": message, "type": "upstream_error", "code": code})
    return status, [*kept, ("content-type", "application/json")], body


def unreadable(
    codec: Codec, status: int, body: bytes, headers: tuple[tuple[str, str], ...]
) -> Failure:
    """A body that came as an answer and is none.

    An error inside a 200 is the error it tells of. What is nothing at all (empty, a page, half
    of an answer) may be asked for again; what is of a form unknown to us passes as it came.
    """
    try:
        told = codec.fault(body)
    except CodecError as error:
        return Failure("protocol", str(error), status, body, headers)
    if told is None:
        return Failure("unusable", "an answer of an unknown form", status, body, headers)
    return Failure("status", f"HTTP {status}, then {told}", told, body, headers)


def read_as_stream(tap: Tap | None, body: bytes) -> Response | Failure | None:
    """A stream that came under another content type; None: it is none."""
    if tap is None or not body.lstrip().startswith((b"data:", b"event:", b":")):
        return None
    given = tap.feed(body)
    rest, response = tap.end(complete=True)
    if tap.fault is not None:
        return tap.fault
    return Response(
        response.message,
        response.usage,
        response.finish_reason,
        response.model,
        response.id,
        given + rest,
        response.complete,
    )


def retries(runtime: Runtime) -> bool:
    """Whether the policy tries again what failed: an SDK below it that does so, too, multiplies."""
    pipeline = runtime.pipeline
    acts = pipeline.mode == "enforce" and pipeline.modes.get("retry", "enforce") == "enforce"
    return acts and any(stage.traits.name == "retry" for stage in pipeline.stages)

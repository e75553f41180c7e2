"""What Anthropic says of an answer beside its content: usage, why it ended, errors.

On the wire `input_tokens` excludes what was read from and written to the cache; here it is all
of the input, as in every dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

from clawmw.core.types import Json, Usage

__all__ = ["ERRORS", "error_status", "stop_reason", "usage", "usage_json"]

ERRORS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that a kind of error goes with (platform.claude.com/docs/en/api/errors)."""

_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
"""Why an answer ended, in the words of other dialects."""


def stop_reason(reason: str | None) -> str:
    """Why an answer ended, in the words of this dialect."""
    return _REASONS.get(reason or "stop", reason or "end_turn")


def error_status(value: Json) -> int | None:
    """The HTTP status of an error that came as an answer; None: it is none. 502: of no kind."""
    error = value.get("error") if isinstance(value, dict) else None
    if not error or "content" in value:
        return None
    kind = error.get("type") if isinstance(error, dict) else None
    return ERRORS.get(kind, 502) if isinstance(kind, str) else 502


def usage(value: Json) -> Usage | None:
    """Usage off the wire: present but zero is zero, absent is None."""
    if not isinstance(value, Mapping):
        return None
    fresh, read, written, out = (
        _int(value.get(name))
        for name in (
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
        )
    )
    details = value.get("output_tokens_details")
    thought = _int(details.get("thinking_tokens")) if isinstance(details, Mapping) else None
    whole = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage(whole, out, read, written, thought)


def _int(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0:
        return None
    return int(min(value, 2**62))


def usage_json(counted: Usage, kept: Json = None) -> dict[str, Json]:
    """Usage as this dialect says it; `kept`: what was said before, which it replaces."""
    value: dict[str, Json] = dict(kept) if isinstance(kept, Mapping) else {}
    if value and usage(value) == counted:
        return value
    value.pop("cache_creation", None)  # by lifetime: no longer the parts of the sum
    read, written = counted.cache_read_tokens, counted.cache_write_tokens
    if counted.input_tokens is not None:
        value["input_tokens"] = max(counted.input_tokens - (read or 0) - (written or 0), 0)
    if written is not None:
        value["cache_creation_input_tokens"] = written
    if read is not None:
        value["cache_read_input_tokens"] = read
    value["output_tokens"] = counted.output_tokens or 0
    if counted.reasoning_tokens is not None:
        value["output_tokens_details"] = {"thinking_tokens": counted.reasoning_tokens}
    return value

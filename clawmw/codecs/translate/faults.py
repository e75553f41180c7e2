"""Errors: an upstream's status and body in the caller's shape; the status stays what it was."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from clawmw.codecs.translate.base import MESSAGES, RESPONSES, Body

__all__ = ["Fault", "error_body", "error_event", "read_error"]

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    529: ("overloaded_error", "overloaded"),
}
_STATUS = {kind: status for status, kind in _ANTHROPIC.items()} | {
    "api_error": 500,
    "server_error": 500,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
}
_TOO_LONG = re.compile(
    r"prompt is too long|context.{0,20}(?:length|window).{0,40}exceed|"
    r"exceed.{0,40}context.{0,20}(?:length|window)|maximum context length",
    re.IGNORECASE,
)
"""How providers say that a prompt does not fit; agents shorten their history when they see it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error says, in no dialect."""

    status: int
    message: str
    kind: str = ""
    code: str = ""

    @property
    def too_long(self) -> bool:
        """Whether the prompt does not fit into the model's window."""
        return self.code == "context_length_exceeded" or bool(_TOO_LONG.search(self.message))


def read_error(body: bytes | Body, status: int = 0) -> Fault:
    """The fault that a body tells of; without a `status` the one it stands for."""
    value: Any = body
    if isinstance(body, bytes):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
    value = value if isinstance(value, dict) else {}
    inner = value.get("response") if isinstance(value.get("response"), dict) else value
    error = inner.get("error") or value
    if not isinstance(error, dict):
        error = {"message": str(error)}
    kind = str(error.get("type") or "")
    code = "" if error.get("code") is None else str(error["code"])
    told = int(code) if code.isdecimal() and 400 <= int(code[:4]) <= 599 else None
    status = status or told or _STATUS.get(code) or _STATUS.get(kind) or 502
    message = error.get("message") or value.get("detail") or f"the provider answered {status}"
    return Fault(status, message if isinstance(message, str) else json.dumps(message), kind, code)


def error_body(dialect: str, fault: Fault) -> Body:
    """The fault as the body of an answer."""
    if dialect == MESSAGES:
        kind = _ANTHROPIC.get(fault.status, "invalid_request_error")
        if fault.status >= 500:
            kind = _ANTHROPIC.get(fault.status, "api_error")
        message = fault.message
        if fault.too_long and "prompt is too long" not in message:
            message = f"prompt is too long: {message}"
        return {"type": "error", "error": {"type": kind, "message": message}}
    fallback = "server_error" if fault.status >= 500 else "invalid_request_error"
    kind, code = _OPENAI.get(fault.status, (fallback, ""))
    if fault.too_long:
        code = "context_length_exceeded"
    said = {"message": fault.message, "type": kind, "param": None, "code": code or None}
    return {"error": said}


def error_event(dialect: str, fault: Fault) -> Body:
    """The fault in the middle of a stream."""
    if dialect == RESPONSES:
        code = "rate_limit_exceeded" if fault.status == 429 else fault.code or "server_error"
        return {"type": "error", "code": code, "message": fault.message, "param": None}
    return error_body(dialect, fault)

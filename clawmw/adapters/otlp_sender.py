"""Sends spans by OTLP over HTTP: protobuf, compressed, tried again where that can help."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.util.re import parse_env_headers

from clawmw.errors import ClawmwError
from clawmw.observe.otlp.writing import encode, rejected

if TYPE_CHECKING:
    from clawmw.observe.otlp.wire import WireSpan

__all__ = ["Sender", "endpoint", "headers_of", "resource_of"]

TRIES = 5
_AGAIN = frozenset({429, 502, 503, 504})
"""The statuses after which OTLP has a client try again."""
_LONGEST_S = 30.0
_TIMEOUT_S = 30.0
_PATH = "/v1/traces"
_LOCAL = ("127.0.0.1", "::1", "localhost")


def endpoint(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Where traces go: as `given`, else as OpenTelemetry's variables say. Raises `ClawmwError`."""
    whole = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") if given is None else None
    base = given or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not (whole or base):
        raise ClawmwError(
            "give --otlp URL, such as http://127.0.0.1:6006, or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    url = whole or (base or "").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClawmwError(f"--otlp: expected http://HOST:PORT or https://HOST, not {url[:100]!r}")
    return url if whole or parts.path.endswith(_PATH) else url + _PATH


def headers_of(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The headers that OpenTelemetry's variables add to every request."""
    found: dict[str, str] = {}
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        found |= parse_env_headers(environment.get(name, ""), liberal=True)
    return found


def resource_of() -> dict[str, str]:
    """What OpenTelemetry's variables say of this program; its name is clawmw unless they do."""
    said = {key: str(value) for key, value in Resource.create().attributes.items()}
    if said.get(SERVICE_NAME, "unknown_service").startswith("unknown_service"):
        said[SERVICE_NAME] = "clawmw"
    return said


class Sender:
    """One receiver of spans."""

    def __init__(self, url: str, headers: Mapping[str, str], resource: Mapping[str, str]) -> None:
        self.url = url
        self._resource = resource
        self._reached = False
        fixed = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
        self._client = httpx.Client(
            headers={**headers, **fixed},
            timeout=_TIMEOUT_S,
            trust_env=urlsplit(url).hostname not in _LOCAL,  # no proxy for this machine
        )

    def send(self, spans: Sequence[WireSpan]) -> tuple[int, str]:
        """Send spans; how many were rejected, and why. Raises `ClawmwError`."""
        body = gzip.compress(encode(spans, self._resource), 6)
        for number in range(1, TRIES + 1):
            said, wait = self._try(body, last=number == TRIES)
            if said is not None:
                return rejected(said)
            time.sleep(wait or 0.5 * 2 ** (number - 1))
        raise AssertionError  # the last try returns or raises

    def _try(self, body: bytes, *, last: bool) -> tuple[bytes | None, float | None]:
        """The answer's body; or None, and how long to wait if that is said."""
        try:
            answer = self._client.post(self.url, content=body)
        except httpx.TransportError as error:
            if last or not self._reached:
                what = "cannot be reached" if not self._reached else "broke off"
                raise ClawmwError(f"{self.url} {what} ({type(error).__name__})") from None
            return None, None
        self._reached = True
        if answer.is_success:
            return answer.content, None
        if answer.status_code not in _AGAIN or last:
            raise ClawmwError(f"{self.url} answered {answer.status_code}{_hint(answer)}")
        told = answer.headers.get("retry-after", "")
        return None, min(float(told), _LONGEST_S) if told.isdigit() else None

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _hint(answer: httpx.Response) -> str:
    match answer.status_code:
        case 401 | 403:
            return ": it wants a key; set OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY"
        case 404 | 405:
            return ": it takes no OTLP there"
        case 415:
            return ": it takes no OTLP over HTTP in protobuf"
        case _:
            return ""

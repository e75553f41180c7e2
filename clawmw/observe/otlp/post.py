"""Posting to a collector by OTLP over HTTP: spans and metrics alike.

What is tried again follows the OTLP specification: 429, 502, 503, 504 and failed connections.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from clawmw.observe.otlp.settings import Settings

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Post", "release"]

_AGAIN = frozenset({429, 502, 503, 504})
_LONGEST_ANSWER = 65_536


def release() -> str:
    """Our version; "" where it is not installed."""
    try:
        return version("clawmw")
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a collector said; `status` 0: nothing, and `said` why."""

    status: int
    said: str
    body: bytes = b""
    after: float | None = None
    """Seconds it asked to wait."""

    @property
    def passing(self) -> bool:
        """Whether the same may be taken later."""
        return not self.status or self.status in _AGAIN


class Post:
    """The way to one collector; used by one thread at a time. Imports its client late."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.Client | None = None
        self._pid = os.getpid()

    def send(self, data: bytes) -> Answer:
        """Send a message. Never raises."""
        import httpx

        if self._pid != os.getpid():  # a forked child shares no connection with its parent
            self._pid, self._client = os.getpid(), None
        try:
            if self._client is None:
                self._client = _client(self._settings)
            end = time.monotonic() + self._settings.timeout
            content = self._compressed(data)
            with self._client.stream("POST", self._settings.url, content=content) as answer:
                body = b""
                for part in answer.iter_raw():
                    body += part
                    if len(body) > _LONGEST_ANSWER or time.monotonic() > end:
                        break
                after = _after(answer.headers.get("retry-after"))
                return Answer(answer.status_code, f"HTTP {answer.status_code}", body, after)
        except httpx.TransportError as error:
            return Answer(0, type(error).__name__)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(400, type(error).__name__)  # a wrong address or certificate stays wrong

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None and self._pid == os.getpid():
            self._client.close()

    def _compressed(self, data: bytes) -> bytes:
        if self._settings.compression == "gzip":
            return gzip.compress(data, 3)
        return zlib.compress(data) if self._settings.compression == "deflate" else data


def _client(settings: Settings) -> httpx.Client:
    import ssl

    import httpx

    verify: ssl.SSLContext | bool = True
    if settings.certificate or settings.client:
        verify = ssl.create_default_context(cafile=settings.certificate)
        if settings.client:
            verify.load_cert_chain(*settings.client)
    headers = {
        "content-type": "application/x-protobuf",
        "user-agent": f"clawmw/{release()}",
        **settings.headers,
    }
    if settings.compression != "none":
        headers["content-encoding"] = settings.compression
    return httpx.Client(headers=headers, timeout=settings.timeout, verify=verify)


def _after(text: str | None) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date."""
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None

"""Sends stored spans by OTLP over HTTP while somebody waits: tried again where that can help."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clawmw.errors import ClawmwError
from clawmw.observe.otlp.collector import resource
from clawmw.observe.otlp.post import Answer, Post
from clawmw.observe.otlp.settings import Settings, complete, otlp_settings
from clawmw.observe.otlp.writing import encode, rejected

if TYPE_CHECKING:
    from clawmw.observe.otlp.wire import WireSpan

__all__ = ["TRIES", "Sender", "settings_of"]

TRIES = 5
_LONGEST_S = 30.0


def settings_of(given: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Where traces go: as `given`, else as OpenTelemetry's variables say. Raises `ClawmwError`.

    What switches the export of a program off does not hold for who asks for it by name.
    """
    if given is not None and not complete(given):
        raise ClawmwError(f"--otlp: expected http://HOST:PORT or https://HOST, not {given[:100]!r}")
    said = {k: v for k, v in environment.items() if k.startswith("OTEL_EXPORTER_OTLP_")}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = otlp_settings("traces", given, said)
    if found is None and told:
        raise ClawmwError(str(told[0].message))
    if found is None:
        raise ClawmwError(
            "give --otlp URL, such as http://127.0.0.1:6006, or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    return replace(found, compression="gzip")


class Sender:
    """One receiver of spans."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.shown
        self._post = Post(settings)
        self._resource = {k: str(v) for k, v in resource().attributes.items()}
        self._reached = False

    def send(self, spans: Sequence[WireSpan]) -> tuple[int, str]:
        """Send spans; how many were rejected, and why. Raises `ClawmwError`."""
        body = encode(spans, self._resource)
        for number in range(1, TRIES + 1):
            answer = self._post.send(body)
            if 200 <= answer.status < 300:
                self._reached = True
                return rejected(answer.body)
            self._reached = self._reached or answer.status > 0
            if number == TRIES or not answer.passing or not self._reached:
                raise ClawmwError(f"{self.url} {_trouble(answer)}")
            waited = 0.5 * 2 ** (number - 1) if answer.after is None else answer.after
            time.sleep(min(waited, _LONGEST_S))
        raise AssertionError  # the last try returns or raises

    def close(self) -> None:
        """Let go of the connection."""
        self._post.close()


def _trouble(answer: Answer) -> str:
    if not answer.status or not answer.said.startswith("HTTP "):
        return f"cannot be reached ({answer.said})"
    match answer.status:
        case 401 | 403:
            hint = ": it wants a key; set OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY"
        case 404 | 405:
            hint = ": it takes no OTLP there"
        case 415:
            hint = ": it takes no OTLP over HTTP in protobuf"
        case _:
            hint = ""
    return f"answered {answer.status}{hint}"

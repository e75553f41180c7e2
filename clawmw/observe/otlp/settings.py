"""Where OTLP goes: what a policy says, and what OpenTelemetry's own variables say besides.

`OTEL_SDK_DISABLED` and `OTEL_TRACES_EXPORTER` (or `OTEL_METRICS_EXPORTER`) can switch it off,
whoever named the endpoint. Of each variable the one of the signal counts first, as in
`OTEL_EXPORTER_OTLP_TRACES_HEADERS` before `OTEL_EXPORTER_OTLP_HEADERS`. Nothing of the exporter is
imported here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Compression", "Settings", "Signal", "complete", "otlp_settings"]

Signal: TypeAlias = Literal["traces", "metrics"]
Compression: TypeAlias = Literal["none", "gzip", "deflate"]
_COMPRESSIONS: Mapping[str, Compression] = {"none": "none", "gzip": "gzip", "deflate": "deflate"}
_TIMEOUT = 10.0
_MILLISECONDS = 1000.0
"""A time limit from here on is one in milliseconds: the specification's unit, not the SDK's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One signal's way to a collector."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Often a key is among them."""
    timeout: float = _TIMEOUT
    compression: Compression = "none"
    certificate: str | None = None
    """A file of certificates to trust."""
    client: tuple[str, str | None] | None = None
    """Our own certificate's file, and its key's."""

    @property
    def shown(self) -> str:
        """The address without what could be a secret in it."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"{host}{port}", parts.path, "", ""))


def otlp_settings(
    signal: Signal, endpoint: str | None = None, environment: Mapping[str, str] | None = None
) -> Settings | None:
    """The settings of a signal; None where nothing is to be exported.

    `endpoint` is the policy's, below which signals have paths of their own. A variable that
    says what cannot be done is warned of: an agent must start all the same.
    """
    said = _Said(os.environ if environment is None else environment, signal)
    if said.off:
        return None
    url = _url(said, endpoint)
    if url is None:
        return None
    certificate, key = said.get("CLIENT_CERTIFICATE"), said.get("CLIENT_KEY")
    return Settings(
        url,
        _headers(said.get("HEADERS") or ""),
        _timeout(said.get("TIMEOUT")),
        _compression(said.get("COMPRESSION")),
        said.get("CERTIFICATE"),
        (certificate, key) if certificate else None,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What the environment says of a signal."""

    environment: Mapping[str, str]
    signal: Signal

    @property
    def off(self) -> bool:
        if self.environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return True
        exporters = self.environment.get(f"OTEL_{self.signal.upper()}_EXPORTER", "")
        named = {name.strip().lower() for name in exporters.split(",")} - {""}
        return bool(named) and "otlp" not in named

    def own(self, name: str) -> str | None:
        """The variable of this signal alone."""
        key = f"OTEL_EXPORTER_OTLP_{self.signal.upper()}_{name}"
        return self.environment.get(key, "").strip() or None

    def all(self, name: str) -> str | None:
        """The variable of all signals."""
        return self.environment.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() or None

    def get(self, name: str) -> str | None:
        return self.own(name) or self.all(name)


def _url(said: _Said, endpoint: str | None) -> str | None:
    path = f"/v1/{said.signal}"
    if endpoint is not None:  # perhaps copied with the path of one signal
        below = endpoint.rstrip("/").removesuffix("/v1/traces").removesuffix("/v1/metrics")
        return below.rstrip("/") + path
    own, base = said.own("ENDPOINT"), said.all("ENDPOINT")
    url = own or (base.rstrip("/") + path if base else None)
    if url is None:
        return None
    if (said.get("PROTOCOL") or "").lower() == "grpc":
        _no(
            f"{said.signal} are not exported: clawmw speaks OTLP over HTTP, not gRPC (set "
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the collector's HTTP port, "
            "usually 4318)"
        )
        return None
    if not complete(url):
        name = f"{said.signal.upper()}_ENDPOINT" if own else "ENDPOINT"
        _no(
            f"{said.signal} are not exported: OTEL_EXPORTER_OTLP_{name} is no URL such as "
            "http://127.0.0.1:4318"
        )
        return None
    return url


def complete(url: str) -> bool:
    """Whether it is an address that something can be sent to."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no port
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _no(why: str) -> None:
    warnings.warn(why, RuntimeWarning, stacklevel=4)


def _headers(text: str) -> dict[str, str]:
    """`key=value,other=value`, percent-encoded (W3C Baggage's form)."""
    result = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            result[unquote(name.strip()).lower()] = unquote(value.strip())
    return result


def _timeout(text: str | None) -> float:
    """Seconds, as OpenTelemetry's SDK for Python takes it."""
    try:
        value = float(text) if text else _TIMEOUT
    except ValueError:
        return _TIMEOUT
    if not 0 < value < float("inf"):
        return _TIMEOUT
    return value / 1000 if value >= _MILLISECONDS else value


def _compression(text: str | None) -> Compression:
    return _COMPRESSIONS.get((text or "none").lower(), "none")

"""`clawmw collect`: take in the spans of other programs."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.recorded import store_option
from clawmw.cli.source import read_policy

if TYPE_CHECKING:
    from clawmw.adapters.collector import Collector
    from clawmw.observe.store.spanstore import SpanStore

__all__ = ["collect"]

PORT = 4318
"""OTLP over HTTP, as the Internet's numbers have it."""
TOKEN_BYTES = 32
_EVERY = 30.0
"""Seconds between two lines of progress."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--token-env", metavar="NAME", help="Variable with a token that senders must show.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="One more Host to answer to.")
@store_option
@click.option("--policy", metavar="P", help="Keep spans as long, and as much, as its `trace` says.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each time.")
def collect(
    port: int,
    host: str,
    token_env: str | None,
    allow_host: tuple[str, ...],
    as_json: bool,
    **kept_by: Any,
) -> None:
    """Take in spans over OTLP/HTTP, beside those clawmw writes itself.

    For programs that trace with OpenTelemetry: OpenClaw's diagnostics plugin, any SDK. Their model
    calls, agents and tools appear in `clawmw traces` and `clawmw report`. Prompts, answers and tool
    arguments are never stored, only names, counts and sums; metrics and logs are dropped. Only this
    machine can send, unless --host says otherwise, which needs --token-env. Without --policy no
    span is dropped for its age, or for want of room (`clawmw traces prune` does that).
    """
    from clawmw.adapters.collector import Collector
    from clawmw.adapters.collector_server import CollectorServer
    from clawmw.adapters.gateway_socket import listen
    from clawmw.providers.load import profile_for

    token = _token(token_env, host)
    with listen(host, port) as sock:
        kept = _store(**kept_by)
        try:
            collector = Collector(kept, profiles=profile_for)
            server = CollectorServer(collector, sock, token=token, allow_hosts=allow_host)
            told = _Told(collector, as_json)
            told.start(sock.getsockname(), kept.path, token_env)
            server.run()
            told.end()
        finally:
            kept.close()


def _store(store: Path | None, policy: str | None) -> SpanStore:
    """Where spans go; only a policy says how long they stay."""
    from clawmw.observe.store.spanstore import SpanStore, default_store_path

    trace = read_policy(policy).trace if policy is not None else None
    keep, size = (trace.keep, trace.size) if trace is not None else (None, None)
    return SpanStore.open(store or default_store_path(), keep=keep, size=size)


def _token(name: str | None, host: str) -> str | None:
    """The token senders must show. Raises `ClawmwError` where one is needed or too weak."""
    from clawmw.adapters.gateway_guard import is_loopback
    from clawmw.errors import ClawmwError

    if name is None:
        if host == "localhost" or is_loopback(host):
            return None
        raise ClawmwError(
            f"--host {host} can be reached from other machines: give --token-env NAME, the "
            "environment variable with the token that senders must show"
        )
    token = os.environ.get(name, "").strip()
    if len(token) < TOKEN_BYTES or not token.isascii():
        raise ClawmwError(
            f"--token-env {name}: the variable must hold at least {TOKEN_BYTES} ASCII characters; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


class _Told:
    """What is printed: where to send, now and then what came, and at the end."""

    def __init__(self, collector: Collector, as_json: bool) -> None:
        self._collector = collector
        self._as_json = as_json
        self._last: dict[str, Any] = collector.counts()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._now_and_then, daemon=True)

    def start(self, address: Any, store: Path, token_env: str | None) -> None:
        """Say where to send."""
        host, port = address[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if self._as_json:
            self._line({"event": "listening", "endpoint": url, "store": str(store)})
        else:
            click.echo(f"clawmw collect: {url}, into {store}; Ctrl-C ends it")
            said = f"export OTEL_EXPORTER_OTLP_ENDPOINT={url}"
            said += " OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
            if token_env:
                said += f' OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20${token_env}"'
            click.echo(f"clawmw collect: have programs send here: {said}")
        self._thread.start()

    def end(self) -> None:
        """Say what came in all."""
        self._over.set()
        self._thread.join()
        self._say("done", self._collector.counts())

    def _now_and_then(self) -> None:
        told = 0.0
        while not self._over.wait(1.0):
            counts = self._collector.counts()
            first = not self._last["spans"] and counts["spans"]
            due = time.monotonic() - told >= _EVERY and counts != self._last
            if first or due:
                told, self._last = time.monotonic(), counts
                self._say("progress", counts)

    def _say(self, event: str, counts: dict[str, Any]) -> None:
        if self._as_json:
            self._line({"event": event, **counts})
            return
        names = ", ".join(f"{name} {n:,}" for name, n in list(counts["libraries"].items())[:5])
        parts = [f"{counts['spans']:,} spans" + (f" ({names})" if names else "")]
        if counts["rejected"]:
            parts.append(f"{counts['rejected']:,} rejected")
        if counts["refused"]:
            parts.append(f"{counts['refused']:,} requests refused: the store cannot be written")
        dropped = [f"{n:,} of {signal}" for signal, n in counts["dropped"].items() if n]
        if dropped:
            parts.append(f"requests dropped: {', '.join(dropped)}")
        end = "in all, " if event == "done" else ""
        click.echo(f"clawmw collect: {end}{'; '.join(parts)}")

    def _line(self, said: dict[str, Any]) -> None:
        click.echo(json.dumps(said))

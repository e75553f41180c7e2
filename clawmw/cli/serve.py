"""`clawmw serve`: the gateway as a process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from clawmw.cli.source import DEFAULT, read_policy

if TYPE_CHECKING:
    from clawmw.adapters.gateway import Gateway
    from clawmw.ownership import Tokens

__all__ = ["command"]

TOKEN_BYTES = 32
"""The shortest token; `secrets.token_urlsafe(32)` gives 43 characters, 256 bits."""

_INTERRUPTED = 130


@click.command()
@click.option("--policy", "path", metavar="P", default=DEFAULT, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0: any free port.")
@click.option("--upstream", metavar="URL", help="Where calls go, such as http://127.0.0.1:9000/v1.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--token-env", metavar="NAME", help="Variable with a token that callers must send.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="One more Host to answer to.")
def command(
    path: str,
    port: int,
    upstream: str | None,
    host: str,
    token_env: str | None,
    allow_host: tuple[str, ...],
) -> int:
    """Run the gateway: agents call it, it calls the models.

    Answers /v1/chat/completions, /v1/models and /healthz. Calls go to --upstream, or to the
    `base_url` of the model they name; the caller's key goes along. Only this machine can
    reach it, unless --host says otherwise, which needs --token-env.
    """
    from clawmw.adapters.gateway_server import Server, listen

    if any(set("/:") & set(name) for name in allow_host):
        raise click.BadParameter(
            "a host's name, without scheme and port", param_hint="--allow-host"
        )
    token = _token(token_env, host)
    gateway = _gateway(path, upstream)
    if gateway is None:
        return 1
    try:
        with listen(host, port) as sock:
            _not_itself(gateway, *sock.getsockname()[:2])
            server = Server(gateway, sock, token=token, allow_hosts=allow_host, stopping=_stopping)
            _say_where(gateway, path, *sock.getsockname()[:2])
            server.run()
    finally:
        _close(gateway)
    return _INTERRUPTED if server.force_exit else 0


def _token(name: str | None, host: str) -> str | None:
    """The token callers must present. Raises `ClawmwError` where one is needed or too weak."""
    from clawmw.adapters.gateway_guard import is_loopback
    from clawmw.errors import ClawmwError

    if name is None:
        if host == "localhost" or is_loopback(host):
            return None
        raise ClawmwError(
            f"--host {host} can be reached from other machines: give --token-env NAME, the "
            "environment variable with the token that callers must present"
        )
    token = os.environ.get(name, "").strip()
    if len(token) < TOKEN_BYTES or not token.isascii():
        raise ClawmwError(
            f"--token-env {name}: the variable must hold at least {TOKEN_BYTES} ASCII characters; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def _gateway(path: str, upstream: str | None) -> Gateway | None:
    """The gateway of a policy; None when the policy is wrong, which is then said."""
    from clawmw.adapters.gateway import Gateway
    from clawmw.adapters.gateway_upstream import Places
    from clawmw.errors import PolicyError
    from clawmw.runtime import Runtime

    try:
        policy = read_policy(path)
        places = Places(policy.models, upstream)
        runtime = Runtime.of(policy)
    except PolicyError as error:
        # Files and lines as `clawmw validate` names them, so that editors can jump there.
        for line in str(error).splitlines():
            click.echo(line if line.startswith(f"{path}:") else f"{path}: {line}", err=True)
        return None
    return Gateway(runtime, places, tokens=_tokens())


def _tokens() -> Tokens | None:
    """What tells calls that another process owns; without it each is owned here."""
    from clawmw.ownership import Tokens

    try:
        return Tokens.of_user()
    except OSError as error:
        click.echo(
            f"clawmw: {error.filename or 'the state folder'}: {error.strerror or error}; calls "
            "that another clawmw on this machine has decided about will be decided again",
            err=True,
        )
        return None


def _not_itself(gateway: Gateway, host: str, port: int) -> None:
    """Refuse a gateway that would call itself."""
    from urllib.parse import urlsplit

    from clawmw.adapters.gateway_guard import is_loopback
    from clawmw.errors import ClawmwError

    for url in gateway.places.urls:
        parts = urlsplit(url)
        name = parts.hostname or ""
        here = name in ("localhost", host) or is_loopback(name)
        if here and parts.port == port:
            raise ClawmwError(f"{url} is this gateway itself; give another --port or upstream")


def _say_where(gateway: Gateway, path: str, host: str, port: int) -> None:
    """Where it listens, where calls go, and how to point an SDK at it."""
    from urllib.parse import urlsplit

    from clawmw.adapters.gateway_guard import is_loopback

    name = f"[{host}]" if ":" in host else host
    where = f"http://{name}:{port}"
    goes = gateway.places.upstream or "the models of the policy"
    click.echo(f"clawmw: listening on {where} (policy {path}, calls go to {goes})")
    click.echo(f"clawmw: point an SDK here: export OPENAI_BASE_URL={where}/v1")
    for url in gateway.places.urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not (
            parts.hostname == "localhost" or is_loopback(parts.hostname or "")
        ):
            click.echo(f"clawmw: keys and prompts go to {url} unencrypted", err=True)


def _stopping(in_flight: int) -> None:
    if in_flight:
        calls = "1 call" if in_flight == 1 else f"{in_flight} calls"
        click.echo(f"clawmw: finishing {calls}; Ctrl-C again ends at once", err=True)


def _close(gateway: Gateway) -> None:
    for observer in gateway.runtime.observers:
        close = getattr(observer, "close", None)
        if close is not None:
            close()
    gateway.runtime.close()

"""`clawmw serve`: the gateway as a process, or several."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.source import DEFAULT, read_policy

if TYPE_CHECKING:
    import socket

    from clawmw.adapters.gateway import Gateway
    from clawmw.adapters.gateway_server import Server
    from clawmw.ownership import Tokens
    from clawmw.policy.models import Policy

__all__ = ["command"]

TOKEN_BYTES = 32
"""The shortest token; `secrets.token_urlsafe(32)` gives 43 characters, 256 bits."""

_INTERRUPTED = 130
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Options:
    path: str
    port: int
    upstream: str | None
    key_env: str | None
    host: str
    token_env: str | None
    allow_host: tuple[str, ...]
    workers: int
    drain: int
    worker: str | None
    tls_cert: Path | None
    tls_key: Path | None
    behind_proxy: bool

    def again(self) -> list[str]:
        """The command line that says the same."""
        given = {
            "--policy": self.path,
            "--port": str(self.port),
            "--upstream": self.upstream,
            "--upstream-key-env": self.key_env,
            "--host": self.host,
            "--token-env": self.token_env,
            "--workers": str(self.workers),
            "--drain": str(self.drain),
            "--tls-cert": str(self.tls_cert) if self.tls_cert else None,
            "--tls-key": str(self.tls_key) if self.tls_key else None,
        }
        pairs = [(name, value) for name, value in given.items() if value is not None]
        pairs += [("--allow-host", name) for name in self.allow_host]
        words = [word for pair in pairs for word in pair]
        return [*words, "--behind-proxy"] if self.behind_proxy else words


@click.command()
@click.option("--policy", "path", metavar="P", default=DEFAULT, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0: any free port.")
@click.option("--upstream", metavar="URL", help="Where calls go, such as http://127.0.0.1:9000/v1.")
@click.option(
    "--upstream-key-env",
    "key_env",
    metavar="NAME",
    help="Variable with the key for --upstream; callers' keys then go nowhere.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--token-env", metavar="NAME", help="Variable with a token that callers must send.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="One more Host to answer to.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes; more than one share the policy's disk store.",
)
@click.option(
    "--drain",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    help="Seconds that calls under way have to finish once it is told to stop.",
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Serve TLS with this certificate.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key, if that is another file.")
@click.option(
    "--behind-proxy", is_flag=True, help="Something before it ends TLS: --host may go without."
)
@click.option("--worker", hidden=True)
def command(**given: Any) -> int:
    """Run the gateway: agents call it, it calls the models.

    Answers /v1/chat/completions, /v1/responses, /v1/messages, /v1/messages/count_tokens,
    /v1/embeddings, /v1/models, /healthz and /metrics. Calls go to --upstream, or to the `base_url`
    of the model they name; the caller's key goes along, unless the policy names one to be held
    here (`api_key_env`). Only this machine can reach it, unless --host says otherwise, which needs
    --token-env and TLS. A changed policy file holds from the next second on; SIGHUP reads it at
    once.
    """
    options = _Options(**given)
    if any(set("/:") & set(name) for name in options.allow_host):
        raise click.BadParameter(
            "a host's name, without scheme and port", param_hint="--allow-host"
        )
    if options.worker is not None:
        return _work(options, options.worker)
    from clawmw.adapters.gateway_socket import listen

    if options.workers == 1:
        return _serve(options, lambda: listen(options.host, options.port))
    return _supervise(options)


# --- several processes ----------------------------------------------------------------------


def _supervise(options: _Options) -> int:
    """Hold the socket, and start and watch the workers. Imports no more than that needs."""
    from clawmw.adapters.gateway_socket import listen
    from clawmw.adapters.gateway_workers import Workers

    if options.path == "-":
        raise click.BadParameter("several workers need a file", param_hint="--policy")

    def line(number: int, listening: int, parent: int, announce: bool) -> list[str]:
        told = f"{number}:{listening}:{parent}:{int(announce)}"
        python = [sys.executable, "-m", "clawmw.cli.main", "serve"]
        return [*python, *options.again(), "--worker", told]

    sock = listen(options.host, options.port)
    return Workers(sock, options.workers, line, options.drain, _say).run()


def _work(options: _Options, told: str) -> int:
    """Be one of several."""
    import socket

    from clawmw.adapters.gateway_workers import READY

    number, listening, parent, announce = map(int, told.split(":"))
    line = socket.socket(fileno=parent)

    def adapt(server: Server) -> None:
        say = server.ready

        def ready() -> None:
            if announce:
                say()
            line.send(READY)

        server.ready, server.parent = ready, line
        extra = server.gateway.views.extra
        about = {"worker": number, "workers": options.workers, "process": os.getpid()}
        server.gateway.views.extra = lambda: {**extra(), **about}

    with line:
        return _serve(options, lambda: socket.socket(fileno=listening), adapt)


# --- one process ----------------------------------------------------------------------------


def _serve(options: _Options, listening: Any, adapt: Any = lambda _server: None) -> int:
    """Serve on the socket that `listening` gives."""
    from clawmw.adapters.gateway_server import Server

    token = _token(options.token_env, options.host)
    _encrypted(options)
    made = _gateway(options)
    if made is None:
        return 1
    gateway, policy = made
    try:
        with listening() as sock:
            _not_itself(gateway, *sock.getsockname()[:2])
            hosts, drain = options.allow_host, options.drain
            server = Server(gateway, sock, token=token, allow_hosts=hosts, drain=drain)
            server.stopping = _stopping
            if options.tls_cert is not None:
                server.encrypt(options.tls_cert, options.tls_key)
            server.ready = partial(_say_where, gateway, options, sock)
            _watch(server, options, policy)
            adapt(server)
            gc.collect()
            gc.freeze()  # what is loaded stays: looking through it again takes 0.1 s each time
            server.run()
    finally:
        _close(gateway)
    return _INTERRUPTED if server.force_exit else 0


def _watch(server: Server, options: _Options, policy: Policy) -> None:
    """Have the policy read again when its file changes, and on SIGHUP."""
    import asyncio

    from clawmw.adapters.gateway_reload import PolicyFile

    if options.path == "-":
        return
    read = partial(read_policy, options.path)
    file = PolicyFile(server.gateway, options.path, policy, read, _say)
    tasks = set()

    def again() -> None:
        tasks.add(task := asyncio.ensure_future(file.again()))
        task.add_done_callback(tasks.discard)

    server.beside, server.again = file.watch, again
    server.gateway.views.extra = lambda: {"policy": file.health()}


def _encrypted(options: _Options) -> None:
    """Refuse to listen to other machines in the clear. Raises `ClawmwError`."""
    from clawmw.adapters.gateway_guard import is_loopback
    from clawmw.errors import ClawmwError

    here = options.host == "localhost" or is_loopback(options.host)
    if not (here or options.tls_cert or options.behind_proxy):
        raise ClawmwError(
            f"--host {options.host} can be reached from other machines, and keys and prompts would "
            "cross the network in the clear: give --tls-cert (and --tls-key), or --behind-proxy if "
            "something before it ends TLS"
        )


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


def _gateway(options: _Options) -> tuple[Gateway, Policy] | None:
    """The gateway of a policy; None when the policy is wrong, which is then said."""
    from clawmw.adapters.gateway import Gateway
    from clawmw.adapters.gateway_upstream import Places
    from clawmw.core.context import CARRIED
    from clawmw.errors import ClawmwError, PolicyError
    from clawmw.runtime import Runtime

    path = options.path
    try:
        policy = read_policy(path)
        if options.workers > 1 and policy.store.disk is None:
            raise ClawmwError(
                f"--workers {options.workers}: limits hold for all of them only where they share "
                "a store; say `store: {disk: FOLDER}` in the policy"
            )
        places = Places(policy.models, options.upstream, options.key_env)
        runtime = Runtime.of(policy)
        # It outlives whatever started it: the trace that was current then is not its callers'.
        runtime.assumed = {n: v for n, v in runtime.assumed.items() if n not in CARRIED}
    except PolicyError as error:
        # Files and lines as `clawmw validate` names them, so that editors can jump there.
        for line in str(error).splitlines():
            click.echo(line if line.startswith(f"{path}:") else f"{path}: {line}", err=True)
        return None
    _check_keys(places.keys)
    gateway = Gateway(runtime, places, tokens=_tokens(), paths=policy.gateway.paths)
    _count(gateway)
    return gateway, policy


def _count(gateway: Gateway) -> None:
    """Have the gateway's calls counted, where the library for it is there."""
    try:
        from clawmw.observe.metrics.prometheus import Metrics
    except ImportError:
        return
    from clawmw.observe.metrics.measures import losses_of

    metrics = Metrics()
    for observer in gateway.runtime.observers:
        if hasattr(observer, "counts"):
            metrics.watch(losses_of(observer))
    gateway.runtime.observers = (*gateway.runtime.observers, metrics)
    gateway.views.metrics = metrics.text


def _check_keys(names: list[str]) -> None:
    for name in names:
        if not os.environ.get(name):
            _say(f"the variable {name} is not set: calls that need its key go without one")


def _tokens() -> Tokens | None:
    """What tells calls that another process owns; without it each is owned here."""
    from clawmw.ownership import Tokens

    try:
        return Tokens.of_user()
    except OSError as error:
        _say(
            f"{error.filename or 'the state folder'}: {error.strerror or error}; calls "
            "that another clawmw on this machine has decided about will be decided again"
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


def _say_where(gateway: Gateway, options: _Options, sock: socket.socket) -> None:
    """Where it listens, where calls go, and how to point an SDK at it."""
    from urllib.parse import urlsplit

    from clawmw.adapters.gateway_guard import is_loopback

    host, port = sock.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    where = f"{'https' if options.tls_cert else 'http'}://{name}:{port}"
    goes = gateway.places.upstream or "the models of the policy"
    click.echo(f"clawmw: listening on {where} (policy {options.path}, calls go to {goes})")
    pointed = f"OPENAI_BASE_URL={where}/v1 ANTHROPIC_BASE_URL={where}"
    click.echo(f"clawmw: point an SDK here: export {pointed}")
    for url in gateway.places.urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not (
            parts.hostname == "localhost" or is_loopback(parts.hostname or "")
        ):
            _say(f"keys and prompts go to {url} unencrypted")


def _stopping(in_flight: int) -> None:
    if in_flight:
        calls = "1 call" if in_flight == 1 else f"{in_flight} calls"
        _say(f"finishing {calls}; Ctrl-C again ends at once")


def _say(line: str) -> None:
    click.echo(f"clawmw: {line}", err=True)


def _close(gateway: Gateway) -> None:
    for observer in gateway.runtime.observers:
        close = getattr(observer, "close", None)
        if close is not None:
            close()
    gateway.runtime.close()

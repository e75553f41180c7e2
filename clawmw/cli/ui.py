"""`clawmw ui`: chains, calls and budgets in the browser, as they happen."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from clawmw.cli.recorded import store_option
from clawmw.cli.source import DEFAULT

if TYPE_CHECKING:
    import socket

    from clawmw.core.money import Profile

__all__ = ["command"]

PORT = 4319
"""Beside OTLP's 4317 and 4318."""
TOKEN_BYTES = 16


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Default: {PORT}, or a free one where that is taken; 0: any free one.",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@store_option
@click.option(
    "--policy",
    metavar="P",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CLAWMW_POLICY",
    help=f"The policy whose budgets to show. Default: {DEFAULT}, where there is one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--token-env", metavar="NAME", help="Variable with a token that readers must know.")
def command(
    port: int | None,
    show: bool,
    store: Path | None,
    policy: Path | None,
    host: str,
    token_env: str | None,
) -> int:
    """Watch chains of model calls, what they cost and saved, and the budgets in use.

    Pages follow what is recorded as it happens. They only read, and only this machine reaches
    them, unless --host says otherwise, which needs --token-env. Every page has a twin for scripts:
    add ?format=json.
    """
    from clawmw.adapters.ui import Ui
    from clawmw.adapters.ui_budgets import read_books
    from clawmw.adapters.ui_server import UiServer
    from clawmw.observe.page.watched import Watched

    token = _token(token_env)
    policy = _policy(policy)
    watched = Watched(store or _store(policy))
    sock = _listen(host, port)
    where = sock.getsockname()[:2]
    name = f"[{where[0]}]" if ":" in where[0] else where[0]
    url = f"http://{name}:{where[1]}/"

    def ready() -> None:
        click.echo(f"clawmw ui: {url}  (Ctrl-C ends it)")
        if show:
            webbrowser.open(f"{url}?{urlencode({'token': token})}" if token else url)

    try:
        ui = Ui(watched, partial(read_books, policy), _prices(policy))
        UiServer(ui, sock, token=token, ready=ready).run()
    finally:
        watched.close()
        sock.close()
    return 0


def _token(name: str | None) -> str | None:
    """The token that a variable holds. Raises where it is no token."""
    if name is None:
        return None
    token = os.environ.get(name, "")
    if len(token.encode()) < TOKEN_BYTES or not token.isascii() or not token.isprintable():
        raise click.BadParameter(
            f"{name} must hold a token of at least {TOKEN_BYTES} printable characters",
            param_hint="--token-env",
        )
    return token


def _policy(given: Path | None) -> Path | None:
    """The policy that is named, which must be a right one, or the one that lies here."""
    from clawmw.policy.load import load_policy

    if given is None:
        return Path(DEFAULT) if Path(DEFAULT).is_file() else None
    load_policy(given)
    return given


def _store(policy: Path | None) -> Path:
    """The trace store of the policy, else the user's own."""
    from clawmw.errors import ClawmwError
    from clawmw.observe.store.spanstore import default_store_path

    if policy is not None and not os.environ.get("CLAWMW_TRACES"):
        from clawmw.policy.build import trace_store
        from clawmw.policy.load import load_policy

        try:
            return trace_store(load_policy(policy)) or default_store_path()
        except ClawmwError:  # found here by chance; the budgets page says what is wrong with it
            return default_store_path()
    return default_store_path()


def _prices(policy: Path | None) -> Callable[[str], Profile]:
    """The price of a model, as the policy names its profile."""
    from clawmw.errors import ClawmwError
    from clawmw.policy.build import profiles
    from clawmw.policy.load import load_policy
    from clawmw.providers.load import profile_for

    try:
        return profiles(load_policy(policy)) if policy is not None else profile_for
    except ClawmwError:  # found here by chance
        return profile_for


def _listen(host: str, port: int | None) -> socket.socket:
    """The socket; without a wish, on the usual port or another that is free."""
    from clawmw.adapters.gateway_socket import listen
    from clawmw.errors import ClawmwError

    if port is not None:
        return listen(host, port)
    try:
        return listen(host, PORT)
    except ClawmwError:
        return listen(host, 0)

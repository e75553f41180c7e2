"""`clawmw run -- COMMAND ...`: a program in any language, with its model calls under a policy."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.source import DEFAULT, read_policy
from clawmw.errors import ClawmwError

if TYPE_CHECKING:
    from clawmw.adapters.gateway import Gateway
    from clawmw.cli.run_summary import Seen
    from clawmw.policy.models import Policy
    from clawmw.runtime import Runtime

__all__ = ["command"]

_NOT_FOUND, _NOT_RUNNABLE, _SIGNALLED = 127, 126, 128
"""Exit codes as a shell gives them."""
_HANDED_ON = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_TYPED = frozenset({"SIGINT", "SIGQUIT"})
"""What a terminal sends to everything in its foreground, the command included."""


class _NotStartedError(ClawmwError):
    def __init__(self, said: str, exit_code: int) -> None:
        super().__init__(said)
        self.exit_code = exit_code


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--policy",
    "source",
    metavar="P",
    envvar="CLAWMW_POLICY",
    help=f"Default: $CLAWMW_POLICY, else {DEFAULT} if there is one, else every default.",
)
@click.option("--upstream", metavar="URL", help="Where calls go. Default: what the keys are for.")
@click.option("--agent", metavar="NAME", help="The agent that calls are of which name none.")
@click.option("--chain", metavar="ID", envvar="CLAWMW_CHAIN", help="Go on with a chain.")
@click.option("--hide-keys", is_flag=True, help="Keep the providers' keys from the command.")
@click.option("--quiet", is_flag=True, help="No summary at the end.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="The summary, to a file.")
@click.argument("command", metavar="COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    source: str | None, command: tuple[str, ...], quiet: bool, report: Path | None, **options: Any
) -> int:
    """Run a COMMAND with its model calls under a policy, and say what they came to.

    For a program in any language that calls the API of OpenAI or Anthropic, or one like them: it
    finds a gateway in the variables that SDKs read (OPENAI_BASE_URL, ANTHROPIC_BASE_URL and
    others). All it does is one chain, for limits and traces. Its exit code is the command's.
    """
    from clawmw.adapters.propagation import received
    from clawmw.cli.run_summary import Seen

    with tempfile.TemporaryDirectory(prefix="clawmw-run-") as scratch:
        folder = Path(scratch)
        path = _policy_at(source, folder)
        policy = read_policy(str(path))
        around = received(os.environ)
        chain = options["chain"] or around.chain or secrets.token_hex(16)
        seen = Seen(chain, policy, folder, around)
        with _runtime(policy, seen, options["agent"]) as runtime:
            gateway = _gateway(runtime, policy, options["upstream"])
            said = _said(policy, path, seen)
            env = {**os.environ, **said}
            if options["hide_keys"]:
                for entry in policy.models.values():
                    env.pop(entry.api_key_env or "", None)
            held = options["hide_keys"] or _holds_keys(policy)
            code = _behind(gateway, env, command, demand=held)
        try:
            if report is not None:
                seen.write(report, code)
            if not quiet:
                click.echo(seen.summary(), err=True)
        except (ClawmwError, OSError) as error:  # the command is done: its exit code counts
            click.echo(f"clawmw: no summary: {error}", err=True)
    return code


def _policy_at(source: str | None, folder: Path) -> Path:
    """The policy's file; one that says nothing where there is none."""
    if source is not None or Path(DEFAULT).exists():
        return Path(source or DEFAULT)
    path = folder / DEFAULT
    path.write_text("version: 1\n")
    return path


@contextmanager
def _runtime(policy: Policy, seen: Seen, agent: str | None) -> Iterator[Runtime]:
    """The runtime of the command's calls. Its state outlives no run, unless the policy says so,
    but lies on disk, where clawmw in the command's processes finds it."""
    from clawmw.core.context import CARRIED
    from clawmw.core.identity import HEADERS
    from clawmw.observe.otel import OtelObserver
    from clawmw.observe.store.spanstore import SpanStore
    from clawmw.policy import build
    from clawmw.runtime import Runtime

    kept = list(build.observers(policy))
    if not any(isinstance(one, OtelObserver) and one.stored for one in kept):
        seen.kept = None  # the policy wants none, or their folder cannot be written
        kept.append(
            OtelObserver(store=SpanStore.open(seen.traces, keep=None, size=None), otlp=False)
        )
    stores = build.stores(policy, seen.folder / "store")
    runtime = Runtime.of(policy, observers=[*kept, seen.event], stores=stores)
    told = {name: seen.sent[name.upper()] for name in CARRIED if name.upper() in seen.sent}
    named = {HEADERS["chain"]: seen.chain} | ({HEADERS["agent"]: agent} if agent else {})
    runtime.assumed = told | named
    try:
        yield runtime
    finally:
        for one in kept:
            close = getattr(one, "close", None)
            if close is not None:
                close()
        runtime.close()


def _gateway(runtime: Runtime, policy: Policy, upstream: str | None) -> Gateway:
    """The gateway. Raises `ClawmwError` where nothing says where calls go."""
    from clawmw.adapters.child import ByFamily, upstreams
    from clawmw.adapters.gateway import Gateway
    from clawmw.adapters.gateway_upstream import Places
    from clawmw.ownership import Tokens

    known = upstreams(os.environ) if upstream is None else {"": upstream}
    try:
        places = [Places(policy.models, url) for url in known.values()] or [Places(policy.models)]
    except ClawmwError as error:
        if known:
            raise
        raise ClawmwError(
            "there is nowhere to send calls: set OPENAI_API_KEY or ANTHROPIC_API_KEY, give "
            "--upstream URL, or name a model in the policy with its provider or base_url"
        ) from error
    try:
        tokens = Tokens.of_user()
    except OSError:  # then clawmw in the command's processes decides beside the gateway
        tokens = None
    paths = policy.gateway.paths
    if len(places) > 1:
        return ByFamily(runtime, places[0], places[1], tokens=tokens, paths=paths)
    return Gateway(runtime, places[0], tokens=tokens, paths=paths)


def _said(policy: Policy, path: Path, seen: Seen) -> Mapping[str, str]:
    """What clawmw in the command's processes is told, and what other tracers are."""
    from clawmw.policy import build

    folder = build.store_folder(policy) or seen.folder / "store"
    return {
        "CLAWMW_POLICY": str(path.absolute()),
        "CLAWMW_CHAIN": seen.chain,
        "CLAWMW_STORE": str(folder.absolute()),
        "CLAWMW_TRACES": str(seen.traces.absolute()),
    } | seen.sent


def _holds_keys(policy: Policy) -> bool:
    """Whether the gateway has keys of its own, which whoever finds it could spend."""
    from clawmw.policy.spoken import server

    served = [server(entry) for entry in policy.models.values()]
    return any(at is not None and os.environ.get(at.key_env or "") for at in served)


def _behind(
    gateway: Gateway, given: Mapping[str, str], command: Sequence[str], *, demand: bool
) -> int:
    """Run the command behind the gateway, which may demand a token; its exit code."""
    from clawmw.adapters.child import ByFamily, Families, Keys, Paths, environment
    from clawmw.adapters.gateway_server import Served

    app, token = Paths(gateway.app), None
    if isinstance(gateway, ByFamily):
        app.app = Families(gateway)
    if demand:
        app.app = keys = Keys(app.app, os.environ)
        token = keys.token
    with Served(gateway, app=app) as served:
        return _run(command, environment(given, served.base_url.removesuffix("/v1"), token))


def _run(command: Sequence[str], env: Mapping[str, str]) -> int:
    """The command with our own input and output; what we are signalled goes on to it."""
    child: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        typed = signal.Signals(number).name in _TYPED and _in_foreground()
        if child and not typed:
            child[0].send_signal(number)

    numbers = [getattr(signal, name) for name in _HANDED_ON]
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        child.append(subprocess.Popen(command, env=env))  # noqa: S603 - what the user asked for
        code = child[0].wait()
    except FileNotFoundError:
        raise _NotStartedError(f"{command[0]}: no such command", _NOT_FOUND) from None
    except OSError as error:
        raise _NotStartedError(f"{command[0]}: {error.strerror}", _NOT_RUNNABLE) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else _SIGNALLED - code


def _in_foreground() -> bool:
    """Whether a terminal has us, and so the command, in its foreground."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False

"""`clawmw emulate`: a model provider on loopback."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clawmw.emulator.reply import Brain

__all__ = ["emulate"]

BRAINS = ("echo", "loop", "script", "trip")


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0: any free port.")
@click.option("--log", type=click.Path(path_type=Path), help="One JSON line a request received.")
@click.option("--brain", type=click.Choice(BRAINS), default="echo", show_default=True)
@click.option("--bill", metavar="PROVIDER", help="Bill like this provider or model.")
@click.option(
    "--script",
    "script_file",
    type=click.Path(path_type=Path),
    help="For --brain script: one JSON reply a line.",
)
def emulate(
    port: int, log: Path | None, brain: str, bill: str | None, script_file: Path | None
) -> None:
    """Answer model calls on 127.0.0.1, scripted, billed like a provider.

    Speaks /v1/chat/completions and /v1/models. A request asks for misbehaviour with the
    header `x-emulate: status=503` (or delay=200ms, reset-after=3, truncate-after=3, html,
    empty), or with the same words after its model name: `some-model?status=503`.
    """
    from clawmw.emulator.server import Emulator
    from clawmw.errors import ClawmwError

    _check_bill(bill)
    chosen = _brain(brain, script_file)
    try:
        emulator = Emulator(bill=bill, brain=chosen, port=port, log=log)
        emulator.start()
    except (ClawmwError, OSError) as e:
        reason = e if isinstance(e, ClawmwError) else f"cannot write --log {log}: {e.strerror}"
        click.echo(f"clawmw emulate: {reason}", err=True)
        raise SystemExit(1) from None
    click.echo(f"clawmw emulate: {emulator.base_url} (brain {brain}, bill {bill or 'by model'})")
    _until_stopped()
    emulator.stop()


def _until_stopped() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _check_bill(bill: str | None) -> None:
    from clawmw.providers.load import families, profile_for

    if bill is not None and profile_for(bill).family == "generic":
        known = ", ".join(sorted(families()))
        raise click.BadParameter(
            f"no provider facts for {bill!r}; known: {known}", param_hint="--bill"
        )


def _brain(name: str, script_file: Path | None) -> Brain | str:
    from clawmw.emulator.brains import replies_from, script

    if (name == "script") != (script_file is not None):
        raise click.UsageError("--brain script and --script FILE go together")
    if script_file is None:
        return name
    try:
        return script(replies_from(script_file.read_text("utf-8")))
    except OSError as e:
        reason = f"cannot read {script_file}: {e.strerror}"
    except UnicodeDecodeError:
        reason = f"{script_file} is not UTF-8 text"
    except ValueError as e:
        reason = f"{script_file}: {e}"
    click.echo(f"clawmw emulate: {reason}", err=True)
    raise SystemExit(1)

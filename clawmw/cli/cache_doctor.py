"""`clawmw cache-doctor`: why a provider's prompt cache was missed, and what to do."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clawmw.core.money import Profile
    from clawmw.replay.doctor import Bill
    from clawmw.replay.doctor_report import Checkup
    from clawmw.replay.sources import Sources

__all__ = ["command"]

DEFAULT_PROFILE = "openai/gpt-5.6"
_INTERRUPTED = 130
_WIDTH = 100
"""Columns when nobody says how many there are."""
_SAID = 20
"""Problems told one by one."""


@click.command()
@click.argument("files", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--profile",
    "name",
    metavar="NAME",
    default=DEFAULT_PROFILE,
    show_default=True,
    help="Judge by the rules of this model or provider.",
)
@click.option("--json", "as_json", is_flag=True, help="Every call and finding as JSON.")
def command(files: tuple[Path, ...], name: str, as_json: bool) -> int:
    """Show why the prompt cache was missed in recorded runs or captured requests.

    For each call: what would be read and written by the provider's rules, what moved since the
    call before (tools, system, message, first differing byte), dates and ids in the head, and
    marks that do no good. No model is called and no content is shown.

    RUN holds one run a line ({"id", "messages", "tools", "source"}, messages in OpenAI chat
    form), an OpenClaw session, or captured requests. What cannot be read is named, the rest is
    looked at, and the exit code is then 1.
    """
    from clawmw.providers.load import families, profile_for
    from clawmw.replay.doctor_report import Checkup
    from clawmw.replay.sources import Sources

    profile = profile_for(name)
    if profile.family == "generic" and profile.price is None:
        known = ", ".join(sorted(families()))
        message = f"nothing is known of {name!r}; give a model's id, or one of {known}"
        raise click.BadParameter(message, param_hint="--profile")
    checkup = Checkup(profile)
    try:
        _look(Sources(files, model=profile.name), checkup)
    except KeyboardInterrupt:
        done = f"{len(checkup.runs):,} runs"
        click.echo(f"clawmw cache-doctor: interrupted after {done}; nothing is told", err=True)
        raise SystemExit(_INTERRUPTED) from None
    if as_json:
        click.echo(json.dumps(checkup.to_json(), ensure_ascii=False, indent=2))
    elif checkup.runs or checkup.skipped:
        _show(checkup)
    return 1 if checkup.problems else 0


def _look(sources: Sources, checkup: Checkup) -> None:
    """Every run of the sources, into the report."""
    from clawmw.replay.doctor import Doctor
    from clawmw.replay.records import Note, Problem, Run

    doctor = Doctor(checkup.profile, partial(_provider, checkup.profile))
    for found in sources:
        if isinstance(found, Run):
            checkup.runs.append(doctor.run(found))
        elif isinstance(found, Problem):
            checkup.problems.append(found)
            count = len(checkup.problems)
            if count <= _SAID:
                click.echo(f"clawmw: {found}", err=True)
            elif count == _SAID + 1:
                click.echo("clawmw: there are more; --json lists them all", err=True)
        elif isinstance(found, Note):
            checkup.notes.append(found)
        else:
            checkup.skipped.append(found)


def _provider(profile: Profile) -> Bill:
    """A provider of that kind, which has seen nothing yet."""
    from clawmw.emulator.bill import PrefixCache

    cache = PrefixCache()
    return lambda body: cache.bill(body, profile, tenant="", now=0.0, output=0)


def _show(checkup: Checkup) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(checkup.rendered())

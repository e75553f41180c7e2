"""`clawmw replay`: what a policy would have saved on recorded runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from clawmw.cli.source import read_policy

if TYPE_CHECKING:
    from clawmw.core.money import Profile
    from clawmw.policy.models import Policy
    from clawmw.replay.emit import Emission
    from clawmw.replay.records import Problem
    from clawmw.replay.report import Report
    from clawmw.replay.sources import Sources

Advance: TypeAlias = Callable[[int], object]

__all__ = ["command"]

DEFAULT_PROFILES = ("anthropic/claude-sonnet-5-5", "openai/gpt-5.6", "deepseek/deepseek-v4-flash")
_INTERRUPTED = 130
_WIDTH = 100
"""Columns when nobody says how many there are."""
_OBSERVES = "mode: observe sends what was recorded; write mode: enforce to see what it would save"
_SAID = 20
"""Problems told one by one."""


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--policy", "policy_file", metavar="P", help="Default: a policy of all defaults.")
@click.option(
    "--profile",
    "names",
    metavar="NAME",
    multiple=True,
    help="Bill like this model or provider; may be given several times. "
    f"Default: {', '.join(DEFAULT_PROFILES)}.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@click.option(
    "--emit",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write what was sent: DIR/calls.jsonl and DIR/blobs.",
)
@click.option(
    "--open-ends",
    is_flag=True,
    help="Also count the call that a run breaks off before, where it ends in a tool result.",
)
def command(
    files: tuple[Path, ...],
    policy_file: str | None,
    names: tuple[str, ...],
    as_json: bool,
    emit: Path | None,
    open_ends: bool,
) -> int:
    """Show what a policy would have saved on recorded runs. No model is called.

    FILE holds one run a line ({"id", "messages", "tools", "source"}, messages in OpenAI chat
    form), an OpenClaw session, or captured requests. What cannot be read is named, the rest is
    replayed, and the exit code is then 1.
    """
    from clawmw.policy.load import digest, load_policy
    from clawmw.providers.load import profile_for
    from clawmw.replay.emit import Emission
    from clawmw.replay.records import Note
    from clawmw.replay.report import Report
    from clawmw.replay.sources import Sources
    from clawmw.replay.tokens import Counter

    profiles = [_profile(name) for name in dict.fromkeys(names or DEFAULT_PROFILES)]
    policy = read_policy(policy_file) if policy_file else load_policy({"version": 1})
    about = {"name": policy_file or "default", "digest": digest(policy), "mode": policy.mode}
    report = Report(profiles, Counter(), profile_for, about)
    if policy.mode == "observe":
        report.notes.append(Note(policy_file or "policy", _OBSERVES))
    # The bodies are chat completions; cache marks in them would only get in a reader's way.
    plain = [p for p in profiles if p.cache.style != "marks"] or profiles
    sources = Sources(files, model=plain[0].name, open_ends=open_ends)
    emission = Emission(emit) if emit is not None else None
    try:
        with _progress(sources.size()) as advance:
            _replay(sources, policy, report, emission, advance)
    except KeyboardInterrupt:
        done = f"{report.total.runs:,} runs"
        click.echo(f"clawmw replay: interrupted after {done}; nothing is reported", err=True)
        raise SystemExit(_INTERRUPTED) from None
    finally:
        if emission is not None:
            emission.close()
    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False, indent=2))
    elif report.total.runs or report.skipped:
        _show(report)
    return 1 if report.problems else 0


def _replay(
    sources: Sources, policy: Policy, report: Report, emission: Emission | None, advance: Advance
) -> None:
    """Every run of the sources, into the report."""
    from clawmw.replay.records import Note, Problem, Run
    from clawmw.replay.simulate import Replayer

    replayer = Replayer(policy, report.counter)
    for found in sources:
        if isinstance(found, Run):
            keep = partial(emission.call, found) if emission is not None else None
            record = replayer.run(found, keep)
            report.add(record)
            if emission is not None:
                emission.originals(record)
            advance(found.bytes)
        elif isinstance(found, Problem):
            report.problems.append(found)
            _say(found, len(report.problems))
        elif isinstance(found, Note):
            report.notes.append(found)
        else:
            report.skipped.append(found)


def _say(problem: Problem, count: int) -> None:
    """The first problems, each on its line; a broken file may hold thousands."""
    if count <= _SAID:
        click.echo(f"clawmw: {problem}", err=True)
    elif count == _SAID + 1:
        click.echo("clawmw: there are more; --json lists them all", err=True)


def _profile(name: str) -> Profile:
    from clawmw.providers.load import families, profile_for

    profile = profile_for(name)
    if profile.family == "generic" and profile.price is None:
        known = ", ".join(sorted(families()))
        message = f"nothing is known of {name!r}; give a model's id, or one of {known}"
        raise click.BadParameter(message, param_hint="--profile")
    return profile


@contextmanager
def _progress(size: int) -> Iterator[Advance]:
    """A bar on standard error, for people only; gives what to call with the bytes done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=size or None)
        yield lambda done: progress.advance(task, done)


def _show(report: Report) -> None:
    from rich.console import Console

    from clawmw.replay.render import rendered

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(rendered(report))

"""`clawmw demo`: a long task with and without clawmw, and what both cost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clawmw.errors import ClawmwError, FlowError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from clawmw.core.money import Profile
    from clawmw.demo.played import Played, Rung
    from clawmw.demo.result import Result

__all__ = ["command"]

PROFILES = ("anthropic/claude-sonnet-5-5", "openai/gpt-5.6", "deepseek/deepseek-v4-flash")
_UPSTREAM, _INTERRUPTED = 4, 130
_WIDTH = 100
"""Columns when nobody says how many there are."""

Step = Callable[["Profile", "Rung", "Played | None"], None]
"""Told of each run when it begins (without the run) and when it is over."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the policy, the recorded run and the traces in this new folder.",
)
@click.option(
    "--profile",
    "names",
    metavar="NAME",
    multiple=True,
    help="Bill like this model or provider; may be given several times. "
    f"Default: {', '.join(PROFILES)}.",
)
def command(as_json: bool, keep: Path | None, names: tuple[str, ...]) -> int:
    """Watch four agents do a long task with and without clawmw, and what both cost.

    Needs no key and no network: an emulator on this machine plays the models, and bills by the
    providers' prices and caching rules. Traces go where `clawmw traces` finds them.
    """
    profiles = [_profile(name) for name in dict.fromkeys(names or PROFILES)]
    console = _console()
    try:
        if not as_json:
            from clawmw.demo.render import render_intro

            render_intro(console)
        result = _run(profiles, keep)
    except KeyboardInterrupt:
        click.echo("clawmw demo: interrupted", err=True)
        raise SystemExit(_INTERRUPTED) from None
    except FlowError as e:
        click.echo(f"clawmw demo: {e}", err=True)
        return _UPSTREAM
    if as_json:
        click.echo(json.dumps(result.to_json(), ensure_ascii=False, indent=2))
    else:
        _show(result, keep, console)
    return _end(result)


def _run(profiles: list[Profile], keep: Path | None) -> Result:
    """Play everything, with progress on standard error."""
    with _progress(len(profiles)) as step:
        from clawmw.demo.keep import TRACES, make_folder
        from clawmw.demo.keep import keep as keep_files
        from clawmw.demo.play import Scene
        from clawmw.demo.played import RUNGS
        from clawmw.demo.result import Provider, Result, read_trace
        from clawmw.observe.store.spanstore import default_store_path
        from clawmw.policy.load import digest
        from clawmw.runtime import switched_off

        began = time.perf_counter()
        if switched_off():
            raise ClawmwError("CLAWMW_OFF is set, so clawmw would do nothing; unset it")
        if keep is not None:
            make_folder(keep)
        try:
            scene = Scene(keep / TRACES if keep is not None else default_store_path())
        except StoreError as e:
            raise ClawmwError(f"{e}; `clawmw demo --keep DIR` keeps it elsewhere") from None
        providers = []
        for profile in profiles:
            runs: dict[str, Played] = {}
            for rung in RUNGS:
                step(profile, rung, None)
                runs[rung.name] = scene.play(profile, rung)
                step(profile, rung, runs[rung.name])
            providers.append(Provider(profile, scene.chain(profile), runs))
        if keep is not None:
            keep_files(keep, providers[0].off)
        seconds = time.perf_counter() - began
        trace = read_trace(scene.store, providers[-1].chain)
        return Result(providers, scene.path, digest(scene.policy), scene.store, trace, seconds)


def _profile(name: str) -> Profile:
    from clawmw.providers.load import families, profile_for

    profile = profile_for(name)
    if profile.price is None:
        known = ", ".join(sorted(families()))
        message = f"no price is known of {name!r}; give a model's id, or one of {known}"
        raise click.BadParameter(message, param_hint="--profile")
    return profile


@contextmanager
def _progress(profiles: int) -> Iterator[Step]:
    """A bar for people; one line a run elsewhere."""
    from clawmw.demo.played import RUNGS
    from clawmw.observe.reading.figures import money

    total, done = profiles * len(RUNGS), 0
    if not sys.stderr.isatty():

        def tell(profile: Profile, rung: Rung, played: Played | None) -> None:
            nonlocal done
            if played is None:
                return
            done += 1
            bill = played.bill
            click.echo(
                f"[{done:>2}/{total}] {profile.name:<27} {rung.label:<20} {bill.calls:>2} calls"
                f"  {bill.input_tokens:>7,} tokens  {money(bill.nano):>7}"
                f"  {'WRONG' if played.trouble else 'plan ok'}",
                err=True,
            )

        yield tell
        click.echo(err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("loading LangGraph", total=total)

        def show(profile: Profile, rung: Rung, played: Played | None) -> None:
            if played is None:
                progress.update(task, description=f"{profile.name}, {rung.label}")
            else:
                progress.advance(task)

        yield show


def _show(result: Result, keep: Path | None, console: Console) -> None:
    from clawmw.demo.render import render

    render(result, console)
    console.print("Look closer", style="bold")
    commands = list(_closer(result, keep))
    wide = max(len(line) for line, _ in commands)
    for line, what in commands:
        fits = wide + len(what) + 4 <= console.width
        click.echo(f"  {line:<{wide}}  {what}" if fits else f"  {line}\n      {what}")


def _closer(result: Result, keep: Path | None) -> Iterator[tuple[str, str]]:
    """Commands to go on with, and what each shows."""
    chain, store = (
        result.providers[-1].chain,
        [] if keep is None else ["--store", str(result.store)],
    )
    yield _shell("ui", "--open", *store), "look at them in the browser, live"
    yield _shell("report", "--open", *store), "the same as a file, to hand on"
    yield _shell("traces", *store), "all runs; these are the newest"
    yield _shell("traces", "show", chain, *store), "the tree above, once more"
    if keep is None:
        yield _shell("explain", _near(result.policy)), "the policy, in plain words"
        yield _shell("demo", "--keep", "DIR"), "keep policy, run and traces in DIR"
        replay = _shell("replay", "DIR/run.jsonl", "--policy", "DIR/trip.yaml")
        yield replay, "what a changed policy would save"
    else:
        policy, run = keep / "trip.yaml", keep / "run.jsonl"
        yield _shell("explain", str(policy)), "the policy, in plain words"
        yield (
            _shell("replay", str(run), "--policy", str(policy)),
            "what a changed policy would save",
        )


def _shell(*words: str) -> str:
    """A command line that works from here."""
    program = "clawmw"
    beside = Path(sys.executable).with_name("clawmw")
    if shutil.which("clawmw") is None and beside.exists():
        program = _near(beside)
    return shlex.join((program, *words))


def _near(path: Path) -> str:
    """A path as someone in this folder writes it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _console() -> Console:
    from rich.console import Console

    width = None
    if not sys.stdout.isatty():
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() and int(columns) else _WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _end(result: Result) -> int:
    """The exit code, after one line for each run that went wrong."""
    for played in result.troubles:
        where = f"{played.profile.name}, {played.rung.label}"
        click.echo(f"clawmw demo: {where}: {played.trouble}", err=True)
    if any(played.outcome.status == "stopped" for played in result.troubles):
        return 3
    return 1 if result.troubles else 0

"""`python -m benchmarks.context [--quick] [--json] [--save]`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.context.policies import EVERYBODY, Contender, runner
from benchmarks.context.tables import shown
from benchmarks.long_runs import HOLD_OUT, generate
from benchmarks.peers import PINNED, Unavailable, ready
from clawmw.cli.replay import DEFAULT_PROFILES
from clawmw.providers.load import profile_for
from clawmw.replay.records import Run
from clawmw.replay.report import Report
from clawmw.replay.sources import Sources, run_of
from clawmw.replay.tokens import Counter

RESULTS = Path(__file__).parents[1] / "results" / "context.json"
BESIDE = Path(__file__).parents[3] / "shared" / "traces"
MODEL = "openai/gpt-5.6"
"""Stands in bodies that name none."""
QUICK = 4
"""Recorded runs of a source, and made-up ones of a kind, with --quick."""

Say = Callable[[str], None]


def main() -> int:
    """Measure everybody on everything that is at hand."""
    options = _options()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    sets = datasets(options, say)
    if not sets:
        say("nothing to measure: no recorded runs, and --runs 0")
        return 1
    contenders, peers = chosen(options, say)
    found: dict[str, Any] = {}
    try:
        for name, runs in sets.items():
            found[name] = {}
            say(f"{name}: {len(runs)} runs")
            measured(runs, contenders, peers, say, found[name])
    except KeyboardInterrupt:
        say("interrupted; what follows is what was done, and nothing is saved")
        options.save = False
    value: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    value |= {"versions": versions(peers), "settings": settings(options), "sets": found}
    if options.as_json:
        print(json.dumps(value, indent=1))
    else:
        shown(found, DEFAULT_PROFILES)
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(value, indent=1) + "\n")
        say(f"written: {RESULTS}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context")
    parser.add_argument("--quick", action="store_true", help="few runs, the fewest contenders")
    parser.add_argument("--json", dest="as_json", action="store_true", help="figures as JSON")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--no-peers", action="store_true", help="nothing that needs .venv-peers")
    parser.add_argument(
        "--only", metavar="TEXT", help="contenders with TEXT in their name, and raw"
    )
    parser.add_argument("--runs", type=int, help="made-up runs (default 40; 8 with --quick)")
    parser.add_argument("--seed", type=int, default=HOLD_OUT, help="of the made-up runs")
    folder = Path(os.environ.get("CLAWMW_TRACES_DATA") or BESIDE)
    parser.add_argument("--traces", type=Path, default=folder, help="folder of recorded runs")
    options = parser.parse_args()
    if options.runs is not None and options.runs < 1:
        parser.error("--runs: give at least 1")
    return options


def datasets(options: argparse.Namespace, say: Say) -> dict[str, list[Run]]:
    """The runs to measure, by where they are from."""
    sets: dict[str, list[Run]] = {}
    files = sorted(options.traces.glob("*.jsonl")) if options.traces.is_dir() else []
    if files:
        runs = [found for found in Sources(files, model=MODEL) if isinstance(found, Run)]
        sets["recorded"] = _few(runs) if options.quick else runs
    else:
        say("skipped: no recorded runs (name their folder with --traces or CLAWMW_TRACES_DATA)")
    count = options.runs if options.runs is not None else (8 if options.quick else 40)
    if count:
        sets["made up"] = [made_up(row) for row in generate(options.seed, count)]
    return sets


def made_up(row: dict[str, Any]) -> Run:
    """A run of `benchmarks.long_runs` as replay has it."""
    return run_of(row, Path("long_runs"), f"long_runs:{row['id']}", 0, MODEL)


def _few(runs: Sequence[Run]) -> list[Run]:
    """Some of every source, evenly spread."""
    sizes = Tally(run.source for run in runs)
    seen: Tally[str] = Tally()
    few = []
    for run in runs:
        if seen[run.source] % max(1, sizes[run.source] // QUICK) == 0:
            few.append(run)
        seen[run.source] += 1
    return few


def chosen(options: argparse.Namespace, say: Say) -> tuple[list[Contender], Path | None]:
    """Who is measured, and the peers' Python."""
    contenders = [c for c in EVERYBODY if not (options.quick and c.slow)]
    if options.only:
        wanted = options.only.lower()
        contenders = [c for c in contenders if wanted in c.name or c.name == "raw"]
    needed = any(c.kind not in ("clawmw", "cut") for c in contenders)
    if needed and not options.no_peers:
        try:
            say("making sure of .venv-peers (the first time takes a minute or two)")
            return contenders, ready()
        except Unavailable as error:
            say(f"skipped: the peers; {error}")
    return [c for c in contenders if c.kind in ("clawmw", "cut")], None


def measured(
    runs: Sequence[Run],
    contenders: Sequence[Contender],
    peers: Path | None,
    say: Say,
    found: dict[str, Any],
) -> None:
    """Put each contender's report over the runs into `found`, by its name."""
    counter = Counter()
    profiles = [profile_for(name) for name in DEFAULT_PROFILES]
    for contender in contenders:
        started = last = time.monotonic()
        about = {"name": contender.name, "digest": "", "mode": "enforce"}
        report = Report(profiles, counter, profile_for, about)
        try:
            with runner(contender, counter, peers) as replay:
                for done, run in enumerate(runs, 1):
                    report.add(replay(run))
                    if time.monotonic() - last > 10:
                        last = time.monotonic()
                        say(f"  {contender.name}: {done} of {len(runs)} runs")
        except Unavailable as error:
            say(f"  {contender.name}: failed; {error}")
            continue
        found[contender.name] = report.to_json()
        say(f"  {contender.name}: done in {time.monotonic() - started:.0f} s")


def versions(peers: Path | None) -> dict[str, str]:
    """Of all that was measured."""
    known = {"python": platform.python_version(), "clawmw": version("clawmw")}
    return known | (PINNED if peers is not None else {})


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    return {"seed": options.seed, "quick": options.quick, "profiles": list(DEFAULT_PROFILES)}


__all__ = ["chosen", "datasets", "made_up", "main", "measured"]

if __name__ == "__main__":
    sys.exit(main())

"""What a gateway adds to a call, and how many it carries: `python -m benchmarks.gateway`.

Agents' sessions, each call going on from its last by one tool result, against a bare provider,
through clawmw's gateway (one worker) and through others, in turns of some seconds, so that
whatever else the machine does falls on all alike; the medians of the rounds are shown. Latency at
a fixed rate, whenever the answers come (a late answer delays no later call), throughput with
as many calls under way as there are connections. Callers and provider are processes of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.gateway import peers
from benchmarks.gateway.load import Job, job_line

RESULTS = Path(__file__).parents[1] / "results" / "gateway.json"
SIZES = {"2 KB": (2_000, 200.0), "60 KB": (60_000, 200.0), "1 MB": (1_000_000, 10.0)}
"""Bytes of a body, and calls a second for the latency."""
BARE = "the provider itself"
Row = dict[str, float]


def load(served: peers.Served, job: Job) -> Row:
    """Have callers do a job; with the CPU that whom they asked had for it."""
    before = served.cpu()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway.load"],
        input=job_line(job),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode:
        return {"made": 0.0, "failed": 1.0, "per_second": 0.0}
    found: Row = json.loads(done.stdout)
    if found["made"]:  # those that are not counted, too
        found["cpu_ms"] = (served.cpu() - before) * 1e3 / found["made"]
    return found


def started(stack: ExitStack, options: argparse.Namespace) -> dict[str, peers.Served]:
    """Everybody who could be started, by name; the provider first."""
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))

    def folder(name: str) -> Path:
        path = root / name.replace(" ", "-")
        path.mkdir()
        return path

    bare = stack.enter_context(peers.provider(folder("provider")))
    upstream = bare.url.removesuffix("/chat/completions")
    found = {BARE: bare}
    for name in peers.POLICIES:
        found[name] = stack.enter_context(peers.clawmw(name, upstream, folder(name)))
    for beside in options.beside:
        name, _, tree = beside.partition("=")
        made = peers.clawmw("clawmw, in memory", upstream, folder(name), Path(tree))
        found[name] = stack.enter_context(made)
    for name in () if options.alone else ("litellm", "headroom"):
        try:
            found[name] = stack.enter_context(getattr(peers, name)(upstream, folder(name)))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def measure(everybody: dict[str, peers.Served], options: argparse.Namespace) -> dict[str, Any]:
    """By size and kind of answer, by name: medians of the rounds."""
    rows: dict[str, Any] = {}
    for size in options.sizes:
        length, rate = SIZES[size]
        for stream in (False, True):
            taken: dict[str, list[tuple[Row, Row]]] = {name: [] for name in everybody}
            for number in range(options.rounds):
                for name, served in everybody.items():
                    seed = 1 + number
                    job = Job(served.url, length, stream, options.seconds, rate, seed=seed)
                    full = Job(served.url, length, stream, options.seconds, None, 16, seed=-seed)
                    taken[name].append((load(served, job), load(served, full)))
            kind = f"{size}, {'stream' if stream else 'whole'}"
            rows[kind] = {name: _summary(rounds, rate) for name, rounds in taken.items()}
            show(kind, rows[kind])
    return rows


def _summary(rounds: list[tuple[Row, Row]], rate: float) -> Row:
    row: Row = {}
    for prefix, which in (("", 0), ("full_", 1)):
        good = [r[which] for r in rounds if r[which].get("p50")]
        for key in good[0] if good else ():
            row[prefix + key] = round(statistics.median([r[key] for r in good]), 3)
    if row.get("per_second", 0.0) < 0.9 * rate:  # it did not keep up: no latency to speak of
        row = {key: value for key, value in row.items() if key.startswith("full_")}
    return row


def show(kind: str, rows: dict[str, Row]) -> None:
    """One table: what each adds to the provider, in milliseconds, and what it carries."""
    bare, litellm = rows[BARE], rows.get("litellm", {})
    print(f"\n{kind}\n{'':26}{'added p50':>11}{'p99':>9}{'first p50':>11}", end="")
    print(f"{'CPU ms':>9}{'calls/s':>10}{'x litellm':>11}")
    for name, row in rows.items():
        cells = [
            f"{row[key] - bare.get(key, 0.0):.2f}" if key in row else "late"
            for key in ("p50", "p99", "first_p50")
        ]
        carried, theirs = row.get("full_per_second", 0.0), litellm.get("full_per_second", 0.0)
        times = f"{carried / theirs:.1f}" if theirs else "-"
        print(f"{name:26}{cells[0]:>11}{cells[1]:>9}{cells[2]:>11}", end="")
        print(f"{row.get('full_cpu_ms', 0.0):>9.2f}{carried:>10.0f}{times:>11}", flush=True)


def remembered(everybody: dict[str, peers.Served], calls: int) -> dict[str, Any]:
    """Each one's memory in MB: before, after a tenth of the calls, after all."""
    rows: dict[str, Any] = {}
    for name, served in everybody.items():
        begun = served.rss()
        few = Job(served.url, 60_000, False, 0.0, None, 16, calls // 10)
        load(served, few)
        warm = served.rss()
        rest = Job(served.url, 60_000, False, 0.0, None, 16, calls - calls // 10, seed=8)
        load(served, rest)
        rows[name] = {"begun": begun, "warm": warm, "end": served.rss()}
        told = ", ".join(f"{key} {value:.0f}" for key, value in rows[name].items())
        print(f"{name:26}RSS in MB: {told}", flush=True)
    return rows


def main() -> None:
    """Measure, show; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--alone", action="store_true", help="without other gateways")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=TREE")
    parser.add_argument("--calls", type=int, help="instead: memory after so many calls (100000)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    with ExitStack() as stack:
        everybody = started(stack, options)
        if options.calls:
            rows = {"memory": remembered(everybody, options.calls)}
        else:
            rows = measure(everybody, options)
        others = [name for name in peers.PACKAGES if name in everybody]
    packages = ("clawmw", "aiohttp", "h11", "uvicorn")
    versions = {name: version(name) for name in packages}
    result = {
        "unit": "ms as the callers see it, calls a second, CPU ms a call",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]},
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            **versions,
            **{name: peers.version_of(name) for name in others},
        },
        "rows": rows,
    }
    if options.save:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() and options.calls else {}
        kept = {"memory": rows["memory"]} if options.calls else result
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps({**known, **kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()

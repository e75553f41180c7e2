"""What a new tool result costs, kind by kind: `python -m benchmarks.compress`.

A session of one call gets a result of each kind and size; the CPU time of deciding that call is
measured, everything included but parsing the body: at most 20 ms up to 100 KB. Above, MB/s. Then
the CPU time of a call that adds one small result to a history of 10k to 500k tokens: beyond
parse, hash and write it must not grow with the history.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.kinds import KINDS, text_of
from benchmarks.overhead import call, history, measure, wire
from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import advance
from clawmw.core.effects import Call
from clawmw.core.identity import Identity
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

RESULTS = Path(__file__).parent / "results" / "compress.json"
SIZES = (10_000, 100_000, 1_000_000)
MOST_MS = 20.0
"""For a new result of up to 100 KB."""
UP_TO = 100_000


def decided(runtime: Runtime, messages: list[dict[str, Any]], name: str) -> tuple[float, int]:
    """CPU milliseconds of deciding a call, and the bytes its last result is sent as."""
    request = runtime.decode(DIALECT, wire(messages))
    gc.collect()
    gc.disable()
    try:
        started = time.thread_time()
        live = runtime.begin(request, {}, Identity(session=name, chain=name))
        step = advance(live.run, live.perform, None)
        spent = (time.thread_time() - started) * 1e3
    finally:
        gc.enable()
    assert isinstance(step, Call)
    result = step.request.messages[-1].tool_results[0].text
    return spent, len(result.encode("utf-8", "surrogatepass"))


def one(kind: str, size: int, level: str, runs: int) -> dict[str, float]:
    """The median cost of a new result, of what stays of it, and its speed."""
    text = text_of(kind, size)
    bare = history(1)
    times = []
    sent = 0
    for run in range(runs):
        runtime = Runtime.of(load_policy({"version": 1, "trace": "off", "compress": level}))
        decided(runtime, [*bare, *call(1, "ok")], f"s{run}")
        spent, sent = decided(runtime, [*bare, *call(1, "ok"), *call(2, text)], f"s{run}")
        times.append(spent)
    cost = statistics.median(times)
    length = len(text.encode())
    return {
        "bytes": length,
        "ms": round(cost, 2),
        "mb_per_s": round(length / 1e3 / cost, 1) if cost else 0.0,
        "stays": round(sent / length, 3),
    }


def kinds(sizes: Sequence[int], level: str, runs: int) -> tuple[dict[str, Any], list[str]]:
    """Every kind at every size, told as it goes; and what is too slow."""
    print(
        f"{'level ' + level:18}" + "".join(f"{size // 1000:>9,} KB{'stays':>8}" for size in sizes)
    )
    found: dict[str, Any] = {}
    slow = []
    for kind in KINDS:
        found[kind] = {size: one(kind, size, level, runs) for size in sizes}
        line = f"{kind:18}"
        for size, row in found[kind].items():
            shown = f"{row['ms']:.1f} ms" if size <= UP_TO else f"{row['mb_per_s']:.1f} MB/s"
            line += f"{shown:>12}{row['stays']:>8.0%}"
            if size <= UP_TO and row["ms"] > MOST_MS:
                slow.append(f"{kind} at {size // 1000} KB takes {row['ms']:.1f} ms")
        print(line, flush=True)
    return found, slow


def histories(sizes: Sequence[int], level: str, runs: int) -> dict[int, dict[str, float]]:
    """What a call costs that adds a small result to a long history."""
    parts = ("decode", "decide", "encode", "settle", "total", "beyond")
    print(f"\n{'history, tokens':18}" + "".join(f"{name:>9}" for name in parts) + "   CPU ms")
    found = {}
    for size in sizes:
        row = measure(size, runs, {"compress": level})
        found[size] = {name: round(value, 3) for name, value in row.items()}
        print(f"{size:<18,}" + "".join(f"{row[name]:9.2f}" for name in parts), flush=True)
    print("beyond: the total less one parse, one hash pass and one write of the body")
    return found


def main() -> int:
    """Measure and show; the exit code is 1 where a result of up to 100 KB took too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compress")
    parser.add_argument(
        "--level", default="balanced", choices=("lossless", "balanced", "aggressive")
    )
    parser.add_argument("--runs", type=int, default=5, help="of each; the median counts")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="of a result, in bytes")
    parser.add_argument("--histories", default="10000,100000,500000", help='in tokens; "" for none')
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    lengths = [int(size) for size in options.histories.split(",") if size]
    found, slow = kinds(sizes, options.level, options.runs)
    calls = histories(lengths, options.level, options.runs) if lengths else {}
    print("\n".join(["", *slow]) if slow else f"\nevery kind within {MOST_MS:.0f} ms up to 100 KB")
    if options.save:
        about = {"python": platform.python_version(), "clawmw": version("clawmw")}
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        value = {"date": date, "versions": about, "level": options.level, "unit": "CPU ms, median"}
        RESULTS.write_text(
            json.dumps(value | {"kinds": found, "histories": calls}, indent=1) + "\n"
        )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

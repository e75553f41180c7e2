"""`python -m benchmarks.long_runs --seed 1 --runs 40 --out FILE`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.long_runs import HOLD_OUT, generate


def main() -> None:
    """Write the runs, one JSON a line, as `clawmw replay` reads them."""
    parser = argparse.ArgumentParser(description="Made-up long agent runs, as replay reads them.")
    parser.add_argument("--seed", type=int, default=1, help=f"{HOLD_OUT} is kept for judging")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--out", type=Path, help="default: standard output")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs: give at least 1")
    out = options.out.open("w", encoding="utf-8") if options.out else sys.stdout
    for run in generate(options.seed, options.runs):
        out.write(json.dumps(run, ensure_ascii=False) + "\n")
    out.flush()
    if options.out:
        out.close()
        size = options.out.stat().st_size / 1e6
        print(f"{options.runs} runs, {size:.1f} MB: {options.out}")


if __name__ == "__main__":
    main()

"""What the guards cost a call: `python -m benchmarks.guard`.

One chain of 1,000 calls, each with one tool result more, run twice side by side: with the guards
(identity, loop guard, budget, breaker, admission, retry) and with every stage off. The
difference is theirs: CPU of this thread, in microseconds, the median over windows of 100 calls at
the beginning and at the end. On disk, the transactions are counted too. The model call itself is
a function that returns at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.overhead import call, history, wire
from benchmarks.peers import Unavailable, environment
from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.types import Request
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stages.base import registered
from clawmw.stores.disk_files import Database
from clawmw.testing import answer

RESULTS = Path(__file__).parent / "results" / "guard.json"
PEERS = {"tenacity": "9.2.1", "limits": "5.6.0", "litellm": "1.106.2"}
GUARDS = ("loop_guard", "budget", "retry", "breaker", "admission")
HEADERS = {"x-clawmw-agent": "bench", "x-clawmw-session": "s1", "x-clawmw-chain": "c1"}
BUDGET = {
    "chain": {"calls": 100_000, "usd": 1000, "input_tokens": 10**10},
    "session": {"calls": 100_000},
    "agent": {"day": {"usd": 1000}},
    "tenant": {"day": {"usd": 1000}},
}
TARGETS = {"memory": 150.0, "disk": 250.0}


def policy(on: tuple[str, ...], folder: str | None) -> dict[str, Any]:
    """A policy with only the stages of `on`."""
    sections: dict[str, Any] = {name: name in on for name in registered()}
    if "budget" in on:
        sections["budget"] = BUDGET
    store: Any = {"disk": folder} if folder else "memory"
    return {"version": 1, "trace": "off", "store": store, **sections}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the transactions of disk stores."""
    seen: Counter[str] = Counter()
    originals = {"read": Database.read, "write": Database.write}

    def counting(name: str) -> Any:
        def method(self: Database, *args: Any, **options: Any) -> Any:
            seen[name] += 1
            return originals[name](self, *args, **options)

        return method

    for name in originals:
        setattr(Database, name, counting(name))
    try:
        yield seen
    finally:
        for name, original in originals.items():
            setattr(Database, name, original)


class Chain:
    """A chain under one policy, one call after the other."""

    def __init__(self, on: tuple[str, ...], folder: str | None) -> None:
        self.runtime = Runtime.of(load_policy(policy(on, folder)))

    def once(self, request: Request) -> float:
        """CPU microseconds from a decoded request to its settled end."""
        start = time.thread_time()
        live = self.runtime.begin(request, HEADERS)
        step = advance(live.run, live.perform, None)
        assert isinstance(step, Call), step
        done = advance(live.run, live.perform, Called(answer(), live.began, live.began + 1))
        assert not isinstance(done, Call)
        live.ended(done)
        return (time.thread_time() - start) * 1e6


def bodies(calls: int) -> Iterator[bytes]:
    """The bodies of a chain that does something new each time, and compacts every 100 calls."""
    messages = history(4000)
    opening = len(messages)
    for index in range(calls):
        if index % 100 == 99:
            del messages[opening:]  # or the decoding of long histories is all there is to see
        messages += call(10**6 + index, f"result {index}: " + "the build moves on " * 8)
        yield wire(messages)


def measure(calls: int, on: tuple[str, ...], folder: str | None) -> dict[str, Any]:
    """Medians of the difference at the beginning, at the end and over all; and transactions."""
    disk = folder is not None
    bare = Chain((), f"{folder}/bare" if disk else None)
    with_guards = Chain(on, f"{folder}/guarded" if disk else None)
    spent: dict[str, list[float]] = {"bare": [], "guarded": []}
    used: dict[str, Counter[str]] = {"bare": Counter(), "guarded": Counter()}
    gc.collect()
    gc.disable()
    with counted() as seen:
        for body in bodies(calls):
            for name, chain in (("bare", bare), ("guarded", with_guards)):
                request = chain.runtime.decode(DIALECT, body)
                seen.clear()
                spent[name].append(chain.once(request))
                used[name] += seen
    gc.enable()
    bare.runtime.close()
    with_guards.runtime.close()
    over = [g - b for g, b in zip(spent["guarded"], spent["bare"], strict=True)]
    return {
        "bare_us": round(statistics.median(spent["bare"]), 1),
        "guards_us": round(statistics.median(over), 1),
        "first_100_us": round(statistics.median(over[10:110]), 1),
        "last_100_us": round(statistics.median(over[-100:]), 1),
        "transactions_bare": {k: round(n / calls, 2) for k, n in used["bare"].items()},
        "transactions_guarded": {k: round(n / calls, 2) for k, n in used["guarded"].items()},
    }


def peers() -> dict[str, Any]:
    """What others cost, in microseconds a call; or why that is not known."""
    folder = Path(__file__).parents[1] / ".venv-guards"
    try:
        python = environment(folder, [f"{n}=={v}" for n, v in PEERS.items()])
    except Unavailable as error:
        return {"unavailable": str(error)}
    worker = Path(__file__).parent / "guard_peers.py"
    done = subprocess.run(
        [str(python), str(worker)], capture_output=True, text=True, check=False, timeout=300
    )
    lines = done.stdout.strip().splitlines()
    if not lines:  # litellm's logging may end it badly after the figures are there
        return {"unavailable": f"their process ended with code {done.returncode}"}
    return dict(json.loads(lines[-1]))


def main() -> None:
    """Print the table; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=1000, metavar="N", help="calls of the chain")
    parser.add_argument("--no-peers", action="store_true", help="clawmw alone")
    parser.add_argument("--each", action="store_true", help="each guard alone, too")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.calls < 200:
        parser.error("--calls: at least 200, to compare the beginning with the end")
    on = tuple(name for name in GUARDS if name in registered())
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, where in (("memory", None), ("disk", folder)):
            row = rows[name] = measure(options.calls, on, where)
            held = "holds" if row["guards_us"] <= TARGETS[name] else "DOES NOT HOLD"
            print(
                f"{name:>8}: {row['guards_us']:7.1f} us a call beyond {row['bare_us']:.0f}"
                f" (first 100: {row['first_100_us']:.1f}, last 100: {row['last_100_us']:.1f});"
                f" target {TARGETS[name]:.0f}: {held}; transactions"
                f" {row['transactions_guarded']} (bare {row['transactions_bare']})"
            )
        for guard in on if options.each else ():
            alone = rows[f"memory, {guard} alone"] = measure(options.calls, (guard,), None)
            print(f"{guard:>12} alone: {alone['guards_us']:7.1f} us")
    others = {} if options.no_peers else peers()
    for name, cost in others.items():
        print(f"{name:>16}: {cost} us")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        found = {"unit": "CPU us a call, median", "calls": options.calls, "guards": list(on)}
        RESULTS.write_text(json.dumps({**found, "clawmw": rows, "peers": others}, indent=1) + "\n")


if __name__ == "__main__":
    main()

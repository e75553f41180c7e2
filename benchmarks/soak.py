"""Whether anything is left behind: `python -m benchmarks.soak --minutes 3`.

A gateway in this process, on a disk store, before an emulated provider in another that fails,
stalls, truncates and resets; many callers at once that stream, leave in the middle, loop, run out
of budget, ask the same together and name new sessions all the time. Counted before, when warm,
and after it is quiet again: tasks, threads, file handles, memory, unsettled reservations, held
slots, waiters. Seeded: two runs ask the same, though not at the same moments.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gateway import command
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

RESULTS = Path(__file__).parent / "results" / "soak.json"
FAULTS = (
    "",
    "",
    "",
    "",
    "delay=30ms",
    "chunk-delay=5ms",
    "status=503, times=1",
    "status=429, retry-after=0.05",
    "status=400",
    "reset-after=0",
    "reset-after=2",
    "truncate-after=2",
    "html",
    "empty",
    "no-usage",
)
POLICY: dict[str, Any] = {
    "version": 1,
    "trace": "off",
    "budget": {
        "chain": {"calls": 40, "usd": 5},
        "agent": {"day": {"usd": 5000, "calls": 10_000_000}},
        "tenant": {"day": {"usd": 5000, "calls": 10_000_000}},
    },
    "admission": {"slots": 12, "max_wait": "5s"},
    "retry": {"attempts": 2},
    "reuse": {"kinds": ["heartbeat"], "ttl": "2s"},
}
GROWTH = 0.05
"""The share by which memory may have grown since it was warm."""
FEW = 8
"""Handles, threads and tasks that may have come since: pools keep some."""


@dataclass
class Caller:
    """One agent that calls, forever, until told to stop."""

    number: int
    client: httpx.AsyncClient
    told: Counter[str]
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"caller {self.number}")

    async def run(self, until: float) -> None:
        """Chain after chain."""
        chain = 0
        while time.monotonic() < until:
            chain += 1
            await self._chain(f"{self.number}-{chain}", until)

    async def _chain(self, chain: str, until: float) -> None:
        dice = self.dice
        loops = dice.random() < 0.1
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are one of many. " * 40},
            {"role": "user", "content": f"Task {chain}: find out what is wrong."},
        ]
        for step in range(dice.choice((1, 3, 6, 30 if loops else 12))):
            if time.monotonic() > until:
                return
            await self._call(messages, chain)
            result = "the same" if loops else f"step {step}: {dice.random()} " * 20
            asked = {"name": "look", "arguments": '{"at": "it"}' if loops else f'{{"at": {step}}}'}
            call = {"id": f"c{step}", "type": "function", "function": asked}
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"c{step}", "content": result},
            ]

    async def _call(self, messages: list[dict[str, Any]], chain: str) -> None:
        dice = self.dice
        stream, leaves = dice.random() < 0.5, dice.random() < 0.15
        headers = {
            "x-emulate": dice.choice(FAULTS),
            "x-clawmw-agent": f"agent-{self.number % 7}",
            "x-clawmw-session": chain,
            "x-clawmw-chain": chain,
        }
        body: dict[str, Any] = {"model": "gpt-4o", "messages": messages, "stream": stream}
        if dice.random() < 0.2:  # what several ask at the same time
            body["messages"] = [{"role": "user", "content": f"ping {int(time.monotonic())}"}]
            body["temperature"] = 0
            headers["x-clawmw-kind"] = "heartbeat"
        try:
            async with asyncio.timeout(dice.uniform(0.002, 0.1) if leaves else 20):
                async with self.client.stream(
                    "POST", "/chat/completions", json=body, headers=headers
                ) as response:
                    async for _ in response.aiter_raw():
                        if leaves and dice.random() < 0.3:
                            break
                    stopped = response.headers.get("x-clawmw-stopped")
                    self.told[stopped or str(response.status_code)] += 1
        except TimeoutError:
            self.told["left" if leaves else "TOO LATE"] += 1
        except httpx.HTTPError as error:
            self.told[type(error).__name__] += 1


def census(served: Served, runtime: Runtime, store: Path) -> dict[str, int]:
    """What there is now."""
    gc.collect()
    tasks = -1
    loop = served.server.loop
    if loop is not None:
        tasks = asyncio.run_coroutine_threadsafe(_tasks(), loop).result(10)
    with sqlite3.connect(store / "state.sqlite") as database:
        unsettled = database.execute("SELECT count(*) FROM leases WHERE settled = 0").fetchone()[0]
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    resident = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")]
    handles = Path("/proc/self/fd")
    return {
        "tasks": tasks,
        "threads": threading.active_count(),
        "handles": len(list(handles.iterdir())) if handles.exists() else -1,
        "resident_kb": int(resident[0]) if resident else -1,
        "unsettled": unsettled,
        **runtime.traffic.census(),
    }


async def _tasks() -> int:
    return len(asyncio.all_tasks()) - 1  # this one


async def storm(url: str, callers: int, seconds: float) -> Counter[str]:
    """All callers at once; how their calls ended."""
    told: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=callers * 2)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        until = time.monotonic() + seconds
        await asyncio.gather(*(Caller(n, client, told).run(until) for n in range(callers)))
    return told


def quiet(served: Served) -> None:
    """Wait until the gateway has nothing under way."""
    deadline = time.monotonic() + 30
    while served.gateway.counts.in_flight and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)  # connections are seen to end


def problems(warm: dict[str, int], after: dict[str, int], told: Counter[str]) -> list[str]:
    """What did not go back."""
    pools, most = ("tasks", "threads", "handles"), warm["resident_kb"] * (1 + GROWTH)
    bounds: dict[str, float] = {**{n: warm[n] + FEW for n in pools}, "resident_kb": most}
    nothing = set(after) - {*pools, "resident_kb"}
    bounds |= dict.fromkeys(nothing, 0)
    found = [
        f"{name}: {warm[name]} when warm, {count} after"
        for name, count in after.items()
        if count > bounds[name]
    ]
    return found + ([f"{told['TOO LATE']} calls never ended"] if told["TOO LATE"] else [])


def main() -> None:
    """Print what was there before, when warm, and after; exit 1 when something was left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=3.0, metavar="M")
    parser.add_argument("--callers", type=int, default=32, metavar="N")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.minutes <= 0 or options.callers < 1:
        parser.error("--minutes and --callers: more than none")
    with tempfile.TemporaryDirectory() as folder, command("emulate") as provider:
        policy = load_policy({**POLICY, "store": {"disk": f"{folder}/store"}})
        store = Path(folder) / "store"
        runtime = Runtime.of(policy)
        gateway = Gateway(runtime, Places(policy.models, f"{provider}/v1"))
        with Served(gateway) as served:
            counts = {"before": census(served, runtime, store)}
            told: Counter[str] = Counter()
            for name, share in (("warm", 0.4), ("after", 0.6)):
                seconds = options.minutes * 60 * share
                print(f"{options.callers} callers for {seconds:.0f} s ...", flush=True)
                told += asyncio.run(storm(served.base_url, options.callers, seconds))
                quiet(served)
                counts[name] = census(served, runtime, store)
        runtime.close()
    names = list(counts["after"])
    print(f"{'':>8} " + " ".join(f"{n:>12}" for n in names))
    for when, row in counts.items():
        print(f"{when:>8} " + " ".join(f"{row.get(n, 0):>12}" for n in names))
    print(f"{sum(told.values())} calls: " + ", ".join(f"{n} {k}" for k, n in told.most_common()))
    found = problems(counts["warm"], counts["after"], told)
    print("\n".join(found) or "nothing was left behind")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        row = {"minutes": options.minutes, "callers": options.callers, "counts": counts}
        saved = {**row, "ended": dict(told.most_common()), "left_behind": found}
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()

"""A burst, scheduled: `python -m benchmarks.burst`.

Within two seconds come 40 chains of 12 calls (each made when the one before is answered), 30 heavy
calls and a flood of 300 from one agent; 400 light calls come over half a minute. An upstream takes
8 at once. Simulated in virtual time, event by event, through the very gate that the `admission`
stage uses. A call takes between half and one and a half times its mean: light 0.1 s, a chain's
1.5 s, one of the flood 1.6 s, a heavy one 18 s. Other lengths shift what is won: with heavy calls
of 10 s and a short flood, chains end at 0.6 of the time. Shown are the seconds from a call's or
chain's coming to its end, the worst single wait for a slot, and the total; means over the seeds.

`--real` adds the same burst as asyncio tasks that wait and sleep for real, 50 times as fast, to
show that it is the same machine; timers and a busy computer add to its figures.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clawmw.core.effects import Admit, Lanes, Leave, Rank
from clawmw.traffic.control import Traffic
from clawmw.traffic.gate import Gate, Ticket

RESULTS = Path(__file__).parent / "results" / "burst.json"
MEANS = {"light": 0.1, "flood": 1.6, "chain": 1.5, "heavy": 18.0}
TOKENS_A_SECOND = 1000
RANK: dict[str, Rank] = {
    "light": "interactive",
    "flood": "interactive",
    "chain": "chain",
    "heavy": "heavy",
}
SLOTS, STEPS = 8, 12
OURS = Lanes(slots=SLOTS, waiting=10_000)
Policy = Callable[[], Any]
FASTER = 50
"""How many times as fast the burst goes with `--real`."""


@dataclass(order=True)
class Job:
    """One call: when it comes, how long it takes, who asks."""

    at: float
    number: int
    kind: str = field(compare=False)
    seconds: float = field(compare=False)
    agent: str = field(compare=False)
    chain: str = field(compare=False)
    step: int = field(compare=False, default=0)


def jobs(seed: int, *, flood: bool = True) -> list[Job]:
    """The calls that come by themselves; a chain's first only."""
    dice = random.Random(seed)
    counts = {"chain": 40, "light": 400, "heavy": 30, "flood": 300}
    found: list[Job] = []
    for kind, count in counts.items():
        for index in range(count):
            agent = "flooder" if kind == "flood" else f"{kind} {index}"
            at = dice.uniform(0, 30 if kind == "light" else 2)
            seconds = service(dice, kind)
            if kind != "flood" or flood:
                found.append(Job(at, len(found), kind, seconds, agent, f"{kind} {index}"))
    return sorted(found)


def service(dice: random.Random, kind: str) -> float:
    """Seconds that one call takes."""
    return dice.uniform(0.5, 1.5) * MEANS[kind]


class Fcfs:
    """First come, first served: what a plain semaphore does."""

    @staticmethod
    def key(job: Job) -> float:
        """Who goes first, before who came first."""
        return 0.0 * job.at

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, float, int, Job]] = []
        self.running = 0

    def enter(self, job: Job, now: float) -> list[Job]:
        heapq.heappush(self.waiting, (self.key(job), now, job.number, job))
        return self._let_in()

    def leave(self, job: Job, now: float) -> list[Job]:
        self.running -= 1
        return self._let_in()

    def _let_in(self) -> list[Job]:
        found = []
        while self.waiting and self.running < SLOTS:
            found.append(heapq.heappop(self.waiting)[-1])
            self.running += 1
        return found


class Strict(Fcfs):
    """Always the shortest kind first."""

    @staticmethod
    def key(job: Job) -> float:
        """The mean of its kind."""
        return MEANS[job.kind]


def asks(job: Job, lanes: Lanes) -> Admit:
    """What the stage would ask for it."""
    tokens = int(MEANS[job.kind] * TOKENS_A_SECOND)
    who = ("tenant", job.agent, job.chain)
    return Admit("up", 1e9, RANK[job.kind], tokens, who, lanes, f"{job.chain}/{job.step}")


def leaves(job: Job) -> Leave:
    """What the stage would say when it is over."""
    used = max(int(job.seconds * TOKENS_A_SECOND), 1)
    return Leave(used, "ok", id=f"{job.chain}/{job.step}")


class Ours:
    """The gate itself."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.gate = Gate(lanes, 0.0)
        self.tickets: dict[str, tuple[Ticket, Job]] = {}

    def enter(self, job: Job, now: float) -> list[Job]:
        admit = asks(job, self.lanes)
        self.tickets[admit.id] = (self.gate.enter(admit, now), job)
        return self._let_in()

    def leave(self, job: Job, now: float) -> list[Job]:
        self.gate.leave(leaves(job), now)
        return self._let_in()

    def _let_in(self) -> list[Job]:
        found = [name for name, (ticket, _) in self.tickets.items() if ticket.why is not None]
        return [self.tickets.pop(name)[1] for name in found]


POLICIES: dict[str, Policy] = {
    "first come, first served": Fcfs,
    "shortest kind first": Strict,
    "clawmw, no ageing or fairness": lambda: Ours(replace(OURS, ageing=1e9, fair=False)),
    "clawmw, no ageing": lambda: Ours(replace(OURS, ageing=1e9)),
    "clawmw": lambda: Ours(OURS),
}


def simulate(policy: Any, coming: list[Job], seed: int) -> dict[str, list[float]]:
    """Seconds from a call's or chain's coming to its answer by kind; `wait`: for a slot."""
    steps = later_steps(coming, seed)
    events = [(job.at, job.number, 0, job) for job in coming]
    heapq.heapify(events)
    number = len(events)
    began = {job.chain: job.at for job in coming}
    came: dict[int, float] = {}
    found: dict[str, list[float]] = {kind: [] for kind in (*MEANS, "wait", "drain")}
    while events:
        now, _, over, job = heapq.heappop(events)
        if over:
            allowed = policy.leave(job, now)
            if job.kind == "chain" and job.step + 1 < STEPS:
                number += 1
                step = job.step + 1
                again = replace(
                    job, at=now, number=number, step=step, seconds=steps[job.chain][step]
                )
                heapq.heappush(events, (now, number, 0, again))
            else:
                found[job.kind].append(now - began[job.chain])
            found["drain"] = [now]
        else:
            came[job.number] = now
            allowed = policy.enter(job, now)
        for one in allowed:
            found["wait"].append(now - came[one.number])
            number += 1
            heapq.heappush(events, (now + one.seconds, number, 1, one))
    return found


def later_steps(coming: list[Job], seed: int) -> dict[str, list[float]]:
    """How long the steps of each chain take."""
    dice = random.Random(seed + 10**6)
    chains = (job.chain for job in coming if job.kind == "chain")
    return {chain: [service(dice, "chain") for _ in range(STEPS)] for chain in chains}


async def really(coming: list[Job], seed: int) -> dict[str, list[float]]:
    """The same as `simulate` finds, of real tasks, in the seconds of the simulation."""
    traffic, loop = Traffic(), asyncio.get_running_loop()
    lanes = replace(OURS, ageing=OURS.ageing / FASTER, reserve=OURS.reserve / FASTER)
    steps, began = later_steps(coming, seed), loop.time()
    found: dict[str, list[float]] = {kind: [] for kind in (*MEANS, "wait", "drain")}

    async def run(job: Job) -> None:
        await asyncio.sleep(job.at / FASTER)
        came = loop.time()
        for step in range(STEPS if job.kind == "chain" else 1):
            seconds = steps[job.chain][step] if step else job.seconds
            call = replace(job, step=step, seconds=seconds)
            guest = traffic.guest(f"{job.chain}/{step}")
            admitted = await traffic.await_(guest, asks(call, lanes))
            await asyncio.sleep(seconds / FASTER)
            traffic.perform(guest, leaves(call))
            found["wait"].append(admitted.waited * FASTER)
        found[job.kind].append((loop.time() - came) * FASTER)

    await asyncio.gather(*map(run, coming))
    found["drain"] = [(loop.time() - began) * FASTER]
    return found


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """The figures of one burst."""
    row = {"drain": found["drain"][0], "worst wait": max(found["wait"])}
    for kind in MEANS:
        if found[kind]:
            cuts = statistics.quantiles(found[kind], n=100)
            row |= {f"{kind} p50": cuts[49], f"{kind} p99": cuts[98]}
    return row


def figures(policy: Policy, seeds: list[int], *, flood: bool = True) -> dict[str, float]:
    """The means over the seeds."""
    rows = [summary(simulate(policy(), jobs(s, flood=flood), s)) for s in seeds]
    return {name: round(statistics.fmean(r[name] for r in rows), 2) for name in rows[0]}


def targets(table: dict[str, dict[str, float]], alone: dict[str, float]) -> dict[str, bool]:
    """What must hold, and whether it does; `alone`: without the flood."""
    ours, plain = table["clawmw"], table["first come, first served"]
    bound = max(OURS.ageing, 1.75 * plain["worst wait"])
    return {
        "light p99 at least 15 times lower": ours["light p99"] * 15 <= plain["light p99"],
        "chain p50 at most 0.55": ours["chain p50"] <= 0.55 * plain["chain p50"],
        "drain within 2%": ours["drain"] <= 1.02 * plain["drain"],
        "no wait above the bound": ours["worst wait"] <= bound,
        "the flooder slows only itself": ours["flood p50"] > ours["light p99"]
        and ours["light p99"] <= alone["light p99"] + MEANS["chain"],
    }


def main() -> None:
    """Print the table and whether the targets hold; exit 1 when one does not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--real", action="store_true", help="one burst of real tasks, too")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    seeds = list(range(options.seeds))
    table = {name: figures(policy, seeds) for name, policy in POLICIES.items()}
    alone = figures(POLICIES["clawmw"], seeds, flood=False)
    shown = {**table, "clawmw, without the flood": alone}
    if options.real:
        found = asyncio.run(really(jobs(seeds[0]), seeds[0]))
        shown["clawmw, real tasks"] = {n: round(v, 2) for n, v in summary(found).items()}
    names = list(table["clawmw"])
    print(f"{'seconds':>30} " + " ".join(f"{n:>10}" for n in names))
    for name, row in shown.items():
        print(f"{name:>30} " + " ".join(f"{row.get(n, 0):>10.1f}" for n in names))
    held = targets(table, alone)
    for name, holds in held.items():
        print(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        saved = {"seeds": seeds, "seconds": shown, "targets": held}
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    raise SystemExit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()

"""A burst, scheduled: `python -m benchmarks.burst`.

Within two seconds come 40 chains of 12 calls (each made when the one before is answered), 30 heavy
calls and a flood of 300 from one agent; 400 light calls come over half a minute. An upstream takes
8 at once. Simulated in virtual time, event by event, through the very gate that the `admission`
stage uses. A call takes between half and one and a half times its mean: light 0.1 s, a chain's
1.5 s, one of the flood 1.6 s, a heavy one 18 s. Other lengths shift what is won: with heavy calls
of 10 s and a short flood, chains end at 0.6 of the time. Shown are the seconds from a call's or
chain's coming to its end, the worst single wait for a slot, and the total; means over the seeds.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clawmw.core.effects import Admit, Lanes, Leave, Rank
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


class Ours:
    """The gate itself."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.gate = Gate(lanes, 0.0)
        self.tickets: dict[str, tuple[Ticket, Job]] = {}

    def enter(self, job: Job, now: float) -> list[Job]:
        name, tokens = f"{job.chain}/{job.step}", int(MEANS[job.kind] * TOKENS_A_SECOND)
        who = ("tenant", job.agent, job.chain)
        admit = Admit("up", 1e9, RANK[job.kind], tokens, who, self.lanes, name)
        self.tickets[name] = (self.gate.enter(admit, now), job)
        return self._let_in()

    def leave(self, job: Job, now: float) -> list[Job]:
        used = max(int(job.seconds * TOKENS_A_SECOND), 1)
        self.gate.leave(Leave(used, "ok", id=f"{job.chain}/{job.step}"), now)
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
    dice = random.Random(seed + 10**6)
    steps = {c: [service(dice, "chain") for _ in range(STEPS)] for c in _chains(coming)}
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


def _chains(coming: list[Job]) -> Iterator[str]:
    return (job.chain for job in coming if job.kind == "chain")


def figures(policy: Policy, seeds: list[int], *, flood: bool = True) -> dict[str, float]:
    """The means over the seeds."""
    rows = []
    for seed in seeds:
        found = simulate(policy(), jobs(seed, flood=flood), seed)
        row = {"drain": found["drain"][0], "worst wait": max(found["wait"])}
        for kind in MEANS:
            if found[kind]:
                cuts = statistics.quantiles(found[kind], n=100)
                row |= {f"{kind} p50": cuts[49], f"{kind} p99": cuts[98]}
        rows.append(row)
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
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    seeds = list(range(options.seeds))
    table = {name: figures(policy, seeds) for name, policy in POLICIES.items()}
    alone = figures(POLICIES["clawmw"], seeds, flood=False)
    names = list(table["clawmw"])
    print(f"{'seconds':>30} " + " ".join(f"{n:>10}" for n in names))
    for name, row in {**table, "clawmw, without the flood": alone}.items():
        print(f"{name:>30} " + " ".join(f"{row.get(n, 0):>10.1f}" for n in names))
    held = targets(table, alone)
    for name, holds in held.items():
        print(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        saved = {"seeds": seeds, "seconds": table, "without the flood": alone, "targets": held}
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    raise SystemExit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()

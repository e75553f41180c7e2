"""A provider is out for a minute: `python -m benchmarks.outage`.

A hundred calls a second come, evenly; an upstream that answers in 0.1 to 0.3 s fails all of them
with 503 after 0.05 s, for 60 s, and is well again. In virtual time (an event loop whose clock goes
forward when nothing is left to do) through clawmw's own engine, stages and traffic; only the
upstream is made up. Beside it, what others do by their documented policies, modelled here: SDK
retries under a framework's (3 x 3 attempts), tenacity as OpenAI's cookbook has it (6 attempts, full
jitter of 1 to 60 s), and the openai SDK's own (2 retries, 0.5 to 8 s, less up to a quarter).

Shown: calls that reached the upstream in the outage as a multiple of those that would have without
one; seconds after its end until no second has more than 1.05 times the normal load and 95 of 100
new calls are answered; calls that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import advance
from clawmw.core.effects import Call, Called
from clawmw.core.identity import Identity
from clawmw.core.types import Failure, Outcome, Response
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import answer, failing
from clawmw.traffic.control import Traffic

RESULTS = Path(__file__).parent / "results" / "outage.json"
EPOCH = 1_800_000_000.0
BEFORE, AFTER = 10, 30
"""Seconds before the outage and after it that are looked at."""
AMPLIFIED, BACK = 1.1, 5
"""The targets: load in the outage, seconds until all is normal."""
Ask = Callable[[int, "Upstream"], Awaitable[bool]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is left to do, its clock goes forward."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Forward(self))

    def time(self) -> float:
        """Seconds of virtual time."""
        return self.now


class _Forward(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += max(timeout or 0.0, 0.0)
        return super().select(0)


@dataclass
class Upstream:
    """A model's server with an outage, and how much came to it in each second."""

    out: tuple[float, float]
    dice: random.Random
    load: Counter[int] = field(default_factory=Counter)

    async def answer(self) -> bool:
        """Take one call; False: it failed."""
        now = asyncio.get_running_loop().time()
        self.load[int(now)] += 1
        if self.out[0] <= now < self.out[1]:
            await asyncio.sleep(0.05)
            return False
        await asyncio.sleep(self.dice.uniform(0.1, 0.3))
        return True


def retrying(attempts: int, wait: Callable[[int, random.Random], float]) -> Ask:
    """So many attempts, and a wait before each further one."""

    async def ask(number: int, upstream: Upstream) -> bool:
        for made in range(attempts):
            if made:
                await asyncio.sleep(wait(made, upstream.dice))
            if await upstream.answer():
                return True
        return False

    return ask


def clawmw(policy: dict[str, Any] | None = None) -> Ask:
    """Our own engine under a policy; every call is a conversation of its own."""
    runtime = Runtime.of(load_policy({"version": 1, "trace": "off", **(policy or {})}))

    async def ask(number: int, upstream: Upstream) -> bool:
        loop = asyncio.get_running_loop()
        if number == 0:
            runtime.clock = lambda: EPOCH + loop.time()
            runtime.traffic = Traffic(loop.time, dice=upstream.dice.random)
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"task {number}"}]}
        request = runtime.decode(DIALECT, json.dumps(body).encode())
        who = Identity(agent=f"a{number % 20}", session=f"s{number}", chain=f"c{number}")
        live = runtime.begin(request, {}, who)
        step = await live.aadvance(None)
        while isinstance(step, Call):
            started = runtime.clock()
            try:
                good = await upstream.answer()
            except asyncio.CancelledError:
                cancelled = Called(Failure("cancelled", ""), started, runtime.clock())
                advance(live.run, live.perform, cancelled)
                raise
            outcome: Outcome = answer() if good else failing(503)
            step = await live.aadvance(Called(outcome, started, runtime.clock()))
        return isinstance(live.ended(step).outcome, Response)

    return ask


def _sdk(made: int, dice: random.Random) -> float:
    return min(0.5 * 2.0 ** (made - 1), 8.0) * (1 - 0.25 * dice.random())


POLICIES: dict[str, Callable[[], Ask]] = {
    "no retries": lambda: retrying(1, lambda _made, _dice: 0.0),
    "3 x 3 attempts": lambda: retrying(9, lambda made, dice: _sdk((made - 1) % 3 + 1, dice)),
    "tenacity, 6 attempts": lambda: retrying(
        6, lambda made, dice: dice.uniform(0, min(2.0 ** (made - 1), 60.0))
    ),
    "openai SDK": lambda: retrying(3, _sdk),
    "clawmw": clawmw,
}


async def _traffic(ask: Ask, upstream: Upstream, rate: int, seconds: int) -> list[bool]:
    """Calls as they come; whether each was answered."""
    calls = []
    loop = asyncio.get_running_loop()
    for number in range(rate * seconds):
        await asyncio.sleep(max(number / rate - loop.time(), 0.0))
        calls.append(asyncio.ensure_future(ask(number, upstream)))
    return list(await asyncio.gather(*calls))


def virtual(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def figures(ask: Ask, *, rate: int = 100, outage: int = 60, seed: int = 0) -> dict[str, Any]:
    """What one policy comes to."""
    end = BEFORE + outage
    upstream = Upstream((BEFORE, end), random.Random(seed))
    answered = virtual(_traffic(ask, upstream, rate, end + AFTER))
    load = [upstream.load[second] for second in range(end + AFTER)]
    good = [sum(answered[s * rate : (s + 1) * rate]) for s in range(end + AFTER)]
    odd = [
        second
        for second in range(end, end + AFTER)
        if load[second] > 1.05 * rate or good[second] < 0.95 * rate
    ]
    return {
        "load": round(sum(load[BEFORE:end]) / (rate * outage), 3),
        "back": (max(odd) - end + 1) if odd else 0,
        "peak": round(max(load[BEFORE:]) / rate, 2),
        "failed": answered.count(False),
        "failed_outside": good[:BEFORE].count(rate) != BEFORE,
        "calls": len(answered),
    }


def targets(found: dict[str, Any]) -> dict[str, bool]:
    """What must hold of clawmw, and whether it does."""
    return {
        f"at most {AMPLIFIED} times the normal load": found["load"] <= AMPLIFIED,
        f"back to normal within {BACK} s": found["back"] <= BACK,
    }


def main() -> None:
    """Print the table and whether the targets hold; exit 1 when one does not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=int, default=100, metavar="N", help="calls a second")
    parser.add_argument("--outage", type=int, default=60, metavar="S", help="seconds")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.rate < 1 or options.outage < 1:
        parser.error("--rate and --outage: at least 1")
    print(f"{'':>22} {'load':>7} {'peak':>7} {'back (s)':>9} {'failed':>7} of calls")
    table = {}
    for name, policy in POLICIES.items():
        row = table[name] = figures(policy(), rate=options.rate, outage=options.outage)
        print(
            f"{name:>22} {row['load']:>7.3f} {row['peak']:>7.2f} {row['back']:>9}"
            f" {row['failed']:>7} {row['calls']}",
            flush=True,
        )
    held = targets(table["clawmw"])
    for name, holds in held.items():
        print(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}")
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        saved = {"rate": options.rate, "outage": options.outage, "found": table, "targets": held}
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    raise SystemExit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()

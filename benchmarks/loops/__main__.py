"""How well the loop guard tells loops: `python -m benchmarks.loops`.

Every run goes through the `loop_guard` stage alone, call by call as it was recorded (in observe
mode, so that it goes on), and fires with the first thing that is said of it.

- Labelled runs (`labels.yaml`): precision and recall on the half that nothing was tuned on, per
  kind, and how many calls after the labelled one it fired. Unsure labels are left out.
- Made-up scenarios from a seed: each must fire by a call, or must not.
- CPU of the stage: a call of a chain that moves, at its 10th and at its 1,000th call.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loops.runs import Label, labels, requests, runs
from benchmarks.loops.scenarios import TOOLS, Asked, scenarios
from benchmarks.overhead import call, history, wire
from clawmw.codecs.openai_chat import DIALECT
from clawmw.core.drive import drive
from clawmw.core.effects import Call, Called
from clawmw.core.events import Acted, Event, StageFailed
from clawmw.core.identity import Identity
from clawmw.core.types import Request
from clawmw.errors import InternalError, SourceError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stages.base import registered
from clawmw.testing import answer

RESULTS = Path(__file__).parents[1] / "results" / "loops.json"
THINKING, BETWEEN = 4.0, 1.0
"""Seconds of a recorded call, and after it."""


@dataclass(frozen=True, slots=True)
class Fired:
    """The first that was said of a run."""

    call: int
    step: str
    detector: str


class Guard:
    """A policy with the loop guard alone, and a clock that is set."""

    def __init__(self, *, mode: str = "observe") -> None:
        off: dict[str, Any] = dict.fromkeys(registered(), False)
        policy = {"version": 1, "trace": "off", "store": "memory", **off}
        self.events: list[Event] = []
        self.now = 1_800_000_000.0
        guard = {**policy, "loop_guard": {"mode": mode} if mode else False}
        self.runtime = Runtime.of(load_policy(guard), observers=[self.events.append])
        self.runtime.clock = lambda: self.now

    def ask(self, request: Request, identity: Identity) -> Acted | None:
        """One call; what the guard said first."""
        del self.events[:]
        live = self.runtime.begin(request, {}, identity)

        def called(_: Call) -> Called:
            started, self.now = self.now, self.now + THINKING
            return Called(answer(), started, self.now)

        live.ended(drive(live.run, live.perform, called))
        failed = next((e for e in self.events if isinstance(e, StageFailed)), None)
        if failed is not None:
            raise InternalError(f"loop_guard failed: {failed.error}")
        return next((e for e in self.events if isinstance(e, Acted)), None)


def fired(asked: Iterable[Request], identity: Identity) -> Fired | None:
    """When a recorded run fired, and as what."""
    guard = Guard()
    for number, request in enumerate(asked):
        guard.now += BETWEEN
        if (said := guard.ask(request, identity)) is not None:
            return Fired(number, said.rule.partition(".")[2], str(said.detail["detector"]))
    return None


def played(asked: Iterable[Asked]) -> Fired | None:
    """The same of a scenario, which has its own times and agents."""
    guard = Guard()
    tools = [{"type": "function", "function": {"name": n, "parameters": {}}} for n in TOOLS]
    for number, one in enumerate(asked):
        body = json.dumps({"model": "fake", "messages": one.messages, "tools": tools}).encode()
        guard.now = one.at
        who = Identity(session=one.session, agent=one.agent, chain=one.chain)
        if (said := guard.ask(guard.runtime.decode(DIALECT, body), who)) is not None:
            return Fired(number, said.rule.partition(".")[2], str(said.detail["detector"]))
    return None


# --- labelled runs -----------------------------------------------------------------------------


def judged(half: str, folder: Path | None) -> dict[str, Any]:
    """Precision and recall on one half."""
    wanted = [label for label in labels() if label.half == half and not label.unsure]
    rows = [
        (label, fired(requests(run), Identity(session=label.id)))
        for label, run in runs(folder, wanted)
    ]
    hits = [(label, fire) for label, fire in rows if label.loop and fire is not None]
    wrong = sum(not label.loop and fire is not None for label, fire in rows)
    loops = sum(label.loop for label, _ in rows)
    late = sorted(fire.call - (label.start or 0) for label, fire in hits)
    return {
        "runs": len(rows),
        "loops": loops,
        "found": len(hits),
        "false_alarms": wrong,
        "precision": round(len(hits) / (len(hits) + wrong), 3) if hits or wrong else None,
        "recall": round(len(hits) / loops, 3) if loops else None,
        "calls_late": {"median": statistics.median(late), "all": late} if late else None,
        "kinds": _kinds(rows),
    }


def _kinds(rows: list[tuple[Label, Fired | None]]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for label, fire in rows:
        if label.loop:
            kind = kinds.setdefault(label.kind, {"loops": 0, "found": 0})
            kind["loops"] += 1
            kind["found"] += fire is not None
    return dict(sorted(kinds.items()))


# --- scenarios ---------------------------------------------------------------------------------


def made_up(seed: int, each: int) -> dict[str, Any]:
    """How many scenarios of each kind came out as they must, and the call at which they fired."""
    kinds: dict[str, dict[str, Any]] = {}
    for one in scenarios(seed, each):
        must = "stay silent" if one.fires is None else "fire"
        kind = kinds.setdefault(one.name, {"must": must, "of": 0, "right": 0, "as": []})
        fire = played(one.asked)
        kind["of"] += 1
        if one.fires is None:
            kind["right"] += fire is None
        else:
            kind["right"] += fire is not None and fire.call <= one.fires
        if fire is not None and fire.detector not in kind["as"]:
            kind["as"].append(fire.detector)
    return kinds


# --- cost --------------------------------------------------------------------------------------


def bodies(calls: int) -> Iterator[bytes]:
    """A chain that finds something new each time, its history cut every 100 calls."""
    messages = history(4000)
    opening = len(messages)
    for index in range(calls):
        if index % 100 == 99:
            del messages[opening:]
        messages += call(10**6 + index, f"result {index}: " + "the build moves on " * 8)
        yield wire(messages)


def cost(calls: int) -> dict[str, float]:
    """CPU microseconds that the stage adds to a call, the median of 100 calls around it.

    What the first stage of any policy adds (its context, its slot) is in it; `bare_us` is the
    same call without any, on the same machine at the same time.
    """
    spent: dict[str, list[float]] = {"": [], "enforce": []}
    guards = {mode: Guard(mode=mode) for mode in spent}
    who = Identity(session="s", chain="c", agent="a")
    gc.collect()
    gc.disable()
    for body in bodies(calls):
        for mode, guard in guards.items():
            request = guard.runtime.decode(DIALECT, body)
            guard.now += 5
            start = time.thread_time()
            guard.ask(request, who)
            spent[mode].append((time.thread_time() - start) * 1e6)
    gc.enable()
    over = [guarded - bare for guarded, bare in zip(spent["enforce"], spent[""], strict=True)]
    return {
        "bare_us": round(statistics.median(spent[""]), 1),
        "call_10_us": round(statistics.median(over[5:105]), 1),
        "call_1000_us": round(statistics.median(over[-100:]), 1),
    }


# --- the table ---------------------------------------------------------------------------------


def shown(result: dict[str, Any]) -> None:
    """The figures for people."""
    for half in ("tune", "test"):
        if half in result:
            row = result[half]
            late = row["calls_late"]["median"] if row["calls_late"] else "-"
            print(
                f"{half:<5} {row['runs']} runs, {row['loops']} loops: precision "
                f"{row['precision']}, recall {row['recall']}, median {late} calls late"
            )
            for kind, counts in row["kinds"].items():
                print(f"      {kind:<14} {counts['found']} of {counts['loops']}")
    for name, kind in result["scenarios"].items():
        told = f"  ({', '.join(kind['as'])})" if kind["as"] else ""
        print(f"{name:<28} must {kind['must']:<12} {kind['right']} of {kind['of']}{told}")
    print(f"CPU a call: {result['cost']}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Precision and recall of the loop guard.")
    parser.add_argument("--traces", type=Path, help="folder of the recorded runs (*.jsonl)")
    parser.add_argument("--half", choices=("tune", "test", "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=20, help="scenarios of every kind")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for half in ("tune", "test"):
        if options.half in (half, "both"):
            try:
                result[half] = judged(half, options.traces)
            except SourceError as error:
                print(f"labelled runs are left out: {error}")
    result["scenarios"] = made_up(options.seed, options.each)
    result["cost"] = cost(options.calls)
    shown(result)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

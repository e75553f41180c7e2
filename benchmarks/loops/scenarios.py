"""Made-up conversations that are loops, or look like one: from a seed, the same each time.

A scenario is what its agents send, call by call, with the time of each. `fires` says by which
call at the latest the guard must have spoken; None: it must not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

__all__ = ["SCENARIOS", "Asked", "Scenario", "scenarios"]

Messages: TypeAlias = list[dict[str, Any]]
TOOLS = ("read", "search", "edit", "test", "poll", "send", "run")


@dataclass(frozen=True, slots=True)
class Asked:
    """One model call: who sends which history, when."""

    messages: Messages
    at: float
    session: str = "s"
    agent: str = "default"
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A conversation and what is to be said of it."""

    name: str
    asked: tuple[Asked, ...]
    fires: int | None
    """The call, counted from 0, at which it must have fired."""


Step: TypeAlias = tuple[str, dict[str, Any], str]


def _turn(number: int, *steps: Step) -> Messages:
    """A round of calls made at once, and their results."""
    calls = [
        {
            "id": f"c{number}_{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments, _) in enumerate(steps)
    ]
    results = [
        {"role": "tool", "tool_call_id": f"c{number}_{i}", "content": result}
        for i, (_, _, result) in enumerate(steps)
    ]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


def _walk(dice: random.Random, rounds: list[tuple[Step, ...]], ask: str = "") -> list[Asked]:
    """One conversation that grows by a round a call."""
    messages: Messages = [{"role": "user", "content": ask or f"task {dice.random()}"}]
    asked, at = [Asked([*messages], 0.0)], 0.0
    for number, steps in enumerate(rounds):
        messages += _turn(number, *steps)
        at += dice.uniform(2, 12)
        asked.append(Asked([*messages], at))
    return asked


def _noise(dice: random.Random) -> str:
    """What differs in each result though nothing has moved."""
    clock = f"{dice.randrange(24):02}:{dice.randrange(60):02}:{dice.randrange(60):02}"
    return (
        f"[2026-11-26 {clock}.{dice.randrange(1000):03}] request_id={dice.getrandbits(64):016x} "
        f"took {dice.uniform(0.1, 9):.2f}s in /tmp/tmp{dice.getrandbits(40):010x} "
        f"pid {dice.randrange(1000, 60000)}"
    )


def _identical(dice: random.Random) -> tuple[list[Asked], int | None]:
    step: Step = (
        "read",
        {"path": f"src/{dice.randrange(99)}.py"},
        "x = 1\n" * dice.randrange(1, 90),
    )
    before: list[tuple[Step, ...]] = [
        (("search", {"q": f"{i} {dice.random()}"}, f"hit {i}"),) for i in range(dice.randrange(6))
    ]
    return _walk(dice, [*before, *[(step,)] * 8]), len(before) + 4


def _noisy(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("poll", {"job": 7}, f"status: waiting\n{_noise(dice)}"),) for _ in range(9)
    ]
    return _walk(dice, rounds), 4


def _cycle(dice: random.Random) -> tuple[list[Asked], int | None]:
    period = dice.randrange(2, 9)
    steps: list[Step] = [("read", {"path": f"f{i}"}, f"content {i}") for i in range(period)]
    return _walk(dice, [(steps[i % period],) for i in range(period * 5)]), period * 4


def _at_once(dice: random.Random) -> tuple[list[Asked], int | None]:
    one: Step = ("read", {"path": "a"}, "a")
    other: Step = ("search", {"q": "b"}, "b")
    orders = [(one, other), (other, one), (one,), (other, one)]
    return _walk(dice, [orders[dice.randrange(4)] for _ in range(12)]), 9


def _same_error(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("run", {"cmd": f"cat {name}"}, f"cat: {name}: No such file or directory"),)
        for name in (f"dir{dice.randrange(9)}/f{i}.txt" for i in range(8))
    ]
    return _walk(dice, rounds), 4


def _varied(dice: random.Random) -> tuple[list[Asked], int | None]:
    page = "\n".join(f"line {i} of the log says nothing" for i in range(40))
    rounds: list[tuple[Step, ...]] = [
        (("run", {"cmd": f"tail log # try {i}"}, page),) for i in range(12)
    ]
    return _walk(dice, rounds), 9


def _unknown(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("browse", {"url": f"http://x/{i}"}, "Error: tool 'browse' not found"),) for i in range(5)
    ]
    return _walk(dice, rounds), 3


def _monologue(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("search", {"q": f"{i}"}, f"result {dice.random()}"),) for i in range(130)
    ]
    return _walk(dice, rounds), 126


def _ring(dice: random.Random, *, size: int, pace: float, same: bool) -> list[Asked]:
    """Agents that hand on to one another, each with a conversation of its own."""
    histories: list[Messages] = [[{"role": "system", "content": f"agent {i}"}] for i in range(size)]
    asked, at = [], 0.0
    for turn in range(size * 14):
        who = turn % size
        said = "Thanks, all done!" if same else f"And what of {dice.random()}?"
        histories[who].append({"role": "user", "content": said})
        asked.append(Asked([*histories[who]], at, f"s{who}", f"agent{who}", "ring"))
        histories[who].append({"role": "assistant", "content": said})
        at += pace
    return asked


def _echo(dice: random.Random) -> tuple[list[Asked], int | None]:
    return _ring(dice, size=2, pace=1.0, same=dice.random() < 0.5), 9


def _rings(dice: random.Random) -> tuple[list[Asked], int | None]:
    size = dice.randrange(3, 10)
    return _ring(dice, size=size, pace=dice.uniform(3, 9), same=False), size + 9


def _paging(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("read", {"path": "big", "page": i}, f"page {i}: {dice.random()}" * 30),)
        for i in range(60)
    ]
    return _walk(dice, rounds), None


def _batch(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("edit", {"path": f"src/f{i}.py", "text": "new"}, "ok"),) for i in range(50)
    ]
    return _walk(dice, rounds), None


def _mending(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = []
    for i in range(20):
        rounds.append((("edit", {"path": "a.py", "line": i, "text": f"x{i}"}, "edited"),))
        rounds.append((("test", {}, f"{dice.randrange(1, 9)} failed: AssertionError in test_{i}"),))
    return _walk(dice, rounds), None


def _moving(dice: random.Random) -> tuple[list[Asked], int | None]:
    rounds: list[tuple[Step, ...]] = [
        (("poll", {"job": 7}, f"{_noise(dice)}\n{i * 2} of 120 done"),) for i in range(60)
    ]
    return _walk(dice, rounds), None


def _again(dice: random.Random) -> tuple[list[Asked], int | None]:
    """A few repetitions that lead somewhere: read, edit, read again, build, build."""
    rounds: list[tuple[Step, ...]] = []
    for i in range(10):
        rounds += [(("read", {"path": "a"}, f"version {i}"),)] * dice.randrange(1, 3)
        rounds.append((("edit", {"path": "a", "text": f"version {i + 1}"}, "edited"),))
        rounds += [(("run", {"cmd": "make"}, "build ok in 1.2s"),)] * dice.randrange(1, 3)
    return _walk(dice, rounds), None


def _chat(dice: random.Random) -> tuple[list[Asked], int | None]:
    """A person who says "go on" often, and gets another answer each time."""
    messages: Messages = []
    asked, at = [], 0.0
    for i in range(30):
        messages.append({"role": "user", "content": "go on"})
        asked.append(Asked([*messages], at))
        messages.append({"role": "assistant", "content": f"Chapter {i}: {dice.random()}"})
        at += dice.uniform(4, 40)
    return asked, None


def _heartbeat(dice: random.Random) -> tuple[list[Asked], int | None]:
    messages: Messages = []
    asked = []
    for i in range(30):
        messages.append({"role": "user", "content": "anything to do?"})
        messages += _turn(i, ("read", {"path": "HEARTBEAT.md"}, "nothing"))
        asked.append(Asked([*messages], i * 1800.0))
        messages.append({"role": "assistant", "content": "OK"})
    return asked, None


def _workers(dice: random.Random) -> tuple[list[Asked], int | None]:
    """Workers that read the same file at the same time, each once."""
    asked = []
    for i in range(60):
        opening: Messages = [{"role": "user", "content": f"do part {i}"}]
        asked.append(Asked(opening, i * 0.1, f"w{i}", f"worker{i % 2}", "fan"))
        history = [*opening, *_turn(0, ("read", {"path": "plan"}, "the plan"))]
        asked.append(Asked(history, 10 + i * 0.1, f"w{i}", f"worker{i % 2}", "fan"))
    return asked, None


def _crew(dice: random.Random) -> tuple[list[Asked], int | None]:
    """A lead and two experts who hand on to one another, and find something each time."""
    histories: dict[str, Messages] = {a: [] for a in ("lead", "one", "two")}
    asked, at = [], 0.0
    for turn in range(40):
        who = ("lead", "one", "lead", "two")[turn % 4]
        mine = histories[who]
        mine.append({"role": "user", "content": f"please look into {dice.random()}"})
        asked.append(Asked([*mine], at, who, who, "crew"))
        mine += _turn(turn, ("search", {"q": f"{turn}"}, f"found {dice.random()}"))
        asked.append(Asked([*mine], at + 4, who, who, "crew"))
        mine.append({"role": "assistant", "content": f"it is {dice.random()}"})
        at += 12
    return asked, None


SCENARIOS: dict[str, Callable[[random.Random], tuple[list[Asked], int | None]]] = {
    "identical": _identical,
    "identical but for noise": _noisy,
    "cycle": _cycle,
    "calls at once": _at_once,
    "same error": _same_error,
    "new arguments, same result": _varied,
    "unknown tool": _unknown,
    "monologue": _monologue,
    "echo of two": _echo,
    "ring": _rings,
    "paging": _paging,
    "batch": _batch,
    "edit and test": _mending,
    "poll that moves": _moving,
    "repeats that lead somewhere": _again,
    "go on": _chat,
    "heartbeat": _heartbeat,
    "workers": _workers,
    "crew": _crew,
}


def scenarios(seed: int, each: int) -> Iterator[Scenario]:
    """`each` of every kind."""
    for name, make in SCENARIOS.items():
        for number in range(each):
            asked, fires = make(random.Random(f"{seed}/{name}/{number}"))
            start = 1_800_000_000.0
            timed = tuple(replace(one, at=start + one.at) for one in asked)
            yield Scenario(name, timed, fires)

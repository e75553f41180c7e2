"""Long agent runs with long tool results, made up: `python -m benchmarks.long_runs`.

Four kinds of agent (coding, operations, web research, data work) call tools 15 to 60 times a
run; results hold 50 to 40,000 tokens. Files are read again after edits, logs grow, tables are
asked for twice. Later calls use what earlier results showed, 1 to 20 steps back, from places
drawn evenly over the result: the record that failed, a function named in a trace, but also
plain rows that a user asks for by name. Some runs end in a question whose answer one earlier
result holds (`labels.answers`).

Everything follows from the seed: no clock, no hash order. Vocabulary, identifier style, log
format and page layout are drawn anew for each run. Keep `HOLD_OUT` for judging: tune on others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.long_runs.coding import Coding
from benchmarks.long_runs.datawork import DataWork
from benchmarks.long_runs.operations import Operations
from benchmarks.long_runs.play import Play, World
from benchmarks.long_runs.web import Web
from benchmarks.long_runs.words import Words

__all__ = ["HOLD_OUT", "KINDS", "generate"]

HOLD_OUT = 9001
"""The seed to judge with."""
KINDS: dict[str, Callable[[Words], World]] = {
    "long-coding": Coding,
    "long-operations": Operations,
    "long-web": Web,
    "long-data": DataWork,
}


def generate(seed: int, runs: int) -> Iterator[dict[str, Any]]:
    """So many runs, the kinds in turn. Run i is the same however many are asked for."""
    kinds = list(KINDS.items())
    for index in range(runs):
        source, kind = kinds[index % len(kinds)]
        dice = random.Random(f"{source}/{seed}/{index}")
        yield Play(kind(Words(dice)), dice).run(source, f"{seed}-{index}")

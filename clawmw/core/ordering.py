"""The declared order of stages: sorted by what each says must run before or after it."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from clawmw.core.stage import Stage
from clawmw.errors import PolicyError

__all__ = ["order"]


def order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages as they run on the way down.

    Those that run once a call come before those that run every attempt; within that, what
    `below` and `above` demand, and otherwise by name, so that the order never depends on
    the file. Raises `PolicyError` naming the stages whose demands conflict.
    """
    by_name = {stage.traits.name: stage for stage in stages}
    edges: dict[str, set[str]] = {name: set() for name in sorted(by_name)}
    for name, stage in by_name.items():
        for upper in stage.traits.below:
            if upper in edges:
                edges[name].add(upper)
        for lower in stage.traits.above:
            if lower in edges:
                edges[lower].add(name)
        if stage.traits.runs == "attempt":
            edges[name].update(n for n, s in by_name.items() if s.traits.runs == "call")
    try:
        sorter = TopologicalSorter(edges)
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise PolicyError(f"these stages each want to run before the next: {circle}") from error
    ordered: list[Stage] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered.extend(by_name[name] for name in ready)
        sorter.done(*ready)
    return tuple(ordered)

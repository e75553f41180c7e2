"""Which chains a list is of: filtered, sorted, page by page; quick in a store of many.

Two steps: the ids of all that match, from as few columns as the filter and the order need, and
then the sums of the few that are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clawmw.observe.reading.chains import STATUS, Chain, Sort, summed
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["STATUSES", "Filter", "choices", "going_on", "matching", "these"]

STATUSES = ("ok", "unwell", "failed", "halted", "cancelled")
"""What can be asked for; `unwell`: any but ok."""
_WORDS = 8
"""Words of a search that count."""
_ACTIVE_NS = 30 * 10**9
"""A chain one of whose calls ended so short a time ago may go on."""
_OF_LATE = 5000
"""Spans whose agents and models can be chosen from."""
_CHOICES, _LONGEST_CHOICE = 200, 120
_CALL = "op = 'chat'"
_TELLING = "HAVING max(op <> 'span')"
"""A trace of another program that is about no model, agent or tool is not listed."""
_KEYS: dict[Sort, str] = {
    "newest": "max(end_ns)",
    "wall": "max(end_ns) - min(start_ns)",
    "calls": f"sum({_CALL})",
    "tokens": f"sum(CASE WHEN {_CALL} THEN coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"
    " ELSE 0 END)",
    "cost": "coalesce(sum(cost_nano), -1)",
    "saved": "coalesce(sum(baseline_nano - cost_nano), -1e18)",
    "stops": f"sum(CASE WHEN {_CALL} THEN coalesce(stopped, 0) ELSE 0 END)",
}
_SEARCHED = ("chain_id", "trace_id", "agent", "model", "name", "kind", "session_id")


@dataclass(frozen=True, slots=True)
class Filter:
    """What chains must have, and their order. A chain has what any of its spans has."""

    text: str = ""
    """Words, each of them somewhere in a name or an id."""
    agent: str | None = None
    model: str | None = None
    status: str | None = None
    """One of `STATUSES`."""
    since_ns: int | None = None
    sort: Sort = "newest"

    @property
    def any(self) -> bool:
        """Whether it leaves out anything."""
        return replace(self, sort="newest") != Filter()


def matching(store: SpanStore, wanted: Filter) -> list[str]:
    """The trace ids of all chains that match, in order."""
    conditions: list[str] = []
    values: list[object] = []

    def having(condition: str, *bound: object) -> None:
        conditions.append(f"trace_id IN (SELECT trace_id FROM spans WHERE {condition})")  # noqa: S608
        values.extend(bound)

    for word in wanted.text.split()[:_WORDS]:
        like = "%" + word.replace("^", "^^").replace("%", "^%").replace("_", "^_") + "%"
        either = " OR ".join(f"{column} LIKE ? ESCAPE '^'" for column in _SEARCHED)
        having(either, *[like] * len(_SEARCHED))
    if wanted.agent is not None:
        having("agent = ?", wanted.agent)
    if wanted.model is not None:
        having("model = ?", wanted.model)
    if wanted.since_ns is not None:
        having("end_ns >= ?", wanted.since_ns)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = f"trace_id, max(end_ns) AS newest, {_KEYS[wanted.sort]} AS sorted"
    if wanted.status is None:
        sql = f"SELECT {columns} FROM spans {where} GROUP BY trace_id {_TELLING}"  # noqa: S608
        sql = f"SELECT trace_id FROM ({sql}) ORDER BY sorted DESC, newest DESC, trace_id"  # noqa: S608
        return [row[0] for row in store.query(sql, values)]
    is_it = "status <> 'ok'" if wanted.status == "unwell" else "status = ?"
    bound = [] if wanted.status == "unwell" else [wanted.status]
    sql = f"""
        SELECT trace_id FROM (
          SELECT *, {STATUS}
          FROM (
            SELECT {columns}, max(CASE WHEN op = 'invoke_workflow' THEN status END) AS root_status,
              substr(max(CASE WHEN {_CALL} THEN printf('%020d', end_ns) || status END), 21)
                AS last_status
            FROM spans {where} GROUP BY trace_id {_TELLING}))
        WHERE {is_it} ORDER BY sorted DESC, newest DESC, trace_id
        """  # noqa: S608 made of constants; what a user gave is bound
    return [row[0] for row in store.query(sql, [*values, *bound])]


def these(store: SpanStore, ids: Sequence[str]) -> tuple[Chain, ...]:
    """The chains of these traces, in this order; those that are gone are left out."""
    found: dict[str, Chain] = {}
    for first in range(0, len(ids), 500):
        some = ids[first : first + 500]
        marks = ", ".join(["(?)"] * len(some))
        found |= {chain.trace_id: chain for chain in summed(store, f"VALUES {marks}", some, "")}
    return tuple([found[one] for one in ids if one in found])


def going_on(store: SpanStore, chains: Sequence[Chain], now_ns: int) -> frozenset[str]:
    """The trace ids of chains that may go on: a call ended just now, and nobody closed the chain.

    A chain that a flow opened is over once its own span is written.
    """
    late = [chain.trace_id for chain in chains if 0 <= now_ns - chain.end_ns < _ACTIVE_NS]
    marks = ", ".join("?" * len(late))
    closed = store.query(
        f"SELECT trace_id FROM spans WHERE op = 'invoke_workflow' AND trace_id IN ({marks})",  # noqa: S608 question marks
        late,
    )
    return frozenset(late) - {row[0] for row in closed}


def choices(store: SpanStore) -> tuple[list[str], list[str]]:
    """The agents and the models of late, to choose from; without names no list can show."""
    rows = store.query(
        "SELECT DISTINCT agent, model FROM "
        "(SELECT agent, model FROM spans ORDER BY end_ns DESC LIMIT ?)",
        (_OF_LATE,),
    )
    return _names({row["agent"] for row in rows}), _names({row["model"] for row in rows})


def _names(found: set[str | None]) -> list[str]:
    shown = [n for n in found if n and n.isprintable() and len(n) <= _LONGEST_CHOICE]
    return sorted(shown)[:_CHOICES]

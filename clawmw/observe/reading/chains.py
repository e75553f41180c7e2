"""Reading the span store: one row a chain, and one chain as a tree.

When calls come over the wire, nobody says when a chain or an agent is done, so nobody can
write their spans. The reader then infers them from the model calls beneath: it is the one
place that sees the spans of all processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from clawmw.observe.spans.ids import agent_span_id, hashed_name, root_span_id
from clawmw.observe.store.spanstore import COLUMNS, SpanRow, SpanStore

__all__ = ["SORTS", "STATUS", "Chain", "Node", "Sort", "chains", "find", "spans", "summed", "tree"]

Sort: TypeAlias = Literal["newest", "wall", "calls", "tokens", "cost", "saved", "stops"]
_ORDER: dict[Sort, str] = {
    "newest": "end_ns",
    "wall": "end_ns - start_ns",
    "calls": "calls",
    "tokens": "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)",
    "cost": "coalesce(cost_nano, -1)",
    "saved": "coalesce(saved_nano, -1e18)",
    "stops": "stops",
}
SORTS: tuple[Sort, ...] = tuple(_ORDER)
"""What chains can be sorted by; always the largest first."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain, summed over its model calls. None: no call said it.

    Where only some calls said it, the sum is over those, and the `unknown_*` count of the
    others is not 0: the sum is then a lower bound.
    """

    trace_id: str
    chain_id: str
    tenant: str
    name: str | None
    """What the flow that opened the chain called it."""
    start_ns: int
    end_ns: int
    agents: int
    calls: int
    failed: int
    answered: int
    """Calls clawmw answered itself."""
    stops: int
    """Calls a guard kept from the model."""
    status: str
    """`ok`, `failed`, `halted` or `cancelled`: the flow's own word, else the last call's."""
    input_tokens: int | None
    output_tokens: int | None
    unknown_usage: int
    cache_read_tokens: int | None
    cacheable_tokens: int | None
    """Input tokens of the calls whose cache reads are known."""
    cost_nano: int | None
    unknown_cost: int
    assumed_nano: int | None
    """Charged at most for attempts that broke without an answer; not in `cost_nano`."""
    baseline_nano: int | None
    saved_nano: int | None
    """Baseline less cost, over the calls where both are known."""
    compared_nano: int | None
    """The baseline of those calls."""
    estimated: int
    """Calls whose usage was estimated, not reported."""
    raw_tokens: int | None
    sent_tokens: int | None
    would_tokens: int | None
    predicted_tokens: int | None
    overhead_us: int | None
    modes: str
    """The modes calls ran in, joined by commas."""
    estimated_cost: int
    """Calls whose cost was estimated: by their usage, or by another library's word."""
    reported: int
    """Calls that only another library tells of."""


_ROOT = "op = 'invoke_workflow'"
_CALL = "op = 'chat'"
_USED = f"{_CALL} AND input_tokens IS NOT NULL"
_TOTALS = f"""
SELECT trace_id,
  coalesce(max(chain_id), trace_id) AS chain_id,
  coalesce(max(tenant), '') AS tenant,
  max(CASE WHEN {_ROOT} THEN replace(name, 'invoke_workflow ', '') END) AS name,
  min(start_ns) AS start_ns,
  max(end_ns) AS end_ns,
  count(DISTINCT CASE WHEN op IN ('chat', 'invoke_agent') THEN agent END) AS agents,
  sum({_CALL}) AS calls,
  sum({_CALL} AND status = 'failed') AS failed,
  sum({_CALL} AND status = 'answered') AS answered,
  sum(CASE WHEN {_CALL} THEN coalesce(stopped, 0) ELSE 0 END) AS stops,
  max(CASE WHEN {_ROOT} THEN status END) AS root_status,
  substr(max(CASE WHEN {_CALL} THEN printf('%020d', end_ns) || status END), 21) AS last_status,
  sum(CASE WHEN {_CALL} THEN input_tokens END) AS input_tokens,
  sum(CASE WHEN {_CALL} THEN output_tokens END) AS output_tokens,
  sum({_CALL} AND input_tokens IS NULL AND status IN ('ok', 'cancelled')) AS unknown_usage,
  sum(CASE WHEN {_USED} THEN cache_read_tokens END) AS cache_read_tokens,
  sum(CASE WHEN {_CALL} AND cache_read_tokens IS NOT NULL THEN input_tokens END)
    AS cacheable_tokens,
  sum(cost_nano) AS cost_nano,
  sum({_CALL} AND (cost_nano IS NULL OR coalesce(assumed_nano, 0) > 0)) AS unknown_cost,
  sum(assumed_nano) AS assumed_nano,
  sum(baseline_nano) AS baseline_nano,
  sum(baseline_nano - cost_nano) AS saved_nano,
  sum(CASE WHEN cost_nano IS NOT NULL THEN baseline_nano END) AS compared_nano,
  sum({_CALL} AND usage_basis IS 'estimated') AS estimated,
  sum(raw_tokens) AS raw_tokens,
  sum(sent_tokens) AS sent_tokens,
  sum(would_tokens) AS would_tokens,
  sum(predicted_tokens) AS predicted_tokens,
  sum(overhead_us) AS overhead_us,
  coalesce(group_concat(DISTINCT mode), '') AS modes,
  sum({_CALL} AND cost_basis IS 'estimated') AS estimated_cost,
  sum({_CALL} AND source IS NOT NULL) AS reported,
  sum(op <> 'span') AS telling
FROM spans
"""  # noqa: S608 made of constants, as all SQL here; what a user gave is bound
# A flow that a guard stopped has ended in order; what stopped it is what its reader must know.
STATUS = """
  CASE WHEN root_status IN ('ok', 'failed') AND last_status = 'halted' THEN 'halted'
       WHEN root_status IS NOT NULL THEN root_status
       ELSE coalesce(replace(last_status, 'answered', 'ok'), 'ok') END AS status
"""
_FIELDS = tuple(f.name for f in fields(Chain))


def chains(
    store: SpanStore,
    *,
    limit: int = 20,
    since_ns: int | None = None,
    failed: bool = False,
    sort: Sort = "newest",
) -> list[Chain]:
    """The chains that had a span end at or after `since_ns`, the largest by `sort` first.

    With `failed`, only those that did not end well. A trace of another program that is about
    no model, agent or tool is not listed.
    """
    only = "WHERE telling > 0" + (" AND status <> 'ok'" if failed else "")
    tail = f"{only} ORDER BY {_ORDER[sort]} DESC, end_ns DESC, trace_id LIMIT {int(limit)}"
    if since_ns is None:
        return summed(store, "", (), tail)
    return summed(store, "SELECT trace_id FROM spans WHERE end_ns >= ?", (since_ns,), tail)


def find(store: SpanStore, wanted: str) -> list[Chain]:
    """The chains a user may mean: by trace id or chain id, else by their beginning.

    A chain whose name is kept as a digest only (`trace.ids: hashed`) is found by its whole name.
    Empty: none. More than one: ambiguous (at most five are returned).
    """
    exact, beginning = "{0} = ?", "substr({0}, 1, length(?)) = ?"
    for match, name in ((exact, wanted), (exact, hashed_name(wanted)), (beginning, wanted)):
        values = [name] * match.count("?") * 2
        either = " OR ".join(match.format(column) for column in ("trace_id", "chain_id"))
        traces = f"SELECT DISTINCT trace_id FROM spans WHERE {either} LIMIT 5"  # noqa: S608
        found = summed(store, traces, values, "ORDER BY end_ns DESC")
        if found:
            return found
    return []


def spans(store: SpanStore, trace_id: str) -> list[SpanRow]:
    """All spans of a trace, by start, with those nobody wrote inferred (`synthetic`)."""
    columns = ", ".join(f"spans.{c}" for c in COLUMNS)
    rows = store.query(
        f"SELECT {columns}, attributes, events FROM spans "  # noqa: S608
        "LEFT JOIN details USING (trace_id, span_id) WHERE trace_id = ?",
        (trace_id,),
    )
    stored = [
        SpanRow(
            **{column: row[column] for column in COLUMNS},
            attributes=json.loads(row["attributes"] or "{}"),
            events=tuple(json.loads(row["events"] or "[]")),
        )
        for row in rows
    ]
    return _completed(stored)


@dataclass(frozen=True, slots=True)
class Node:
    """A span and what it led to, in the order of their start."""

    span: SpanRow
    children: tuple[Node, ...]


def tree(rows: Sequence[SpanRow]) -> Node | None:
    """The spans as a tree; None when there are none. No span is left out."""
    children: dict[str | None, list[SpanRow]] = {}
    ids = {row.span_id for row in rows}
    for row in rows:
        children.setdefault(row.parent_id if row.parent_id in ids else None, []).append(row)
    roots = [_node(row, children) for row in children.pop(None, [])]
    if not roots:
        return None
    circular = [Node(row, ()) for below in children.values() for row in below]
    return Node(roots[0].span, (*roots[0].children, *roots[1:], *circular))


def _node(row: SpanRow, children: dict[str | None, list[SpanRow]], depth: int = 0) -> Node:
    """A span with what is beneath it; from `_DEEPEST` on side by side, no reader looks deeper."""
    below = sorted(children.pop(row.span_id, []), key=_start)
    if depth < _DEEPEST:
        return Node(row, tuple([_node(child, children, depth + 1) for child in below]))
    flat, ahead = [], below[::-1]
    while ahead:
        one = ahead.pop()
        flat.append(Node(one, ()))
        ahead += sorted(children.pop(one.span_id, []), key=_start, reverse=True)
    return Node(row, tuple(flat))


_DEEPEST = 100
"""Levels of a tree. Whatever is nested deeper, by whoever, must not exhaust Python's stack."""
_RANK = ("invoke_workflow", "invoke_agent", "execute_tool", "chat")


def _start(row: SpanRow) -> tuple[int, int, int, str]:
    rank = _RANK.index(row.op) if row.op in _RANK else len(_RANK)
    return row.start_ns, rank, row.seq or 0, row.name


def summed(store: SpanStore, traces: str, values: Sequence[object], tail: str) -> list[Chain]:
    """The chains whose trace id the SELECT `traces` gives; all of them where it is empty.

    `tail`: the ORDER BY and LIMIT. Both are SQL of ours; what a user gave is in `values`.
    """
    where = f"WHERE trace_id IN ({traces})" if traces else ""
    totals = f"{_TOTALS} {where} GROUP BY trace_id"
    sql = f"SELECT * FROM (SELECT *, {STATUS} FROM ({totals})) {tail}"  # noqa: S608
    rows = store.query(sql, values)
    return [Chain(**{name: row[name] for name in _FIELDS}) for row in rows]


def _completed(stored: list[SpanRow]) -> list[SpanRow]:
    """The spans with every parent present: agents first, then the root.

    A model call's parent may be missing because nobody opened its agent, because the
    agent's process was killed, or because it is a span of the application, which only its
    own exporter has. It then goes under the agent (by name and session) it was made for; so does
    one right under another agent's span. An agent that another one called goes under that one.
    """
    if not stored:
        return []
    present = {row.span_id for row in stored}
    callers = {row.span_id: _agent(row) for row in stored if row.op == "invoke_agent"}
    agents = {_agent(row): row.span_id for row in reversed(stored) if row.op == "invoke_agent"}
    taken = set(agents.values())
    below: dict[str, list[SpanRow]] = {}
    above: dict[str, str] = {}
    rows = []
    for row in stored:
        ours = row.source is None and row.op in ("chat", "execute_tool")
        own = callers.get(row.parent_id or "", _agent(row)) == _agent(row)
        if not ours or (row.parent_id in present and own):
            rows.append(row)
            continue
        parent = agents.get(_agent(row))
        if parent is None:
            free = row.parent_id and row.parent_id not in present and row.parent_id not in taken
            parent = row.parent_id if row.parent_id and free else _agent_id(row)
            agents[_agent(row)] = parent
            taken.add(parent)
        if parent not in present and not own:
            above.setdefault(parent, row.parent_id or "")
        elif parent not in present and (caller := agents.get(_caller(row))) != parent:
            above.setdefault(parent, caller or "")
        rows.append(replace(row, parent_id=parent))
        if parent not in present:
            below.setdefault(parent, []).append(rows[-1])
    inferred = [_inferred(agent, "invoke_agent", children) for agent, children in below.items()]
    rows += [replace(row, parent_id=above.get(row.span_id)) for row in inferred]
    return sorted(_rooted(rows), key=_start)


def _rooted(rows: list[SpanRow]) -> list[SpanRow]:
    """The rows beneath one root, stored or inferred."""
    derived = f"{root_span_id(int(rows[0].trace_id, 16)):016x}"
    roots = [row.span_id for row in rows if row.op == "invoke_workflow"] or _begun(rows)
    root = derived if derived in roots or not roots else roots[0]
    present = {row.span_id for row in rows}
    placed = [
        row
        if row.span_id == root
        else replace(row, parent_id=root if row.parent_id not in present else row.parent_id)
        for row in rows
    ]
    if not roots:
        placed.append(_inferred(root, "invoke_workflow", rows))
    return [replace(r, parent_id=None) if r.span_id == root else r for r in placed]


def _begun(rows: list[SpanRow]) -> list[str]:
    """The span of another library that the trace began with, where there is just one."""
    first = [row.span_id for row in rows if row.source is not None and row.parent_id is None]
    return first if len(first) == 1 else []


def _agent(row: SpanRow) -> tuple[str | None, str | None]:
    return row.agent, row.session_id


def _caller(row: SpanRow) -> tuple[str | None, str | None]:
    """The agent of another process that called this one."""
    said = row.attributes
    return said.get("clawmw.parent.agent"), said.get("clawmw.parent.session")


def _agent_id(row: SpanRow) -> str:
    """The id that its agent's span has where somebody writes one."""
    agent = agent_span_id(int(row.trace_id, 16), row.agent or "", row.session_id or "")
    return f"{agent:016x}"


def _inferred(span_id: str, op: str, children: Iterable[SpanRow]) -> SpanRow:
    """A span that spans its children and went as the last of them."""
    rows = list(children)
    first, last = rows[0], max(rows, key=lambda row: row.end_ns)
    name = first.agent if op == "invoke_agent" else first.chain_id or first.trace_id
    return SpanRow(
        trace_id=first.trace_id,
        span_id=span_id,
        parent_id=None,
        op=op,
        name=f"{op} {name or ''}".rstrip(),
        start_ns=min(row.start_ns for row in rows),
        end_ns=last.end_ns,
        status="ok" if last.status == "answered" else last.status,
        tenant=first.tenant,
        chain_id=first.chain_id,
        session_id=first.session_id if op == "invoke_agent" else None,
        agent=first.agent if op == "invoke_agent" else None,
        synthetic=True,
    )

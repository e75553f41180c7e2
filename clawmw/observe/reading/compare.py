"""Two runs of one task side by side: what they came to, by agent and model, and where they part.

Calls are compared along each agent's conversations, since agents that work side by side have no
order among each other: the first conversation of an agent in one run with its first in the other,
call by call. Two calls are alike when the tools the model asked for and the end are the same. A
model that another one stands for is told apart, and the comparison goes on. What was said is not
looked at, and so not what the model answered in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clawmw.observe.reading.chains import Chain
from clawmw.observe.reading.summary import left_out
from clawmw.observe.reading.sums import Sum, own
from clawmw.observe.store.spanstore import SpanRow

__all__ = ["Comparison", "Group", "Parting", "Run", "Step", "Switch", "compare"]

Differs: TypeAlias = Literal["tools", "end", "only_a", "only_b"]
_ACTED = ("clawmw.acted", "clawmw.loop.capped")
_KNOWN_ENDS = ("ok", "answered")


@dataclass(slots=True)
class Group(Sum):
    """The calls of one agent to one model, summed."""

    agent: str = ""
    model: str = ""
    calls: int = 0
    requests: int = 0
    """Sent to the provider: tries, and answers to what the model asked clawmw."""

    def take(self, row: SpanRow) -> None:
        """Take in one call."""
        self.calls += 1
        self.requests += row.attempts or 0
        self.add(own(row))


@dataclass(frozen=True, slots=True)
class Step:
    """One model call, as far as it is compared."""

    number: int
    """Of the calls in that conversation, from 1."""
    model: str
    tools: tuple[str, ...]
    """The model asked for these, in its order; the first 16."""
    end: str
    """`ok`, or how else it ended, with the reason."""
    start_ns: int
    span_id: str


@dataclass(frozen=True, slots=True)
class Parting:
    """Where a conversation goes on differently: the first calls that are not alike."""

    agent: str
    conversation: int
    """Of that agent, from 1."""
    differs: tuple[Differs, ...]
    a: Step | None
    b: Step | None
    """None: that run has no such call."""
    more_a: int
    more_b: int
    """Calls after that."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Calls that another model answered in the other run."""

    a: str
    b: str
    calls: int
    agent: str
    number: int
    """The first of them: of that agent, which of its conversation's calls."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two."""

    chain: Chain
    policies: tuple[str, ...]
    """Digests of the policies its calls ran under."""
    groups: Mapping[tuple[str, str], Group]
    requests: int
    left_out: Mapping[str, int]
    """Tokens not sent by mechanism, estimated."""
    acted: Mapping[str, int]
    """How often each rule acted."""
    would: Mapping[str, int]
    """How often each rule was only said (observe mode)."""
    stopped: Mapping[str, int]
    """Calls stopped, by rule."""
    moved: Mapping[str, int]
    """Expected cache hits that did not come, by the part that moved."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, and where they part."""

    a: Run
    b: Run
    alike: int
    """Calls at the beginning of the conversations that are alike in both."""
    switches: tuple[Switch, ...] = ()
    """Models that stand for others in these calls, and in the first that is not alike."""
    partings: tuple[Parting, ...] = ()
    """The one that came first in time before the others."""


def compare(a: Chain, a_rows: Sequence[SpanRow], b: Chain, b_rows: Sequence[SpanRow]) -> Comparison:
    """Compare two chains by their spans."""
    conversations_a, conversations_b = _conversations(a_rows), _conversations(b_rows)
    alike = 0
    switched: list[tuple[str, Step, Step]] = []
    found: list[tuple[int, Parting]] = []
    for key in dict.fromkeys([*conversations_a, *conversations_b]):
        steps = conversations_a.get(key, []), conversations_b.get(key, [])
        same = _same(*steps)
        alike += same
        pairs = list(zip(*steps, strict=False))[: same + 1]
        switched += [(key[0], one, other) for one, other in pairs if one.model != other.model]
        if same < max(map(len, steps)):
            parting = _parting(key, steps[0][same:], steps[1][same:])
            found.append((_when(parting, a, b), parting))
    partings = tuple(parting for _, parting in sorted(found, key=lambda item: item[0]))
    return Comparison(_run(a, a_rows), _run(b, b_rows), alike, _switches(switched), partings)


def _switches(found: Iterable[tuple[str, Step, Step]]) -> tuple[Switch, ...]:
    """One for each pair of models, the most calls first."""
    pairs: dict[tuple[str, str], list[tuple[str, Step, Step]]] = {}
    for agent, one, other in sorted(found, key=lambda item: item[1].start_ns):
        pairs.setdefault((one.model, other.model), []).append((agent, one, other))
    made = [
        Switch(*models, len(calls), calls[0][0], calls[0][1].number)
        for models, calls in pairs.items()
    ]
    return tuple(sorted(made, key=lambda switch: -switch.calls))


def _run(chain: Chain, rows: Sequence[SpanRow]) -> Run:
    calls = [row for row in rows if row.op == "chat"]
    groups: dict[tuple[str, str], Group] = {}
    acted: Counter[str] = Counter()
    would: Counter[str] = Counter()
    for row in calls:
        key = (row.agent or "", row.model or "")
        groups.setdefault(key, Group(agent=key[0], model=key[1])).take(row)
        for event in row.events:
            if event.get("name") in _ACTED and isinstance(event.get("rule"), str):
                (would if event.get("would") else acted)[event["rule"]] += 1
    policies = dict.fromkeys(str(row.attributes.get("clawmw.policy") or "") for row in calls)
    return Run(
        chain,
        tuple(digest for digest in policies if digest),
        groups,
        sum(group.requests for group in groups.values()),
        dict(left_out(rows)),
        dict(acted.most_common()),
        dict(would.most_common()),
        _counted(row.stopped_by for row in calls if row.stopped),
        _counted(row.moved for row in calls),
    )


def _counted(names: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(name for name in names if name).most_common())


def _conversations(rows: Sequence[SpanRow]) -> dict[tuple[str, int], list[Step]]:
    """The calls of each agent's first, second ... conversation, in order."""
    calls = sorted(
        (row for row in rows if row.op == "chat"), key=lambda row: (row.start_ns, row.seq or 0)
    )
    numbers: dict[tuple[str, str | None], int] = {}
    agents: Counter[str] = Counter()
    result: dict[tuple[str, int], list[Step]] = {}
    for row in calls:
        agent = row.agent or ""
        whose = (agent, row.session_id)
        if whose not in numbers:
            agents[agent] += 1
            numbers[whose] = agents[agent]
        steps = result.setdefault((agent, numbers[whose]), [])
        steps.append(_step(row, len(steps) + 1))
    return result


def _step(row: SpanRow, number: int) -> Step:
    tools = row.attributes.get("clawmw.tools")
    end = "ok" if row.status in _KNOWN_ENDS else row.status
    if row.stopped_by:
        end = f"stopped by {row.stopped_by}"
    elif row.status == "answered":
        end = "answered by clawmw"
    elif row.error_type and end != "ok":
        end = f"{end} {row.error_type}"
    names = tuple(str(name) for name in tools) if isinstance(tools, list | tuple) else ()
    return Step(number, row.model or "", names, end, row.start_ns, row.span_id)


def _same(a: Sequence[Step], b: Sequence[Step]) -> int:
    """How many of the first calls are alike."""
    number = 0
    for one, other in zip(a, b, strict=False):
        if _differs(one, other):
            break
        number += 1
    return number


def _differs(a: Step, b: Step) -> tuple[Differs, ...]:
    found: list[Differs] = []
    if a.tools != b.tools:
        found.append("tools")
    if a.end != b.end:
        found.append("end")
    return tuple(found)


def _parting(key: tuple[str, int], a: Sequence[Step], b: Sequence[Step]) -> Parting:
    first_a, first_b = (a[0] if a else None), (b[0] if b else None)
    differs: tuple[Differs, ...]
    if first_a is not None and first_b is not None:
        differs = _differs(first_a, first_b)
    else:
        differs = ("only_b",) if first_a is None else ("only_a",)
    more = max(len(a) - 1, 0), max(len(b) - 1, 0)
    return Parting(*key, differs, first_a, first_b, *more)


def _when(parting: Parting, a: Chain, b: Chain) -> int:
    """How far into its run the first of the two calls began."""
    sides = ((parting.a, a), (parting.b, b))
    return min(step.start_ns - chain.start_ns for step, chain in sides if step is not None)

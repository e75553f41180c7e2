"""Flows on LangGraph: a plan becomes a StateGraph with a SQLite checkpointer.

Every prompt, every model call and every batch of tool calls is a super-step of its own,
and its result is on disk before the next one begins. A run that was killed goes on at the
call it was killed in, and sends that call's bytes again.

::

    runner = FlowRunner(plan, call=caller, checkpoints=path)
    outcome = runner.run({"city": "Shanghai"}, thread="trip-1")

This is the only file that imports langgraph.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from clawmw.core.identity import Identity
from clawmw.errors import PolicyError
from clawmw.flow.expr import did_you_mean
from clawmw.flow.plan import Plan, StepPlan
from clawmw.flow.storage import JsonSerializer, forget_steps, hold, open_file, threads
from clawmw.flow.turns import Caller, Observer, State, Stop, Turns

__all__ = ["FlowRunner", "Outcome", "StepDone", "build_graph", "flow_of"]

Graph = CompiledStateGraph[State, None, State, State]


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is over. Tokens are what the provider measured, over `measured` of the calls."""

    id: str
    agent: str | None
    status: str
    calls: int
    measured: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    """In this process; a resumed step does not count its earlier part."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    flow: str
    thread: str
    status: Literal["done", "stopped"]
    output: Any
    steps: Mapping[str, Mapping[str, Any]]
    """Step -> its record: `output`, `status` (done or skipped), calls and tokens."""
    calls: int
    """Model calls of the run, over all its resumptions; those of unfinished steps included."""
    seconds: float
    """In this process."""
    rule: str | None = None
    """Of a stopped run: the limit, as the policy spells it."""
    reason: str | None = None
    """Of a stopped run: what was reached, and how to go on."""


class FlowRunner:
    """Runs one plan. `call` sends a model call; `progress` is told of every finished step."""

    def __init__(
        self,
        plan: Plan,
        *,
        call: Caller,
        checkpoints: Path,
        observer: Observer | None = None,
        progress: Callable[[StepDone], None] | None = None,
    ) -> None:
        self._plan = plan
        self._turns = Turns(plan, call, observer)
        self._checkpoints = checkpoints
        self._observer = observer
        self._progress = progress or (lambda _done: None)

    def run(self, inputs: Mapping[str, Any], thread: str) -> Outcome:
        """Run the flow from its beginning.

        Raises PolicyError if the inputs are wrong, an expression fails or the thread exists;
        FlowError if a provider or a tool step fails, after which it can be resumed.
        """
        given = _inputs(self._plan, inputs)
        with self._graph(thread) as graph:
            if graph.get_state(_config(thread)).values:
                raise PolicyError(
                    f"thread {thread!r} exists already; resume it or name another one"
                )
            start = self._turns.start(thread, given)
            return self._drive(graph, start, start)

    def resume(self, thread: str) -> Outcome:
        """Go on with a run that was killed, stopped or failed; of a finished one, the outcome.

        Raises PolicyError if there is no such thread, or the flow has other steps by now.
        """
        with self._graph(thread) as graph:
            values = graph.get_state(_config(thread)).values
            if not values:
                raise PolicyError(f"no run {thread!r} in {self._checkpoints}")
            if values["flow"] != self._plan.name:
                raise PolicyError(f"thread {thread!r} is a run of flow {values['flow']!r}")
            if values["shape"] != [step.id for step in self._plan.steps]:
                raise PolicyError(
                    f"{self._plan.where}: the steps changed since {thread!r} began"
                    f" (they were {', '.join(values['shape'])}); run the flow anew",
                    where=self._plan.where,
                )
            return self._drive(graph, cast(State, values), None)

    @contextmanager
    def _graph(self, thread: str) -> Iterator[Graph]:
        path = self._checkpoints
        with open_file(path) as connection, hold(path, thread):
            yield build_graph(self._plan, self._turns, _saver(connection))

    def _drive(self, graph: Graph, state: State, start: State | None) -> Outcome:
        thread, began = state["thread"], time.monotonic()
        stop: Stop | None = None
        name = self._plan.name
        identity = Identity(agent=name, session=thread, chain=thread, kind="flow")
        span = self._observer and self._observer.chain(identity, name, flow=name)
        with span or nullcontext(), _Watch(self._turns, self._plan, self._observer) as watch:
            watch.follow(state)
            try:
                config = _config(thread, self._remaining(graph, thread))
                for updates in graph.stream(
                    start, config, stream_mode="updates", durability="sync"
                ):
                    for change in updates.values():
                        state = cast(State, {**state, **change})
                        for done in watch.follow(state):
                            self._progress(done)
            except Stop as e:
                stop = e
            except GraphRecursionError:
                stop = self._too_long()
        if stop is None:
            forget_steps(cast(SqliteSaver, graph.checkpointer).conn, thread)
        return self._outcome(state, stop, time.monotonic() - began)

    def _remaining(self, graph: Graph, thread: str) -> int:
        """Super-steps the run may still take; LangGraph itself counts from each start."""
        snapshot = graph.get_state(_config(thread))
        taken = max((snapshot.metadata or {}).get("step", 0), 0)
        if taken >= self._plan.limit and snapshot.next:
            raise self._too_long()
        return max(self._plan.limit - taken, 1)

    def _too_long(self) -> Stop:
        rule = f"{self._plan.where}.limits.steps"
        return Stop(rule, f"the run took {self._plan.limit} super-steps; raise {rule} and resume")

    def _outcome(self, state: State, stop: Stop | None, seconds: float) -> Outcome:
        records = state["steps"].values()
        unfinished = state["work"].get("tally", {}).get("calls", 0)
        return Outcome(
            flow=self._plan.name,
            thread=state["thread"],
            status="stopped" if stop else "done",
            output=None if stop else self._turns.result(state),
            steps=state["steps"],
            calls=sum(record["calls"] for record in records) + unfinished,
            seconds=seconds,
            rule=stop.rule if stop else None,
            reason=str(stop) if stop else None,
        )


def build_graph(plan: Plan, turns: Turns, checkpointer: SqliteSaver | None = None) -> Graph:
    """The StateGraph of a plan.

    A step with an agent is three nodes (`ID.begin`, `ID.model`, `ID.tools`), one with a
    tool two (`ID.begin`, `ID.tool`); a step with more turns to take goes back to its begin.
    """
    builder = StateGraph(State)
    builder.add_edge(START, f"{plan.steps[0].id}.begin")
    for step in plan.steps:
        following = plan.after(step.id)
        onward = f"{following.id}.begin" if following else END
        begin, tools = f"{step.id}.begin", f"{step.id}.tools"
        work = f"{step.id}.model" if step.agent else f"{step.id}.tool"
        builder.add_node(begin, partial(turns.begin, step))
        builder.add_conditional_edges(begin, partial(_after_begin, step, work, onward))
        if step.agent is None:
            builder.add_node(work, partial(turns.run_tool_step, step))
            builder.add_conditional_edges(work, partial(_after_begin, step, begin, onward))
            continue
        builder.add_node(work, partial(turns.ask, step))
        builder.add_node(tools, partial(turns.use_tools, step))
        builder.add_edge(tools, work)
        route = partial(_after_model, turns, step, (tools, begin, onward))
        builder.add_conditional_edges(work, route, [tools, begin, onward])
    return builder.compile(checkpointer=checkpointer)


def flow_of(checkpoints: Path, thread: str) -> str:
    """Which flow a thread is a run of. Raises PolicyError if there is no such thread."""
    if not checkpoints.exists():
        raise PolicyError(f"no run {thread!r}: there is no checkpoint file {checkpoints}")
    with open_file(checkpoints) as connection:
        saver = _saver(connection)
        found = saver.get_tuple(_config(thread))
        name = found.checkpoint["channel_values"].get("flow") if found else None
        if not isinstance(name, str):
            hint = did_you_mean(thread, threads(connection))
            raise PolicyError(f"no run {thread!r} in {checkpoints}{hint}")
        return name


class _Watch:
    """Follows the state of a run: opens and closes the agents' spans, sees steps end."""

    def __init__(self, turns: Turns, plan: Plan, observer: Observer | None) -> None:
        self._turns = turns
        self._plan = plan
        self._observer = observer
        self._turn: tuple[Any, ...] = ()
        self._span = ExitStack()
        self._seen: set[str] | None = None
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._span.__exit__(kind, error, trace)

    def follow(self, state: State) -> list[StepDone]:
        """Take note of a new state; the steps that it ends."""
        work = state["work"]
        turn = tuple(work[key] for key in ("step", "index", "round")) if work else ()
        if turn != self._turn:
            self._turn = turn
            self._span.close()
            if work and self._observer is not None:
                step = self._plan.step(work["step"])
                if step.agent is not None:
                    identity = self._turns.identity(step, state)
                    identity = replace(identity, joined=self._turns.joined(step, state))
                    self._span.enter_context(self._observer.agent(identity, step.agent.name))
        before, self._seen = self._seen, set(state["steps"])
        if before is None:
            return []
        return [self._done(step_id, state) for step_id in self._seen - before]

    def _done(self, step_id: str, state: State) -> StepDone:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        agent = self._plan.step(step_id).agent
        record = state["steps"][step_id]
        return StepDone(
            id=step_id,
            agent=agent.name if agent else None,
            status=record["status"],
            calls=record["calls"],
            measured=record["measured"],
            input_tokens=record["input_tokens"],
            cached_tokens=record["cached_tokens"],
            output_tokens=record["output_tokens"],
            seconds=seconds,
        )


def _after_begin(step: StepPlan, work: str, onward: str, state: State) -> str:
    return work if state["work"].get("step") == step.id else onward


def _after_model(turns: Turns, step: StepPlan, ways: tuple[str, str, str], state: State) -> str:
    tools, begin, onward = ways
    if turns.awaits_tools(step, state):
        return tools
    return begin if state["work"].get("step") == step.id else onward


def _saver(connection: sqlite3.Connection) -> SqliteSaver:
    saver = SqliteSaver(connection, serde=JsonSerializer())
    saver.setup()
    return saver


def _config(thread: str, limit: int | None = None) -> RunnableConfig:
    config = RunnableConfig(configurable={"thread_id": thread})
    if limit is not None:
        config["recursion_limit"] = limit
    return config


def _inputs(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults filled in; every input is known and has a value."""
    place = f"{plan.where}.input"
    for name in given:
        if name not in plan.inputs:
            hint = did_you_mean(name, plan.inputs)
            raise PolicyError(f"{place}: unknown input {name!r}{hint}", where=place)
    inputs = {**plan.inputs, **given}
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise PolicyError(f"{place}: give a value for {missing[0]!r}", where=place)
    return inputs

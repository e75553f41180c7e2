"""What each node of a flow does to its state: plain functions from state to changes.

A step runs as one or several *turns* (one per item of a list, one per round of a repeat).
A turn begins with a prompt, goes on with model calls and batches of tool calls, and ends
with a text. Each of these is one transition, so the state between any two of them is all
that is needed to go on: it is plain JSON, and the request it leads to has the same bytes
in any process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from clawmw.core.identity import Identity
from clawmw.errors import FlowError
from clawmw.flow.plan import Plan, StepPlan
from clawmw.flow.tools import run_tool

__all__ = ["Caller", "ModelCall", "ModelReply", "Observer", "State", "Stop", "Turns"]

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL)
_SENT_BACK = ("role", "content", "reasoning_content", "reasoning_details", "tool_calls")
"""Fields of an assistant message that providers take back in the history."""
_TALLY = ("calls", "measured", "input_tokens", "cached_tokens", "output_tokens")


class State(TypedDict, total=False):
    """The state of a run; JSON only."""

    flow: str
    thread: str
    shape: list[str]
    """Ids of the steps when the run began."""
    input: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    """Step -> its record: `output`, `status`, and what it took."""
    conversations: dict[str, list[dict[str, Any]]]
    speakers: dict[str, str]
    """Conversation -> the agent that was prompted last."""
    work: dict[str, Any]
    """Where the step in hand stands; empty between steps."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A request of a flow. `body["model"]` is the policy's name of the model."""

    body: dict[str, Any]
    model: str
    identity: Identity
    step: str


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A chat completion; or, with `stopped`, that a guard ended the chain."""

    body: Mapping[str, Any]
    stopped: str | None = None
    """The rule of the policy that stopped it."""
    reason: str = ""
    """Of a stop: what was reached, and how to go on."""


Caller = Callable[[ModelCall], ModelReply]
"""Sends a call; raises FlowError when the provider failed."""


class Observer(Protocol):
    """Who wants to see the run: spans for the chain, an agent's turn, a tool."""

    def chain(
        self, identity: Identity, name: str, *, flow: str | None = None
    ) -> AbstractContextManager[Any]: ...
    def agent(self, identity: Identity, name: str) -> AbstractContextManager[Any]: ...
    def tool(self, identity: Identity, name: str, call_id: str) -> AbstractContextManager[Any]: ...


class Stop(Exception):
    """A limit was reached. Never leaves a runner: it becomes the outcome of the run."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class Turns:
    """The transitions of one plan."""

    def __init__(self, plan: Plan, call: Caller, observer: Observer | None = None) -> None:
        self._plan = plan
        self._call = call
        self._observer = observer

    def start(self, thread: str, inputs: Mapping[str, Any]) -> State:
        """The state before the first step."""
        return {
            "flow": self._plan.name,
            "thread": thread,
            "shape": [step.id for step in self._plan.steps],
            "input": dict(inputs),
            "steps": {},
            "conversations": {},
            "speakers": {},
            "work": {},
        }

    def begin(self, step: StepPlan, state: State) -> State:
        """Enter the step, or its next turn; an agent is prompted, a skipped step is over."""
        work = state["work"] if state["work"].get("step") == step.id else self._enter(step, state)
        if "output" in work:  # nothing to do
            return self._close(step, state, work["output"], work)
        if step.prompt is None or step.agent is None:
            return {"work": work}
        name = _conversation(step, work)
        history = list(state["conversations"].get(name, ()))
        prompt = step.prompt.render(_scope(state, work))
        system, speaker = step.agent.system, state["speakers"].get(name)
        if system and not history:
            history.append({"role": "system", "content": system})
        elif system and speaker != step.agent.name:
            prompt = f"{system}\n\n{prompt}"
        history.append({"role": "user", "content": prompt})
        return {
            "work": work,
            "conversations": {**state["conversations"], name: history},
            "speakers": {**state["speakers"], name: step.agent.name},
        }

    def ask(self, step: StepPlan, state: State) -> State:
        """One model call; a text without tool calls ends the turn."""
        work = state["work"]
        if work["turn_calls"] >= step.calls:
            raise Stop(
                step.calls_where,
                f"step {step.id!r} has made its {step.calls} model calls without an answer;"
                f" raise {step.calls_where} and resume",
            )
        call = self._request(step, state)
        reply = self._call(call)
        if reply.stopped is not None:
            raise Stop(reply.stopped, reply.reason or "the policy stopped the run")
        message = _message(reply, step)
        name = _conversation(step, work)
        history = [*state["conversations"][name], message]
        update: State = {"conversations": {**state["conversations"], name: history}}
        work = {
            **work,
            "turn_calls": work["turn_calls"] + 1,
            "tally": _tally(work["tally"], reply.body.get("usage")),
        }
        if message.get("tool_calls"):
            return {**update, "work": work}
        output = message["content"] or ""
        return {**update, **self._finish(step, state, work, _parse(output, step))}

    def use_tools(self, step: StepPlan, state: State) -> State:
        """Run the tools the model asked for, in order.

        An interrupted batch is run again as a whole: tools should bear being called twice.
        """
        assert step.agent is not None
        name = _conversation(step, state["work"])
        history = list(state["conversations"][name])
        allowed = {n: self._plan.tools[n] for n in step.agent.tools}
        for call in history[-1]["tool_calls"]:
            function = call.get("function") or {}
            tool, call_id = str(function.get("name")), str(call.get("id"))
            with self._tool_span(step, state, tool, call_id):
                result = run_tool(allowed, tool, str(function.get("arguments") or ""))
            history.append({"role": "tool", "tool_call_id": call_id, "content": result})
        return {"conversations": {**state["conversations"], name: history}}

    def run_tool_step(self, step: StepPlan, state: State) -> State:
        """A step without an agent: one call of its tool. Raises FlowError if it fails."""
        assert step.tool is not None
        assert step.args is not None
        arguments = step.args.value(_scope(state, state["work"]))
        try:
            with self._tool_span(step, state, step.tool, step.id):
                value = self._plan.tools[step.tool].call(arguments)
            value = _plain(value)
        except Exception as e:
            raise FlowError(
                f"step {step.id!r}: tool {step.tool!r} failed: {type(e).__name__}: {e}"
            ) from e
        output = _parse(value, step) if isinstance(value, str) else value
        return self._finish(step, state, state["work"], output)

    def awaits_tools(self, step: StepPlan, state: State) -> bool:
        """Whether the turn goes on with tool calls."""
        work = state["work"]
        if work.get("step") != step.id:
            return False
        history = state["conversations"].get(_conversation(step, work), [])
        return bool(history) and bool(history[-1].get("tool_calls"))

    def identity(self, step: StepPlan, state: State) -> Identity:
        """Who calls: the agent; one session a conversation; the run is the chain."""
        thread = state["thread"]
        name = _conversation(step, state["work"]) if step.agent else step.id
        return Identity(
            agent=step.agent.name if step.agent else self._plan.name,
            session=f"{thread}/{name}",
            chain=thread,
            kind="flow",
        )

    def joined(self, step: StepPlan, state: State) -> tuple[Identity, ...]:
        """The agents whose results come together in a step: several items of a list, or the
        outputs of several steps, that its prompt reads."""
        if step.prompt is None or step.agent is None:
            return ()
        thread, own = state["thread"], f"{state['thread']}/{_conversation(step, state['work'])}"
        found: dict[str, Identity] = {}
        for read in [self._plan.step(name) for name in sorted(step.prompt.steps)]:
            record = state["steps"].get(read.id)
            if read.agent is None or record is None or record["status"] != "done":
                continue
            each = read.each is not None and not read.shared
            count = len(record["output"]) if each and isinstance(record["output"], list) else 1
            names = [
                f"{read.conversation}.{i}" if each else read.conversation for i in range(count)
            ]
            for session in [f"{thread}/{name}" for name in names]:
                who = Identity(agent=read.agent.name, session=session, chain=thread)
                found.setdefault(session, who)
        found.pop(own, None)
        return tuple(found.values()) if len(found) > 1 else ()

    def result(self, state: State) -> Any:
        """The flow's output; None while nothing has run."""
        if self._plan.output is not None:
            return self._plan.output.value(_scope(state, {}))
        for step in reversed(self._plan.steps):
            record = state["steps"].get(step.id)
            if record is not None and record["status"] == "done":
                return record["output"]
        return None

    def _enter(self, step: StepPlan, state: State) -> dict[str, Any]:
        scope = _scope(state, {})
        work: dict[str, Any] = {
            "step": step.id,
            "items": None,
            "index": 0,
            "round": 1,
            "turn_calls": 0,
            "previous": None,
            "outputs": [],
            "tally": dict.fromkeys(_TALLY, 0),
        }
        if step.when is not None and not step.when.holds(scope):
            return {**work, "output": None, "status": "skipped"}
        if step.each is None:
            return work
        items = step.each.items(scope)
        if len(items) > step.max:
            rule = f"{step.where}.max"
            raise Stop(
                rule,
                f"step {step.id!r} has {len(items)} items, more than {step.max};"
                f" raise {rule} and resume",
            )
        return {**work, "items": items} if items else {**work, "output": []}

    def _request(self, step: StepPlan, state: State) -> ModelCall:
        """The request that the state leads to; keys in a fixed order."""
        assert step.agent is not None
        body: dict[str, Any] = {
            "model": step.model,
            "messages": state["conversations"][_conversation(step, state["work"])],
        }
        offered = self._plan.offered.get(step.conversation, ())
        if offered:
            body["tools"] = [dict(self._plan.tools[name].schema) for name in offered]
        body.update(step.agent.params)
        return ModelCall(body, step.model, self.identity(step, state), step.id)

    def _finish(self, step: StepPlan, state: State, work: dict[str, Any], output: Any) -> State:
        """End a turn: another round, the next item, or the step is done."""
        scope = {**_scope(state, work), "output": output}
        met = step.until is None or step.until.holds(scope)
        work = {**work, "turn_calls": 0}
        if not met and work["round"] < step.rounds:
            return {"work": {**work, "round": work["round"] + 1, "previous": output}}
        outputs = [*work["outputs"], output]
        work = {**work, "outputs": outputs, "met": work.get("met", True) and met}
        if work["items"] is None:
            return self._close(step, state, output, work)
        if len(outputs) < len(work["items"]):
            return {"work": {**work, "index": len(outputs), "round": 1, "previous": None}}
        return self._close(step, state, outputs, work)

    def _close(self, step: StepPlan, state: State, output: Any, work: dict[str, Any]) -> State:
        record = {"output": output, "status": work.get("status", "done"), **work["tally"]}
        if step.until is not None and record["status"] == "done":
            record["rounds"] = work["round"]
            record["met"] = work.get("met", True)
        return {"steps": {**state["steps"], step.id: record}, "work": {}}

    def _tool_span(
        self, step: StepPlan, state: State, name: str, call_id: str
    ) -> AbstractContextManager[Any]:
        if self._observer is None:
            return nullcontext()
        return self._observer.tool(self.identity(step, state), name, call_id)


def _conversation(step: StepPlan, work: Mapping[str, Any]) -> str:
    """The history a turn continues; the items of a list do not see each other's."""
    if step.shared or step.each is None:
        return step.conversation
    return f"{step.conversation}.{work['index']}"


def _scope(state: State, work: Mapping[str, Any]) -> dict[str, Any]:
    scope: dict[str, Any] = {"input": state["input"], "steps": state["steps"]}
    if work:
        items = work["items"]
        scope["item"] = None if items is None else items[work["index"]]
        scope["index"] = work["index"]
        scope["round"] = work["round"]
        scope["output"] = work["previous"]
    return scope


def _message(reply: ModelReply, step: StepPlan) -> dict[str, Any]:
    """The assistant's message as it goes into the history."""
    try:
        raw = reply.body["choices"][0]["message"]
        message = {key: raw[key] for key in _SENT_BACK if raw.get(key) is not None}
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise FlowError(
            f"step {step.id!r}: the answer of model {step.model!r} is not a chat completion"
        ) from None
    if content is not None and not isinstance(content, str):
        raise FlowError(f"step {step.id!r}: the answer of model {step.model!r} is not text")
    if not message.get("tool_calls"):
        message.pop("tool_calls", None)
    return {"role": "assistant", "content": content, **message}


def _parse(text: str, step: StepPlan) -> Any:
    """The output of a turn: the text, or the JSON it should be."""
    if not step.json:
        return _plain(text)
    fenced = _FENCE.search(text)
    try:
        return _plain(json.loads(fenced.group(1) if fenced else text))
    except ValueError as e:
        raise FlowError(
            f"step {step.id!r} should give JSON (`output: json`) and did not: {e};"
            " resume to ask again"
        ) from None


def _plain(value: Any) -> Any:
    """As plain JSON in valid Unicode: expressions take nothing else. TypeError if it cannot be."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _tally(tally: Mapping[str, int], usage: Any) -> dict[str, int]:
    """Add one call; `measured` counts the calls whose provider told its usage."""
    total = {**tally, "calls": tally["calls"] + 1}
    if not isinstance(usage, Mapping) or not isinstance(usage.get("prompt_tokens"), int):
        return total
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    total["measured"] += 1
    total["input_tokens"] += usage["prompt_tokens"]
    total["cached_tokens"] += cached if isinstance(cached, int) else 0
    total["output_tokens"] += usage.get("completion_tokens") or 0
    return total

"""How a run goes: which tool is called next, and what from earlier results it uses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Fact", "Lead", "Output", "Play", "World"]

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lead:
    """A call that something in a result can lead to."""

    tool: str
    arguments: Arguments
    weight: float = 1.0
    """How likely an agent is to follow it: a failure more than a plain row."""
    asked: str = ""
    """How a user asks for it without the identifier; "" when no user would."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A question a user may ask at the end, and its answer as the result has it."""

    question: str
    answer: str


@dataclass(slots=True)
class Output:
    """What a tool returned."""

    text: str
    leads: list[Lead] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    then: Lead | None = None
    """What an agent mostly does right after it."""


class World(Protocol):
    """What the tools of one kind of agent act on."""

    system: str
    task: str
    tools: dict[str, Callable[[Arguments], Output]]

    def explore(self) -> tuple[str, Arguments]:
        """A call that uses nothing from earlier results."""


_REMARKS = [
    "Let me look.",
    "I will check that next.",
    "Now the details.",
    "That narrows it down.",
    "Let me verify this before going on.",
    "Next step.",
    "Good, going on.",
    "Let me compare.",
    "我来看看。",
    "One more check.",
]


class Play:
    """One run under way."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.calls: list[tuple[str, Arguments]] = []
        self.outputs: list[Output] = []
        self.messages: list[dict[str, Any]] = []
        self.renumbers = dice.random() < 0.12
        self.talkative = dice.uniform(0.1, 0.7)

    def run(self, source: str, name: str) -> dict[str, Any]:
        """The whole run, as replay reads it."""
        self.messages = [
            {"role": "system", "content": self.world.system},
            {"role": "user", "content": self.world.task},
        ]
        steps = self.dice.randint(15, 60)
        while len(self.calls) < steps:
            self._turn(2 if self.dice.random() < 0.08 else 1)
        labels: dict[str, Any] = {"kind": source, "steps": len(self.calls)}
        labels |= self._ending()
        return {
            "source": source,
            "id": name,
            "license": "made up; no rights reserved",
            "labels": labels,
            "messages": self.messages,
            "tools": [_definition(name, arguments) for name, arguments in self._seen()],
        }

    def _turn(self, count: int) -> None:
        chosen = [self._next() for _ in range(count)]
        asked = next((lead.asked for _, _, lead in chosen if lead and lead.asked), "")
        if asked and self.dice.random() < 0.8:
            self.messages += [
                {"role": "assistant", "content": self.dice.choice(_REMARKS)},
                {"role": "user", "content": asked},
            ]
        calls, results = [], []
        for tool, arguments, _ in chosen:
            number = len(self.calls)
            ident = "call_0" if self.renumbers else f"call_{self.dice.getrandbits(48):012x}"
            self.calls.append((tool, arguments))
            output = self.world.tools[tool](arguments)
            self.outputs.append(output)
            function = {"name": tool, "arguments": json.dumps(arguments, ensure_ascii=False)}
            calls.append({"id": ident, "type": "function", "function": function})
            content = output.text or f"(no output, step {number})"
            results.append({"role": "tool", "tool_call_id": ident, "content": content})
        said = self.dice.choice(_REMARKS) if self.dice.random() < self.talkative else None
        self.messages += [{"role": "assistant", "content": said, "tool_calls": calls}, *results]

    def _next(self) -> tuple[str, Arguments, Lead | None]:
        """A repeat (8%), a call that something earlier leads to (two thirds), or a new one."""
        then = self.outputs[-1].then if self.outputs else None
        if then is not None and self.dice.random() < 0.6:
            return then.tool, then.arguments, None
        draw = self.dice.random()
        if self.calls and draw < 0.08:
            return (*self.dice.choice(self.calls[-12:]), None)
        if self.outputs and draw < 0.70:
            back = self.dice.randint(1, 3 if self.dice.random() < 0.4 else 20)
            output = self.outputs[-min(back, len(self.outputs))]
            if output.leads:
                weights = [lead.weight for lead in output.leads]
                lead = self.dice.choices(output.leads, weights)[0]
                return lead.tool, lead.arguments, lead
        return (*self.world.explore(), None)

    def _ending(self) -> dict[str, Any]:
        """The last words; in two runs of three, an answer to a question about one result."""
        known = [o for o in self.outputs if o.facts]
        if not known or self.dice.random() < 0.33:
            self.messages.append({"role": "assistant", "content": "That is all; it is done."})
            return {}
        fact = self.dice.choice(self.dice.choice(known).facts)
        self.messages += [
            {"role": "assistant", "content": "That is done. Anything else?"},
            {"role": "user", "content": fact.question},
            {"role": "assistant", "content": f"It is {fact.answer}."},
        ]
        return {"question": fact.question, "answers": [fact.answer]}

    def _seen(self) -> list[tuple[str, Arguments]]:
        """Every tool of the world, each with the arguments it was called with."""
        merged: dict[str, Arguments] = {name: {} for name in self.world.tools}
        for tool, arguments in self.calls:
            merged[tool] |= arguments
        return list(merged.items())


def _definition(name: str, arguments: Arguments) -> dict[str, Any]:
    kinds = {int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
    properties = {key: {"type": kinds.get(type(v), "string")} for key, v in arguments.items()}
    parameters = {"type": "object", "properties": properties}
    description = f"{name.replace('_', ' ').capitalize()}."
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}

"""Conversations as agents have them, made by hypothesis."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from clawmw.core.identity import Identity
from clawmw.core.types import Message, Outcome, Response, Role, ToolCall, Usage
from clawmw.stages.context.expand import NAME
from clawmw.testing import answer, failing
from tests.conftest import log, rows, turn

PAGE = (
    "<html><head><style>b{}</style></head><body><nav>Home | About</nav><h1>Opening hours</h1>"
    + "".join(f"<p class='x y z'>Gate {i} opens at {i % 12}:30.</p>" for i in range(80))
    + "</body></html>"
)
PROSE = " ".join(
    f"The {i}th visitor, Ms {chr(65 + i % 26)}., paid {i * 3} yuan." for i in range(160)
)

results = st.one_of(
    st.sampled_from([rows(60), rows(200, 2), log(300), PAGE, PROSE, "", "ok", "上海迪士尼" * 120]),
    st.text(max_size=300),
    st.builds(lambda n: rows(n, 3), st.integers(1, 90)),
)
words = st.text(alphabet='abc défgh 上海\n"\\{}[]', min_size=1, max_size=40)
ids = st.sampled_from(["call_1", "call_2", "a", ""])  # doubled and missing ones on purpose


@st.composite
def _tool_turn(draw: st.DrawFn) -> list[dict[str, Any]]:
    calls, answers = [], []
    for _ in range(draw(st.integers(1, 2))):
        call_id, name = draw(ids), draw(st.sampled_from(["search", "read", "tool_call"]))
        arguments = json.dumps({"q": draw(words)})
        calls.append(
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        )
        content: Any = draw(results)
        if draw(st.booleans()):
            content = [{"type": "text", "text": content}]
        answers.append({"role": "tool", "tool_call_id": call_id, "content": content})
    return [
        {"role": "assistant", "content": draw(st.none() | words), "tool_calls": calls},
        *answers,
    ]


@st.composite
def _loop(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The same call with the same result, two to four times."""
    arguments, result = {"q": draw(words)}, draw(results)
    count = draw(st.integers(2, 4))
    turns = [turn(f"loop_{i}", "search", arguments, result) for i in range(count)]
    return [message for one in turns for message in one]


@st.composite
def _said(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": draw(words)}, {"role": "user", "content": draw(words)}]


SYSTEM = " ".join(f"Rule {i}: of {i * 7} tickets, sell {i}." for i in range(260))
"""Longer than the shortest prefix that is cached."""
systems = st.sampled_from(["", "Be brief.", SYSTEM, SYSTEM])


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A whole conversation: a system prompt or none, a question, then turns."""
    system = draw(systems)
    start = [{"role": "system", "content": system}] if system else []
    turns = draw(st.lists(st.one_of(_tool_turn(), _loop(), _said()), max_size=4))
    question = {"role": "user", "content": draw(words)}
    return [*start, question, *(message for turn in turns for message in turn)]


@dataclass(frozen=True)
class Session:
    """What one agent sends, and as whom."""

    messages: list[dict[str, Any]]
    kind: str | None
    stream: bool

    @property
    def identity(self) -> Identity:
        """One of two kinds of caller."""
        return Identity(session="s1", chain="c1", kind=self.kind)

    @property
    def params(self) -> dict[str, Any]:
        """The rest of the body."""
        return {"stream": True} if self.stream else {}


sessions = st.builds(Session, conversations(), st.sampled_from([None, "title"]), st.booleans())


def drawn(body: dict[str, Any]) -> Outcome:
    """A model whose answer is drawn from what it is asked.

    Plain text, a call of a tool, a failure; and where it was given the means, a call for
    what was cut, alone, beside another call, twice, or under a name that does not exist.
    """
    messages = body["messages"]
    asked = json.dumps(messages[-2:], sort_keys=True) + str(len(messages))
    digest = hashlib.blake2b(asked.encode(), digest_size=4)
    dice, name = digest.digest()[0] % 10, digest.hexdigest()
    offered = any(tool.get("function", tool)["name"] == NAME for tool in body.get("tools", ()))
    refs = re.findall(r"clawmw_expand (r\w+): ", json.dumps(messages)) or ["rnothing"]
    ask = ToolCall(f"x_{name}", NAME, json.dumps({"ref": refs[-1], "query": "open"}))
    other = ToolCall(f"y_{name}", "search", '{"q": "more"}')
    if dice == 0:
        return failing()
    if dice == 1:
        return _calls(other)
    if not offered or dice > 7:
        return answer(f"answer {dice}", usage=Usage(1000, 20) if dice > 8 else None)
    if dice == 2:
        return _calls(ask, other)
    if dice == 3:
        return _calls(ask, replace(ask, id=f"z_{name}", arguments='{"ref": "rnothing"}'))
    return _calls(ask)


def _calls(*calls: ToolCall) -> Response:
    return Response(Message(Role.ASSISTANT, calls), None, "tool_calls", "fake")

"""Conversations as agents have them, made by hypothesis."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.conftest import log, rows

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
def _said(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": draw(words)}, {"role": "user", "content": draw(words)}]


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A whole conversation: a system prompt or none, a question, then turns."""
    start = draw(st.sampled_from([[], [{"role": "system", "content": "Be brief."}]]))
    turns = draw(st.lists(st.one_of(_tool_turn(), _tool_turn(), _said()), max_size=6))
    question = {"role": "user", "content": draw(words)}
    return [*start, question, *(message for turn in turns for message in turn)]

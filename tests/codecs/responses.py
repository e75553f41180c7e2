"""Conversations as the Responses API has them, made from chat ones or by hypothesis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA=="}
"""As it comes back with `include=["reasoning.encrypted_content"]`."""


def tool(name: str) -> dict[str, Any]:
    """A tool definition: flat, as this API has it."""
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    return {"type": "function", "name": name, "parameters": parameters, "strict": False}


def turn(call_id: str, name: str, arguments: dict[str, Any], result: Any) -> list[dict[str, Any]]:
    """A tool call and its result."""
    said = {"call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
    return [
        {"type": "function_call", "id": f"fc_{call_id}", "status": "completed", **said},
        {"type": "function_call_output", "call_id": call_id, "output": result},
    ]


def as_items(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chat conversation as items; system prompts stay developer messages."""
    items: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if message["role"] == "tool":
            output = _blocks(content) if isinstance(content, list) else content
            call_id = message["tool_call_id"]
            items.append({"type": "function_call_output", "call_id": call_id, "output": output})
            continue
        if content is not None:
            items.append({"role": message["role"], "content": content})
        for call in message.get("tool_calls") or ():
            said = {"call_id": call["id"], **call["function"]}
            items.append({"type": "function_call", **said})
    return items


def _blocks(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "input_text", "text": block["text"]} for block in blocks]


words = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2)
    ),
    max_leaves=5,
)
more = st.dictionaries(st.sampled_from(["zz", "phase", "metadata", "x"]), values, max_size=2)
blocks = st.one_of(
    st.builds(lambda t, m: {**m, "type": "input_text", "text": t}, words, more),
    st.just({"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}),
    st.just({"type": "input_file", "file_id": "file_1"}),
)
said = st.one_of(words, st.lists(blocks, max_size=3))
answers = st.lists(
    st.one_of(
        st.builds(lambda t: {"type": "output_text", "text": t, "annotations": []}, words),
        st.just({"type": "refusal", "refusal": "No."}),
    ),
    max_size=2,
)
ids = st.sampled_from(["call_1", "call_2", ""])
items = st.one_of(
    st.builds(
        lambda role, content, m: {**m, "role": role, "content": content},
        st.sampled_from(["user", "system", "developer", "assistant"]),
        said,
        more,
    ),
    st.builds(
        lambda content: {"type": "message", "id": "m", "role": "assistant", "content": content},
        answers,
    ),
    st.builds(lambda i, a, m: {**turn(i, "f", {"q": a}, "")[0], **m}, ids, words, more),
    st.builds(lambda i, o, m: {**turn(i, "f", {}, o)[1], **m}, ids, said, more),
    st.builds(lambda i, a: {"type": "custom_tool_call", "call_id": i, "input": a}, ids, words),
    st.builds(
        lambda i, o: {"type": "custom_tool_call_output", "call_id": i, "output": o}, ids, said
    ),
    st.builds(lambda m: {**REASONING, **m}, more),
    st.sampled_from(
        [
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "computer_call", "id": "c", "call_id": "cc", "action": {"type": "wait"}},
            {"type": "computer_call_output", "call_id": "cc", "output": {"type": "x"}},
            {"type": "local_shell_call_output", "id": "l", "output": "done"},
            {"type": "mcp_approval_response", "approve": True, "approval_request_id": "a"},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"},
            {"type": "invented_tomorrow", "n": 1.5},
        ]
    ),
)
inputs = st.one_of(words.filter(bool), st.lists(items, min_size=1, max_size=8))

"""Outlines and texts of calls that come over the wire: through the gateway, as streams, at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.emulator import Emulator, Reply
from clawmw.observe.store.outlinestore import Inside, inside
from clawmw.observe.store.spanstore import SpanStore
from clawmw.ownership import Tokens
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.observe.inside import TOOLS, conversation

ANSWER = "TAP, 89 euros."


class Wire:
    """A gateway in front of a provider on loopback, and its store."""

    def __init__(self, url: str, store: Path, runtime: Runtime) -> None:
        self.url, self.store, self.runtime = url, store, runtime

    def sdk(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="k", max_retries=0)

    def calls(self) -> list[Inside]:
        """What is known of each call, in the order of their end."""
        for observer in self.runtime.observers:
            flush = getattr(observer, "flush", None)
            assert flush is None or flush()
        store = SpanStore.read(self.store)
        rows = store.query("SELECT exchange FROM outlines ORDER BY end_ns")
        found = [inside(store, row[0], time.time_ns()) for row in rows]
        store.close()
        return [one for one in found if one is not None]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    store = tmp_path / "t.sqlite"
    policy = {
        "version": 1,
        "compress": "balanced",
        "trace": {"store": str(store), "content": "local", "otlp": "off"},
    }
    with Emulator(bill="openai", brain=lambda _body: Reply(text=ANSWER)) as provider:
        runtime = Runtime.of(load_policy(policy))
        places = Places({}, provider.base_url, None)
        with Served(Gateway(runtime, places, tokens=Tokens.of_user())) as served:
            yield Wire(f"http://127.0.0.1:{served.port}", store, runtime)
        for observer in runtime.observers:
            observer.close()  # type: ignore[attr-defined]
        runtime.close()


def shown(call: Inside) -> tuple[list[str], str]:
    """The roles of what was asked, and the answer."""
    parts = call.answer["parts"]
    roles = [said.role for said in call.messages if said.place is not None]
    return roles, "".join(part.get("content", "") for part in parts)


def test_streams_and_whole_answers_at_once_are_all_written_down(wire: Wire) -> None:
    async def ask(sdk: openai.AsyncOpenAI, number: int) -> None:
        messages: Any = conversation(2)
        messages[1]["content"] += f" Try {number}."
        asked: Any = {"model": "m", "messages": messages, "tools": TOOLS}
        make: Any = sdk.chat.completions.create
        if number % 2:
            await make(**asked)
            return
        async for _ in await make(**asked, stream=True):
            pass

    async def everybody() -> None:
        async with wire.sdk() as sdk:
            await asyncio.gather(*(ask(sdk, number) for number in range(8)))

    asyncio.run(everybody())
    calls = wire.calls()
    assert len(calls) == 8
    for call in calls:
        assert shown(call) == ([m["role"] for m in conversation(2)], ANSWER)
        assert call.messages[3].by == ("compress.table",)
    asked = {call.messages[1].asked["parts"][0]["content"][-2] for call in calls}
    assert asked == set("01234567")


def test_a_reader_who_leaves_a_stream_has_what_came_so_far(wire: Wire) -> None:
    async def leave() -> None:
        async with wire.sdk() as sdk:
            ask: Any = sdk.chat.completions.create
            stream = await ask(model="m", messages=conversation(0), stream=True)
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(leave())
    end = time.monotonic() + 5
    while not wire.calls() and time.monotonic() < end:
        time.sleep(0.02)
    (call,) = wire.calls()
    assert [said.role for said in call.messages] == ["system", "user"]


def test_anthropics_dialect_is_written_down_alike(wire: Wire) -> None:
    sdk = anthropic.Anthropic(base_url=wire.url, api_key="k", max_retries=0)
    result = conversation(1)[3]["content"]
    with sdk:
        sdk.messages.create(
            model="claude-sonnet-5-5",
            max_tokens=100,
            system="You look for flights.",
            tools=[{"name": "search", "input_schema": {"type": "object"}}],
            messages=[
                {"role": "user", "content": "Find me a flight."},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t1", "name": "search", "input": {}}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": result},
                        {"type": "text", "text": "The cheapest, please."},
                    ],
                },
            ],
        )
    (call,) = wire.calls()
    last = next(said for said in call.messages if said.place == len(call.messages) - 1)
    kinds = [(part.kind, part.name, bool(part.by)) for part in last.parts]
    assert kinds == [("result", "search", True), ("text", "", False)]
    assert json.dumps(result)[1:30] in json.dumps(last.asked)

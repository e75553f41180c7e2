"""A stream's reader may leave at its end, or read the rest of it anew, as openai 3 does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import clawmw
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Reply
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
SAID = "one two three four five six"


class Case:
    def __init__(self) -> None:
        events: list[Event] = []
        self.events = events
        policy = load_policy({"version": 1, "trace": "off"})
        self.runtime = Runtime.of(policy, observers=[events.append])

    @property
    def ends(self) -> list[tuple[str, Any]]:
        done = [e for e in self.events if isinstance(e, CallFinished)]
        return [(e.status, e.usage.basis if e.usage else None) for e in done]


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
def test_the_rest_read_anew_is_the_same_answer_and_a_whole_one(flavour: Any) -> None:
    case = Case()

    async def main(url: str) -> bytes:
        async with (
            clawmw.async_http_client(case.runtime, flavour=flavour) as client,
            client.stream("POST", url, json=BODY) as response,
        ):
            first = aiter(response.stream)
            read = await anext(first)
            async for chunk in response.stream:
                read += chunk
            async for chunk in first:  # nothing is left, and nothing is told twice
                read += chunk
            return bytes(read)

    with Emulator(brain=lambda _: Reply(SAID)) as emulator:
        read = asyncio.run(main(f"{emulator.base_url}/chat/completions"))
    assert read.count(b"[DONE]") == 1
    assert case.ends == [("ok", "measured")]
    case.runtime.close()


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
def test_so_it_is_in_a_thread(flavour: Any) -> None:
    case = Case()
    with (
        Emulator(brain=lambda _: Reply(SAID)) as emulator,
        clawmw.http_client(case.runtime, flavour=flavour) as client,
        client.stream("POST", f"{emulator.base_url}/chat/completions", json=BODY) as response,
    ):
        first = iter(response.stream)
        read = next(first) + b"".join(response.stream) + b"".join(first)
    assert read.count(b"[DONE]") == 1
    assert case.ends == [("ok", "measured")]
    case.runtime.close()


def test_the_openai_sdks_stream_is_no_cancelled_call() -> None:
    openai = pytest.importorskip("openai")
    case = Case()

    async def main(url: str) -> str:
        module = openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]
        flavour: Any = "httpx2" if module == "httpx2" else "httpx"
        http = clawmw.async_http_client(case.runtime, flavour=flavour)
        async with openai.AsyncOpenAI(base_url=url, api_key="any", http_client=http) as client:
            stream = await client.chat.completions.create(**BODY)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    with Emulator(brain=lambda _: Reply(SAID)) as emulator:
        assert asyncio.run(main(emulator.base_url)) == SAID
    assert case.ends == [("ok", "measured")]
    case.runtime.close()

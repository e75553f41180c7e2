"""What clawmw adds to a call of an agent framework: `python -m benchmarks.frameworks`.

Each framework asks an emulated provider, a process of its own, bare and under a policy, in turns,
so that whatever else the machine does falls on both alike. A conversation grows by one turn a
call. Milliseconds as the program sees them, and the CPU time of its process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gateway import command

RESULTS = Path(__file__).parent / "results" / "frameworks.json"
POLICY = {"version": 1, "trace": "off", "budget": {"chain": {"calls": 100_000}}}
START, TURN = "Follow the rules. " * 60, "worker did job 17 and all went well. " * 20


@dataclass(frozen=True)
class Row:
    """One way to call a model. Each takes the texts of a conversation, the newest last."""

    name: str
    bare: Callable[[list[str]], Any]
    ours: Callable[[list[str]], Any]


def langchain(url: str, policy: Any) -> Iterator[Row]:
    """A chat model alone, streaming, and in an agent; sync and async."""
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI

    import clawmw.langchain

    def said(texts: list[str]) -> list[BaseMessage]:
        kinds = (AIMessage, HumanMessage)
        turns = [kinds[n % 2](text, id=f"m{n}") for n, text in enumerate(texts) if n]
        return [SystemMessage(texts[0]), *turns]

    bare = ChatOpenAI(model="gpt-5.4", base_url=f"{url}/v1", api_key="any", max_retries=0)
    ours = clawmw.langchain.model(bare, policy)
    yield Row("ChatOpenAI", lambda t: bare.invoke(said(t)), lambda t: ours.invoke(said(t)))
    yield Row(
        "ChatOpenAI, stream",
        lambda t: list(bare.stream(said(t))),
        lambda t: list(ours.stream(said(t))),
    )
    plain = create_agent(bare, [])
    guarded = create_agent(bare, [], middleware=[clawmw.langchain.Middleware(policy)])
    ask: Callable[[Any, list[str]], Any] = lambda a, t: a.invoke({"messages": said(t)})  # noqa: E731
    yield Row("create_agent", partial(ask, plain), partial(ask, guarded))
    loop = asyncio.new_event_loop()

    def aask(agent: Any, texts: list[str]) -> None:
        loop.run_until_complete(agent.ainvoke({"messages": said(texts)}))

    yield Row("create_agent, async", partial(aask, plain), partial(aask, guarded))
    loop.close()


def pydantic_ai(url: str, policy: Any) -> Iterator[Row]:
    """An agent, whole and streamed."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import (
        ModelMessage,
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        TextPart,
        UserPromptPart,
    )
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    import clawmw.pydantic_ai

    def said(texts: list[str]) -> list[ModelMessage]:
        found: list[ModelMessage] = [ModelRequest(parts=[SystemPromptPart(texts[0])])]
        for number, text in enumerate(texts[1:], 1):
            part = ModelRequest([UserPromptPart(text)]), ModelResponse([TextPart(text)])
            found.append(part[1 - number % 2])
        return found

    place = OpenAIProvider(base_url=f"{url}/v1", api_key="any")
    model = OpenAIChatModel("gpt-5.4", provider=place)
    plain: Any = Agent(model)
    guarded: Any = Agent(model, capabilities=[clawmw.pydantic_ai.Capability(policy)])
    loop = asyncio.new_event_loop()

    def ask(agent: Any, texts: list[str]) -> None:
        loop.run_until_complete(agent.run(texts[-1], message_history=said(texts[:-1])))

    async def read(agent: Any, texts: list[str]) -> None:
        async with agent.run_stream(texts[-1], message_history=said(texts[:-1])) as result:
            await result.get_output()

    def stream(agent: Any, texts: list[str]) -> None:
        loop.run_until_complete(read(agent, texts))

    yield Row("pydantic-ai", partial(ask, plain), partial(ask, guarded))
    yield Row("pydantic-ai, stream", partial(stream, plain), partial(stream, guarded))
    loop.run_until_complete(place.client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def conversations(count: int, turns: int) -> Iterator[list[str]]:
    """The texts of `count` conversations, call by call."""
    for number in range(count):
        texts = [START, f"Find out why build {number} fails and fix it."]
        for turn in range(turns):
            yield list(texts)
            texts += [f"{TURN}{number}.{turn}", f"{TURN}Go on with {turn}."]


def measured(row: Row, count: int, turns: int) -> dict[str, float]:
    """Medians of both, wall and CPU, in milliseconds; the first calls warm up."""
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
    for number, texts in enumerate(conversations(count, turns)):
        pairs = [("bare", row.bare), ("ours", row.ours)]
        for name, call in pairs if number % 2 else reversed(pairs):
            cpu, wall = time.process_time(), time.perf_counter()
            call(texts)
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    found: dict[str, float] = {}
    for at, unit in enumerate(("wall", "cpu")):
        for name, times in taken.items():
            found[f"{name}_{unit}"] = statistics.median(t[at] for t in times[turns:]) * 1e3
        found[f"ratio_{unit}"] = found[f"ours_{unit}"] / found[f"bare_{unit}"]
        found[f"added_{unit}"] = found[f"ours_{unit}"] - found[f"bare_{unit}"]
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure and show; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with command("emulate") as url:
        for framework in (langchain, pydantic_ai):
            for row in framework(url, POLICY):
                rows[row.name] = measured(row, options.conversations, options.turns)
    columns = list(next(iter(rows.values())))
    print(f"{'ms':22}" + "".join(f"{name.replace('_', ' '):>12}" for name in columns))
    for name, row_ in rows.items():
        print(f"{name:22}" + "".join(f"{row_[c]:12.2f}" for c in columns))
    if options.save:
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Rows of `benchmarks.frameworks` for the OpenAI Agents SDK, Google ADK and CrewAI.

The last two want environments of their own: run the benchmark there, it skips what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.frameworks import Row

__all__ = ["adk", "crewai", "openai_agents"]


def openai_agents(url: str, policy: Any) -> Iterator[Row]:
    """A run of one turn, whole and streamed."""
    from agents import Agent, RunConfig, Runner
    from agents.models.multi_provider import MultiProvider
    from openai import AsyncOpenAI

    import clawmw.agents

    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    given: dict[str, Any] = {"openai_client": client, "openai_use_responses": False}
    agent: Any = Agent(name="asker", model="gpt-5.4")
    providers = MultiProvider(**given), clawmw.agents.Provider(policy, **given)
    plain, guarded = [
        RunConfig(model_provider=provider, tracing_disabled=True) for provider in providers
    ]
    loop = asyncio.new_event_loop()

    def said(texts: list[str]) -> list[Any]:
        roles = ("assistant", "user")
        turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts) if n]
        return [{"role": "system", "content": texts[0]}, *turns]

    def ask(config: Any, texts: list[str]) -> None:
        loop.run_until_complete(Runner.run(agent, said(texts), run_config=config))

    async def read(config: Any, texts: list[str]) -> None:
        async for _ in Runner.run_streamed(agent, said(texts), run_config=config).stream_events():
            pass

    def stream(config: Any, texts: list[str]) -> None:
        loop.run_until_complete(read(config, texts))

    yield Row("Agents SDK", partial(ask, plain), partial(ask, guarded))
    yield Row("Agents SDK, stream", partial(stream, plain), partial(stream, guarded))
    loop.run_until_complete(client.close())
    loop.close()


def adk(url: str, policy: Any) -> Iterator[Row]:
    """A runner over a session that is as long as the conversation, whole and streamed."""
    from google.adk.agents import LlmAgent
    from google.adk.agents.run_config import RunConfig, StreamingMode
    from google.adk.events import Event
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    import clawmw.adk

    model = LiteLlm(model="openai/gpt-5.4", api_base=f"{url}/v1", api_key="any")
    agent = LlmAgent(name="asker", model=model)
    plain = InMemoryRunner(agent, app_name="app")
    guarded = InMemoryRunner(agent, app_name="app", plugins=[clawmw.adk.Plugin(policy)])
    loop = asyncio.new_event_loop()

    def content(number: int, text: str) -> Any:
        role = "user" if number % 2 else "model"
        return types.Content(role=role, parts=[types.Part(text=text)])

    async def events(runner: Any, mode: Any, texts: list[str]) -> AsyncIterator[Any]:
        service = runner.session_service
        session = await service.create_session(app_name="app", user_id="u")
        for number, text in enumerate(texts[1:-1], 1):
            author = "user" if number % 2 else "asker"
            await service.append_event(session, Event(author=author, content=content(number, text)))
        said = content(1, texts[-1])
        place = {"user_id": "u", "session_id": session.id}
        config = RunConfig(streaming_mode=mode)
        async for event in runner.run_async(**place, new_message=said, run_config=config):
            yield event

    async def read(runner: Any, mode: Any, texts: list[str]) -> None:
        async for _ in events(runner, mode, texts):
            pass

    def ask(runner: Any, mode: Any, texts: list[str]) -> None:
        loop.run_until_complete(read(runner, mode, texts))

    for name, mode in (("ADK", StreamingMode.NONE), ("ADK, stream", StreamingMode.SSE)):
        yield Row(name, partial(ask, plain, mode), partial(ask, guarded, mode))
    loop.close()


def crewai(url: str, policy: Any) -> Iterator[Row]:
    """An LLM, whole and streamed."""
    from crewai import LLM

    import clawmw.crewai

    place = {"base_url": f"{url}/v1", "api_key": "any"}

    def said(texts: list[str]) -> list[Any]:
        roles = ("assistant", "user")
        turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts) if n]
        return [{"role": "system", "content": texts[0]}, *turns]

    ask: Callable[[Any, list[str]], Any] = lambda llm, texts: llm.call(said(texts))  # noqa: E731
    for name, stream in (("CrewAI", False), ("CrewAI, stream", True)):
        plain = LLM("openai/gpt-5.4", stream=stream, **place)
        guarded = clawmw.crewai.llm("openai/gpt-5.4", policy, stream=stream, **place)
        yield Row(name, partial(ask, plain), partial(ask, guarded))

"""What each adapter adds to a call: `python -m benchmarks.adapters`.

The same conversation of 8 KB, one question more each time, asked through every SDK and framework
bare and under a policy (in memory, budgets on, no trace), call by call in turns, so that whatever
else the machine does falls on all alike. The provider is an emulator in another process, on
loopback. Milliseconds of a call as the caller sees them, and of CPU in its thread; what is added
is the median of the differences to the bare call of the same turn.

To add one: a function that yields its ways of calling, and a line in `ROWS`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import clawmw
from benchmarks.gateway import command
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

RESULTS = Path(__file__).parent / "results" / "adapters.json"
POLICY = {"version": 1, "trace": "off", "budget": {"chain": {"calls": 10**6}}}
WARM = 5
"""Turns that are not counted."""
PACKAGES = (
    "clawmw", "httpx", "httpx2", "openai", "anthropic", "litellm", "langchain", "langchain-openai",
    "pydantic-ai-slim", "openai-agents", "google-adk", "crewai",
)  # fmt: skip

Messages = list[dict[str, str]]


@dataclass
class Way:
    """One way of calling. `around`: what holds during the call and is not timed."""

    call: Callable[[Messages], Any]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    took: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def once(self, messages: Messages) -> None:
        """Make a call, and note the milliseconds it took, and this thread's CPU."""
        with self.around():
            began, cpu = time.perf_counter(), time.thread_time()
            self.call(messages)
            self.cpu.append((time.thread_time() - cpu) * 1e3)
            self.took.append((time.perf_counter() - began) * 1e3)


Ways = Generator[dict[str, Way], None, None]


def runtime() -> Runtime:
    """A policy of its own for each way, so that none sees another's history."""
    return Runtime.of(load_policy(POLICY))


def installed() -> Callable[[], AbstractContextManager[Any]]:
    """`clawmw.install`, for the time of a call."""
    mine = runtime()
    return lambda: clawmw.install(mine)


def conversation(turn: int) -> Messages:
    """8 KB that stay, and a question."""
    said = "The build passes on one machine and fails on the other; the log names a test. " * 5
    rounds = [{"role": role, "content": said} for _ in range(10) for role in ("user", "assistant")]
    return [*rounds, {"role": "user", "content": f"What about run {turn}?"}]


# --- the rows --------------------------------------------------------------------------------


def openai_sdk(url: str) -> Ways:
    """The openai SDK."""
    import openai

    def asking(**options: Any) -> openai.OpenAI:
        return stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="k", **options))

    def way(client: openai.OpenAI, **options: Any) -> Way:
        create: Any = client.chat.completions.create
        return Way(lambda m: create(model="gpt-4o", messages=m), **options)

    with ExitStack() as stack:
        yield {
            "bare": way(asking()),
            "http_client": way(asking(http_client=clawmw.http_client(runtime()))),
            "wrap": way(clawmw.wrap(asking(), runtime())),
            "install": way(asking(), around=installed()),
        }


def openai_async(url: str) -> Ways:
    """The openai SDK, async."""
    import openai

    with asyncio.Runner() as runner:

        def way(client: Any, **options: Any) -> Way:
            create = client.chat.completions.create
            return Way(lambda m: runner.run(create(model="gpt-4o", messages=m)), **options)

        clients = [openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") for _ in range(3)]
        yield {
            "bare": way(clients[0]),
            "wrap": way(clawmw.wrap(clients[1], runtime())),
            "install": way(clients[2], around=installed()),
        }
        for client in clients:
            runner.run(client.close())


def anthropic_sdk(url: str) -> Ways:
    """The anthropic SDK."""
    import anthropic

    def way(client: anthropic.Anthropic, **options: Any) -> Way:
        create: Any = client.messages.create
        return Way(
            lambda m: create(model="claude-sonnet-5-5", messages=m, max_tokens=99), **options
        )

    with ExitStack() as stack:
        plain = [anthropic.Anthropic(base_url=url, api_key="k") for _ in range(3)]
        for client in plain:
            stack.enter_context(client)
        yield {
            "bare": way(plain[0]),
            "wrap": way(clawmw.wrap(plain[1], runtime())),
            "install": way(plain[2], around=installed()),
        }


def litellm_sdk(url: str) -> Ways:
    """litellm in process."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    there: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "k"}
    under, provider = (
        runtime(),
        Runtime.of(
            load_policy(
                {**POLICY, "models": {"main": {"model": "gpt-4o", "base_url": f"{url}/v1"}}}
            )
        ),
    )
    clawmw.litellm.register(provider)
    mine, theirs = clawmw.litellm.completion, litellm.completion
    yield {
        "bare": Way(lambda m: theirs(model="openai/gpt-4o", messages=m, **there)),
        "completion": Way(lambda m: mine("openai/gpt-4o", m, policy=under, **there)),
        "clawmw/auto": Way(lambda m: theirs(model="clawmw/auto", messages=m)),
        "install": Way(lambda m: theirs(model="openai/gpt-4o", messages=m, **there), installed()),
    }


def langchain_agent(url: str) -> Ways:
    """A LangChain agent."""
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="k")
    bare = create_agent(model, [])
    guarded = create_agent(model, [], middleware=[clawmw.langchain.Middleware(runtime())])
    yield {
        "bare": Way(lambda m: bare.invoke({"messages": m})),
        "Middleware": Way(lambda m: guarded.invoke({"messages": m})),
        "install": Way(lambda m: bare.invoke({"messages": m}), installed()),
    }


def pydantic_ai_agent(url: str) -> Ways:
    """A pydantic-ai agent (the question alone: its history has a form of its own)."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    place = OpenAIProvider(base_url=f"{url}/v1", api_key="k")
    bare = Agent(OpenAIChatModel("gpt-4o", provider=place))
    capability = clawmw.pydantic_ai.Capability(runtime())
    guarded = Agent(OpenAIChatModel("gpt-4o", provider=place), capabilities=[capability])
    with asyncio.Runner() as runner:
        yield {
            "bare": Way(lambda m: runner.run(bare.run(m[-1]["content"]))),
            "Capability": Way(lambda m: runner.run(guarded.run(m[-1]["content"]))),
            "install": Way(lambda m: runner.run(bare.run(m[-1]["content"])), installed()),
        }


def openai_agents(url: str) -> Ways:
    """An agent of the OpenAI Agents SDK."""
    import agents
    import openai

    import clawmw.agents

    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k")
    given: dict[str, Any] = {"openai_client": client, "openai_use_responses": False}
    agent = agents.Agent(name="agent", model="gpt-4o")

    with asyncio.Runner() as runner:

        def way(provider: Any, **options: Any) -> Way:
            config = agents.RunConfig(model_provider=provider)
            ask: Any = agents.Runner.run
            return Way(lambda m: runner.run(ask(agent, m, run_config=config)), **options)

        plain = agents.OpenAIProvider(openai_client=client, use_responses=False)
        yield {
            "bare": way(plain),
            "Provider": way(clawmw.agents.Provider(runtime(), **given)),
            "install": way(plain, around=installed()),
        }


ROWS: Mapping[str, Callable[[str], Ways]] = {
    "openai": openai_sdk,
    "openai async": openai_async,
    "anthropic": anthropic_sdk,
    "litellm": litellm_sdk,
    "langchain agent": langchain_agent,
    "pydantic-ai agent": pydantic_ai_agent,
    "openai-agents agent": openai_agents,
}


# --- measuring -------------------------------------------------------------------------------


@contextmanager
def opened(name: str, url: str) -> Iterator[dict[str, Way] | str]:
    """A row's ways of calling, or why there are none."""
    try:
        with contextmanager(ROWS[name])(url) as ways:
            for way in ways.values():
                way.once(conversation(-1))
                way.took.clear()
                way.cpu.clear()
            yield ways
    except ImportError as error:
        yield f"not installed: {error.name}"


def measure(names: list[str], turns: int) -> dict[str, Any]:
    """Each row's figures, or why there are none."""
    with ExitStack() as stack:
        url = stack.enter_context(command("emulate"))
        rows = {name: stack.enter_context(opened(name, url)) for name in names}
        ways = [way for row in rows.values() if isinstance(row, dict) for way in row.values()]
        for turn in range(turns + WARM):
            messages = conversation(turn)
            for step in range(len(ways)):
                ways[(turn + step) % len(ways)].once(messages)
        return {name: row if isinstance(row, str) else figures(row) for name, row in rows.items()}


def figures(ways: Mapping[str, Way]) -> dict[str, dict[str, float]]:
    """Medians, and how they compare with the bare call."""
    bare, found = ways["bare"], {}
    for name, way in ways.items():
        took = way.took[WARM:]
        row = {"p50": statistics.median(took), "cpu": statistics.median(way.cpu[WARM:])}
        row["p90"] = statistics.quantiles(took, n=10, method="inclusive")[8]
        if name != "bare":
            row |= _beside(took, bare.took[WARM:], "p50")
            row |= _beside(way.cpu[WARM:], bare.cpu[WARM:], "cpu")
        found[name] = {key: round(value, 3) for key, value in row.items()}
    return found


def _beside(mine: list[float], theirs: list[float], of: str) -> dict[str, float]:
    """What is added, and how many times the bare call it comes to with that."""
    added = statistics.median([a - b for a, b in zip(mine, theirs, strict=True)])
    return {f"added_{of}": added, f"ratio_{of}": 1 + added / statistics.median(theirs)}


def show(rows: Mapping[str, Any]) -> None:
    """The table."""
    columns = ("p50", "p90", "added_p50", "ratio_p50", "cpu", "added_cpu", "ratio_cpu")
    print(f"{'milliseconds a call':32}" + "".join(f"{c.replace('_', ' '):>11}" for c in columns))
    for name, ways in rows.items():
        if isinstance(ways, str):
            print(f"{name:32}{ways}")
            continue
        for way, row in ways.items():
            cells = [f"{row[c]:11.2f}" if c in row else " " * 11 for c in columns]
            print(f"{name + ', ' + way:32}" + "".join(cells))


def known(names: Sequence[str]) -> dict[str, str]:
    """The versions of what is there."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure, show; with `--save` write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    names = [name.strip() for name in options.rows.split(",")]
    if unknown := set(names) - set(ROWS):
        parser.error(f"--rows: no {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    warnings.simplefilter("ignore")  # the libraries' own
    rows = measure(names, options.turns)
    show(rows)
    if options.save:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        about = {"unit": "ms, as the caller sees it", "date": today, "versions": known(PACKAGES)}
        load = round(os.getloadavg()[0], 1)  # of the machine, in processes
        result = {**about, "load": load, "turns": options.turns, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

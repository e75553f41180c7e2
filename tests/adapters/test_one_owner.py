"""One owner a call: whatever layers see it, it is counted once; any other call is its own.

Real SDKs, a real gateway process, real threads and tasks. A layer counts what it decided about
as finished calls; the gateway process says in `/healthz` what it found decided.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

import clawmw
from clawmw.adapters.direct import Asked, Direct
from clawmw.core.events import CallFinished, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

Body = dict[str, Any]
QUIET: Body = {"version": 1, "trace": "off"}
MINE = Identity(session="s", chain="c")


class Layer:
    """A runtime, and the calls it decided about."""

    def __init__(self, **policy: Any) -> None:
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy({**QUIET, **policy}), observers=[self.events.append])

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    @property
    def count(self) -> int:
        return len(self.finished)


class Process:
    """`clawmw serve` in another process, and what it says of itself."""

    def __init__(self, url: str, state: Path) -> None:
        self.url, self.state = url, state
        self.before = (0, 0)

    def counts(self) -> tuple[int, int]:
        """Calls that reached it since `before`, and how many somebody else had decided about."""
        said = httpx.get(self.url.removesuffix("/v1") + "/healthz").json()
        calls, owned = self.before
        return said["calls"] - calls, said["owned_elsewhere"] - owned


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(server: Emulator) -> Iterator[Emulator]:
    server.requests.clear()
    yield server
    server._world.faults._waiting.clear()


@pytest.fixture(scope="module")
def process(server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("gateway")
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\ntrace: 'off'\nstore: memory\nbreaker: false\n")
    command = [sys.executable, "-m", "clawmw.cli.main", "serve", "--port", "0"]
    command += ["--policy", str(policy), "--upstream", server.base_url]
    env = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as running:
        assert running.stdout is not None
        said = running.stdout.readline() + running.stdout.readline()
        found = re.search(r"OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/v1)", said)
        try:
            assert found, said
            yield Process(found[1], folder / "state")
        finally:
            running.terminate()
            running.wait(10)


@pytest.fixture
def gateway(process: Process, provider: Emulator, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A gateway process of the same user, which `CLAWMW_GATEWAY` names."""
    monkeypatch.setenv("CLAWMW_GATEWAY", process.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(process.state))
    process.before = (0, 0)
    process.before = process.counts()
    return process


@contextmanager
def sdk(url: str, **options: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, **options) as client:
        yield client


def say(text: str = "hello", *more: Body, **extra: Any) -> Body:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}, *more], **extra}


def ask(client: Any, body: Body | None = None) -> Any:
    return client.chat.completions.create(**(body or say()))


# --- layers over one call --------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_wrapped_installed_and_served(provider: Emulator, gateway: Process, stream: bool) -> None:
    outer, around = Layer(), Layer()
    with clawmw.install(around.runtime), sdk(gateway.url) as plain:
        answer = ask(clawmw.wrap(plain, outer.runtime), say(stream=stream))
        assert "hello" in str(list(answer) if stream else answer)
        assert (outer.count, around.count, gateway.counts()) == (1, 0, (1, 1))
        ask(plain)  # installed only: what goes to the gateway is the gateway's
        assert (outer.count, around.count, gateway.counts()) == (1, 0, (2, 1))
    assert len(provider.requests) == 2
    assert not [n for r in provider.requests for n in r.headers if n.startswith("x-clawmw")]


def test_the_async_twin(provider: Emulator, gateway: Process) -> None:
    outer, around = Layer(), Layer()

    async def go() -> None:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="k") as plain:
            client = clawmw.wrap(plain, outer.runtime)
            await asyncio.gather(
                *(client.chat.completions.create(**say(f"q{i}")) for i in range(8))
            )
            stream = await client.chat.completions.create(**say(stream=True))
            assert [chunk async for chunk in stream]

    with clawmw.install(around.runtime):
        asyncio.run(go())
    assert (outer.count, around.count, gateway.counts()) == (9, 0, (9, 9))
    assert len(provider.requests) == 9


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk_too(provider: Emulator, gateway: Process, stream: bool) -> None:
    outer, around = Layer(), Layer()
    body = {**say(), "model": "claude-sonnet-5-5", "max_tokens": 99, "stream": stream}
    with (
        clawmw.install(around.runtime),
        anthropic.Anthropic(base_url=gateway.url.removesuffix("/v1"), api_key="k") as plain,
    ):
        answer: Any = clawmw.wrap(plain, outer.runtime).messages.create(**body)
        assert "hello" in str(list(answer) if stream else answer)
    assert (outer.count, around.count, gateway.counts()) == (1, 0, (1, 1))
    assert len(provider.requests) == 1


def test_four_layers_in_one_process_and_one_in_another(
    provider: Emulator, gateway: Process
) -> None:
    """Each layer hands on to the next what it found decided."""
    layers = [Layer() for _ in range(4)]
    inner = clawmw.adapters.http.make_transport(layers[1].runtime, inner=httpx.HTTPTransport())
    middle = clawmw.adapters.http.make_transport(layers[2].runtime, inner=inner)
    with (
        clawmw.install(layers[0].runtime),
        sdk(gateway.url, http_client=httpx.Client(transport=middle)) as plain,
    ):
        ask(clawmw.wrap(plain, layers[3].runtime))
    assert [layer.count for layer in layers] == [0, 0, 0, 1]
    assert gateway.counts() == (1, 1)
    assert len(provider.requests) == 1


def test_a_frameworks_hook_above_them_all(provider: Emulator, gateway: Process) -> None:
    hook, wrapped, around = Layer(), Layer(), Layer()
    asked = [say()["messages"][0], *turn("c1", "search", {"q": "x"}, rows(300))]
    with clawmw.install(around.runtime), sdk(gateway.url) as plain:
        client = clawmw.wrap(plain, wrapped.runtime)

        def send(call: Asked) -> Body:
            done: Body = client.chat.completions.create(**call.body).model_dump()
            return done

        body = {"model": "gpt-4o", "messages": asked, "tools": [tool("search")]}
        answer = Direct(hook.runtime).call(body, send)
    assert answer.body["choices"][0]["message"]["content"]
    assert (hook.count, wrapped.count, around.count) == (1, 0, 0)
    assert gateway.counts() == (1, 1)
    assert len(provider.requests[0].body["messages"][2]["content"]) < len(rows(300)) / 3


def test_langchains_middleware_above_them_all(provider: Emulator, gateway: Process) -> None:
    agents = pytest.importorskip("langchain.agents")
    models = pytest.importorskip("langchain_openai")
    hook, around = Layer(), Layer()
    model = models.ChatOpenAI(model="gpt-4o", base_url=gateway.url, api_key="k")
    middleware = clawmw.langchain.Middleware(hook.runtime)
    with clawmw.install(around.runtime):
        agent = agents.create_agent(model, [], middleware=[middleware])
        said = agent.invoke({"messages": [{"role": "user", "content": "hello"}]})
    assert said["messages"][-1].content == "hello"
    assert (hook.count, around.count, gateway.counts()) == (1, 0, (1, 1))
    model.root_client.close()


def test_a_gateway_that_nobody_named_decides_for_itself(
    gateway: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CLAWMW_GATEWAY no token leaves the process: it is some server like others."""
    monkeypatch.delenv("CLAWMW_GATEWAY")
    layer = Layer()
    with sdk(gateway.url) as plain:
        ask(clawmw.wrap(plain, layer.runtime))
    assert (layer.count, gateway.counts()) == (1, (1, 0))


# --- calls of their own ----------------------------------------------------------------------


def test_a_judge_asked_inside_a_hook_is_a_call_of_its_own(provider: Emulator) -> None:
    layer = Layer()
    with httpx.Client() as judge:

        def judged(request: httpx.Request) -> None:
            url = provider.base_url + "/chat/completions"
            judge.post(url, json=say("is this safe?")).raise_for_status()

        with (
            clawmw.install(layer.runtime),
            sdk(
                provider.base_url,
                http_client=httpx.Client(event_hooks={"request": [judged]}),
            ) as client,
        ):
            ask(client)
    assert (layer.count, len(provider.requests)) == (2, 2)


def test_a_judge_asked_below_the_policy_is_a_call_of_its_own(provider: Emulator) -> None:
    """In the very context in which the outer layer's token waits to be taken."""
    layer = Layer()

    class Judging(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            with sdk(provider.base_url) as judge:
                ask(judge, say("is this safe?"))
            return super().handle_request(request)

    with (
        clawmw.install(layer.runtime),
        sdk(provider.base_url, http_client=httpx.Client(transport=Judging())) as client,
    ):
        ask(client)
    assert (layer.count, len(provider.requests)) == (2, 2)


@pytest.mark.parametrize("how", ["inline", "thread", "context"])
def test_an_agent_used_as_a_tool_is_a_call_of_its_own(provider: Emulator, how: str) -> None:
    """While a framework's hook waits for its own model: inline, or in another thread."""
    hook, around = Layer(), Layer()
    with clawmw.install(around.runtime), sdk(provider.base_url) as client:

        def inner() -> Any:
            return ask(client, say("look it up"))

        def send(call: Asked) -> Body:
            if how == "inline":
                inner()
            else:
                context = contextvars.copy_context()
                work = context.run if how == "context" else lambda f: f()
                worker = threading.Thread(target=work, args=(inner,))
                worker.start()
                worker.join()
            done: Body = ask(client, call.body).model_dump()
            return done

        Direct(hook.runtime).call(say("book a trip"), send)
    assert (hook.count, around.count) == (1, 1)
    assert len(provider.requests) == 2


def test_a_task_spawned_meanwhile_is_a_call_of_its_own(provider: Emulator) -> None:
    hook, around = Layer(), Layer()

    async def go() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k") as client:
            spawned: list[asyncio.Task[Any]] = []

            async def send(call: Asked) -> Body:
                other = client.chat.completions.create(**say("by the way"))
                spawned.append(asyncio.create_task(other))
                await asyncio.sleep(0)
                done = await client.chat.completions.create(**call.body)
                return done.model_dump()

            await Direct(hook.runtime).acall(say("book a trip"), send)
            await asyncio.gather(*spawned)

    with clawmw.install(around.runtime):
        asyncio.run(go())
    assert (hook.count, around.count) == (1, 1)
    assert len(provider.requests) == 2


def test_threads_and_tasks_count_each_call_once(provider: Emulator, gateway: Process) -> None:
    outer, around = Layer(), Layer()
    with (
        clawmw.install(around.runtime),
        sdk(gateway.url) as plain,
        ThreadPoolExecutor(8) as pool,
    ):
        client = clawmw.wrap(plain, outer.runtime)
        list(pool.map(lambda i: ask(client, say(f"t{i}")), range(24)))
    assert (outer.count, around.count, gateway.counts()) == (24, 0, (24, 24))
    assert len({e.exchange for e in outer.finished}) == len(provider.requests) == 24


# --- the same call again ---------------------------------------------------------------------


def asking_again(layer: Layer, provider: Emulator, **options: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=provider.base_url, api_key="k", **options)
    return clawmw.wrap(client, layer.runtime, MINE)


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK waits half a second and more between its attempts."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


@pytest.mark.usefixtures("_hurried")
def test_an_sdks_retries_are_attempts_at_the_provider_and_no_steps_of_a_loop(
    provider: Emulator,
) -> None:
    """Without retries of ours. The budget counts what reached the provider, the loop guard what
    the agent did: the same results sent three times are one round."""
    layer = Layer(
        retry=False,
        breaker=False,
        loop_guard={"nudge": 3, "refuse": 4, "stop": 5},
        budget={"chain": {"calls": 20}},
    )
    body = say("find it", tools=[tool("search")])
    with asking_again(layer, provider, max_retries=2) as client:
        for round_ in range(2):  # the agent's second round is still below the nudge
            body["messages"] += turn(f"c{round_}", "search", {"q": "same"}, "nothing")
            provider.fail_next(Fault(status=500), Fault(status=500))
            ask(client, body)
        assert len(provider.requests) == 6
        assert layer.count == 6
        assert "[clawmw]" not in str(provider.requests[-1].body)
        body["messages"] += turn("c2", "search", {"q": "same"}, "nothing")
        ask(client, body)
    assert "[clawmw]" in str(provider.requests[-1].body)
    spent = layer.runtime.stores.ledger.used(MINE.scope("chain"))
    assert spent["calls"] == len(provider.requests) == 7


@pytest.mark.usefixtures("_hurried")
def test_an_agent_that_tries_again_by_itself_makes_no_loop(provider: Emulator) -> None:
    """As tenacity does, or LangChain: the same call, made anew after it failed."""
    layer = Layer(retry=False, breaker=False, loop_guard={"nudge": 3, "refuse": 4, "stop": 5})
    body = say("find it", *turn("c0", "search", {"q": "same"}, "nothing"), tools=[tool("search")])
    with asking_again(layer, provider, max_retries=0) as client:
        for _ in range(8):
            provider.fail_next(Fault(status=500))
            with pytest.raises(openai.InternalServerError):
                ask(client, body)
        ask(client, body)
    assert len(provider.requests) == 9
    assert "[clawmw]" not in str(provider.requests[-1].body)


@pytest.mark.parametrize("flavour", ["httpx", "httpx2"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_attempts_do_not_multiply(flavour: str, is_async: bool, stream: bool) -> None:
    """Nobody listens: the policy's three attempts, and not three times three."""
    layer = Layer(retry={"attempts": 3, "base": "1ms", "longest": "2ms"}, breaker=False)
    module: Any = pytest.importorskip(flavour)
    given: Body = {"base_url": "http://127.0.0.1:9/v1", "api_key": "k", "max_retries": 2}

    async def go() -> None:
        async with openai.AsyncOpenAI(**given, http_client=module.AsyncClient()) as plain:
            await ask(clawmw.wrap(plain, layer.runtime), say(stream=stream))

    def run() -> None:
        with openai.OpenAI(**given, http_client=module.Client()) as plain:
            ask(clawmw.wrap(plain, layer.runtime), say(stream=stream))

    with pytest.raises(openai.APIError):
        asyncio.run(go()) if is_async else run()
    assert [done.attempts for done in layer.finished] == [3]


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(reset_after=0)], ids=["500", "reset"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_attempts_do_not_multiply_with_the_anthropic_sdk(
    provider: Emulator, fault: Fault, stream: bool, is_async: bool
) -> None:
    layer = Layer(retry={"attempts": 3, "base": "1ms", "longest": "2ms"}, breaker=False)
    provider.fail_next(*[fault] * 12)
    given: Body = {"base_url": provider.base_url.removesuffix("/v1"), "api_key": "k"}
    body = {**say(), "model": "claude-sonnet-5-5", "max_tokens": 99, "stream": stream}

    async def go() -> None:
        async with anthropic.AsyncAnthropic(**given, max_retries=2) as plain:
            await clawmw.wrap(plain, layer.runtime).messages.create(**body)

    def run() -> None:
        with anthropic.Anthropic(**given, max_retries=2) as plain:
            clawmw.wrap(plain, layer.runtime).messages.create(**body)

    with pytest.raises(anthropic.APIStatusError):
        asyncio.run(go()) if is_async else run()
    assert len(provider.requests) == 3
    assert [done.attempts for done in layer.finished] == [3]


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(reset_after=0)], ids=["500", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_gateway_tried_in_vain_is_tried_no_further(
    provider: Emulator, gateway: Process, fault: Fault, stream: bool
) -> None:
    provider.fail_next(*[fault] * 30)
    model = f"gpt-4o-{fault.status}-{stream}"  # retries of one upstream share a budget
    options: Body = {"base_url": gateway.url, "api_key": "k", "max_retries": 2}
    with openai.OpenAI(**options) as client, pytest.raises(openai.APIError):
        ask(client, {**say(stream=stream), "model": model})
    assert len(provider.requests) == 3

"""litellm in process: its functions under a policy, and the policy as its provider.

litellm itself is the last hop, over a real socket.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import clawmw
from clawmw.core.events import Acted, CallFinished, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault, Reply, ToolUse
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import rows, tool, turn

pytestmark = [
    pytest.mark.slow,  # 5 seconds and 200 MB to import
    pytest.mark.filterwarnings("ignore"),  # it warns a lot
]

HELLO: Any = [{"role": "user", "content": "hello"}]
QUICK = {"base": "1ms", "longest": "2ms"}


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    """The library, without its price table being fetched and without its advertising."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm
    litellm.suppress_debug_info = True
    litellm.disable_aiohttp_transport = True  # its sessions outlive their event loop
    yield litellm
    litellm.custom_provider_map = []
    litellm.in_memory_llm_clients_cache.flush_cache()
    with warnings.catch_warnings():  # its clients of event loops that are over
        warnings.simplefilter("ignore")
        gc.collect()


class Case:
    """A policy, what it saw, and the options that lead to the provider."""

    def __init__(self, provider: Emulator, **policy: Any) -> None:
        models = {
            "main": {"model": "gpt-4o", "base_url": provider.base_url},
            "light": "openai/mini",
        }
        given = {"version": 1, "trace": "off", "retry": QUICK, "models": models, **policy}
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy(given), observers=[self.events.append])
        self.there: dict[str, Any] = {"api_base": provider.base_url, "api_key": "k"}
        self.options: dict[str, Any] = {**self.there, "policy": self.runtime}

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]

    def complete(self, **options: Any) -> Any:
        given = {"model": "openai/gpt-4o", "messages": HELLO, **self.options, **options}
        return clawmw.litellm.completion(**given)

    async def acomplete(self, **options: Any) -> Any:
        given = {"model": "openai/gpt-4o", "messages": HELLO, **self.options, **options}
        return await clawmw.litellm.acompletion(**given)


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(server: Emulator, litellm: Any) -> Iterator[Emulator]:
    brain = server._world.brain
    server.requests.clear()
    yield server
    server._world.brain = brain
    server._world.faults._waiting.clear()


@pytest.fixture
def case(provider: Emulator) -> Iterator[Case]:
    made = Case(provider)
    yield made
    assert set(made.runtime.traffic.census().values()) == {0}


def text(chunks: list[Any]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


# --- the functions ---------------------------------------------------------------------------


def test_it_answers_with_litellms_own_object_and_its_cost(case: Case, litellm: Any) -> None:
    answer = case.complete(temperature=0.5)
    assert type(answer) is litellm.ModelResponse
    assert answer.choices[0].message.content == "hello"
    assert answer._hidden_params["response_cost"] == litellm.completion_cost(answer) > 0
    [done] = case.finished
    assert done.usage is not None
    assert done.usage.basis == "measured"
    assert done.usage.input_tokens == answer.usage.prompt_tokens


@pytest.mark.parametrize("wants_usage", [False, True])
def test_it_streams(case: Case, litellm: Any, wants_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(case.complete(stream=True, **options))
    assert {type(chunk) for chunk in chunks} == {litellm.ModelResponseStream}
    assert text(chunks) == "hello"
    assert bool([c for c in chunks if getattr(c, "usage", None)]) == wants_usage
    assert litellm.stream_chunk_builder(chunks).choices[0].message.content == "hello"
    [done] = case.finished
    assert done.usage is not None
    assert (done.status, done.usage.basis) == ("ok", "measured")


def test_the_async_twin(case: Case) -> None:
    async def go() -> tuple[Any, list[Any]]:
        answer = await case.acomplete()
        stream = await case.acomplete(stream=True)
        return answer, [chunk async for chunk in stream]

    answer, chunks = asyncio.run(go())
    assert answer.choices[0].message.content == text(chunks) == "hello"
    assert [done.status for done in case.finished] == ["ok", "ok"]


def test_results_are_reduced_and_tools_and_shapes_arrive(case: Case, provider: Emulator) -> None:
    class Ticket(BaseModel):
        price: int

    asked = [*HELLO, *turn("c1", "search", {"q": "x"}, rows(300))]
    options = {"tools": [tool("search")], "response_format": Ticket, "max_tokens": 50}
    answer = case.complete(messages=asked, **options)
    sent = provider.requests[0].body
    assert len(sent["messages"][2]["content"]) < len(rows(300)) / 3
    assert sent["response_format"]["json_schema"]["name"] == "Ticket"
    assert sent["max_tokens"] == 50
    # The conversation goes on with the very object that litellm gave.
    case.complete(messages=[*asked, answer.choices[0].message, *HELLO], **options)
    before, after = (r.body["messages"] for r in provider.requests)
    assert after[: len(before)] == before


def test_tool_calls_come_back(case: Case, provider: Emulator) -> None:
    provider._world.brain = lambda _asked: Reply(tools=(ToolUse("search", {"q": "x"}),))
    message = case.complete(tools=[tool("search")]).choices[0].message
    assert message.tool_calls[0].function.name == "search"
    deltas = [
        call.function.name
        for chunk in case.complete(tools=[tool("search")], stream=True)
        for call in chunk.choices[0].delta.tool_calls or ()
    ]
    assert "search" in deltas


@pytest.mark.parametrize(
    ("status", "name", "attempts"),
    [(500, "InternalServerError", 3), (429, "RateLimitError", 3), (401, "AuthenticationError", 1)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_exceptions_stay_litellms_and_the_policy_alone_tries_again(
    provider: Emulator, litellm: Any, status: int, name: str, attempts: int, stream: bool
) -> None:
    case = Case(provider, breaker=False)
    provider.fail_next(*[Fault(status=status)] * 12)
    with pytest.raises(getattr(litellm, name)) as raised:
        list(case.complete(num_retries=3, stream=stream))
    assert raised.value.status_code == status
    assert len(provider.requests) == attempts
    with pytest.raises(getattr(litellm, name)):
        asyncio.run(case.acomplete(stream=stream))
    assert [done.attempts for done in case.finished] == [attempts, attempts]


def test_without_retries_of_ours_litellms_hold(provider: Emulator, litellm: Any) -> None:
    case = Case(provider, retry=False)
    provider.fail_next(*[Fault(status=500)] * 12)
    with pytest.raises(litellm.InternalServerError):
        case.complete(max_retries=1)
    assert len(provider.requests) == 2


def test_a_mistake_in_the_call_is_litellms_own_error(case: Case, litellm: Any) -> None:
    with pytest.raises(litellm.BadRequestError, match="LLM Provider NOT provided"):
        case.complete(model="no-such-model")
    with pytest.raises(litellm.NotFoundError, match="no model 'x'; it has main, light"):
        case.complete(model="clawmw/x")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_is_an_error_or_a_message(provider: Emulator, litellm: Any, stream: bool) -> None:
    spent = {"budget": {"chain": {"calls": 0}}}
    case = Case(provider, **spent, refusal="error")
    with pytest.raises(litellm.APIError, match="0 calls per chain") as raised:
        case.complete(stream=stream)
    assert raised.value.status_code == 402
    told = Case(provider, **spent, refusal="message").complete(stream=stream)
    said = text(list(told)) if stream else told.choices[0].message.content
    assert "0 calls per chain" in said
    assert provider.requests == []


def test_who_calls_is_read_from_headers_and_those_stay_here(case: Case, provider: Emulator) -> None:
    case.complete(extra_headers={"x-clawmw-agent": "a", "x-mine": "1"})
    assert case.finished[0].identity.agent == "a"
    [received] = provider.requests
    assert received.headers["x-mine"] == "1"
    assert not [name for name in received.headers if name.startswith("x-clawmw")]
    case.complete(identity=Identity(session="s"))
    assert case.finished[1].identity.session == "s"


def test_a_reader_who_leaves_ends_the_call(case: Case, provider: Emulator) -> None:
    provider.fail_next(Fault(chunk_delay=0.05))
    with case.complete(stream=True, messages=[{"role": "user", "content": "word " * 50}]) as chunks:
        next(chunks)
    assert [done.status for done in case.finished] == ["cancelled"]


def test_a_stream_that_breaks_raises(case: Case, provider: Emulator, litellm: Any) -> None:
    provider.fail_next(Fault(reset_after=2))
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):  # what it raises by itself
        list(case.complete(stream=True))
    assert [done.status for done in case.finished] == ["cancelled"]


def test_the_policy_may_send_it_elsewhere(provider: Emulator) -> None:
    case = Case(provider, route=[{"when": "messages > 0", "to": "main"}])
    for stream in (False, True):
        answer = case.complete(
            model="anthropic/claude-x", api_base="http://127.0.0.1:9", stream=stream
        )
        assert "hello" in (text(list(answer)) if stream else answer.choices[0].message.content)
    assert [r.body["model"] for r in provider.requests] == ["gpt-4o", "gpt-4o"]
    assert "k" not in provider.requests[0].headers["authorization"].split()
    assert [e.rule for e in case.events if isinstance(e, Acted) and e.stage == "route"]


def test_a_model_that_speaks_another_dialect_takes_over(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name through litellm; by a route at its own address, translated."""
    monkeypatch.setenv("CLAUDE_KEY", "sk-claude")
    claude = {"model": "claude-sonnet-5-5", "base_url": provider.base_url}
    claude |= {"dialect": "anthropic.messages", "api_key_env": "CLAUDE_KEY"}
    models = {"main": "openai/gpt-4o", "claude": claude}
    named = Case(provider, models=models).complete(model="clawmw/claude", api_base=None)
    assert named.choices[0].message.content == "hello"
    case = Case(provider, models=models, route=[{"when": "messages > 0", "to": "claude"}])

    async def go(stream: bool) -> Any:
        answer = await case.acomplete(stream=stream)
        return [chunk async for chunk in answer] if stream else answer

    for stream in (False, True):
        for answer in (case.complete(stream=stream), asyncio.run(go(stream))):
            said = text(list(answer)) if stream else answer.choices[0].message.content
            assert said == "hello"
    assert {r.path for r in provider.requests} == {"/v1/messages"}
    assert [done.status for done in case.finished] == ["ok"] * 4


def test_switched_off_it_is_litellms_own(
    case: Case, provider: Emulator, litellm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    assert case.complete().choices[0].message.content == "hello"
    answer = case.complete(model="clawmw/main", api_base=None, api_key=None)
    assert answer.choices[0].message.content == "hello"
    assert case.events == []


# --- the provider ----------------------------------------------------------------------------


def registered(case: Case, litellm: Any, **seen: Any) -> Any:
    """litellm with the policy as its provider, and a logger of its own kind."""
    clawmw.litellm.register(case.runtime)

    class Logger(litellm.integrations.custom_logger.CustomLogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[str, float]] = []

        def log_success_event(self, kwargs: Any, response_obj: Any, *times: Any) -> None:
            self.calls.append((kwargs["model"], kwargs["response_cost"]))

    return Logger()


@pytest.mark.parametrize("model", ["clawmw/auto", "clawmw/main"])
def test_the_policy_is_a_provider(case: Case, provider: Emulator, litellm: Any, model: str) -> None:
    registered(case, litellm)
    answer = litellm.completion(model=model, messages=HELLO, temperature=0.5, tools=[tool("f")])
    assert answer.choices[0].message.content == "hello"
    assert answer._hidden_params["response_cost"] > 0
    assert answer.usage.prompt_tokens == provider.usages[0].input_tokens
    sent = provider.requests[0].body
    assert (sent["model"], sent["temperature"]) == ("gpt-4o", 0.5)
    assert [t["function"]["name"] for t in sent["tools"]] == ["f"]
    assert len(case.finished) == 1


def test_the_provider_streams_with_usage_at_the_end(
    case: Case, provider: Emulator, litellm: Any
) -> None:
    registered(case, litellm)
    given: Any = {"model": "clawmw/auto", "messages": HELLO, "stream": True}
    chunks = list(litellm.completion(**given, stream_options={"include_usage": True}))
    assert text(chunks) == "hello"
    assert [c.choices[0].finish_reason for c in chunks if c.choices].count("stop") == 1
    assert chunks[-1].usage.prompt_tokens == provider.usages[0].input_tokens

    async def go() -> list[Any]:
        stream = await litellm.acompletion(**given)
        return [chunk async for chunk in stream]

    assert text(asyncio.run(go())) == "hello"
    assert [done.status for done in case.finished] == ["ok", "ok"]


def test_tool_calls_stream_through_the_provider(
    case: Case, provider: Emulator, litellm: Any
) -> None:
    registered(case, litellm)
    provider._world.brain = lambda _asked: Reply(tools=(ToolUse("search", {"q": "x"}),))
    given: Any = {"model": "clawmw/auto", "messages": HELLO, "tools": [tool("search")]}
    whole = litellm.stream_chunk_builder(list(litellm.completion(**given, stream=True)))
    [call] = whole.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("search", '{"q": "x"}')
    assert whole.choices[0].finish_reason == "tool_calls"


def test_a_router_leads_to_the_policy(case: Case, provider: Emulator, litellm: Any) -> None:
    registered(case, litellm)
    deployment = {"model_name": "agent", "litellm_params": {"model": "clawmw/auto"}}
    router = litellm.Router(model_list=[deployment], num_retries=0)
    assert router.completion("agent", HELLO).choices[0].message.content == "hello"
    assert text(list(router.completion("agent", HELLO, stream=True))) == "hello"

    async def go() -> str:
        answer = await router.acompletion("agent", HELLO)
        stream = await router.acompletion("agent", HELLO, stream=True)
        return answer.choices[0].message.content + text([chunk async for chunk in stream])

    assert asyncio.run(go()) == "hellohello"
    assert len(case.finished) == len(provider.requests) == 4


def test_errors_through_the_provider_stay_what_they_are(
    case: Case, provider: Emulator, litellm: Any
) -> None:
    registered(case, litellm)
    provider.fail_next(*[Fault(status=500)] * 12)
    with pytest.raises(litellm.InternalServerError):
        litellm.completion(model="clawmw/auto", messages=HELLO)
    assert len(provider.requests) == 3
    clawmw.litellm.register(Case(provider, budget={"chain": {"calls": 0}}).runtime)
    with pytest.raises(litellm.APIError, match="0 calls per chain"):
        litellm.completion(model="clawmw/auto", messages=HELLO)
    with pytest.raises(litellm.NotFoundError, match="no model 'x'"):
        litellm.completion(model="clawmw/x", messages=HELLO)


# --- what is installed for the whole process ---------------------------------------------------

INSTALLED = """
import asyncio, sys
import clawmw, litellm
from clawmw.core.events import CallFinished
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

assert not litellm.disable_aiohttp_transport
seen = []
runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}), observers=[seen.append])
there = {"api_base": sys.argv[1], "api_key": "k", "messages": [{"role": "user", "content": "x"}]}

async def go():
    await litellm.acompletion(model="openai/gpt-4o", **there)  # its client is made before
    with clawmw.install(runtime):
        await litellm.acompletion(model="openai/gpt-4o", **there)
        stream = await litellm.acompletion(model="openai/gpt-4o", stream=True, **there)
        assert [chunk async for chunk in stream]
        litellm.completion(model="openai/gpt-4o", **there)
        clawmw.litellm.completion("openai/gpt-4o", policy=runtime, **there)

asyncio.run(go())
print([e.status for e in seen if isinstance(e, CallFinished)])
"""


def test_installed_covers_litellm_over_aiohttp_too(provider: Emulator) -> None:
    """Its default for async calls is aiohttp, behind an httpx client."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INSTALLED, provider.base_url],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    assert done.stdout.strip() == str(["ok"] * 4), done.stderr[-2000:]
    assert len(provider.requests) == 5

"""Models that only litellm reaches, over real sockets: litellm's DeepSeek against the emulator.

Slow: litellm takes 5 seconds to import.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

import clawmw
from clawmw.adapters import litellm_upstream
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Fault, Reply, ToolUse, turns
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from tests.conftest import tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
DEEP = {"model": "deepseek/deepseek-v4-flash", "api_key_env": "DEEP_KEY"}
POLICY: dict[str, Any] = {"version": 1, "trace": "off", "retry": False, "models": {"deep": DEEP}}
ROUTED = {**POLICY, "route": [{"when": "true", "to": "deep"}]}
BRAIN = turns([Reply("I look.", (ToolUse("search", {"q": "Oslo"}),)), Reply("Four degrees.")])


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(bill="deepseek", brain=BRAIN) as emulator:
        monkeypatch.setenv("DEEPSEEK_API_BASE", emulator.base_url)
        monkeypatch.setenv("DEEP_KEY", "sk-deep")
        yield emulator


class Case:
    """A runtime whose every call goes by litellm; its caller means OpenAI."""

    def __init__(self, policy: dict[str, Any] = ROUTED) -> None:
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy(policy), observers=[self.events.append])
        self.said = {"base_url": "https://api.openai.com/v1", "api_key": "sk-x", "max_retries": 0}

    def sdk(self, flavour: Any = "httpx") -> openai.OpenAI:
        client = clawmw.http_client(self.runtime, flavour=flavour)
        return openai.OpenAI(**self.said, http_client=client)

    def asdk(self) -> openai.AsyncOpenAI:
        client = clawmw.async_http_client(self.runtime, flavour="httpx")
        return openai.AsyncOpenAI(**self.said, http_client=client)


def test_a_task_with_a_tool_is_done_by_way_of_litellm(provider: Emulator) -> None:
    case, said, texts = Case(), list(HELLO), []
    with case.sdk() as client:
        for _ in range(2):
            answer = client.chat.completions.create(
                model="gpt-5", messages=said, tools=[tool("search")]
            )
            message = answer.choices[0].message
            texts.append(message.content)
            said.append(message.model_dump(exclude_none=True))
            said += [
                {"role": "tool", "tool_call_id": call.id, "content": "4"}
                for call in message.tool_calls or ()
            ]
    assert texts == ["I look.", "Four degrees."]
    assert [r.body["model"] for r in provider.requests] == ["deepseek-v4-flash"] * 2
    assert "sk-x" not in str([r.headers for r in provider.requests])
    done = [e for e in case.events if isinstance(e, CallFinished)]
    assert [e.status for e in done] == ["ok", "ok"]
    usage, billed = done[-1].usage, provider.usages[-1]
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (billed.input_tokens, billed.output_tokens)
    assert usage.cache_read_tokens == billed.cache_read_tokens


def test_a_stream_comes_as_it_is_made(provider: Emulator) -> None:
    case = Case()
    with case.sdk() as client:
        chunks = list(
            client.chat.completions.create(
                model="gpt-5",
                messages=HELLO,
                tools=[tool("search")],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    choices = [c.choices[0] for c in chunks if c.choices]
    assert "".join(c.delta.content or "" for c in choices) == "I look."
    calls = [call for c in choices for call in c.delta.tool_calls or ()]
    assert json.loads("".join(c.function.arguments or "" for c in calls)) == {"q": "Oslo"}
    assert "tool_calls" in [c.finish_reason for c in choices]
    assert [c.usage.prompt_tokens for c in chunks if c.usage] == [provider.usages[-1].input_tokens]


def test_the_async_twin(provider: Emulator) -> None:
    case = Case()

    async def both() -> tuple[str | None, str]:
        import litellm

        async with case.asdk() as client:
            whole = await client.chat.completions.create(model="gpt-5", messages=HELLO)
            stream = await client.chat.completions.create(
                model="gpt-5", messages=HELLO, stream=True
            )
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        await litellm.close_litellm_async_clients()
        return whole.choices[0].message.content, text

    assert asyncio.run(both()) == ("I look.", "I look.")


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault(status=429, retry_after=3), openai.RateLimitError, "Rate limit reached."),
        (Fault(status=401), openai.AuthenticationError, "Incorrect API key provided."),
        (Fault(status=503), openai.InternalServerError, "overloaded"),
    ],
)
def test_errors_are_those_of_the_provider(
    provider: Emulator, fault: Fault, error: type[openai.APIStatusError], says: str
) -> None:
    case = Case({**ROUTED, "breaker": False})
    provider.fail_next(fault)
    with case.sdk() as client, pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    body: Any = raised.value.body
    assert says in body["message"]
    assert "litellm" not in body["message"]
    wait = raised.value.response.headers.get("retry-after")
    assert wait == (None if fault.retry_after is None else "3")
    assert len(provider.requests) == 1


def test_a_body_cannot_say_where_to_or_with_whose_key(provider: Emulator) -> None:
    case = Case()
    more = {"api_base": "http://127.0.0.1:1", "api_key": "sk-evil", "mock_response": "no"}
    with case.sdk() as client:
        answer = client.chat.completions.with_raw_response.create(
            model="gpt-5", messages=HELLO, extra_body=more
        )
    assert len(provider.requests) == 1
    assert set(answer.headers["x-clawmw-dropped"].split(",")) == set(more)


def test_the_gateway_leads_there(provider: Emulator) -> None:
    loaded = load_policy(POLICY)
    runtime = Runtime.of(loaded, observers=[])
    with (
        Served(Gateway(runtime, Places(loaded.models))) as served,
        openai.OpenAI(base_url=served.base_url, api_key="sk-caller", max_retries=0) as client,
    ):
        answer = client.chat.completions.create(model="deep", messages=HELLO)
        stream = client.chat.completions.create(model="deep", messages=HELLO, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        provider.fail_next(Fault(status=429))
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="deep", messages=HELLO)
    assert answer.choices[0].message.content == text == "I look."


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_caller_gets_there_too(provider: Emulator, stream: bool) -> None:
    client = clawmw.http_client(Case().runtime, flavour="httpx2")
    where = "https://api.anthropic.com"
    ask: Any = {"model": "claude-x", "messages": HELLO, "max_tokens": 99}
    with anthropic.Anthropic(api_key="k", base_url=where, http_client=client) as sdk:
        if stream:
            with sdk.messages.stream(**ask) as events:
                message = events.get_final_message()
        else:
            message = sdk.messages.create(**ask)
        provider.fail_next(Fault(status=429))
        with pytest.raises(anthropic.RateLimitError, match="rate_limit_error"):
            sdk.with_options(max_retries=0).messages.create(**ask)
    assert message.content[0].type == "text"
    assert message.content[0].text == "I look."
    assert message.usage.output_tokens > 0


def test_nothing_is_looked_up_when_it_loads() -> None:
    code = (
        "import socket\n"
        "def no(*a, **k): raise SystemExit('looked up')\n"
        "socket.getaddrinfo = socket.socket.connect = no\n"
        "from clawmw.adapters import litellm_upstream as u\n"
        "print(u._loaded().telemetry)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1] == "False", done.stderr
    assert litellm_upstream.upstream.__doc__

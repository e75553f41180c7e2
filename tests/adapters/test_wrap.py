"""`clawmw.wrap`: the SDKs' own clients under a policy, with everything they were made with."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import clawmw
from clawmw.adapters.http import http_client
from clawmw.core.events import CallFinished, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator, Fault
from clawmw.errors import ClawmwError, PolicyError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

HELLO: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
QUIET = {"version": 1, "trace": "off"}


class Case:
    """A policy at work, and what it saw."""

    def __init__(self, **policy: Any) -> None:
        self.events: list[Event] = []
        self.runtime = Runtime.of(load_policy({**QUIET, **policy}), observers=[self.events.append])

    @property
    def finished(self) -> list[CallFinished]:
        return [e for e in self.events if isinstance(e, CallFinished)]


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(server: Emulator) -> Emulator:
    server.requests.clear()
    return server


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    assert set(made.runtime.traffic.census().values()) == {0}
    made.runtime.close()


made: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while made:
        made.pop().close()


def client(provider: Emulator, **options: Any) -> openai.OpenAI:
    made.append(openai.OpenAI(base_url=provider.base_url, api_key="k", **options))
    return made[-1]


@pytest.mark.parametrize("module", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrapped_client_runs_under_the_policy_and_the_original_does_not(
    case: Case, provider: Emulator, module: Any, stream: bool
) -> None:
    options = {} if module is None else {"http_client": module.Client(trust_env=False)}
    with client(provider, **options) as plain:
        wrapped = clawmw.wrap(plain, case.runtime)
        assert type(wrapped) is openai.OpenAI
        answer: Any = wrapped.chat.completions.create(**HELLO, stream=stream)
        if stream:
            answer = list(answer)
        assert "hello" in str(answer)
        assert len(case.finished) == 1
        plain.chat.completions.create(**HELLO)
        assert len(case.finished) == 1
    assert len(provider.requests) == 2


@pytest.mark.parametrize("module", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
def test_the_async_twin(case: Case, provider: Emulator, module: Any) -> None:
    options = {} if module is None else {"http_client": module.AsyncClient(trust_env=False)}

    async def go() -> None:
        given: Any = {"base_url": provider.base_url, "api_key": "k", **options}
        async with openai.AsyncOpenAI(**given) as plain:
            wrapped = clawmw.wrap(plain, case.runtime)
            assert type(wrapped) is openai.AsyncOpenAI
            answer = await wrapped.chat.completions.create(**HELLO)
            assert answer.choices[0].message.content == "hello"
            stream = await wrapped.chat.completions.create(**HELLO, stream=True)
            assert [chunk async for chunk in stream]

    asyncio.run(go())
    assert [done.status for done in case.finished] == ["ok", "ok"]


def test_settings_stay_as_they_were(case: Case, provider: Emulator) -> None:
    timeout = httpx.Timeout(7.0, connect=2.0)
    plain = client(
        provider,
        timeout=timeout,
        max_retries=5,
        organization="org-1",
        default_headers={"x-mine": "1"},
        default_query={"v": "2"},
    )
    wrapped = clawmw.wrap(plain, case.runtime)
    assert (wrapped.timeout, wrapped.max_retries) == (timeout, 5)
    assert wrapped.base_url == plain.base_url
    wrapped.chat.completions.create(**HELLO)
    [received] = provider.requests
    assert received.headers["x-mine"] == "1"
    assert received.headers["openai-organization"] == "org-1"
    # What is made from it is under the policy, too.
    wrapped.with_options(timeout=3).chat.completions.create(**HELLO)
    assert len(case.finished) == 2


def test_azure_keeps_its_deployments_and_its_key(case: Case, provider: Emulator) -> None:
    seen: list[httpx.Request] = []

    class Rerouting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(httpx.Request("POST", request.url, headers=request.headers))
            request.url = httpx.URL(provider.base_url + "/chat/completions")
            return super().handle_request(request)

    plain = openai.AzureOpenAI(
        azure_endpoint="http://127.0.0.1:9",
        api_key="azure-key",
        api_version="2026-10-01",
        http_client=httpx.Client(transport=Rerouting()),
    )
    wrapped = clawmw.wrap(plain, case.runtime)
    assert type(wrapped) is openai.AzureOpenAI
    with wrapped:
        assert wrapped.chat.completions.create(**HELLO).choices[0].message.content == "hello"
    [sent] = seen
    assert sent.url.path == "/openai/deployments/gpt-4o/chat/completions"
    assert sent.url.params["api-version"] == "2026-10-01"
    assert sent.headers["api-key"] == "azure-key"
    assert len(case.finished) == 1


def test_hooks_headers_and_transports_of_the_users_own_client_stay(
    case: Case, provider: Emulator
) -> None:
    said: list[str] = []

    class Own(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            said.append("transport")
            return super().handle_request(request)

    class Client(httpx.Client):
        """A subclass with something of its own."""

        def send(self, *args: Any, **options: Any) -> httpx.Response:
            said.append("send")
            return super().send(*args, **options)

    http = Client(
        headers={"x-own": "1"},
        mounts={"http://127.0.0.1": Own()},
        event_hooks={
            "request": [lambda _r: said.append("request")],
            "response": [lambda _r: said.append("response")],
        },
    )
    wrapped = clawmw.wrap(client(provider, http_client=http), case.runtime)
    with http:
        wrapped.chat.completions.create(**HELLO)
        assert said == ["send", "request", "transport", "response"]
        assert provider.requests[0].headers["x-own"] == "1"
        assert len(case.finished) == 1
        http.get(provider.base_url + "/models")
    assert len(case.finished) == 1


def test_the_original_may_go_and_closing_is_for_both(case: Case, provider: Emulator) -> None:
    wrapped = clawmw.wrap(client(provider), case.runtime)
    made.clear()
    gc.collect()  # the SDK's own client closes its connections when it is collected
    with wrapped:
        wrapped.chat.completions.create(**HELLO)
    with client(provider, http_client=httpx.Client()) as plain:
        clawmw.wrap(plain, case.runtime)
        gc.collect()  # the wrapped one is gone: the original is not closed with it
        assert plain.chat.completions.create(**HELLO)
    http = httpx.Client()
    with clawmw.wrap(client(provider, http_client=http), case.runtime) as other:
        other.chat.completions.create(**HELLO)
    assert http.is_closed


def test_wrapping_twice_is_once_and_another_caller_is_another_client(
    case: Case, provider: Emulator
) -> None:
    once = clawmw.wrap(client(provider), case.runtime)
    assert clawmw.wrap(once, case.runtime) is once
    with client(provider, http_client=http_client(case.runtime)) as under:
        assert clawmw.wrap(under, case.runtime) is under
    for agent in ("a", "b"):
        twin = clawmw.wrap(once, case.runtime, Identity(agent=agent))
        assert clawmw.wrap(twin, case.runtime, Identity(agent=agent)) is twin
        twin.chat.completions.create(**HELLO)
    assert [done.identity.agent for done in case.finished] == ["a", "b"]


def test_one_policy_is_one_runtime_whatever_it_is_given_as(
    provider: Emulator, tmp_path: Any
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\ntrace: 'off'\nrefusal: error\nbudget: {tenant: {day: {calls: 2}}}\n"
    )
    policy = clawmw.load_policy(path)
    clients = [clawmw.wrap(client(provider), given) for given in (path, str(path), policy)]
    for wrapped in clients[:2]:
        wrapped.chat.completions.create(**HELLO)
    with pytest.raises(openai.APIStatusError) as stopped:
        clients[2].chat.completions.create(**HELLO)
    assert stopped.value.status_code == 402
    assert len(provider.requests) == 2


def test_a_plain_http_client_is_one_too(case: Case, provider: Emulator) -> None:
    for module in (httpx, httpx2):
        with clawmw.wrap(module.Client(), case.runtime) as http:
            assert isinstance(http, module.Client)
            assert http.post(provider.base_url + "/chat/completions", json=HELLO).json()
    assert len(case.finished) == 2


def test_what_cannot_be_wrapped_says_what_to_do(case: Case) -> None:
    with pytest.raises(ClawmwError, match=r"not dict; .*clawmw\.install"):
        clawmw.wrap({}, case.runtime)
    bedrock = anthropic.AnthropicBedrock(aws_region="x", aws_access_key="a", aws_secret_key="b")
    with pytest.raises(ClawmwError, match="AnthropicBedrock signs its requests"):
        clawmw.wrap(bedrock, case.runtime)
    with pytest.raises(PolicyError):
        clawmw.wrap(openai.OpenAI(api_key="k"), "nowhere.yaml")


CLAUDE: Any = {**HELLO, "model": "claude-sonnet-5-5", "max_tokens": 99}


def claude(provider: Emulator, kind: Any = anthropic.Anthropic, **options: Any) -> Any:
    url = provider.base_url.removesuffix("/v1")
    return kind(base_url=url, api_key="k", **options)


def test_the_anthropic_clients_are_wrapped_with_their_settings(
    case: Case, provider: Emulator
) -> None:
    with claude(provider, timeout=7.0, max_retries=4) as plain:
        wrapped = clawmw.wrap(plain, case.runtime)
        assert type(wrapped) is anthropic.Anthropic
        assert (wrapped.timeout, wrapped.max_retries, wrapped.api_key) == (7.0, 4, "k")
        assert wrapped.messages.create(**CLAUDE).content[0].text == "hello"
        with wrapped.messages.stream(**CLAUDE) as stream:
            assert stream.get_final_text() == "hello"
        plain.messages.create(**CLAUDE)
    assert [done.status for done in case.finished] == ["ok", "ok"]
    assert len(provider.requests) == 3


def test_the_async_anthropic_client_is_wrapped(case: Case, provider: Emulator) -> None:
    async def go() -> str:
        async with claude(provider, anthropic.AsyncAnthropic) as plain:
            wrapped = clawmw.wrap(plain, case.runtime)
            assert type(wrapped) is anthropic.AsyncAnthropic
            async with wrapped.messages.stream(**CLAUDE) as stream:
                return str(await stream.get_final_text())

    assert asyncio.run(go()) == "hello"
    assert [done.status for done in case.finished] == ["ok"]


def test_a_wrapped_client_asks_again_as_often_as_the_policy_says(
    provider: Emulator,
) -> None:
    case = Case(retry={"base": "1ms", "longest": "2ms"})
    provider.fail_next(*[Fault(status=500)] * 9)
    wrapped = clawmw.wrap(client(provider, max_retries=2), case.runtime)
    with pytest.raises(openai.InternalServerError):
        wrapped.chat.completions.create(**HELLO)
    assert len(provider.requests) == 3
    assert len(case.finished) == 1
    provider._world.faults._waiting.clear()


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_the_flavour_is_that_of_what_is_given(case: Case, module: Any) -> None:
    for options in ({"transport": module.HTTPTransport()}, {"timeout": module.Timeout(3)}):
        assert isinstance(clawmw.http_client(case.runtime, **options), module.Client)
    inner = module.AsyncHTTPTransport()
    assert isinstance(clawmw.async_http_client(case.runtime, transport=inner), module.AsyncClient)


@pytest.mark.parametrize(
    ("loaded", "flavour"), [("", "httpx"), ("openai", "openai"), ("anthropic", "anthropic")]
)
def test_the_flavour_is_that_of_the_sdk_in_use(
    loaded: str, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"openai", "anthropic"} - {loaded}:
        monkeypatch.delitem(__import__("sys").modules, name)
    made = clawmw.http_client(QUIET)
    if loaded:
        sdk: Any = {"openai": openai.OpenAI, "anthropic": anthropic.Anthropic}[loaded]
        assert sdk(api_key="k", http_client=made)
    else:
        assert isinstance(made, httpx.Client)

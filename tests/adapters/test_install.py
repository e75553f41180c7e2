"""`clawmw.install`: what a process calls runs under the policy, whoever made the client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import openai
import pytest

import clawmw
from clawmw.core.events import CallFinished, Event
from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.errors import ClawmwError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

HELLO: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
QUIET = {"version": 1, "trace": "off"}
FLAVOURS = [httpx, httpx2]


class Case:
    """A policy that can be installed, and what it saw."""

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


def ask(client: Any, provider: Emulator) -> Any:
    return client.post(provider.base_url + "/chat/completions", json=HELLO)


def sdk(provider: Emulator, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider.base_url, api_key="k", **options)


@pytest.mark.parametrize("module", FLAVOURS)
def test_clients_made_before_and_after(case: Case, provider: Emulator, module: Any) -> None:
    with module.Client() as before:
        with clawmw.install(case.runtime), module.Client() as after:
            for client in (before, after):
                assert ask(client, provider).json()["choices"][0]["message"]["content"] == "hello"
            assert len(case.finished) == 2
            assert before.get(provider.base_url + "/models").status_code == 200
        ask(before, provider)
    assert len(case.finished) == 2
    assert len(provider.requests) == 3


@pytest.mark.parametrize("module", FLAVOURS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_async_twin(case: Case, provider: Emulator, module: Any, stream: bool) -> None:
    async def go() -> None:
        async with module.AsyncClient() as http:
            client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", http_client=http)
            answer: Any = await client.chat.completions.create(**HELLO, stream=stream)
            if stream:
                assert [chunk async for chunk in answer]

    with clawmw.install(case.runtime):
        asyncio.run(go())
    [done] = case.finished
    assert done.usage is not None
    assert (done.status, done.usage.basis) == ("ok", "measured")


def test_it_may_be_said_twice_but_not_of_two_policies(case: Case, provider: Emulator) -> None:
    original = httpx.Client._transport_for_url
    with sdk(provider) as client, clawmw.install(case.runtime):
        with clawmw.install(case.runtime):
            client.chat.completions.create(**HELLO)
        client.chat.completions.create(**HELLO)
        assert len(case.finished) == 2
        with pytest.raises(ClawmwError, match=r"another policy is installed.*clawmw\.wrap"):
            clawmw.install({**QUIET, "budget": {"chain": {"calls": 1}}})
        with pytest.raises(ClawmwError, match="another policy"):
            clawmw.install(case.runtime, Identity(agent="a"))
        again = clawmw.install(case.runtime)
        again.uninstall()
        client.chat.completions.create(**HELLO)
        assert len(case.finished) == 2
        again.uninstall()
    assert httpx.Client._transport_for_url is original


def test_a_patch_of_somebody_else_stays(case: Case, provider: Emulator) -> None:
    handle = clawmw.install(case.runtime)
    ours = httpx.Client._transport_for_url
    seen = []

    def theirs(client: Any, url: Any) -> Any:
        seen.append(url)
        return ours(client, url)

    httpx.Client._transport_for_url = theirs  # type: ignore[method-assign]
    try:
        handle.uninstall()
        with httpx.Client() as client:
            ask(client, provider)
    finally:
        httpx.Client._transport_for_url = ours  # type: ignore[method-assign]
    assert (len(seen), len(case.finished)) == (1, 0)


def test_switched_off_it_passes(
    case: Case, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    with clawmw.install(case.runtime), httpx.Client() as client:
        ask(client, provider)
    assert case.events == []


def test_what_goes_to_the_gateway_is_the_gateways(
    case: Case, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clawmw.install(case.runtime), httpx.Client() as client:
        monkeypatch.setenv("CLAWMW_GATEWAY", provider.base_url)
        client.headers["x-clawmw-agent"] = "a"  # who calls is the gateway's to know
        ask(client, provider)
        assert case.events == []
        assert provider.requests[0].headers["x-clawmw-agent"] == "a"
        monkeypatch.setenv("CLAWMW_GATEWAY", "http://127.0.0.1:9")
        ask(client, provider)
        assert len(case.finished) == 1


def test_a_client_with_a_policy_of_its_own_keeps_it(case: Case, provider: Emulator) -> None:
    own = Case()
    with clawmw.install(case.runtime), sdk(provider) as plain:
        clawmw.wrap(plain, own.runtime).chat.completions.create(**HELLO)
        assert (len(own.finished), len(case.finished)) == (1, 0)
        with clawmw.http_client(own.runtime) as client:
            ask(client, provider)
        assert (len(own.finished), len(case.finished)) == (2, 0)
        plain.chat.completions.create(**HELLO)
    assert (len(own.finished), len(case.finished)) == (2, 1)
    own.runtime.close()


def test_a_limit_holds_for_every_client_together(provider: Emulator) -> None:
    case = Case(budget={"tenant": {"day": {"calls": 2}}}, refusal="error")
    with clawmw.install(case.runtime), httpx.Client() as one, httpx2.Client() as two:
        statuses = [ask(client, provider).status_code for client in (one, two, one)]
    assert statuses == [200, 200, 402]
    assert len(provider.requests) == 2


def test_a_flavour_imported_later_is_covered(provider: Emulator) -> None:
    code = (
        "import sys, clawmw\n"
        "policy = {'version': 1, 'trace': 'off', 'refusal': 'error',\n"
        "          'budget': {'tenant': {'day': {'calls': 1}}}}\n"
        "clawmw.install(policy)\n"
        "import httpx2, httpx\n"
        "body = {'model': 'gpt-4o', 'messages': [{'role': 'user', 'content': 'x'}]}\n"
        "print([m.post(sys.argv[1], json=body).status_code for m in (httpx2, httpx)])"
    )
    url = provider.base_url + "/chat/completions"
    done = subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[200, 402]"

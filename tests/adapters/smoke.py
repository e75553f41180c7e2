"""One call of every kind through whatever SDKs are installed; run by `test_matrix.py`.

Prints one JSON object: the versions it ran with, and the ways that went well.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import clawmw
from clawmw.core.events import CallFinished, Event
from clawmw.emulator import Emulator, Fault
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

HELLO: Any = [{"role": "user", "content": "hello"}]
DONE: list[str] = []


class Case:
    """A policy, and the check that a way of calling is under it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        policy = load_policy({"version": 1, "trace": "off", "retry": {"base": "1ms"}})
        self.runtime = Runtime.of(policy, observers=[self.events.append])

    def went(self, what: str, calls: int) -> None:
        """So many calls ended well since the last time."""
        ended = [e.status for e in self.events if isinstance(e, CallFinished)]
        assert ended == ["ok"] * calls, (what, ended)
        self.events.clear()
        DONE.append(what)


def there(name: str) -> Any:
    """A module, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def openai_sync(case: Case, client: Any, what: str) -> None:
    create = client.chat.completions.create
    assert create(model="gpt-4o", messages=HELLO).choices[0].message.content == "hello"
    assert list(create(model="gpt-4o", messages=HELLO, stream=True))
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO) as stream:
        assert stream.get_final_completion().choices[0].message.content == "hello"
    case.went(what, 3)


async def openai_async(case: Case, client: Any, what: str) -> None:
    async with client:
        create = client.chat.completions.create
        answer = await create(model="gpt-4o", messages=HELLO)
        assert answer.choices[0].message.content == "hello"
        assert [chunk async for chunk in await create(model="gpt-4o", messages=HELLO, stream=True)]
    case.went(what, 2)


def openai_sdk(case: Case, provider: Emulator) -> None:
    """Its own client, and those of either flavour, in each of our ways."""
    openai = there("openai")
    if openai is not None:
        for flavour in (None, "httpx", "httpx2"):
            module = there(flavour) if flavour else None
            if module is not None or flavour is None:
                over(case, provider, openai, flavour, module)


def over(case: Case, provider: Emulator, openai: Any, flavour: Any, module: Any) -> None:
    """The openai SDK over one flavour; None: what it takes itself."""
    name = f"openai over {flavour or 'its own'}"
    given: Any = {"base_url": provider.base_url, "api_key": "k"}

    def plain(**options: Any) -> Any:
        own = {"http_client": module.Client()} if module else {}
        return openai.OpenAI(**given, **{**own, **options})

    def aplain(**options: Any) -> Any:
        own = {"http_client": module.AsyncClient()} if module else {}
        return openai.AsyncOpenAI(**given, **{**own, **options})

    http = clawmw.http_client(case.runtime, flavour=flavour)
    ahttp = clawmw.async_http_client(case.runtime, flavour=flavour)
    openai_sync(case, plain(http_client=http), f"{name}, http_client")
    asyncio.run(openai_async(case, aplain(http_client=ahttp), f"{name}, async_http_client"))
    openai_sync(case, clawmw.wrap(plain(), case.runtime), f"{name}, wrap")
    asyncio.run(openai_async(case, clawmw.wrap(aplain(), case.runtime), f"{name}, wrap async"))
    with clawmw.install(case.runtime):
        openai_sync(case, plain(), f"{name}, install")
        asyncio.run(openai_async(case, aplain(), f"{name}, install async"))
    provider.fail_next(*[Fault(status=500)] * 9)
    before = len(provider.requests)
    failing = clawmw.wrap(plain(), case.runtime)
    try:
        failing.chat.completions.create(model=f"gpt-4o-{flavour}", messages=HELLO)
    except openai.InternalServerError:
        DONE.append(f"{name}, retries")
    provider._world.faults._waiting.clear()
    case.events.clear()
    assert len(provider.requests) - before == 3


def anthropic_sdk(case: Case, provider: Emulator) -> None:
    """Its client, wrapped and under `install`; where the emulator speaks its dialect."""
    anthropic = there("anthropic")
    if anthropic is None:
        return
    given: Any = {"base_url": provider.base_url.removesuffix("/v1"), "api_key": "k"}
    ask: Any = {"model": "claude-sonnet-5-5", "messages": HELLO, "max_tokens": 9}
    try:
        anthropic.Anthropic(**given).messages.create(**ask)
    except anthropic.NotFoundError:
        return
    assert clawmw.wrap(anthropic.Anthropic(**given), case.runtime).messages.create(**ask)
    case.went("anthropic, wrap", 1)
    http = clawmw.http_client(case.runtime, flavour="httpx2")
    assert anthropic.Anthropic(**given, http_client=http).messages.create(**ask)
    case.went("anthropic, http_client", 1)
    with clawmw.install(case.runtime):
        with anthropic.Anthropic(**given).messages.stream(**ask) as stream:
            assert stream.get_final_text() == "hello"
        case.went("anthropic, install", 1)


def main() -> None:
    """Run what can be run."""
    case = Case()
    with Emulator(bill="openai") as provider:
        openai_sdk(case, provider)
        anthropic_sdk(case, provider)
    found = {}
    for name in ("openai", "anthropic", "httpx", "httpx2", "crewai"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    json.dump({"versions": found, "done": DONE}, sys.stdout)


if __name__ == "__main__":
    main()

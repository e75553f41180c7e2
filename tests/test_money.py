"""Trace and ledger agree to the nano-USD, whatever happens to a call.

What the ledger was charged for a chain is what its trace says it cost, and what it says was charged
at most for attempts that broke without an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawmw.adapters.http import http_client
from clawmw.core.identity import Identity
from clawmw.demo.play import Scene
from clawmw.demo.played import RUNGS
from clawmw.emulator.server import Emulator
from clawmw.observe.otel import OtelObserver
from clawmw.observe.reading.chains import Chain, chains
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy import build
from clawmw.policy.load import load_policy
from clawmw.policy.models import Policy
from clawmw.providers.load import profile_for
from clawmw.runtime import Runtime
from clawmw.stores.base import Stores

POLICY: dict[str, Any] = {
    "version": 1,
    "budget": {"chain": {"calls": 100, "usd": 50}},
    "retry": {"attempts": 3, "base": "1ms"},
    "breaker": False,
    "admission": {"slots": 8, "max_wait": "30s"},
}
FAULTS = (
    "",
    "status=503, times=1",
    "status=400",
    "status=429, retry-after=0.01, times=1",
    "reset-after=0",
    "reset-after=2",
    "truncate-after=2",
    "html",
    "empty",
    "error",
    "no-usage",
    "delay=400ms",
)
MODELS = ("gpt-5.4", "claude-sonnet-5-5", "a-model-without-a-price")


@contextmanager
def at_work(policy: Mapping[str, Any], folder: Path) -> Iterator[tuple[Runtime, OtelObserver]]:
    loaded = load_policy({**policy, "store": {"disk": str(folder / "state")}, "trace": "off"})
    observer = OtelObserver(store=SpanStore.open(folder / "traces.sqlite"))
    runtime = Runtime.of(loaded, observers=[observer])
    yield runtime, observer
    observer.close()
    runtime.close()


def traced(folder: Path) -> dict[str, Chain]:
    store = SpanStore.read(folder / "traces.sqlite")
    found = {chain.chain_id: chain for chain in chains(store, limit=10_000)}
    store.close()
    return found


def agree(runtime: Runtime, found: Mapping[str, Chain]) -> int:
    """Both say the same of every chain; returns the nano-USD in all."""
    whole = 0
    for name, chain in found.items():
        scope = Identity(chain=name).scope("chain")
        charged = runtime.stores.ledger.used(scope).get("usd", 0)
        assert charged == (chain.cost_nano or 0) + (chain.assumed_nano or 0), name
        whole += charged
    return whole


def ask(client: httpx.Client, at: Emulator, chain: str, number: int, **more: Any) -> None:
    body = {
        "model": more.pop("model", MODELS[0]),
        "max_tokens": 200,
        "messages": [{"role": "user", "content": f"Call {number}: say something. " * 40}],
        **more,
    }
    headers = {"x-clawmw-chain": chain, "x-clawmw-session": chain}
    fault = body.pop("fault", "")
    headers |= {"x-emulate": fault} if fault else {}
    leaves = body.pop("leaves", False)
    with (
        suppress(httpx.HTTPError),
        client.stream("POST", f"{at.base_url}/chat/completions", json=body, headers=headers) as got,
    ):
        for _ in got.iter_bytes():
            if leaves:
                break


@pytest.mark.parametrize("stream", [False, True])
def test_after_faults(tmp_path: Path, stream: bool) -> None:
    with Emulator() as at, at_work(POLICY, tmp_path) as (runtime, observer):
        with http_client(runtime, timeout=0.2) as client:
            for model in MODELS:
                for fault in FAULTS:
                    for number in range(2):
                        chain = f"{model} {fault or 'well'}".translate({32: "_", 44: "_", 61: "_"})
                        more = {"fault": fault, "stream": stream, "model": model}
                        ask(client, at, chain, number, **more)
        observer.flush(5)
        found = traced(tmp_path)
        assert len(found) == len(MODELS) * len(FAULTS)
        assert agree(runtime, found) > 0
        priced = {name: c for name, c in found.items() if not name.startswith(MODELS[2])}
        broken = {name for name, c in priced.items() if c.assumed_nano}
        assert {name.split("_", 1)[1] for name in broken} >= {"reset-after_0", "delay_400ms"}
        assert all(not c.assumed_nano for name, c in found.items() if "status_400" in name)


def test_when_readers_leave(tmp_path: Path) -> None:
    with Emulator() as at, at_work(POLICY, tmp_path) as (runtime, observer):
        with http_client(runtime, timeout=5) as client:
            for number in range(5):
                ask(client, at, "left", number, stream=True, leaves=True, fault="chunk-delay=5ms")
        observer.flush(5)
        assert agree(runtime, traced(tmp_path)) > 0


def test_in_a_burst(tmp_path: Path) -> None:
    with Emulator() as at, at_work(POLICY, tmp_path) as (runtime, observer):
        with http_client(runtime, timeout=10) as client, ThreadPoolExecutor(32) as threads:

            def chain(name: int) -> None:
                for number in range(4):
                    fault = FAULTS[(name + number) % 6]
                    ask(client, at, f"burst-{name}", number, fault=fault, stream=bool(name % 2))

            list(threads.map(chain, range(40)))
        observer.flush(5)
        found = traced(tmp_path)
        assert len(found) == 40
        assert agree(runtime, found) > 0


def test_when_the_budget_ends(tmp_path: Path) -> None:
    policy = POLICY | {"budget": {"chain": {"calls": 100, "usd": 0.005}}}
    with Emulator() as at, at_work(policy, tmp_path) as (runtime, observer):
        with http_client(runtime, timeout=5) as client:
            for number in range(20):
                ask(client, at, "poor", number)
        observer.flush(5)
        found = traced(tmp_path)
        assert found["poor"].stops > 0
        assert agree(runtime, found) > 0


@pytest.mark.parametrize("family", ["anthropic/claude-sonnet-5-5", "deepseek/deepseek-v4-flash"])
def test_in_the_demo(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With expansions, whose attempts are billed each."""
    kept: list[Stores] = []
    of = build.stores

    def stores(policy: Policy) -> Stores:
        kept.append(of(policy))
        return kept[0]

    monkeypatch.setattr(build, "stores", stores)
    scene = Scene(tmp_path / "traces.sqlite")
    played = scene.play(profile_for(family), next(r for r in RUNGS if r.name == "all"))
    assert played.finished
    (chain,) = traced(tmp_path).values()
    charged = kept[0].ledger.used(Identity(chain=chain.chain_id).scope("chain"))["usd"]
    assert charged == chain.cost_nano
    assert not chain.assumed_nano
    assert sum(c.cost.total for c in played.finished if c.cost) == chain.cost_nano

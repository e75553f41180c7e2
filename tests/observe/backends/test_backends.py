"""Two processes' spans, sent over OTLP: what `clawmw collect`, Phoenix and MLflow make of them.

`pytest -m external tests/observe/backends` makes an environment for each (850 MB, some minutes the
first time) in a cache folder, or where `CLAWMW_BACKENDS` says; it skips where that cannot be done.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawmw.adapters.collector import Collector
from clawmw.adapters.collector_server import Collecting
from clawmw.emulator import Emulator
from clawmw.observe.reading.chains import chains, find, spans
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.providers.load import profile_for
from tests.observe.backends import chain
from tests.observe.backends.seen import Seen, check
from tests.observe.backends.servers import (
    MLFLOW,
    PHOENIX,
    Backend,
    installed,
    mlflow_seen,
    phoenix_seen,
    running,
)

ROOT = Path(__file__).parents[3]
SPANS = 19
KINDS = {"invoke_workflow": "chain", "invoke_agent": "agent", "chat": "llm"}
KINDS |= {"execute_tool": "tool"}


@pytest.fixture
def provider() -> Iterator[str]:
    with Emulator() as emulator:
        yield emulator.base_url


def play(provider: str, endpoint: str, **more: str) -> None:
    """Run the task in its two processes."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "CLAWMW_"))}
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, "-m", "tests.observe.backends.chain", "orchestrator", provider]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr


def of_row(row: SpanRow) -> Seen:
    return Seen(
        row.trace_id,
        row.span_id,
        row.parent_id,
        row.name,
        KINDS.get(row.op, row.op),
        row.attributes.get("gen_ai.conversation.id"),
        row.model,
        row.cache_read_tokens,
        tuple(row.attributes.get("clawmw.joined_from", ())),
        bool(row.stopped),
    )


def in_store(store: SpanStore) -> None:
    (task,) = chains(store)
    assert (task.chain_id, task.name, task.calls) == (chain.CHAIN, "book a trip", 10)
    assert (task.agents, task.stops, task.reported) == (5, 1, 0)
    check([of_row(row) for row in spans(store, task.trace_id)])
    assert len(store.query("SELECT 1 FROM spans")) == SPANS, "no stand-in is kept"


def test_collect(provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SpanStore.open(tmp_path / "t.sqlite")
    with Collecting(Collector(store, profiles=profile_for)) as running_here:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running_here.url)
        chain.main("alone", provider)
        in_store(store)
        assert running_here.collector.counts()["rejected"] == 0
    store.close()
    assert chain.SECRET.encode() not in (tmp_path / "t.sqlite").read_bytes()


@pytest.mark.slow
def test_collect_from_two_processes(provider: str, tmp_path: Path) -> None:
    store = SpanStore.open(tmp_path / "t.sqlite")
    with Collecting(Collector(store, profiles=profile_for)) as running_here:
        play(provider, running_here.url)
        in_store(store)
    store.close()


def ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def there(backend: Backend) -> None:
    missing = installed(backend)
    if missing:
        pytest.skip(missing)


def whole(look: Callable[[], tuple[list[Seen], str]]) -> tuple[list[Seen], str]:
    """What a backend shows once it has taken everything in; it does so in its own time."""
    end = time.monotonic() + 60
    seen, text = look()
    while len(seen) < SPANS and time.monotonic() < end:
        time.sleep(0.5)
        seen, text = look()
    return seen, text


@pytest.mark.external
@pytest.mark.timeout(2400)
def test_phoenix(provider: str, tmp_path: Path) -> None:
    there(PHOENIX)
    with running(PHOENIX, tmp_path, ports()) as url:
        play(provider, url, OTEL_RESOURCE_ATTRIBUTES="openinference.project.name=trips")
        seen, text = whole(lambda: phoenix_seen(url, "trips"))
    check(seen)
    assert chain.SECRET not in text


@pytest.mark.external
@pytest.mark.timeout(2400)
def test_mlflow(provider: str, tmp_path: Path) -> None:
    there(MLFLOW)
    with running(MLFLOW, tmp_path, ports()) as url:
        play(provider, url, OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=0")
        seen, text = whole(lambda: mlflow_seen(url))
    check(seen)
    assert chain.SECRET not in text


@pytest.mark.external
@pytest.mark.timeout(2400)
def test_phoenix_shows_the_same_of_what_was_stored(provider: str, tmp_path: Path) -> None:
    """`clawmw collect`, and later `clawmw traces export`."""
    there(PHOENIX)
    path = tmp_path / "t.sqlite"
    store = SpanStore.open(path)
    with Collecting(Collector(store)) as running_here:
        play(provider, running_here.url)
    (task,) = find(store, chain.CHAIN)
    store.close()
    home = tmp_path / "phoenix"
    home.mkdir()
    with running(PHOENIX, home, ports()) as url:
        env = {**os.environ, "OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=again"}
        words = ["traces", "export", task.chain_id, "--otlp", url, "--store", str(path)]
        command = [sys.executable, "-m", "clawmw.cli.main", *words]
        subprocess.run(command, env=env | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
        seen, _ = whole(lambda: phoenix_seen(url, "again"))
    check(seen)

"""`clawmw traces prune`: what it says it would drop, and drops."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clawmw.cli.traces import traces
from clawmw.observe.reading.chains import chains
from clawmw.observe.store.spanstore import SpanStore
from tests.cli.test_traces import span

NOW = time.time_ns()
DAY = 86_400 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Chains of today, 10, 20 and 40 days ago, the last of which a policy still keeps."""
    where = tmp_path / "t.sqlite"
    store = SpanStore.open(where, keep=None)
    for number, (name, days) in enumerate([("new", 0), ("ten", 10), ("twenty", 20), ("old", 40)]):
        end = NOW - days * DAY
        store.write([span(number * 10 + n, name, start_ns=end, end_ns=end) for n in range(2)])
    store.close()
    return where


def run(*args: object, said: str | None = None) -> Result:
    return CliRunner().invoke(traces, ["prune", *(str(a) for a in args)], input=said)


def left(path: Path) -> list[str]:
    store = SpanStore.read(path)
    found = [chain.chain_id for chain in chains(store)]
    store.close()
    return found


def test_older_than(path: Path) -> None:
    result = run("--store", path, "--older-than", "15d", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith("would drop 2 chains (4 spans), last active between 20")
    assert len(left(path)) == 4
    result = run("--store", path, "--older-than", "15d", "--yes")
    assert result.stdout.startswith("dropped 2 chains (4 spans), last active between 20")
    assert left(path) == ["new", "ten"]
    result = run("--store", path, "--older-than", "15d", "--yes")
    assert result.stdout.startswith("nothing to drop: the store takes ")


def test_it_asks_first(path: Path) -> None:
    for said in ("n\n", ""):
        result = run("--store", path, "--older-than", "15d", said=said)
        assert result.exit_code == 1
        assert "Drop 2 chains (4 spans)" in result.stderr
        assert len(left(path)) == 4
    assert run("--store", path, "--older-than", "15d", said="y\n").exit_code == 0
    assert left(path) == ["new", "ten"]


def test_size_and_json(path: Path) -> None:
    store = SpanStore.open(path, keep=None, size=None)
    long = {"attributes": {"x": "y" * 1000}}
    store.write([span(100 + n, "ten", end_ns=NOW - 10 * DAY, **long) for n in range(1000)])
    store.close()
    result = run("--store", path, "--size", "1MB", "--yes", "--json")
    found = json.loads(result.stdout)
    assert found["chains"] == 3
    assert found["dry_run"] is False
    assert found["bytes_after"] <= 1_000_000 < found["bytes_before"]
    assert left(path) == ["new"]


def test_usage(path: Path, tmp_path: Path) -> None:
    assert run("--store", path).exit_code == 2
    assert "--older-than" in run("--store", path, "--older-than", "soon").stderr
    for size in ("much", "1kB"):
        assert run("--store", path, "--size", size).exit_code == 2
    result = run("--older-than", "7d")
    assert (result.exit_code, result.stdout) == (0, "no traces yet: there is nothing to drop\n")
    notes = tmp_path / "notes"
    notes.write_text("not a store " * 100)
    result = run("--store", notes, "--older-than", "7d", "--yes")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1

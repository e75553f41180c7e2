"""`clawmw traces diff`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clawmw.cli.traces import traces
from clawmw.observe.store.spanstore import SpanStore
from tests.cli.test_traces import span


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two runs, the second with a call less that cost half as much."""
    where = tmp_path / "t.sqlite"
    store = SpanStore.open(where)
    store.write([span(1, "before"), span(2, "before"), span(3, "after", cost_nano=1_000_000)])
    store.close()
    return where


def run(*args: object) -> Result:
    return CliRunner().invoke(traces, [str(a) for a in args])


def test_two_chains(path: Path) -> None:
    result = run("diff", "bef", "aft", "--store", path)
    assert (result.exit_code, result.stderr) == (0, "")
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert said[0].startswith("A before ")
    assert "calls 2 1 -1" in said
    assert "cost $0.0040 $0.0010 -$0.0030 (-75%)" in said
    assert "the first call alike, then they part:" in said


def test_json(path: Path) -> None:
    for args in (["--json", "diff", "before", "after"], ["diff", "before", "after", "--json"]):
        found = json.loads(run("--store", path, *args).stdout)
        assert found["a"]["chain"]["chain_id"] == "before"
        assert found["b"]["groups"][0]["cost_nano"] == 1_000_000
        assert found["alike"] == 1
        assert found["partings"][0]["differs"] == ["only_a"]


def test_the_latest(path: Path) -> None:
    store = SpanStore.open(path)
    store.write([span(9, "newest", end_ns=2**62)])
    store.close()
    assert "B  newest" in run("diff", "before", "--latest", "--store", path).stdout


def test_what_is_wrong_is_one_line(path: Path) -> None:
    for args, code, message in (
        (["diff", "before"], 2, "give either a second chain or --latest"),
        (["diff", "before", "after", "--latest"], 2, "give either"),
        (["diff", "before", "nope"], 1, "no chain or trace begins with 'nope'"),
    ):
        result = run("--store", path, *args)
        assert result.exit_code == code
        assert message in result.stderr
    result = run("diff", "a", "b")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1

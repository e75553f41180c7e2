"""`clawmw budget`: another process sees what is used, and lets a stopped chain go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clawmw.cli.main import main
from clawmw.core.identity import Identity
from clawmw.core.types import Usage
from clawmw.testing import Bench, answer

ASK = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def case(tmp_path: Path) -> tuple[Bench, str]:
    file = tmp_path / "clawmw.yaml"
    limits = {"chain": {"calls": 2, "usd": 1.5, "wall": "30m"}, "agent": {"day": {"calls": 100}}}
    policy = {
        "version": 1,
        "store": {"disk": str(tmp_path / "store")},
        "models": {"main": {"model": "fake", "profile": "gpt-5.4"}},
        "budget": limits,
    }
    file.write_text(json.dumps(policy))
    used = Usage(1000, 10, 0, 0)
    return Bench(policy, lambda _: answer(usage=used), time.time, _chain("c1")), str(file)


def _chain(name: str, parent: str | None = None) -> Identity:
    return Identity(session="s1", chain=name, parent=parent)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*args: str) -> tuple[int, str, str]:
        code = main(["budget", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_b20_a_stopped_chain_is_shown_raised_and_goes_on(case: tuple[Bench, str], run: Run) -> None:
    """B20: the command in the halt is the one that helps."""
    bench, file = case
    sent = [bench.send(ASK, max_tokens=100) for _ in range(3)]
    halt = sent[2].result.halt
    assert halt is not None
    command = halt.resume.partition("clawmw budget ")[2].split()
    assert command == ["raise", "chain:c1", "calls", "2"]
    code, out, _ = run("show", "chain:c1", "--policy", file)
    assert (code, out.splitlines()[0]) == (0, "chain:c1  calls: 2 of 2  FULL")
    code, out, _ = run(*command, "--policy", file)
    assert (code, out) == (0, "chain:c1 calls: the limit is 4, 2 are used\n")
    again = [bench.send(ASK, max_tokens=100) for _ in range(3)]
    assert [s.result.halt is None for s in again] == [True, True, False]
    assert sum(len(s.bodies) for s in (*sent, *again)) == 4


def test_what_was_used_of_late_is_listed_in_the_policys_units(
    case: tuple[Bench, str], run: Run
) -> None:
    bench, file = case
    bench.identity = _chain("child", "c1")
    bench.send(ASK, max_tokens=100)
    code, out, _ = run("show", "--policy", file, "--json")
    rows = {(row["scope"], row["meter"]): row for row in json.loads(out)}
    assert code == 0
    assert rows["chain:child", "calls"]["parents"] == ["chain:c1"]
    assert rows["chain:c1", "calls"]["used"] == 1
    assert rows["chain:c1", "usd"]["limit"] == 1.5
    assert 0 < rows["chain:c1", "usd"]["used"] < 0.01
    assert rows["agent:default", "calls"]["day"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert 0 <= rows["chain:c1", "wall"]["used"] < 30
    _, out, _ = run("show", "--policy", file)
    assert "draws on chain:c1, too" in out


def test_a_day_is_raised_and_reset(case: tuple[Bench, str], run: Run) -> None:
    bench, file = case
    bench.send(ASK, max_tokens=100)
    code, out, _ = run("raise", "agent:default", "calls", "1k", "--day", "--policy", file)
    assert (code, out) == (0, "agent:default calls: the limit is 1100, 1 are used\n")
    code, out, _ = run("reset", "agent:default", "--day", "--policy", file, "--json")
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = run("reset", "chain:c1", "calls", "--policy", file)
    assert (code, out) == (0, "chain:c1 was not used so far\n")


def test_mistakes_are_one_clear_line(tmp_path: Path, case: tuple[Bench, str], run: Run) -> None:
    _, file = case
    memory = tmp_path / "memory.yaml"
    memory.write_text("version: 1\n")
    for args, words in [
        (["show", "--policy", str(memory)], "in memory"),
        (["raise", "chain", "calls", "1", "--policy", file], "is no scope"),
        (["raise", "chain:c1", "calls", "-5", "--policy", file], ""),
        (["raise", "chain:c1", "usd", "lots", "--policy", file], "US dollars"),
        (["raise", "chain:c1", "spoons", "1", "--policy", file], "spoons"),
    ]:
        code, out, err = run(*args)
        assert code in (1, 2)
        assert out == ""
        assert words in err
    memory.write_text("version: 1\nbudget: off\n")
    code, _, err = run("show", "--policy", str(memory))
    assert (code, "budget is off" in err) == (1, True)

"""`clawmw cache-doctor` as its users see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clawmw.cli.cache_doctor import command
from clawmw.replay.doctor import Doctor
from tests.replay import samples
from tests.replay.test_sources import captured, session


def ran(*args: str | Path) -> Result:
    return CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)


def figures(*args: str | Path) -> dict[str, Any]:
    result = ran(*args, "--json")
    assert result.exception is None, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return samples.written(tmp_path / "log.jsonl", session())


def test_a_person_reads_the_sums_then_the_calls_then_what_to_do(log: Path) -> None:
    result = ran(log)
    assert result.return_value == 0
    order = [
        "Looked at 3 calls in 1 runs, as openai/gpt-5.6",
        "read from cache 0 (0%)",
        "calls that lost their cache: tail 2",
        "predicted by provider facts of",
        "Calls  ",
        "the last message, replaced",
        "What to do",
        "- transient_tail: The provider's own breakpoint falls on the message",
    ]
    out = result.stdout
    assert [line for line in order if line not in out] == []
    assert [out.index(line) for line in order] == sorted(out.index(line) for line in order)
    assert max(map(len, out.splitlines())) <= 100


def test_the_json_says_all_of_it_and_no_content(log: Path) -> None:
    value = figures(log, "--profile", "claude-sonnet-4-6")
    assert value["schema"] == 1
    assert value["profile"]["disputed"]
    assert value["total"]["calls"] == 3
    assert value["total"]["broken"] == {"unmarked": 2}
    calls = value["runs"][0]["calls"]
    assert [c["tail"] for c in calls] == [False, True, True]
    assert value["runs"][0]["findings"][0]["rule"] == "no_marks"
    text = json.dumps(value)
    assert "<transient>" not in text
    assert "secret" not in text


def test_recorded_runs_are_looked_at_too(tmp_path: Path) -> None:
    path = samples.written(tmp_path / "runs.jsonl", samples.every())
    total = figures(path, "--profile", "gpt-5.4")["total"]
    assert total["runs"] == 9
    assert total["tokens"]["read"] > 0
    assert total["tokens"]["lost"] == 0
    assert "calls that lost their cache: none" in ran(path).stdout


def test_what_cannot_be_read_is_named_and_the_rest_looked_at(log: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n")
    result = ran(log, bad, tmp_path / "none.jsonl")
    assert result.return_value == 1
    assert str(bad) in result.stderr
    assert "there is no such file" in result.stderr
    assert "Looked at 3 calls" in result.stdout
    skipped = samples.written(
        tmp_path / "a.jsonl", [captured([samples.user("Go.")], path="/v1/audio")]
    )
    assert "1 calls skipped: no codec for requests to /v1/audio" in ran(skipped).stdout


def shell(*args: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from clawmw.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "cache-doctor", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def test_wrong_usage_is_exit_code_2(log: Path) -> None:
    for args in ((), ("--profile", "no-such-model", str(log)), ("--nope", str(log))):
        done = shell(*args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert "--profile" in shell("--help").stdout


def test_interrupting_leaves_one_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Doctor, "run", interrupted)
    result = CliRunner().invoke(command, [str(log)])
    assert result.exit_code == 130
    assert result.stderr == "clawmw cache-doctor: interrupted after 0 runs; nothing is told\n"
    assert result.stdout == ""

"""`clawmw replay` as its users see it."""

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

from clawmw.cli.replay import command
from clawmw.replay.simulate import Replayer
from tests.replay import samples
from tests.replay.test_sources import captured


def ran(*args: str | Path) -> Result:
    return CliRunner().invoke(command, [str(a) for a in args], standalone_mode=False)


def figures(*args: str | Path) -> dict[str, Any]:
    result = ran(*args, "--json")
    assert result.exception is None, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return samples.written(tmp_path / "runs.jsonl", samples.every())


def test_a_person_reads_totals_then_sources(recorded: Path) -> None:
    result = ran(recorded)
    assert result.return_value == 0
    out = result.stdout
    order = [
        "Replayed 9 runs",
        "policy: default",
        "counted exactly (o200k_base)",
        "input tokens",
        "prefix rewrites",
        "lost",
        "p95",
        "claude-sonnet-5-5",
        "gpt-5.6",
        "deepseek-v4-flash",
        "without any caching",
        "native caching alone",
        "with clawmw",
        "By source",
        "\ntotal",
        "\ntrips",
        "\nloops",
    ]
    places = [out.index(words) for words in order]
    assert places == sorted(places)
    assert result.stderr == ""


SHAPE = {
    "schema",
    "policy",
    "tokens",
    "profiles",
    "total",
    "score_mean",
    "sources",
    "skipped",
    "notes",
    "problems",
}
GROUP = {
    "runs",
    "calls",
    "open_ends",
    "refused_calls",
    "stopped",
    "tokens",
    "prefix_rewrites",
    "priced_rewrites",
    "literals",
    "records",
    "answers",
    "cpu_us",
    "cost",
    "decisions",
    "failures",
    "mechanisms",
    "usage_check",
}
COST = {
    "uncached",
    "native",
    "clawmw",
    "net",
    "bound",
    "native_saves",
    "clawmw_adds",
    "net_adds",
    "hit_share_before",
    "hit_share_after",
    "score",
}


def test_json_has_the_documented_shape(recorded: Path) -> None:
    value = figures(recorded)
    assert set(value) == SHAPE
    assert value["schema"] == 1
    assert value["tokens"] == {"basis": "exact", "tokenizer": "o200k_base"}
    assert value["policy"]["name"] == "default"
    assert len(value["profiles"]) == 3
    for group in (value["total"], *value["sources"]):
        assert set(group) - {"source"} == GROUP
        for cost in group["cost"].values():
            assert set(cost) == COST
            assert all(isinstance(cost[k], int) for k in ("uncached", "native", "clawmw", "net"))
    assert isinstance(value["total"]["cpu_us"]["p50"], int)
    assert isinstance(value["total"]["tokens"]["before"], int)


def test_profiles_are_chosen_by_name_and_unknown_prices_are_null(recorded: Path) -> None:
    value = figures(recorded, "--profile", "qwen", "--profile", "ernie-5.1", "--profile", "qwen")
    first, second = value["profiles"]
    assert first["family"] == "qwen"
    assert second["prices_as_of"] is None
    cost = value["total"]["cost"][second["name"]]
    assert cost["native"] is None
    assert cost["score"] is None
    assert cost["hit_share_before"] > 0
    shown = ran(recorded, "--profile", "ernie-5.1")
    assert shown.return_value == 0
    assert "?" in shown.stdout


def test_a_policy_is_read_from_its_file(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nmode: observe\n", "utf-8")
    value = figures(recorded, "--policy", path)
    assert value["policy"]["name"] == str(path)
    assert value["policy"]["mode"] == "observe"
    assert value["total"]["tokens"]["change"] == 0
    assert "observe" in value["notes"][0]["message"]


def test_emit_writes_every_call_and_original(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "deep"
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\ncompress: aggressive\n", "utf-8")
    total = figures(recorded, "--emit", folder, "--policy", policy)["total"]
    rows = [json.loads(line) for line in (folder / "calls.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == total["calls"]
    first = rows[0]
    assert list(first) == ["source", "trajectory", "step", "raw", "sent"]
    assert (first["source"], first["trajectory"], first["step"]) == ("trips", "booking", 2)
    assert first["raw"]["messages"] == samples.booking()["messages"][:2]
    blobs = {path.name: path.read_text("utf-8") for path in (folder / "blobs").iterdir()}
    sent = json.dumps([row["sent"] for row in rows])
    assert blobs
    assert all(ref in sent for ref in blobs)
    assert (folder / "calls.jsonl").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    again = (folder / "calls.jsonl").read_bytes()
    figures(recorded, "--emit", folder, "--policy", policy)
    assert (folder / "calls.jsonl").read_bytes() == again


def test_a_folder_that_cannot_be_written_is_one_line(recorded: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("x", "utf-8")
    done = shell("--emit", str(taken), str(recorded))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"clawmw: {taken}: cannot be written: File exists"]


def test_broken_lines_are_named_and_the_good_ones_reported(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    good = json.dumps(samples.chat())
    path.write_text(f"{good}\n{good[:50]}\nnot json\n{good}", "utf-8")
    result = ran(path)
    assert result.return_value == 1
    said = result.stderr.splitlines()
    assert said == [
        f"clawmw: {path}:2: the JSON breaks off; is the file truncated?",
        f"clawmw: {path}:3: not JSON at column 1: Expecting value",
    ]
    assert "Replayed 2 runs" in result.stdout
    value = json.loads(ran(path, "--json").stdout)
    assert [p["where"] for p in value["problems"]] == [f"{path}:2", f"{path}:3"]


def test_a_thousand_broken_lines_are_not_a_thousand_messages(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(samples.chat()) + "\n" + "x\n" * 1000, "utf-8")
    result = ran(path)
    assert result.return_value == 1
    assert len(result.stderr.splitlines()) == 21


@pytest.mark.parametrize("content", [None, ""])
def test_a_missing_or_empty_file_is_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_text(content, "utf-8")
    result = ran(path)
    assert result.return_value == 1
    assert len(result.stderr.splitlines()) == 1
    assert str(path) in result.stderr
    assert result.stdout == ""


def test_what_cannot_be_replayed_yet_is_counted_and_no_error(tmp_path: Path) -> None:
    path = samples.written(
        tmp_path / "log.jsonl",
        [captured([samples.user("Go.")]), captured([samples.user("Go.")], path="/v1/messages")],
    )
    result = ran(path)
    assert result.return_value == 0
    assert "1 call skipped: no codec for Anthropic messages yet" in result.stdout
    value = figures(path)
    assert value["skipped"] == [{"reason": "no codec for Anthropic messages yet", "calls": 1}]
    assert value["total"]["calls"] == 1


def test_open_ends_are_counted_when_asked_for(tmp_path: Path) -> None:
    path = samples.written(tmp_path / "a.jsonl", [samples.open_end()])
    assert figures(path)["total"]["calls"] == 1
    asked = figures(path, "--open-ends")["total"]
    assert asked["calls"] == 2
    assert asked["tokens"]["after"] < asked["tokens"]["before"]


def test_the_providers_own_usage_is_put_beside_the_count(tmp_path: Path) -> None:
    run = {**samples.chat(), "usage_per_message": [None, None, None, {"prompt_tokens": 44}, None]}
    check = figures(samples.written(tmp_path / "a.jsonl", [run]))["total"]["usage_check"]
    assert (check["calls"], check["reported"]) == (1, 44)
    assert 20 < check["counted"] < 80


def shell(*args: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from clawmw.cli.main import main; sys.exit(main(['replay', *sys.argv[1:]]))"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )


def test_wrong_usage_is_exit_code_2(recorded: Path) -> None:
    for args in ((), ("--profile", "no-such-model", str(recorded)), ("--nope", str(recorded))):
        done = shell(*args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_wrong_policy_is_exit_code_1(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\ncompres: off\n", "utf-8")
    done = shell("--policy", str(path), str(recorded))
    assert done.returncode == 1
    assert "compress" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupting_leaves_one_line(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Replayer, "run", interrupted)
    result = CliRunner().invoke(command, [str(recorded)])
    assert result.exit_code == 130
    assert result.stderr == ("clawmw replay: interrupted after 0 runs; nothing is reported\n")
    assert result.stdout == ""

"""`clawmw traces`: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clawmw.cli.traces import traces
from clawmw.observe.store.losses import note_losses
from clawmw.observe.store.spanstore import SpanRow, SpanStore, default_store_path

NOW = time.time_ns()
HOUR = 3600 * 10**9


def span(number: int, chain: str, **more: object) -> SpanRow:
    values = {
        "trace_id": f"{sum(chain.encode()):032x}",
        "span_id": f"{number:016x}",
        "parent_id": f"{99:016x}",
        "op": "chat",
        "name": "chat m",
        "start_ns": NOW - 10**9,
        "end_ns": NOW,
        "status": "ok",
        "tenant": "default",
        "chain_id": chain,
        "session_id": "s",
        "agent": "main",
        "model": "m",
        "input_tokens": 1000,
        "output_tokens": 10,
        "cost_nano": 2_000_000,
        "baseline_nano": 5_000_000,
        "usage_basis": "measured",
    } | more
    return SpanRow(**values)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of three chains: a new one, a failed one of 2 hours ago, one of 3 days ago."""
    where = tmp_path / "t.sqlite"
    store = SpanStore.open(where)
    store.write(
        [
            span(1, "trip-new"),
            span(2, "trip-new", cost_nano=None, baseline_nano=None, input_tokens=None),
            span(
                3,
                "broken",
                end_ns=NOW - 2 * HOUR,
                start_ns=NOW - 3 * HOUR,
                status="failed",
                error_type="503",
                cost_nano=None,
                baseline_nano=None,
                input_tokens=None,
                output_tokens=None,
            ),
            span(
                4,
                "oldest",
                end_ns=NOW - 72 * HOUR,
                start_ns=NOW - 73 * HOUR,
                cost_nano=9_000_000_000,
            ),
        ]
    )
    store.close()
    return where


def run(*args: object, **more: str) -> Result:
    return CliRunner(env=more).invoke(traces, [str(a) for a in args])


def chains_of(result: Result) -> list[str]:
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


def test_list(path: Path) -> None:
    result = run("--store", path)
    assert result.exit_code == 0
    assert result.stderr == ""
    head, first, second, _ = result.stdout.splitlines()
    assert head.split("  ")[0] == "CHAIN"
    assert first.split() == [
        "trip-new",
        "1",
        "2",
        "1.0s",
        "≥1,000→20",
        "-",
        "≥$0.0020",
        "~$0.0030",
        "(60%)",
        "0",
        "ok",
    ]
    assert second.split() == ["broken", "1", "1", "1h00m", "-", "-", "-", "-", "0", "failed"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["trip-new", "broken", "oldest"]),
        (["--failed"], ["broken"]),
        (["--since", "1h"], ["trip-new"]),
        (["--since", "1d"], ["trip-new", "broken"]),
        (["--sort", "cost"], ["oldest", "trip-new", "broken"]),
    ],
)
def test_filters(path: Path, args: list[str], expected: list[str]) -> None:
    assert chains_of(run("--store", path, *args)) == expected


def test_limit_says_that_there_is_more(path: Path) -> None:
    result = run("--store", path, "--limit", 1)
    assert result.stdout.splitlines()[-1] == "the first 1; more with --limit"


def test_iso_dates(path: Path) -> None:
    assert chains_of(run("--store", path, "--since", "2001-01-01"))[0] == "trip-new"
    for never in ("2999-01-01T00:00", "9999-12-31"):
        assert run("--store", path, "--since", never).stdout == "no chain matches\n"
    for always in ("99999999w", "0001-01-02"):
        assert len(chains_of(run("--store", path, "--since", always))) == 3


def test_json(path: Path) -> None:
    listed = json.loads(run("--store", path, "--json").stdout)
    assert [c["chain_id"] for c in listed] == ["trip-new", "broken", "oldest"]
    assert listed[1]["cost_nano"] is None
    assert listed[0]["saved_nano"] == 3_000_000
    for args in (["--json", "show", "broken"], ["show", "broken", "--json"]):
        one = json.loads(run("--store", path, *args).stdout)
        assert one["chain"]["status"] == "failed"
        assert [s["op"] for s in one["spans"]] == ["invoke_workflow", "invoke_agent", "chat"]
        assert [s["synthetic"] for s in one["spans"]] == [True, True, False]


@pytest.mark.parametrize("wanted", ["broken", "bro", "brok…", "brok...", f"{sum(b'broken'):032x}"])
def test_show(path: Path, wanted: str) -> None:
    result = run("show", wanted, "--store", path)
    assert result.exit_code == 0
    assert "[failed 503] chat m" in result.stdout
    assert "cost      - (usage or price unknown)" in result.stdout


def test_show_latest(path: Path) -> None:
    assert run("show", "--latest", "--store", path).stdout.startswith("chain trip-new")


def test_no_store_yet(tmp_path: Path) -> None:
    for args in ([], ["show", "--latest"]):
        result = run(*args)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("no traces yet: run an agent through clawmw")
        assert len(result.stdout.splitlines()) == 1
    assert not default_store_path().exists()
    result = run("--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert json.loads(run("show", "--latest", "--json").stdout) is None
    SpanStore.open(tmp_path / "empty").close()
    assert run("--store", tmp_path / "empty").stdout.startswith("no traces yet")
    assert run("--store", tmp_path / "empty", "show", "--latest").exit_code == 0


def test_what_is_wrong_is_one_line(path: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes"
    text.write_text("not a database, however long this text may be " * 50)
    for args, message in (
        (["--store", path, "show", "nope"], "no chain or trace begins with 'nope'"),
        (["--store", path, "show", ""], "no chain or trace begins with ''"),
        (["show", "nope"], "no chain or trace begins with 'nope'"),
        (["--store", text], "file is not a database"),
        (["--store", text, "show", "--latest"], "file is not a database"),
    ):
        result = run(*args)
        assert result.exit_code == 1, args
        assert result.stdout == ""
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_ambiguous_ids_are_named(path: Path) -> None:
    store = SpanStore.open(path)
    store.write([span(9, "trip-other")])
    store.close()
    result = run("--store", path, "show", "trip")
    assert result.exit_code == 1
    assert "trip-new" in result.stderr
    assert "trip-other" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["show"],
        ["show", "x", "--latest"],
        ["--since", "soon"],
        ["--sort", "colour"],
        ["--limit", "0"],
        ["nonsense"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    assert run(*args).exit_code == 2


def test_as_a_process(path: Path) -> None:
    """Through a pipe: no colours, nothing cut short, and no library it has no use for."""
    code = (
        "import sys; from clawmw.cli.traces import traces; traces(standalone_mode=False);"
        "print([m for m in ('opentelemetry', 'litellm', 'pydantic') if m in sys.modules])"
    )
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"CLAWMW_TRACES": str(path)}
    for args in ([], ["show", "trip-new"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, env=env, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
        assert "\x1b" not in done.stdout
        assert "…" not in done.stdout
        assert "trip-new" in done.stdout


@pytest.mark.parametrize(("end", "code"), [("| true", 141), (">&-", 0)])
def test_nobody_reads_the_output(path: Path, end: str, code: int) -> None:
    command = f'"$0" -m clawmw.cli.main traces --store "$1" {end}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, "")


def test_reading_needs_no_right_to_write(path: Path) -> None:
    path.chmod(0o400)
    assert run("--store", path).exit_code == 0


def test_lost_spans_are_told_in_one_line(path: Path) -> None:
    store = SpanStore.open(path)
    note_losses(store, {("store", "queue"): 1_200, ("otlp", "exit"): 3})
    note_losses(store, {("store", "queue"): 34})
    store.close()
    said = run("--store", path).stdout.splitlines()
    assert said[-1] == (
        "in the last 7 days spans were lost: 1,234 not stored (queue full), "
        "3 not exported (not confirmed when the process ended)"
    )
    assert len(said) == 5
    assert len(json.loads(run("--store", path, "--json").stdout)) == 3

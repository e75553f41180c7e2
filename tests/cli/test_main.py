"""The command itself: quick to start, clear when something is wrong, quiet when stopped."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from clawmw.cli import main as cli
from clawmw.errors import FlowError, PolicyError, Refused

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )


def test_starting_imports_little_and_takes_little_time() -> None:
    # As a ratio to what the command line is built on, so that no machine is too slow for it.
    code = (
        "import sys, time; t = time.process_time(); import click; base = time.process_time() - t;"
        "t = time.process_time(); import clawmw.cli.main as m;"
        "took = time.process_time() - t; m.main(['--help']);"
        "print(took / base); print(sorted({n.partition('.')[0] for n in sys.modules}))"
    )
    runs = [run(code).stdout.splitlines() for _ in range(5)]
    heavy = {
        "pydantic",
        "yaml",
        "rich",
        "starlette",
        "langgraph",
        "litellm",
        "httpx",
        "opentelemetry",
    }
    assert not heavy & set(ast.literal_eval(runs[0][-1]))
    assert min(float(lines[-2]) for lines in runs) < 0.6


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    width = max(map(len, cli.COMMANDS))
    for name, entry in cli.COMMANDS.items():
        assert f"  {name:<{width}}  {entry.help}\n" in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_line_in_the_map_tells_of_the_command(name: str) -> None:
    try:
        module = import_module(cli.COMMANDS[name].module)
    except ModuleNotFoundError:
        pytest.skip(f"{name} needs a package that is not installed")
    command = getattr(module, "command", None) or getattr(module, name)
    assert isinstance(command, click.Command)
    assert command.help


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("clawmw 0.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["valdate"], "no command 'valdate'; did you mean `validate`?"),
        (["zzz"], "no command 'zzz'; there are: init, validate,"),
        (["--nope"], "No such option"),
        (["validate"], "Missing argument"),
        (["explain", "--agnt"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


class UpstreamError(FlowError):
    exit_code = 4


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PolicyError("p.yaml:1: wrong"), 1, "clawmw: p.yaml:1: wrong\n"),
        (PolicyError("one\ntwo"), 1, "clawmw: one\nclawmw: two\n"),
        (Refused("over the limit"), 3, "clawmw: over the limit\n"),
        (UpstreamError("upstream failed"), 4, "clawmw: upstream failed\n"),
        (FileNotFoundError(2, "No such file", "x.db"), 1, "clawmw: x.db: No such file\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setattr("clawmw.cli.schema.command", fails)
    assert cli.main(["schema"]) == code
    assert capsys.readouterr().err == said


def test_a_command_whose_package_is_missing_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {"schema": cli.Entry("clawmw_none_such", "Gone.")}
    monkeypatch.setattr(cli, "COMMANDS", gone)
    assert cli.main(["schema"]) == 1
    assert "the Python package clawmw_none_such is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("buffering", [[], ["-u"]])
def test_a_reader_that_went_away_is_no_error(buffering: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *buffering, "-m", "clawmw.cli.main", "schema"]
    try:
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupt_is_quiet() -> None:
    done = run(
        "import signal, sys, click\n"
        "import clawmw.cli.schema as schema\n"
        "from clawmw.cli.main import main\n"
        "schema.command = click.command()(lambda: signal.raise_signal(signal.SIGINT))\n"
        "sys.exit(main(['schema']))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\n")

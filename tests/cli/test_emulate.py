"""`clawmw emulate` as a process."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

CODE = "from clawmw.cli.emulate import emulate; emulate(prog_name='clawmw emulate')"
ASK = {"model": "m", "messages": [{"role": "user", "content": "ping"}]}


def command(*args: str) -> list[str]:
    return [sys.executable, "-c", CODE, *args]


@contextmanager
def running(*args: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
        try:
            assert found, (line, process.stderr and process.stderr.read())
            yield found[0], process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def test_it_answers_logs_and_stops_with_exit_code_0(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with running("--port", "0", "--log", str(log), "--bill", "anthropic") as (
        url,
        process,
    ):
        answer = httpx.post(f"{url}/chat/completions", json=ASK).json()
    assert answer["choices"][0]["message"]["content"] == "ping"
    assert "cache_creation_input_tokens" in answer["usage"]
    assert process.returncode == 0
    assert json.loads(log.read_text())["body"] == ASK


def test_a_script_from_a_file(tmp_path: Path) -> None:
    lines = ['"hello"', '{"tools": [{"name": "f", "arguments": {"a": 1}}]}']
    file = tmp_path / "script.jsonl"
    file.write_text("\n".join(lines))
    with running("--port", "0", "--brain", "script", "--script", str(file)) as (url, _):
        first, second = (
            httpx.post(f"{url}/chat/completions", json=ASK).json()["choices"][0]["message"]
            for _ in range(2)
        )
    assert first["content"] == "hello"
    assert second["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--bill", "nobody"], 2, "no provider facts for 'nobody'; known: anthropic"),
        (["--brain", "genius"], 2, "'genius' is not one of"),
        (["--brain", "script"], 2, "--script FILE go together"),
        (
            ["--brain", "script", "--script", "/nowhere.jsonl"],
            1,
            "cannot read /nowhere.jsonl",
        ),
        (["--log", "/nowhere/x.jsonl"], 1, "cannot write --log /nowhere/x.jsonl"),
    ],
)
def test_wrong_options_are_one_clear_line(args: list[str], code: int, says: str) -> None:
    done = subprocess.run(
        command("--port", "0", *args), capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_script_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text('"fine"\n{"txt": 1}\n')
    args = command("--port", "0", "--brain", "script", "--script", str(file))
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{file}: line 2: a reply is a string or" in done.stderr


def test_a_port_in_use_is_one_clear_line_and_exit_code_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("--port", port), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr

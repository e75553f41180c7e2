"""`clawmw ui` as a process: it starts, says where it is, and goes without a word."""

from __future__ import annotations

import os
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

from clawmw.cli.main import main

COMMAND = [sys.executable, "-m", "clawmw.cli.main", "ui"]


@contextmanager
def running(folder: Path, *args: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [*COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"clawmw ui: (http://[\d.]+:\d+/)  \(Ctrl-C ends it\)\n", line)
        try:
            assert found, (line, process.stderr.read() if process.stderr else "")
            yield found[1], process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    started = running(tmp_path, "--port", "0")
    with started as (url, process), httpx.Client(trust_env=False) as client:
        page = client.get(url)
        assert page.status_code == 200
        assert "No traces yet" in page.text
        process.send_signal(number)  # while the client's connection is open
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_said_or_another_one_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 1
        said = capsys.readouterr().err
        assert re.fullmatch(rf"clawmw: port {port} is in use on 127\.0\.0\.1; .+\n", said)
        from clawmw.cli import ui

        monkeypatch.setattr(ui, "PORT", port)
        with ui._listen("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)


def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nbudgets: {}\n")
    for args, code, said in (
        (["--host", "0.0.0.0", "--port", "0"], 1, "can be reached from other machines"),
        (["--policy", str(tmp_path / "none.yaml")], 1, "none.yaml"),
        (["--policy", str(bad)], 1, "did you mean"),
        (["--token-env", "NOBODY", "--port", "0"], 2, "NOBODY must hold a token"),
    ):
        assert main(["ui", *args]) == code
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_the_policys_own_trace_store_is_read(tmp_path: Path) -> None:
    from clawmw.observe.store.spanstore import SpanStore
    from tests.adapters.test_ui import row

    (tmp_path / "clawmw.yaml").write_text("version: 1\ntrace: {store: mine.sqlite}\n")
    kept = SpanStore.open(tmp_path / "mine.sqlite")
    kept.write([row(1)])
    kept.close()
    with running(tmp_path, "--port", "0") as (url, _), httpx.Client(trust_env=False) as client:
        assert "task-1" in client.get(url).text
        assert "keeps its ledger in memory" in client.get(f"{url}budgets").text

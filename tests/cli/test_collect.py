"""`clawmw collect` as a process: what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from clawmw.cli.collect import collect
from clawmw.cli.main import main
from clawmw.observe.otlp.writing import encode
from clawmw.observe.reading.chains import chains
from clawmw.observe.store.spanstore import SpanStore
from tests.adapters.test_collector import CALL, PROTOBUF, TOKEN
from tests.cli.test_traces import span


@contextmanager
def running(*args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "clawmw.cli.main", "collect", "--port", "0", *args]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_json_and_ctrl_c(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with running("--store", str(path), "--json") as process:
        assert process.stdout is not None
        listening = json.loads(process.stdout.readline())
        assert (listening["event"], listening["store"]) == ("listening", str(path))
        url = f"{listening['endpoint']}/v1/traces"
        assert httpx.post(url, content=encode([CALL], {}), headers=PROTOBUF).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    said = [json.loads(line) for line in out.splitlines()]
    assert said[-1]["event"] == "done"
    assert (said[-1]["spans"], said[-1]["libraries"]) == (1, {"openclaw": 1})
    assert (process.returncode, err) == (0, "")
    store = SpanStore.read(path)
    assert chains(store)[0].calls == 1
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_says_what_to_set(tmp_path: Path) -> None:
    store = str(tmp_path / "t.sqlite")
    with running("--store", store, "--token-env", "T", T=TOKEN) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        url = first.split()[2].rstrip(",")
        assert f"export OTEL_EXPORTER_OTLP_ENDPOINT={url} " in second
        assert 'OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$T"' in second
        assert TOKEN not in first + second
        assert httpx.get(f"{url}/healthz").status_code == 401
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert out.strip() == "clawmw collect: in all, 0 spans"


def test_a_port_in_use_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["collect", "--port", port, "--store", str(tmp_path / "t.sqlite")]) == 1
    said = capfd.readouterr().err
    assert said == (
        f"clawmw: port {port} is in use on 127.0.0.1; choose another --port, or end what holds it\n"
    )
    assert not (tmp_path / "t.sqlite").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines: give --token-env"),
        (["--token-env", "NOT_SET_ANYWHERE"], "must hold at least 32 ASCII characters"),
    ],
)
def test_what_is_refused(
    args: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "--port", "0", "--store", str(tmp_path / "t"), *args]) == 1
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("keep", "left"), [(None, ["old"]), ("30d", [])])
def test_only_a_policy_drops_what_is_old(tmp_path: Path, keep: str | None, left: list[str]) -> None:
    path, policy = tmp_path / "t.sqlite", tmp_path / "clawmw.yaml"
    old = time.time_ns() - 90 * 86_400 * 10**9
    store = SpanStore.open(path, keep=None, size=None)
    store.write([span(1, "old", start_ns=old, end_ns=old)])
    store.close()
    policy.write_text(f"version: 1\ntrace: {{keep: {keep}}}\n")
    given = ["--policy", str(policy)] if keep else []
    with running("--store", str(path), *given) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=10)
    store = SpanStore.read(path)
    assert [chain.chain_id for chain in chains(store)] == left
    store.close()


def test_help() -> None:
    shown = CliRunner().invoke(collect, ["--help"]).stdout
    assert "Prompts, answers and tool" in shown
    assert "default: 4318" in shown

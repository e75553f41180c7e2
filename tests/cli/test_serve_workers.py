"""`clawmw serve --workers`: several processes on one socket, and one store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawmw.emulator import Emulator, Fault
from tests.cli.test_serve import ASK, _until_broken, serving

POLICY = "version: 1\ntrace: off\nstore: {disk: store}\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def health(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url.removesuffix("/v1") + "/healthz").json()
    return found


def processes(url: str, count: int) -> dict[int, int]:
    """The workers that answer, by number, once that many do."""
    found: dict[int, int] = {}
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline, found
        told = health(url)
        found[told["worker"]] = told["process"]
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


async def counted(url: str, chain: str, calls: int) -> Counter[int]:
    """How many calls of one chain, made at once from connections of their own, ended how."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        asks = [
            client.post(
                f"{url}/chat/completions",
                json={**ASK, "messages": [{"role": "user", "content": f"call {n}"}]},
                headers={"x-clawmw-chain": chain, "x-clawmw-session": f"s{n}"},
            )
            for n in range(calls)
        ]
        return Counter([answer.status_code for answer in await asyncio.gather(*asks)])


def test_workers_share_limits_die_alone_and_end_together(policy: Path) -> None:
    """One service, from its start to its end: starting Python is what takes the time."""
    policy.write_text(POLICY + "budget: {chain: {calls: 15}}\n")
    with Emulator() as provider:
        args = ("--policy", policy, "--upstream", provider.base_url, "--workers", 2)
        with serving(*args) as (url, process):
            pids = processes(url, 2)
            _share_a_limit(url, provider)
            pids = _die_alone(url, provider, pids)
            _take_a_new_policy(url, process, policy)
            _finish_first(url, process, provider)
            assert process.wait(15) == 0
            assert all(map(gone, pids.values()))
            assert process.stderr is not None
            said = process.stderr.read().splitlines()
    assert "ended by signal 9; started again" in said[0]
    assert (
        sorted(line.partition("policy ")[0] for line in said[1:3])
        == [f"clawmw: {policy}: read again, "] * 2
    )
    assert said[3:] == ["clawmw: finishing 1 call; Ctrl-C again ends at once"]


def _share_a_limit(url: str, provider: Emulator) -> None:
    told: dict[int, int] = {}
    for n in range(10):  # who takes a connection is the kernel's to say: until both took some
        provider.requests.clear()
        assert asyncio.run(counted(url, f"c{n}", 60)) == {200: 15, 402: 45}
        assert len(provider.requests) == 15
        told = {(found := health(url))["worker"]: found["calls"] for _ in range(40)}
        if len(told) == 2 and min(told.values()) > 0:
            break
    assert min(told.values()) > 0, "both took their share"
    if find_spec("prometheus_client") is not None:
        metrics = httpx.get(url.removesuffix("/v1") + "/metrics").text
        counts = f'status="ok"}} {15.0 * (n + 1)}'
        assert counts in metrics, "whoever answers, all workers' calls are counted"


def _die_alone(url: str, provider: Emulator, before: dict[int, int]) -> dict[int, int]:
    """A call on the other worker goes on; the one that was killed is there again."""
    with httpx.Client(timeout=20) as client:
        told = client.get(url.removesuffix("/v1") + "/healthz").json()  # and stays connected
        other = 1 - told["worker"]
        provider.fail_next(Fault(chunk_delay=0.1))
        ask = {**ASK, "stream": True}
        with client.stream("POST", f"{url}/chat/completions", json=ask) as open_:
            chunks = open_.iter_text()
            seen = next(chunks)
            os.kill(before[other], signal.SIGKILL)
            seen += "".join(chunks)
    assert "[DONE]" in seen
    assert httpx.post(f"{url}/chat/completions", json=ASK).status_code == 200
    after = processes(url, 2)
    assert after[told["worker"]] == told["process"]
    assert after[other] != before[other]
    return after


def _take_a_new_policy(url: str, process: subprocess.Popen[str], policy: Path) -> None:
    before = health(url)["policy"]["digest"]
    policy.write_text(POLICY + "refusal: error\n")
    process.send_signal(signal.SIGHUP)
    digests: dict[int, str] = {}
    deadline = time.monotonic() + 20
    while len(digests) < 2 or before in digests.values():
        assert time.monotonic() < deadline, digests
        told = health(url)
        digests[told["worker"]] = told["policy"]["digest"]


def _finish_first(url: str, process: subprocess.Popen[str], provider: Emulator) -> None:
    provider.fail_next(Fault(chunk_delay=0.15))
    ask = {**ASK, "stream": True}
    with httpx.stream("POST", f"{url}/chat/completions", json=ask) as open_:
        chunks = open_.iter_text()
        seen = next(chunks)
        process.send_signal(signal.SIGTERM)
        seen += "".join(chunks)
    assert "[DONE]" in seen


@pytest.mark.slow
def test_a_limit_holds_exactly_across_four_workers(policy: Path) -> None:
    """200 calls at once, 50 allowed: 50 reach the provider."""
    policy.write_text(POLICY + "budget: {chain: {calls: 50}}\nadmission: {slots: 200}\n")
    with Emulator() as provider:
        args = ("--policy", policy, "--upstream", provider.base_url, "--workers", 4)
        with serving(*args) as (url, _):
            processes(url, 4)
            for number in range(3):
                assert asyncio.run(counted(url, f"c{number}", 200)) == {200: 50, 402: 150}
        assert len(provider.requests) == 150


@pytest.mark.slow
def test_a_second_signal_ends_them_at_once(policy: Path) -> None:
    with Emulator() as provider:
        args = ("--policy", policy, "--upstream", provider.base_url, "--workers", 2)
        with serving(*args) as (url, process):
            pids = processes(url, 2)
            provider.fail_next(Fault(chunk_delay=30))
            ask = {**ASK, "stream": True}
            thread = threading.Thread(target=_until_broken, args=(f"{url}/chat/completions", ask))
            thread.start()
            while not provider.requests:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            with pytest.raises(httpx.ConnectError):  # no more calls are taken
                httpx.get(url)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert all(map(gone, pids.values()))
            thread.join(5)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(policy: Path) -> None:
    args = ("--policy", policy, "--upstream", "http://127.0.0.1:1/v1", "--workers", 2)
    with serving(*args) as (url, process):
        pids = processes(url, 2)
        process.kill()
        process.wait(5)
        deadline = time.monotonic() + 10
        while not all(map(gone, pids.values())):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_is_wrong_is_said_once(policy: Path, tmp_path: Path) -> None:
    def run(*args: object) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "clawmw.cli.main", "serve", "--port", "0", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout, done.stderr

    upstream = ("--upstream", "http://127.0.0.1:1/v1", "--workers", 3)
    policy.write_text("version: 1\ncompres: balanced\n")
    code, out, err = run("--policy", policy, *upstream)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{policy}:2: compres: unknown section" in err
    policy.write_text("version: 1\n")
    code, out, err = run("--policy", policy, *upstream)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "say `store: {disk: FOLDER}` in the policy" in err


def test_the_parent_is_light() -> None:
    """What it does not import, it cannot fail over: 20 MB less, too."""
    script = (
        "import sys, json\n"
        "import clawmw.cli.main, clawmw.cli.serve, clawmw.adapters.gateway_workers\n"
        "import clawmw.adapters.gateway_socket\n"
        "print(json.dumps(sorted(m for m in sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"pydantic", "aiohttp", "httpx", "uvicorn", "yaml", "clawmw.runtime", "asyncio"}
    assert not heavy & set(json.loads(done.stdout))

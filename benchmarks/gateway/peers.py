"""Who is measured: clawmw under policies, and other gateways, each a process of its own.

Others are installed beside, by uv and from the package index, into a folder that is kept
(`~/.cache/clawmw-bench`); one that cannot be installed or started is left out, and said.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VENVS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clawmw-bench"
NO_LIMITS = (
    "version: 1\nbudget: {chain: {calls: null, input_tokens: null}, agent: {day: {calls: null}}, "
    "tenant: {day: {calls: null}}, derived: {day: {calls: null}}}\n"
)
POLICIES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "clawmw, switched off": (f"{NO_LIMITS}trace: off\n", {"CLAWMW_OFF": "1"}),
    "clawmw, in memory": (f"{NO_LIMITS}trace: off\n", {}),
    "clawmw, disk and trace": (
        f"{NO_LIMITS}store: {{disk: store}}\ntrace: {{store: traces.sqlite}}\n",
        {},
    ),
}
PACKAGES = {"litellm": "litellm[proxy]", "headroom": "headroom-ai[proxy]"}
START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Served:
    """One that answers."""

    url: str
    """Of its chat completions."""
    process: subprocess.Popen[str]
    key: str = "sk-bench"

    def rss(self) -> float:
        """Its memory and its children's, in MB."""
        return sum(map(_rss, _family(self.process.pid)))

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have had."""
        return sum(map(_cpu, _family(self.process.pid)))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in _family(int(child)))]


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def run(command: list[str], env: Mapping[str, str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A command, ended afterwards."""
    given = {**os.environ, **env}
    with (
        (cwd / "log.txt").open("a") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=given, cwd=cwd
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def provider(cwd: Path) -> Iterator[Served]:
    """The bare upstream."""
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "benchmarks.gateway.provider", "0"]
    with run(command, here, cwd) as process:
        assert process.stdout is not None
        yield Served(process.stdout.readline().strip() + "/v1/chat/completions", process)


@contextmanager
def clawmw(name: str, upstream: str, cwd: Path, source: Path | None = None) -> Iterator[Served]:
    """`clawmw serve` under one of `POLICIES`; `source`: another tree's clawmw."""
    policy, env = POLICIES[name]
    path = cwd / "policy.yaml"
    path.write_text(policy)
    command = [sys.executable, "-m", "clawmw.cli.main", "serve", "--policy", str(path)]
    command += ["--port", "0", "--upstream", upstream]
    home = {"XDG_STATE_HOME": str(cwd / "state")}
    tree = {"PYTHONPATH": str(source or Path(__file__).parents[2])}
    with run(command, {**env, **home, **tree}, cwd) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found is None:
            raise RuntimeError(f"it did not start: {line!r}")
        yield Served(f"{found[0]}/v1/chat/completions", process)


@contextmanager
def litellm(upstream: str, cwd: Path) -> Iterator[Served]:
    """LiteLLM's proxy: one worker, no database, its logging as quiet as it goes."""
    port = _free()
    (cwd / "config.yaml").write_text(
        "model_list:\n- model_name: gpt-4o\n  litellm_params: {model: openai/gpt-4o, "
        f"api_base: '{upstream}', api_key: sk-bench}}\n"
        "litellm_settings: {num_retries: 0, telemetry: false, turn_off_message_logging: true}\n"
        "general_settings: {master_key: sk-bench}\n"
    )
    command = [str(_installed("litellm") / "litellm"), "--config", "config.yaml", "--port"]
    command += [str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    with run(command, {**env, "DISABLE_ADMIN_UI": "True"}, cwd) as process:
        _ready(f"http://127.0.0.1:{port}/health/liveliness", process)
        yield Served(f"http://127.0.0.1:{port}/v1/chat/completions", process)


@contextmanager
def headroom(upstream: str, cwd: Path) -> Iterator[Served]:
    """headroom's proxy as it comes, without its limit of 60 calls a minute."""
    port = _free()
    command = [str(_installed("headroom") / "headroom"), "proxy", "--port", str(port)]
    command += ["--no-rate-limit", "--openai-api-url", upstream.removesuffix("/v1")]
    env = {"HOME": str(cwd), "OPENAI_TARGET_API_URL": upstream, "HEADROOM_TELEMETRY": "off"}
    with run(command, env, cwd) as process:
        _ready(f"http://127.0.0.1:{port}/health", process)
        yield Served(f"http://127.0.0.1:{port}/v1/chat/completions", process)


def _installed(name: str) -> Path:
    """The programs of a package in a virtual environment of its own, made on first use."""
    venv = VENVS / name
    if not (venv / "bin" / name).exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", str(venv)], check=True)
        python = ["--python", str(venv / "bin" / "python"), PACKAGES[name]]
        subprocess.run([uv, "pip", "install", "--quiet", *python], check=True)
    return venv / "bin"


def version_of(name: str) -> str:
    """Of what is measured."""
    package = PACKAGES[name].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    python = str(VENVS / name / "bin" / "python")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _ready(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("it did not start; see its log.txt")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)

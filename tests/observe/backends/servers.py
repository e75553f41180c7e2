"""Tracing backends, each in an environment of its own: made once, started for a test."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.observe.backends.seen import Seen

__all__ = ["MLFLOW", "PHOENIX", "Backend", "mlflow_seen", "phoenix_seen", "running"]

CACHE = Path(os.environ.get("CLAWMW_BACKENDS") or Path.home() / ".cache" / "clawmw-tests")
"""Where the environments are kept: each has some 850 MB."""
START_S = 180.0


@dataclass(frozen=True)
class Backend:
    """A program that takes OTLP and shows it."""

    name: str
    package: str
    least: tuple[int, ...]
    command: tuple[str, ...]
    health: str
    env: Mapping[str, str]


PHOENIX = Backend(
    "phoenix",
    "arize-phoenix",
    (20, 26, 1),
    ("phoenix", "serve"),
    "/healthz",
    {
        "PHOENIX_WORKING_DIR": "{home}",
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": "{port}",
        "PHOENIX_GRPC_PORT": "{second}",
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_AGENTS_DISABLE_BASH": "true",
    },
)
MLFLOW = Backend(
    "mlflow",
    "mlflow",
    (3, 17),
    (
        *("mlflow", "server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
        *("--backend-store-uri", "sqlite:///{home}/m.db"),
    ),
    "/health",
    {"MLFLOW_DISABLE_TELEMETRY": "true"},
)


def installed(backend: Backend) -> str | None:
    """Why it is not there; None: it is. Made on the first run, which takes minutes."""
    home = CACHE / backend.name
    if (home / "bin" / backend.command[0]).exists():
        return None
    wanted = f"{backend.package}>={'.'.join(map(str, backend.least))}"
    steps = (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", wanted],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=1500)
        if done.returncode:
            shutil.rmtree(home, ignore_errors=True)
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"{wanted} cannot be installed: {last[:200]}"
    return None


@contextmanager
def running(backend: Backend, home: Path, ports: tuple[int, int]) -> Iterator[str]:
    """The backend's address, while it runs."""
    filled = {"home": str(home), "port": str(ports[0]), "second": str(ports[1])}
    program = CACHE / backend.name / "bin" / backend.command[0]
    words = [str(program), *(word.format(**filled) for word in backend.command[1:])]
    env = {name: value.format(**filled) for name, value in backend.env.items()}
    url = f"http://127.0.0.1:{ports[0]}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await(process, url + backend.health, home / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


# --- what they hold --------------------------------------------------------------------------


def phoenix_seen(url: str, project: str) -> tuple[list[Seen], str]:
    """The spans of a project, and everything Phoenix holds of them as text."""
    answer = httpx.get(f"{url}/v1/projects/{project}/spans", params={"limit": 1000}, timeout=10)
    if answer.status_code == 404:
        return [], ""
    found = answer.raise_for_status().json()["data"]
    return [_of_phoenix(span) for span in found], answer.text


def _of_phoenix(span: dict[str, Any]) -> Seen:
    said = span["attributes"]
    return Seen(
        span["context"]["trace_id"],
        span["context"]["span_id"],
        span["parent_id"],
        span["name"],
        span["span_kind"].lower(),
        said.get("session.id"),
        said.get("llm.model_name"),
        said.get("llm.token_count.prompt_details.cache_read"),
        tuple(said.get("clawmw.joined_from", ())),
        bool(said.get("clawmw.stopped")),
    )


_MLFLOW_KINDS = {"CHAIN": "chain", "WORKFLOW": "chain", "AGENT": "agent", "TOOL": "tool"}
_MLFLOW_KINDS |= {"LLM": "llm", "CHAT_MODEL": "llm"}


def mlflow_seen(url: str) -> tuple[list[Seen], str]:
    """The spans of experiment 0, and everything MLflow holds of them as text."""
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    body = {"locations": [place], "max_results": 10}
    listed = httpx.post(f"{url}/api/3.0/mlflow/traces/search", json=body, timeout=10).json()
    seen, texts = [], [json.dumps(listed)]
    for trace in listed.get("traces", ()):
        held = httpx.get(
            f"{url}/ajax-api/3.0/mlflow/get-trace-artifact",
            params={"request_id": trace["trace_id"]},
            timeout=10,
        )
        texts.append(held.text)
        seen += [_of_mlflow(span) for span in held.json().get("spans", ())]
    return seen, "".join(texts)


def _of_mlflow(span: dict[str, Any]) -> Seen:
    said = {name: json.loads(value) for name, value in span["attributes"].items()}
    usage = said.get("mlflow.chat.tokenUsage") or {}
    return Seen(
        base64.b64decode(span["trace_id"]).hex(),
        base64.b64decode(span["span_id"]).hex(),
        base64.b64decode(span["parent_span_id"]).hex() if span["parent_span_id"] else None,
        span["name"],
        _MLFLOW_KINDS.get(said.get("mlflow.spanType", ""), "unknown"),
        said.get("session.id"),
        said.get("gen_ai.request.model"),
        usage.get("cache_read_input_tokens"),
        tuple(said.get("clawmw.joined_from", ())),
        bool(said.get("clawmw.stopped")),
    )

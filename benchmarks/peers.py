"""Other people's compressors, in an environment and processes of their own.

`Peers.ready()` makes `.venv-peers` (with the network, once); `Peer` maps the messages of one
call to those a peer would send. A peer that fails on a call leaves it as it is, and is counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["PINNED", "Peer", "Reply", "Unavailable", "environment", "ready"]

PINNED = {"headroom-ai": "0.42.0", "langchain": "1.4.0", "langchain-core": "1.8.3"}
FOLDER = Path(__file__).parents[1] / ".venv-peers"
WORKER = Path(__file__).parent / "peer_worker.py"


_QUIETLY = ("install", "--quiet", "--disable-pip-version-check")


class Unavailable(RuntimeError):
    """The environment cannot be made; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a peer made of one call's messages."""

    messages: list[dict[str, Any]]
    cpu_us: int
    error: str = ""


def environment(folder: Path, packages: Sequence[str], *, deps: bool = True) -> Path:
    """The Python of a virtual environment that holds `packages`, made if it does not.

    `deps`: with what they depend on.
    """
    python = folder / "bin" / "python"
    stamp = folder / "packages.txt"
    wanted = "\n".join(packages)
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return python
    steps = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", *_QUIETLY, *([] if deps else ["--no-deps"]), *packages],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            why = [ln for ln in done.stderr.splitlines() if "ERROR" in ln] or ["see pip's output"]
            raise Unavailable(f"{folder.name} cannot be made: {why[0]}")
    stamp.write_text(wanted)
    return python


def ready() -> Path:
    """The Python the peers run under."""
    return environment(FOLDER, [f"{name}=={version}" for name, version in PINNED.items()])


@dataclass(slots=True)
class Peer:
    """One peer's process; a context manager."""

    python: Path
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        tokenizers = next(self.python.parents[1].glob("lib/*/site-packages/litellm"), None)
        quiet = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0"}
        if tokenizers is not None:
            folder = tokenizers / "litellm_core_utils" / "tokenizers"
            quiet["TIKTOKEN_CACHE_DIR"] = str(folder)
        self._process = subprocess.Popen(
            [str(self.python), str(WORKER), self.name, json.dumps(self.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **quiet},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def send(self, messages: list[dict[str, Any]]) -> Reply:
        """What the peer would send instead of `messages`."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"messages": messages}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Unavailable(f"{self.name} ended early with code {process.wait()}")
        found = json.loads(line)
        if found["error"]:
            return Reply(messages, found["cpu_us"], found["error"])
        return Reply(found["messages"], found["cpu_us"])

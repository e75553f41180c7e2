"""What a gateway adds to a call, and how many calls it carries: `python -m benchmarks.gateway`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["command"]


@contextmanager
def command(*args: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A clawmw command that serves, as a process; its base URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "clawmw.cli.main", *args, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
            yield found.removesuffix("/v1")
        finally:
            process.terminate()

"""Other SDK versions than the lock's, each in an environment of its own: `make matrix`.

What cannot be installed together: crewai pins openai below 3, and openai 2 may be there without
httpx2. `smoke.py` then runs every way of calling that the environment has.
"""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import Unavailable, environment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-matrix"
OURS = [
    need
    for need in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    if not need.startswith(("litellm", "langgraph"))  # large, and not loaded on this path
]
MATRIX: dict[str, tuple[list[str], dict[str, str]]] = {
    "openai2": (["openai>=2.54,<3"], {"openai": "2."}),
    "openai2-httpx2": (["openai>=2.54,<3", "httpx2>=2.16,<3"], {"openai": "2.", "httpx2": "2."}),
    "openai3": (["openai>=3,<4"], {"openai": "3.", "httpx2": "2."}),
    "openai3-anthropic2": (
        ["openai>=3,<4", "anthropic>=2.12,<3"],
        {"openai": "3.", "anthropic": "2."},
    ),
    "anthropic2": (["anthropic>=2.12,<3"], {"anthropic": "2."}),
    "crewai": (["crewai>=1.15,<2", "openai<3"], {"crewai": "1.", "openai": "2."}),
}
"""What is installed, and how the versions must begin."""
EXPECTED = {"openai": 14, "anthropic": 3}
"""At least so many ways of calling, where that SDK is there."""


@pytest.mark.external
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MATRIX)
def test_every_way_of_calling_works_with(name: str) -> None:
    packages, begins = MATRIX[name]
    try:
        python = environment(FOLDER / name, [*OURS, *packages])
    except Unavailable as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("smoke.py"))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout)
    for package, begin in begins.items():
        assert said["versions"][package].startswith(begin)
        if package in EXPECTED:
            ways = [way for way in said["done"] if way.startswith(package)]
            assert len(ways) >= EXPECTED[package], ways

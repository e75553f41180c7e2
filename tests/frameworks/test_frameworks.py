"""The tests of a library that does not go together with ours, in an environment of its own.

It is made with uv, from the user's cache. What runs in it are the `with_<name>.py` beside this
file, and the library's example; of the Agents SDK, which moves fast, its tests with the newest.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTEST = ("pytest>=9", "pytest-socket>=0.7", "pytest-timeout>=2.4")
APART = {"adk", "crewai"}
"""Extras that are not in the lock."""
TESTS = {
    "adk": ("tests/frameworks/with_adk.py", "adk_runner"),
    "agents": ("tests/adapters/test_openai_agents.py", "agents_sdk"),
    "crewai": ("tests/frameworks/with_crewai.py", "crewai_crew"),
}
"""Of an extra, in its newest release: its tests and its example."""
QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
}
"""Or they look outside."""


def run(*command: str) -> str:
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)  # the tests' own is empty
    cache = {"UV_CACHE_DIR": str(home / ".cache" / "uv"), **os.environ}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**cache, **QUIET}, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lock_holds_every_extra_but_these() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [locked] = re.findall(r"^LOCKED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(locked.split()) == set(extras["optional-dependencies"]) - APART


@pytest.mark.external
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TESTS)
def test_with(name: str, tmp_path: Path) -> None:
    beside = Path(sys.executable).parent
    uv = shutil.which("uv", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not there to make an environment with")
    python = str(tmp_path / "env" / "bin" / "python")
    run(uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env"))
    run(uv, "pip", "install", "--quiet", "--python", python, "-e", f"{ROOT}[{name}]", *PYTEST)
    plain = ("-p", "no:cacheprovider", "-o", "filterwarnings=default", "-m", "")
    tests, example = TESTS[name]
    chosen = ("-k", f"{Path(tests).stem} or {example}")
    told = run(python, "-m", "pytest", *plain, *chosen, tests, "tests/examples")
    assert "passed" in told
    assert "skipped" not in told

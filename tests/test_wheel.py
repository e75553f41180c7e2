"""The built wheel holds everything: data files, policies, the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
        env={**os.environ, "HOME": str(cwd)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.external  # installs from the package index
@pytest.mark.timeout(600)
def test_the_wheel_works_without_the_source(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed beside this Python")
    source, python = tmp_path / "source", tmp_path / "venv" / "bin" / "python"
    kept = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=kept)
    run(uv, "build", "--wheel", "--out-dir", tmp_path / "dist", source, cwd=tmp_path)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    run(uv, "venv", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    run(uv, "pip", "sync", "--python", python, ROOT / "requirements.lock", cwd=tmp_path)
    run(uv, "pip", "install", "--no-deps", "--python", python, wheel, cwd=tmp_path)
    command = tmp_path / "venv" / "bin" / "clawmw"
    work = tmp_path / "work"
    work.mkdir()
    run(command, "init", "policy.yaml", cwd=work)
    assert "ok" in run(command, "validate", "policy.yaml", cwd=work)
    assert "The plan" in run(command, "demo", "--profile", "deepseek/deepseek-v4-flash", cwd=work)
    found = run(python, "-c", "import clawmw; print(clawmw.__file__)", cwd=work)
    assert str(tmp_path / "venv") in found

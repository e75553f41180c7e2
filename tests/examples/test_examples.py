"""Each example runs as it stands, and each command of a skill does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SKILLS = sorted((ROOT / "skills").glob("*/SKILL.md"))
SAYS = {
    "adk_runner.py": "the policy allows 4 calls per chain (budget.chain.calls)",
    "agents_sdk.py": "the policy allows 5 calls per chain (budget.chain.calls)",
    "crewai_crew.py": "the policy allows 4 calls per chain (budget.chain.calls)",
    "openai_client.py": "the policy allows 3 calls per chain (budget.chain.calls)",
    "own_stage.py": "Heartbeats are sent again from 24h.",
}
NEEDS = {"adk_runner.py": "google.adk", "agents_sdk.py": "agents", "crewai_crew.py": "crewai"}
"""What is not there everywhere; in environments of their own they run, too."""


def missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:  # the package above it
        return True


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs_and_is_short(path: Path) -> None:
    assert path.read_text().count("\n") <= 60
    if path.name in NEEDS and missing(NEEDS[path.name]):
        pytest.skip(f"{NEEDS[path.name]} is not there")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[path.name] in done.stdout


@pytest.mark.parametrize("path", SKILLS, ids=lambda p: p.parent.name)
def test_a_skill_has_its_front_matter_and_its_commands_work(path: Path) -> None:
    _, front, text = path.read_text().split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["name"] == path.parent.name
    assert 20 < len(meta["description"]) < 1024
    import clawmw
    from clawmw.core.identity import Identity
    from clawmw.emulator import Emulator
    from clawmw.runtime import Runtime

    runtime = Runtime.of(clawmw.load_policy({"version": 1}))
    with (
        Emulator(bill="openai") as provider,
        clawmw.http_client(runtime, identity=Identity(session="s", chain="c")) as client,
    ):
        body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hi"}]}
        client.post(provider.base_url + "/chat/completions", json=body)
    for observer in runtime.observers:
        observer.close()  # type: ignore[attr-defined]
    for command in re.findall(r"```bash\n\s*(clawmw .*)\n", text):
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "clawmw.cli.main", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        for word in re.findall(r"`(\w+_nano)`", text):
            assert word in done.stdout, f"{command} says nothing of {word}"

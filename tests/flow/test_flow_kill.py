"""A run killed in the middle goes on where it was, in another process, with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clawmw.cli.flow import flow
from tests.flow.flow_bench import Provider, asks

CODE = "from clawmw.cli.flow import flow; flow(prog_name='clawmw flow')"
TOOLS = '''
from pathlib import Path
def look(what: str) -> dict:
    """Look something up."""
    with Path(__file__).with_name("looked").open("a") as file:
        file.write(what + "\\n")
    rows = [{"id": i, "name": f"row {i} of {what}", "state": "open"} for i in range(200)]
    return {"rows": rows, "sum": 0.1 + 0.2, "note": "caf\\u00e9 \\U0001f600"}
'''
POLICY = """
version: 1
trace: off
store: {store}
models:
  main: {{model: m-1, base_url: {url}}}
flows:
  trip:
    input: {{city: null}}
    tools: {{look: "{module}:look"}}
    agents:
      planner: {{system: {plan}, model: main, tools: [look], params: {{temperature: 0.5}}}}
      checker: {{system: {check}, model: main, tools: [look]}}
    steps:
      - {{id: plan, agent: planner, prompt: "Plan {{{{ input.city }}}}.", conversation: c}}
      - {{id: each, agent: checker, for_each: "['a', 'b']", prompt: "{{{{ item }}}}"}}
      - {{id: check, agent: checker, prompt: "Check {{{{ steps.each.output }}}}.", conversation: c}}
"""


def brain(body: dict[str, Any]) -> Any:
    """Looks twice in each turn, then answers."""
    turn = []
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            break
        turn.append(message)
    looked = sum(1 for m in turn if m["role"] == "tool")
    if looked < 2:
        return asks("look", {"what": f"ü{looked}"}, call_id=f"c{len(body['messages'])}")
    return f"answer {len(body['messages'])}"


KEPT = {
    # Only the checkpoints outlive the process; the prompts are as long as real ones.
    "memory": {"store": "memory", "plan": "You plan. " * 600, "check": "You check. " * 600},
    # Short prompts: what was offered, and when, only the store knows in the next process.
    "disk": {"store": "{{disk: {state}/kept}}", "plan": "You plan.", "check": "You check."},
}


@pytest.fixture
def folder(tmp_path: Path, provider: Provider, kept: str) -> Path:
    provider.brain = brain
    module = f"flow_tools_{tmp_path.name}"  # of this test only: modules outlive it
    (tmp_path / f"{module}.py").write_text(TOOLS)
    for state in ("whole", "killed"):
        values = {name: value.format(state=state) for name, value in KEPT[kept].items()}
        text = POLICY.format(url=provider.url, module=module, **values)
        (tmp_path / f"{state}.yaml").write_text(text)
    return tmp_path


def arguments(folder: Path, state: str, *args: str) -> list[str]:
    checkpoints = folder / state / "flows.sqlite"
    return [*args, "--policy", str(folder / f"{state}.yaml"), "--checkpoints", str(checkpoints)]


def finish(folder: Path, state: str, *args: str) -> dict[str, Any]:
    """Run a command to its end in this process."""
    done = CliRunner().invoke(flow, arguments(folder, state, *args, "--json"))
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def offers(bodies: list[bytes]) -> set[bool]:
    """Whether the model was given the means to ask for what is cut."""
    return {b"clawmw_expand" in body for body in bodies}


CALLS = 12


@pytest.mark.parametrize(
    ("kept", "at"), [("memory", 1), ("memory", 5), ("memory", CALLS), ("disk", 5)]
)
def test_a_killed_run_resumes_with_the_same_bytes(
    folder: Path, provider: Provider, kept: str, at: int
) -> None:
    args = ("run", "trip", "--input", "city=Zürich", "--thread", "t")
    whole = finish(folder, "whole", *args)
    reference = list(provider.bodies)
    assert len(reference) == CALLS == whole["calls"]

    provider.bodies.clear()
    provider.hang_at = at
    log = folder / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments(folder, "killed", *args)], stderr=stderr
        ) as process,
    ):
        while not provider.wait_for(at, seconds=0.2):
            assert process.poll() is None, log.read_text()
        process.kill()
    assert process.returncode == -9
    provider.hang_at = None

    resumed = finish(folder, "killed", "resume", "t")
    assert offers(reference) == ({True} if kept == "memory" else {False, True})
    assert provider.bodies[:at] == reference[:at]
    assert provider.bodies[at] == reference[at - 1], "the interrupted call, byte for byte"
    assert provider.bodies[at:] == reference[at - 1 :], "and then the rest, nothing twice"
    for part in ("output", "steps", "calls"):
        assert resumed[part] == whole[part]
    looked = (folder / "looked").read_text().splitlines()
    assert looked == looked[:8] * 2, "no tool ran twice"
    if at > 2:
        assert rb"\"state\":" not in provider.bodies[at - 1], "the policy was at work"
